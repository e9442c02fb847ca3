from __future__ import annotations

import json
import math
import os
import re
import signal
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_server import FakeServer
from worlds import action, cascade

from mesa_meanfield import ScriptedBackend, read_cascades, write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.evaluation.scorecard import Card, CascadeRow, Scorecard

LABELS = ("support", "deny", "comment", "comment", "query", "comment", "comment", "deny")


def evaluate(capsys, *arguments):
    status = main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def simulate(capsys, data, out, *arguments):
    """An evaluation with the scripted backend that must succeed; its scorecard."""
    given = ["--backend", "scripted", "--data", data, "--out", out, "--min-actions", 10, "--json", *arguments]
    status, said, err = evaluate(capsys, *given)
    assert status == 0, err
    return Scorecard.model_validate_json(said)


def crowd(key, event, shift, n=20):
    actions = [
        action(f"{key}-{i}", LABELS[(i * 3 + shift) % 8], f"Remark {i} on {key}.", author=f"u{i}", after=i)
        for i in range(n)
    ]
    return replace(cascade(key=key, actions=actions, topic=f"Is it {key}?"), event=event)


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "cascades.jsonl"
    some = [crowd(f"c{i}", event, i) for i, event in enumerate(["flood", "flood", "fire", "fire", "storm", "storm"])]
    write_cascades(file, [*some, cascade(4, key="small")])
    return file


def figures(card):
    """All that must not change from run to run: what is not about time, or about who asked the same first."""
    said = card.model_dump(mode="json")
    for one in (said, *said["others"]):
        for entry in one["entries"]:
            if entry["spent"]:
                entry["spent"] = entry["spent"]["retries"]
    return {key: said[key] for key in ("entries", "paired", "noise_floor", "others", "left_out", "cascades")}


def test_the_scorecard_has_all_entries_and_the_files_say_the_same(capsys, data, tmp_path):
    card = simulate(capsys, data, tmp_path / "card", "--folds", "event", "--replicas", 2)
    rivals = ["uniform", "prior", "persistence", "persistence_shrunk", "degroot", "sir"]
    simulations = ["none", "recent", "popular", "tally", "llm"]
    assert [(one.name, one.kind) for one in card.entries] == [
        *((name, "rival") for name in rivals),
        *((name, "simulation") for name in simulations),
    ]
    assert (card.cascades, card.dimension, card.actions) == (6, "stance", 6 * 14)
    assert card.left_out == ("small has 4 actions",)
    assert Scorecard.model_validate_json((tmp_path / "card" / "scorecard.json").read_bytes()) == card
    rows = [
        CascadeRow.model_validate_json(line)
        for line in (tmp_path / "card" / "per_cascade.jsonl").read_text().splitlines()
    ]
    assert {(row.cascade, row.name) for row in rows} == {
        (f"c{i}", name) for i in range(6) for name in (*rivals, *simulations)
    }
    for entry in card.entries:
        mine = [row.kl for row in rows if row.name == entry.name]
        assert math.fsum(mine) / 6 == pytest.approx(entry.kl)
    assert {file.name for file in (tmp_path / "card").iterdir()} == {
        "calls.sqlite", "config.json", "per_cascade.jsonl", "prompts.json", "report.html", "rollouts.jsonl",
        "scorecard.json",
    }  # fmt: skip
    assert not (tmp_path / "card.partial").exists()


def test_a_rollout_is_that_of_the_command_run_with_the_same_seed(capsys, data, tmp_path):
    simulate(capsys, data, tmp_path / "card", "--summarizers", "tally", "--seed", 5, "--replicas", 2)
    kept = [json.loads(line) for line in (tmp_path / "card" / "rollouts.jsonl").read_text().splitlines()]
    second = next(one for one in kept if (one["cascade"], one["replica"]) == ("c3", 1))
    one = ["--backend", "scripted", "--data", data, "--id", "c3", "--summarizer", "tally", "--seed", 6]
    assert main(["run", *map(str, one), "--out", str(tmp_path / "run")]) == 0
    decisions = [json.loads(line) for line in (tmp_path / "run" / "decisions.jsonl").read_text().splitlines()]
    assert [a["trace"]["distribution"] for a in second["actions"]] == [d["distribution"] for d in decisions[6:]]
    assert [a["text"] for a in second["actions"]] == [d["text"] for d in decisions[6:]]


def test_the_number_of_jobs_and_the_batch_change_no_figure(capsys, data, tmp_path):
    alone = simulate(capsys, data, tmp_path / "a", "--jobs", 1, "--replicas", 2)
    many = simulate(capsys, data, tmp_path / "b", "--jobs", 8, "--batch", 3, "--replicas", 2)
    assert figures(alone) == figures(many)


def test_after_a_kill_it_goes_on_to_the_same_scorecard(capsys, data, tmp_path):
    whole = simulate(capsys, data, tmp_path / "whole", "--folds", "event")
    cut_off = tmp_path / "cut.partial"
    (tmp_path / "whole").rename(cut_off)
    kept = (cut_off / "rollouts.jsonl").read_bytes()
    (cut_off / "rollouts.jsonl").write_bytes(kept[: len(kept) // 2])
    for name in ("scorecard.json", "report.html"):
        (cut_off / name).unlink()
    status, said, err = evaluate(capsys, "--resume", tmp_path / "cut", "--json")
    assert status == 0, err
    assert "roll-outs are there already" in err
    assert figures(Scorecard.model_validate_json(said)) == figures(whole)
    lines = (tmp_path / "cut" / "rollouts.jsonl").read_bytes().splitlines()
    assert sorted(lines) == sorted(set(lines))
    assert len(lines) == 5 * 6 * 3
    assert not cut_off.exists()


def test_data_that_changed_since_is_no_data_to_go_on_with(capsys, data, tmp_path):
    simulate(capsys, data, tmp_path / "card")
    (tmp_path / "card").rename(tmp_path / "card.partial")
    data.write_text(data.read_text().replace("Remark 3", "Remark 4"))
    status, _, err = evaluate(capsys, "--resume", tmp_path / "card")
    assert status == 2
    assert "the files of --data have changed since" in err
    assert (tmp_path / "card.partial" / "rollouts.jsonl").stat().st_size


def test_with_folds_rivals_learn_from_other_events_alone(capsys, data, tmp_path):
    one_event = [replace(crowd(f"d{i}", "flood", i), actions=denials(f"d{i}")) for i in range(4)]
    write_cascades(data, [*one_event, *(crowd(f"c{i}", "fire", i) for i in range(4))])
    simulate(capsys, data, tmp_path / "card", "--folds", "event", "--summarizers", "none")
    rows = [json.loads(line) for line in (tmp_path / "card" / "per_cascade.jsonl").read_text().splitlines()]
    prior = {row["event"]: row["shares"] for row in rows if row["name"] == "prior"}
    assert prior["flood"]["deny"] < 0.5 < 0.95 < prior["fire"]["deny"]


def denials(key):
    return tuple(action(f"{key}-{i}", "deny", after=i) for i in range(20))


def test_personas_are_rows_of_their_own(capsys, data, tmp_path):
    known = [replace(one, actions=tuple(map(followed, one.actions))) for one in read_cascades(data)]
    write_cascades(data, known)
    card = simulate(capsys, data, tmp_path / "card", "--summarizers", "tally,none", "--persona", "graded,none")
    assert [one.name for one in card.entries if one.kind == "simulation"] == [
        "tally, personas", "none, personas", "tally, no personas", "none, no personas"
    ]  # fmt: skip
    by_name = {one.name: one for one in card.entries}
    assert by_name["tally, personas"].kl != by_name["tally, no personas"].kl


def followed(one):
    return replace(one, author=replace(one.author, followers=50_000))


def test_a_limit_takes_from_each_event(capsys, data, tmp_path):
    simulate(capsys, data, tmp_path / "card", "--limit", 3, "--summarizers", "none")
    rows = [json.loads(line) for line in (tmp_path / "card" / "per_cascade.jsonl").read_text().splitlines()]
    assert {row["event"] for row in rows} == {"flood", "fire", "storm"}
    assert len({row["cascade"] for row in rows}) == 3


def test_an_annotator_adds_its_dimensions_and_its_agreement(capsys, data, tmp_path):
    annotated = ["--annotator", "scripted", "--summarizers", "none,tally", "--folds", "event", "--limit", 3]
    card = simulate(capsys, data, tmp_path / "card", *annotated)
    assert {one.dimension for one in card.others} >= {"annotated.sentiment", "annotated.stance"}
    assert card.dimension == "stance"
    assert card.annotation is not None
    assert [(one.dimension, one.gold, one.texts) for one in card.annotation.agreement] == [
        ("annotated.stance", "stance", 60)
    ]
    assert (tmp_path / "labels.jsonl").exists()
    again = simulate(capsys, data, tmp_path / "again", *annotated)
    assert again.annotation.spent.calls == 0
    assert figures(again) == figures(card)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--summarizers", "tally,gossip"], "'gossip' is unknown; there are llm, tally, none"),
        (["--summarizers", ","], "names are needed"),
        (["--persona", "rich"], "'rich' is unknown; there are graded, none"),
        (["--replicas", "0"], "--replicas must be at least 1, got 0"),
        (["--warm-up", "1.5"], "warm_up must be at least 0 and below 1"),
        (["--min-actions", "99"], "no cascade has at least 99 actions and a label of 'stance' after the warm-up"),
        (["--no-texts", "--text-likelihood"], "--no-texts leaves no texts for --text-likelihood"),
        (["--adapter", "somewhere"], "An adapter needs a local model"),
        (["--resume", "nowhere"], "nowhere.partial: there is no unfinished work to go on with"),
        (["--train", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(capsys, data, tmp_path, arguments, said):
    given = ["--backend", "scripted", "--data", data, "--out", tmp_path / "card", *arguments]
    try:
        status, out, err = evaluate(capsys, *given)
    except SystemExit as stopped:  # argparse
        status, (out, err) = stopped.code, capsys.readouterr()
    assert status == 2
    assert out == ""
    assert said in err.splitlines()[-1]
    assert not list(tmp_path.glob("card*"))


def test_an_id_in_two_files_is_told(capsys, data, tmp_path):
    other = tmp_path / "other.jsonl"
    write_cascades(other, [crowd("c1", "quake", 0)])
    status, _, err = evaluate(capsys, "--backend", "scripted", "--data", data, "--data", other)
    assert status == 2
    assert f"{other}: cascade 'c1' is in {data}, too" in err


def test_training_on_nothing_but_the_events_compared_is_told(capsys, data, tmp_path):
    one = tmp_path / "one.jsonl"
    write_cascades(one, [crowd("e1", "quake", 0), crowd("e2", "quake", 1)])
    status, _, err = evaluate(capsys, "--backend", "scripted", "--data", one, "--folds", "event")
    assert status == 2
    assert "other events than 'quake': no training cascade has 15 actions" in err


def test_the_python_of_the_documentation_runs(data):
    page = Path(__file__).parents[1] / "docs" / "evaluation.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    write_cascades(data, [one for one in read_cascades(data) if one.event])
    known: dict[str, object] = {"FILE": data}
    exec(code, known)
    scored = known["scored"]
    assert isinstance(scored, Card)
    assert [one.name for one in scored.entries][-1] == "mine"
    assert scored.entries[-1].coverage is not None


def test_a_server_that_fails_half_way_loses_nothing(capsys, data, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MESA_MEANFIELD_API_KEY", "secret-of-mine")
    asked, refused_from = [0], [math.inf]

    def status(body):
        asked[0] += 1
        return 401 if asked[0] > refused_from[0] else None

    with FakeServer(words=("A", "B", "C", "D"), status_of=status) as fake:
        given = ["--backend", fake.url, "--data", data, "--min-actions", 10, "--no-texts", "--jobs", 2, "--json"]
        given += ["--summarizers", "none,tally"]
        _, whole, _ = evaluate(capsys, *given, "--out", tmp_path / "whole")
        refused_from[0] = 1.6 * asked[0]
        status_, _, err = evaluate(capsys, *given, "--out", tmp_path / "card")
        assert status_ == 2
        assert "401" in err.splitlines()[-1]
        assert f"go on by: mesa-meanfield evaluate --resume {tmp_path / 'card'}" in err
        kept = (tmp_path / "card.partial" / "rollouts.jsonl").read_bytes().splitlines()
        assert 0 < len(kept) < 36
        refused_from[0] = math.inf
        status_, said, err = evaluate(capsys, "--resume", tmp_path / "card", "--json")
        assert status_ == 0, err
    scores = [Scorecard.model_validate_json(one) for one in (whole, said)]
    assert scores[0].paired == scores[1].paired
    everything = b"".join(file.read_bytes() for file in (tmp_path / "card").iterdir())
    assert b"secret-of-mine" not in everything


def power_failure(model):
    raise BackendUnavailable("the power failed")


def outage(model):
    model.left = math.inf
    raise BackendUnavailable("the power failed for a moment")


def outage_then_power_failure(model):
    model.left, model.then = 15, power_failure
    raise BackendUnavailable("the power failed for a moment")


def interrupt(model):
    model.left = math.inf
    os.kill(os.getpid(), signal.SIGINT)


class Touchy(ScriptedBackend):
    """Answers that depend on what else is in the batch, until something happens."""

    def __init__(self, batches=math.inf, then=power_failure):
        super().__init__()
        self.left = batches
        self.then = then
        self.asked = 0

    def generate(self, requests):
        salt = self._salt(requests)
        return [replace(one, text=f"{one.text} {salt:.6f}") for one in super().generate(requests)]

    def score(self, requests, candidates):
        scores = super().score(requests, candidates)
        return scores + self._salt(requests) * np.linspace(0, 1, len(candidates))

    def _salt(self, requests):
        self.left -= 1
        if self.left < 0:
            self.then(self)
        self.asked += len(requests)
        said = sorted((one.prefix, one.suffix, one.seed or 0) for one in requests)
        return zlib.crc32(repr(said).encode()) / 2**32


def same_rollouts(*folders):
    """Whether roll-outs are the same to the last byte, but for what they cost and in which order they ended."""
    found = []
    for folder in folders:
        ones = [json.loads(line) | {"usage": None} for line in (folder / "rollouts.jsonl").read_text().splitlines()]
        found.append(sorted(map(json.dumps, ones)))
    return all(one == found[0] for one in found)


@pytest.fixture
def interruptible():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def touchy(capsys, data, tmp_path, monkeypatch):
    """Evaluations with a touchy model: the model, and where the roll-outs are -> the status."""

    def made(backend, out, *arguments):
        monkeypatch.setattr("mesa_meanfield.cli.simulations.load_backend", lambda *_, **__: backend)
        given = [
            "--data",
            data,
            "--min-actions",
            10,
            "--summarizers",
            "tally,llm",
            "--backend",
            "touchy",
            "--out",
            out,
        ]
        return evaluate(capsys, *(given if "--resume" not in arguments else ()), *arguments)[0]

    whole = Touchy()
    assert made(whole, tmp_path / "whole", "--jobs", 4) == 0
    made.whole = whole
    return made


def test_what_a_batch_holds_depends_on_no_clock(touchy, tmp_path):
    assert touchy(Touchy(), tmp_path / "again", "--jobs", 4) == 0
    assert same_rollouts(tmp_path / "whole", tmp_path / "again")
    assert touchy(Touchy(), tmp_path / "other", "--jobs", 3) == 0
    assert not same_rollouts(tmp_path / "whole", tmp_path / "other")  # what is looked for would be seen


@pytest.mark.parametrize(
    ("cut", "status", "limit"),
    [
        (Touchy(40), 2, ()),
        (Touchy(61), 2, ()),  # in the last summaries of a wave, without which its roll-outs end all the same
        (Touchy(38, interrupt), 1, ()),
        (Touchy(57, interrupt), 1, ()),
        (Touchy(), 1, ("--max-calls", 365)),
        (Touchy(), 1, ("--max-calls", 548)),
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_after_a_break_batches_hold_the_same(touchy, tmp_path, cut, status, limit):
    assert touchy(cut, tmp_path / "cut", "--jobs", 4, *limit) == status
    kept = (tmp_path / "cut.partial" / "rollouts.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < 36
    rest = Touchy()
    assert touchy(rest, None, "--resume", tmp_path / "cut") == 0
    assert same_rollouts(tmp_path / "whole", tmp_path / "cut")
    assert cut.asked + rest.asked == touchy.whole.asked


def test_an_outage_that_was_over_is_part_of_what_happened(touchy, tmp_path):
    assert touchy(Touchy(61, outage), tmp_path / "unbroken", "--jobs", 4) == 0
    assert not same_rollouts(tmp_path / "whole", tmp_path / "unbroken")
    assert touchy(Touchy(61, outage_then_power_failure), tmp_path / "cut", "--jobs", 4) == 2
    assert touchy(Touchy(), None, "--resume", tmp_path / "cut") == 0
    assert same_rollouts(tmp_path / "unbroken", tmp_path / "cut")
