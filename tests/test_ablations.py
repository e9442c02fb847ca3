"""The ablation table: cell by cell, never twice, and the same table after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from ibtune_worlds import crowd, terse

from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
from mesa_meanfield.cli import main as command
from mesa_meanfield.evaluation.scorecard import Scorecard

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "fidelity"


@pytest.fixture(scope="module")
def ablations():
    sys.path.insert(0, str(SCRIPTS))
    before = set(sys.modules)
    import ablations

    yield ablations
    sys.path.remove(str(SCRIPTS))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with prompts and data of three events, two cascades each."""
    folder = tmp_path_factory.mktemp("world")
    terse(folder / "words")
    cascades = [crowd(16 + i, f"c{i}", f"e{i % 3}") for i in range(6)]
    write_cascades(folder / "data.jsonl", [*cascades, crowd(5, "small", "e0")])
    return folder


@pytest.fixture
def make(ablations, world, capsys):
    """Makes a table in a folder: the exit status, what was said, and the scorecard where there is one."""

    def make(out, *options, backend="scripted", data=None):
        usual = ["--data", data or world / "data.jsonl", "--prompts", world / "words", "--backend", backend]
        usual += ["--out", out, "--folds", "e0,e1", "--calibrate-on", "e2", "--replicas", 2]
        status = ablations.main([*map(str, [*usual, *options])])
        card = out / "table" / "scorecard.json"
        found = Scorecard.model_validate_json(card.read_bytes()) if status == 0 and card.exists() else None
        return status, capsys.readouterr().err, found

    return make


def lines(out, cell):
    return (out / "cells" / cell / "rollouts.jsonl").read_bytes().splitlines()


def made(rollouts):
    """Which roll-outs they are and what was done in them; what they cost is another time's."""
    found = [json.loads(line) for line in rollouts.splitlines()]
    return sorted((one["cascade"], one["replica"], json.dumps(one["actions"])) for one in found)


def row(out, title):
    (found,) = [line for line in figures(out) if line.startswith(f"| {title} |")]
    return found


def figures(out):
    text = (out / "table" / "table.md").read_text(encoding="utf-8")
    return text.partition("## Figures")[2].partition("##")[0].splitlines()


def test_the_figures_are_those_of_evaluate(make, world, tmp_path, capsys):
    status, err, card = make(
        tmp_path / "a", "--cells", "none,tally-untuned", "--folds", "e0,e1,e2", "--calibrate-on="
    )
    assert status == 0, err
    usual = ["--data", world / "data.jsonl", "--prompts", world / "words", "--backend", "scripted", "--no-texts"]
    usual += ["--summarizers", "none,tally", "--folds", "event", "--replicas", 2, "--out", tmp_path / "b", "--json"]
    assert command(["evaluate", *map(str, usual)]) == 0
    other = Scorecard.model_validate_json(capsys.readouterr().out)
    titles = {"none": "none, untuned", "tally": "tally, untuned"}
    assert [one.name for one in card.entries] == [titles.get(one.name, one.name) for one in other.entries]
    for mine, theirs in zip(card.entries, other.entries, strict=True):
        assert (mine.kl, mine.kl_ci, mine.nll) == (theirs.kl, theirs.kl_ci, theirs.nll)
    assert card.noise_floor == other.noise_floor
    assert [(one.difference, one.ci) for one in card.paired] == [(one.difference, one.ci) for one in other.paired]


def test_cells_not_run_stay_empty_and_are_said(make, tmp_path):
    status, err, card = make(tmp_path / "a", "--cells", "none")
    assert status == 0, err
    text = (tmp_path / "a" / "table" / "table.md").read_text(encoding="utf-8")
    assert "Not run, so empty: none, calibrated; tally, untuned;" in text
    assert row(tmp_path / "a", "tally, tuned") == f"| tally, tuned | 0 of 8 |{' – |' * 6}"
    assert row(tmp_path / "a", "none, untuned").startswith("| none, untuned | 8 of 8 | 0.")
    assert {one.name for one in card.entries if one.kind == "simulation"} == {"none, untuned"}
    assert (tmp_path / "a" / "table" / "report.html").exists()


def test_more_cells_folds_and_replicas_go_on_with_what_is_there(make, tmp_path):
    status, err, _ = make(tmp_path / "a", "--cells", "none", "--folds", "e0", "--replicas", 1)
    assert status == 0, err
    first = lines(tmp_path / "a", "none")
    assert len(first) == 2
    status, err, card = make(tmp_path / "a", "--cells", "none,tally-untuned")
    assert status == 0, err
    grown = lines(tmp_path / "a", "none")
    assert grown[:2] == first
    assert len(set(grown)) == len(grown) == 8
    status, err, whole = make(tmp_path / "b", "--cells", "none,tally-untuned")
    assert status == 0, err
    assert (card.entries[-2].kl, card.paired) == (whole.entries[-2].kl, whole.paired)
    status, err, card = make(tmp_path / "a", "--folds", "e0", "--replicas", 1, "--minutes", 0)
    assert status == 0, err
    assert card.cascades == 2  # less is asked for, so less is shown
    assert "| none, untuned | 2 of 2 |" in row(tmp_path / "a", "none, untuned")


def test_when_the_time_is_over_nothing_is_begun(make, tmp_path):
    status, err, card = make(tmp_path / "a", "--minutes", 0)
    assert status == 0
    assert "the same command goes on" in err
    assert "no cell has a roll-out yet" in err
    assert card is None
    assert {file.name for file in (tmp_path / "a").iterdir()} <= {".lock", "settings.json"}


def test_half_a_line_of_a_killed_process_is_made_again(make, tmp_path):
    status, err, whole = make(tmp_path / "a", "--cells", "none,tally-untuned")
    assert status == 0, err
    file = tmp_path / "a" / "cells" / "none" / "rollouts.jsonl"
    kept = file.read_bytes()
    file.write_bytes(kept[: len(kept) // 2])
    (tmp_path / "a" / "table").rename(tmp_path / "a" / "table.partial")
    status, err, card = make(tmp_path / "a", "--cells", "none,tally-untuned")
    assert status == 0, err
    assert made(file.read_bytes()) == made(kept)
    assert [(one.name, one.kl, one.nll) for one in card.entries] == [(o.name, o.kl, o.nll) for o in whole.entries]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--agents", "3"], "was begun with agents None, not 3"),
        (["--seed", "1"], "was begun with seed 0, not 1"),
        (["--calibrate-on", ""], "was begun with calibrate_on e2, not ;"),
        (["--texts"], "was begun with texts False, not True"),
    ],
)
def test_changed_settings_are_refused_in_one_line(make, tmp_path, options, said):
    assert make(tmp_path / "a", "--cells", "none", "--minutes", 0)[0] == 0
    status, err, _ = make(tmp_path / "a", "--cells", "none", *options)
    assert status == 2
    assert said in err.splitlines()[-1]


def test_changed_data_are_refused(make, world, tmp_path):
    assert make(tmp_path / "a", "--minutes", 0)[0] == 0
    other = tmp_path / "other.jsonl"
    write_cascades(other, read_cascades(world / "data.jsonl")[:-1])
    status, err, _ = make(tmp_path / "a", data=other)
    assert status == 2
    assert "was begun with data_sha256" in err.splitlines()[-1]


def test_changed_wording_is_refused_wherever_it_comes_from(make, world, tmp_path):
    words = tmp_path / "words"
    shutil.copytree(world / "words", words)
    assert make(tmp_path / "a", "--minutes", 0, "--prompts", words)[0] == 0
    (words / "policy_suffix.j2").write_text("Now: {{ state }}", encoding="utf-8")
    status, err, _ = make(tmp_path / "a", "--prompts", words)
    assert status == 2
    assert "was begun with wording" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cells", "gossip"], "there is no cell 'gossip'; there are none, none-calibrated"),
        (["--cells", ","], "names are needed"),
        (["--folds", "e0,e9"], "has no event 'e9'; it has e0, e1, e2"),
        (["--folds", "e2"], "'e2' is in --folds and in --calibrate-on"),
        (["--folds", ""], "at least one event"),
        (["--replicas", "0"], "--replicas must be at least 1, got 0"),
        (["--dimension", "mood"], "mood"),
        (["--data", "/nowhere.jsonl"], "cannot be read"),
    ],
)
def test_wrong_use_is_one_line_and_makes_nothing(make, tmp_path, options, said):
    status, err, _ = make(tmp_path / "a", *options)
    assert status == 2
    told = [line for line in err.splitlines() if line.startswith("ablations: ")]
    assert len(told) == 1
    assert said in told[0]
    assert list(tmp_path.iterdir()) == []


def test_two_calls_do_not_work_in_one_folder(make, tmp_path):
    (tmp_path / "a").mkdir()
    with FileLock(tmp_path / "a" / ".lock"):
        status, err, _ = make(tmp_path / "a")
    assert status == 2
    assert "another call is at work there" in err


def test_a_training_that_fails_leaves_its_cell_empty_and_is_said(make, tmp_path):
    status, err, _ = make(tmp_path / "a", "--cells", "sft,none")  # a scripted backend cannot be trained
    assert status == 1
    assert "training sft without e0 failed" in err
    assert "a model that can be trained is needed" in err
    assert row(tmp_path / "a", "sft") == f"| sft | 0 of 8 |{' – |' * 6}"
    assert "| 8 of 8 |" in row(tmp_path / "a", "none, untuned")


def test_the_bare_model_is_calibrated_on_events_that_are_not_reported(make, tmp_path):
    status, err, card = make(tmp_path / "a", "--cells", "none,none-calibrated")
    assert status == 0, err
    told = json.loads((tmp_path / "a" / "calibration" / "none" / "result.json").read_text())
    assert told["events"] == ["e2"]
    by_name = {one.name: one for one in card.entries}
    assert by_name["none, calibrated"].nll != by_name["none, untuned"].nll
    config = json.loads((tmp_path / "a" / "cells" / "none-calibrated" / "config.json").read_text())
    assert set(config["adapters"]["e0"]) == {"calibration/calibration.json"}


def test_a_temperature_that_has_changed_is_refused(make, tmp_path):
    folder = tmp_path / "a" / "calibration" / "none"
    folder.mkdir(parents=True)
    labels = ["support", "deny", "query", "comment"]
    flat = {"dimension": "stance", "labels": labels, "temperature": 1e6, "nll_before": 2, "nll_after": 1.4}
    (folder / "calibration.json").write_text(json.dumps([flat | {"decisions": 9}]))
    status, err, card = make(tmp_path / "a", "--cells", "none-calibrated", "--replicas", 1)
    assert status == 0, err
    by_name = {one.name: one for one in card.entries}
    assert by_name["none, calibrated"].kl == pytest.approx(by_name["uniform"].kl, abs=1e-5)
    (folder / "calibration.json").write_text(json.dumps([flat | {"decisions": 10}]))
    status, err, _ = make(tmp_path / "a", "--cells", "none-calibrated")
    assert status == 2
    assert "the adapters for e0 have changed since its roll-outs were made" in err


# --- With trainings, each in a process of its own ---------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(world):
    """The spec of a tiny model."""
    pytest.importorskip("torch")
    from ibtune_worlds import model
    from tiny_models import one_thread, tokenizer

    model().save_pretrained(world / "model")
    tokenizer("llama").save_pretrained(world / "model")
    with one_thread():
        yield f"hf:{world / 'model'}"


TAUGHT = ["--steps=3", "--batch=2", "--rank=2", "--learning-rate=0.01", "--every=1", "--checkpoint-minutes=0"]
TAUGHT += ["--summary-tokens=3", "--replicas=1"]


@pytest.fixture(scope="module")
def whole(ablations, world, tiny, tmp_path_factory):
    """A folder in which all that an LLM's mean fields need was made at one go, and SFT."""
    out = tmp_path_factory.mktemp("whole") / "out"
    given = ["--data", world / "data.jsonl", "--prompts", world / "words", "--backend", tiny, "--out", out]
    given += ["--folds", "e0,e1", "--calibrate-on", "e2", *TAUGHT, "--jobs-training", 2]
    cells = "none,sft,llm-untuned,llm,llm-policy,llm-summarizer"
    assert ablations.main([*map(str, [*given, "--cells", cells, "--", "--alpha", 4])]) == 0
    return out


def card_of(out):
    return Scorecard.model_validate_json((out / "table" / "scorecard.json").read_bytes())


@pytest.mark.torch
def test_a_fold_is_simulated_by_what_never_saw_its_event(whole):
    for training, names in (("sft", {"sft"}), ("llm", {"policy", "summarizer"})):
        for fold, other in (("e0", "e1"), ("e1", "e0")):
            folder = whole / "tune" / training / fold
            told = json.loads((folder / "result.json").read_text())["data"]
            assert (told["events"], told["held_out"]) == ([other], ["e2"])
            assert list(told["files"]) == [f"without-{fold}.jsonl"]
            assert {one.name for one in (folder / "adapters").iterdir()} == names
    config = json.loads((whole / "cells" / "llm" / "config.json").read_text())
    assert config["adapters"]["e0"] != config["adapters"]["e1"]
    assert "calibration.json" in str(sorted(config["adapters"]["e0"]))


def test_copies_are_of_what_is_learned_from_alone(make, ablations, world, tmp_path, monkeypatch):
    import trainings  # stands beside ablations.py

    monkeypatch.setattr(trainings, "_run", lambda *_, **__: True)
    make(tmp_path / "a", "--cells", "sft", "--folds", "e0", "--copies", 2, "--dimension", "stance")
    learnt = read_cascades(tmp_path / "a" / "data" / "without-e0-2-copies.jsonl")
    recorded = [one for one in read_cascades(world / "data.jsonl") if one.event != "e0"]
    assert learnt[: len(recorded)] == recorded
    assert [one.event for one in learnt[len(recorded) :]] == ["e1"] * 2 * 2  # e2 is held out
    status, err, _ = make(tmp_path / "a", "--cells", "sft", "--folds", "e0", "--copies", 3, "--dimension", "stance")
    assert status == 2
    assert "was begun with copies 2, not 3" in err


def test_the_first_lesson_is_learnt_once_and_where_there_is_a_field(make, ablations, tmp_path, monkeypatch):
    import trainings

    asked = []

    def run(job, command, what, out, keep=()):
        asked.append(list(map(str, command)))
        out.mkdir(parents=True)
        return True

    monkeypatch.setattr(trainings, "_run", run)
    monkeypatch.setattr(ablations, "roll_out_cell", lambda *_: True, raising=False)
    make(tmp_path / "a", "--cells", "sft,tally", "--first-lesson", "--dimension", "stance", "--", "--layers", "1")
    lessons = [one for one in asked if "--policy-adapter" not in one and "sft" not in one]
    assert len(lessons) == 1
    assert lessons[0][lessons[0].index("--data") + 1].endswith("urns.jsonl")
    assert "--layers" in lessons[0]
    begun = [one for one in asked if "--policy-adapter" in one]
    assert len(begun) == 2  # the folds of tally, none of sft
    status, err, _ = make(tmp_path / "a", "--cells", "tally", "--first-lesson", "--begin-with", tmp_path)
    assert status == 2
    assert "leave --begin-with" in err


@pytest.mark.torch
def test_policy_and_summarizer_are_tuned_apart(whole):
    said = {}
    for cell in ("llm-untuned", "llm", "llm-policy", "llm-summarizer", "sft", "none"):
        rolled = {one["cascade"]: one for one in map(json.loads, lines(whole, cell))}
        shares = [share for one in rolled["c0"]["actions"] for share in one["trace"]["distribution"].values()]
        said[cell] = tuple(round(share, 5) for share in shares)
    assert len(set(said.values())) == len(said)
    names = [one.name for one in card_of(whole).entries if one.kind == "simulation"]
    assert names == ["none, untuned", "sft", "llm, both untuned", "llm, both tuned", "llm, policy tuned",
                     "llm, summarizer tuned"]  # fmt: skip


@pytest.mark.torch
def test_a_kill_in_a_training_changes_no_figure_and_repeats_nothing(whole, world, tiny, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole / "tune" / "sft" / "e1", out / "tune" / "sft" / "e1")
    given = ["--data", world / "data.jsonl", "--prompts", world / "words", "--backend", tiny, "--out", out]
    given += ["--folds", "e0,e1", "--calibrate-on", "e2", *TAUGHT, "--cells", "none,sft", "--", "--alpha", 4]
    run = [sys.executable, SCRIPTS / "ablations.py", *map(str, given)]
    with subprocess.Popen(run, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as one:
        while not (out / "tune" / "sft" / "e0.partial" / "checkpoint.pt").exists():
            assert one.poll() is None
            time.sleep(0.002)
        os.killpg(one.pid, signal.SIGKILL)  # the training, too
    assert not (out / "tune" / "sft" / "e0").exists()
    rolled = (out / "cells" / "none" / "rollouts.jsonl").read_bytes()
    ended = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (out / "cells" / "none" / "rollouts.jsonl").read_bytes() == rolled
    assert "tune: " not in (out / "tune" / "sft" / "e0.log").read_text()  # the second was no wrong use
    by_name = {entry.name: entry for entry in card_of(whole).entries}
    for entry in card_of(out).entries:
        assert entry.kl == pytest.approx(by_name[entry.name].kl, rel=1e-5)
        assert entry.nll == pytest.approx(by_name[entry.name].nll, rel=1e-5)
    assert {entry.name for entry in card_of(out).entries if entry.kind == "simulation"} == {"none, untuned", "sft"}


@pytest.mark.torch
def test_adapters_that_are_there_are_used_and_nothing_is_trained(make, whole, tiny, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole / "tune" / "sft" / "e0", out / "tune" / "sft" / "e0")
    usual = ["--only-evaluate", "--cells", "none,sft,tally", "--replicas", 1, "--summary-tokens", 3]
    status, err, card = make(out, *usual, backend=tiny)
    assert status == 0, err
    assert "sft: no adapters for e1" in err
    assert "| 2 of 4 |" in row(out, "sft")
    assert f"| tally, tuned | 0 of 4 |{' – |' * 6}" == row(out, "tally, tuned")
    assert [file.name for file in (out / "tune").iterdir()] == ["sft"]
    pairs = {(one.a, one.b): one.cascades for one in card.paired if one.metric == "kl"}
    assert pairs["none, untuned", "sft"] == 2
    first = lines(out, "sft")
    shutil.copytree(whole / "tune" / "sft" / "e1", out / "tune" / "sft" / "e1")
    status, err, card = make(out, *usual, backend=tiny)
    assert status == 0, err
    assert lines(out, "sft")[:2] == first
    by_name = {entry.name: entry for entry in card_of(whole).entries}
    (sft,) = [entry for entry in card.entries if entry.name == "sft"]
    assert sft.kl == pytest.approx(by_name["sft"].kl, rel=1e-5)
    weights = out / "tune" / "sft" / "e1" / "adapters" / "sft" / "calibration.json"
    weights.write_text(weights.read_text().replace("stance", "mood"))
    status, err, _ = make(out, *usual, "--replicas", 2, backend=tiny)
    assert status == 2
    assert "sft: the adapters for e1 have changed" in err.splitlines()[-1]
