"""``mesa-meanfield tune``."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")

from ibtune_worlds import folder_of
from tiny_models import one_thread

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.cli import main
from mesa_meanfield.ibtune.calibration import read_calibrations
from mesa_meanfield.protocols import Request

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("world"))


def tune(capsys, world, out, *options):
    usual = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    usual += ["--out", out, "--steps", "2", "--batch", "2", "--rank", "2", "--learning-rate", "0.01", "--every", "1"]
    status = main(["tune", *map(str, [*usual, *options])])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_policy_and_summarizer_become_adapters_with_cards(capsys, world, tmp_path):
    out = tmp_path / "run"
    stages = ["--stages", "policy,summarizer", "--summarizer", "llm", "--summary-tokens", "3"]
    status, stdout, err = tune(capsys, world, out, *stages, "--held-out", "e1", "--json")
    assert status == 0, err
    told = json.loads(stdout)
    assert {"adapters", "steps", "curves_file", "held_out"} <= told.keys()
    assert told["adapters"] == {name: str(out / "adapters" / name) for name in ("policy", "summarizer")}
    assert told["steps"] == 4
    assert told["held_out"].keys() == {"before", "after"}
    for figures in told["held_out"].values():
        assert {"nll", "kl", "rate", "distortion"} <= figures.keys()
        assert all(figures[name] is not None for name in ("nll", "rate", "distortion", "kl"))
    assert {file.name for file in out.iterdir()} == {
        "adapters",
        "config.json",
        "curves.jsonl",
        "curves.png",
        "result.json",
    }
    card = (out / "adapters" / "policy" / "README.md").read_text()
    config = json.loads((out / "config.json").read_text())
    rolled_out = f"| policy | {told['stages'][0]['before']['kl']:.4f} | {told['stages'][0]['after']['kl']:.4f} |"
    for part in (
        config["data_sha256"]["data.jsonl"],
        "Limits",
        "| summarizer | after |",
        '"held_out": [',
        rolled_out,
    ):
        assert part in card
    assert read_calibrations(out / "adapters" / "policy")[0].decisions > 0
    base = load_backend(f"hf:{world / 'model'}")
    asked = [Request("sum", "I fish.")]
    for folder in told["adapters"].values():
        assert base.adapted(folder).score(asked, ["share", "doubt"]).shape == (1, 2)


def test_the_figures_are_told(capsys, world, tmp_path):
    status, stdout, err = tune(capsys, world, tmp_path / "run", "--held-out", "e1")
    assert status == 0, err
    for part in ("policy, before", "policy, after", "Temperature of stance", "2 steps", str(tmp_path / "run")):
        assert part in stdout
    assert "Tune: 2/2 policy: nll" in err


def test_an_interrupted_run_is_resumed_to_the_same_adapter(capsys, world, tmp_path, monkeypatch):
    status, _, err = tune(capsys, world, tmp_path / "whole", "--held-out", "e1")
    assert status == 0, err
    import mesa_meanfield.ibtune.loop as loop

    step, calls = loop.Loop._step, []

    def struck(self, *given):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        step(self, *given)

    monkeypatch.setattr(loop.Loop, "_step", struck)
    status, _, err = tune(capsys, world, tmp_path / "cut", "--held-out", "e1", "--checkpoint-minutes", "0")
    assert status == 1
    assert "--resume" in err
    monkeypatch.undo()
    assert (tmp_path / "cut.partial").is_dir()
    status, _, err = tune(
        capsys, world, tmp_path / "cut", "--held-out", "e1", "--checkpoint-minutes", "0", "--resume"
    )
    assert status == 0, err
    weights = [tmp_path / name / "adapters" / "policy" / "adapter_model.safetensors" for name in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    status, _, err = tune(capsys, world, tmp_path / "cut", "--resume")
    assert status == 2
    assert "no unfinished work" in err


def test_a_fold_gives_the_figures_and_decides_nothing(capsys, world, tmp_path):
    status, stdout, err = tune(capsys, world, tmp_path / "run", "--fold", "e2", "--json")
    assert status == 0, err
    told = json.loads(stdout)
    assert told["held_out"]["after"]["nll"] is not None
    assert told["calibration"] == {}
    assert told["data"]["fold"] == ["e2"]
    assert told["data"]["events"] == ["e0", "e1"]
    rows = (tmp_path / "run" / "curves.jsonl").read_text().splitlines()
    assert all(json.loads(row)["split"] == "train" for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--held-out", "e9"], "no event 'e9'"),
        (["--held-out", "e0", "e1", "e2"], "nothing is left"),
        (["--held-out", "e1", "--fold", "e1"], "decides nothing"),
        (["--stages", "dance"], "no stage"),
        (["--stages", "summarizer"], "--summarizer llm"),
        (["--backend", "scripted"], "local"),
        (["--backend", "http://localhost:1/v1"], "local"),
        (["--backend", "hf:/nowhere"], "no such folder"),
        (["--backend", "hf:/nowhere@bf16", "--dtype", "float32"], "leave --dtype float32"),
        (["--learning-rate", "0"], "learning_rate"),
        (["--warm-up", "0.5", "0.1"], "warm_up"),
        (["--per-tick", "0"], "per_tick"),
        (["--dimension", "mood"], "mood"),
        (["--data", "/nowhere.jsonl"], "cannot be read"),
        (["--samples", "2"], "samples"),
        (["--roll-outs", "-1"], "--roll-outs"),
        (["--layers", "0"], "layers"),
        (["--layers", "9"], "no last 9"),
        (["--summarizer", "telepathy"], "there is no 'telepathy'"),
    ],
)
def test_wrong_use_is_one_line(capsys, world, tmp_path, options, said):
    try:
        status, stdout, err = tune(capsys, world, tmp_path / "run", *options)
    except SystemExit as exit_:  # argparse's own
        status, (stdout, err) = exit_.code, capsys.readouterr()
    assert status == 2
    assert stdout == ""
    told = [line for line in err.splitlines() if line.startswith("mesa-meanfield tune")]
    assert len(told) == 1
    assert said in told[0]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(capsys, world, tmp_path):
    (tmp_path / "run").mkdir()
    status, _, err = tune(capsys, world, tmp_path / "run")
    assert status == 2
    assert "is there already" in err


def test_an_adapter_is_loaded_with_its_temperature_by_run_and_evaluate(capsys, world, tmp_path):
    status, _, err = tune(capsys, world, tmp_path / "run", "--held-out", "e1")
    assert status == 0, err
    policy = tmp_path / "run" / "adapters" / "policy"
    for event in ("e0", "e1", "e2"):
        shutil.copytree(policy, tmp_path / "folds" / event)
        (hot,) = json.loads((policy / "calibration.json").read_text())
        temperature = {"e0": 1.0, "e1": 1.0, "e2": 1e6}[event]
        hot = [{**hot, "temperature": temperature}]
        (tmp_path / "folds" / event / "calibration.json").write_text(json.dumps(hot))
    common = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    common += ["--no-texts", "--json"]
    evaluated = ["--summarizers", "tally", "--adapter", tmp_path / "folds" / "{event}", "--min-actions", "5"]
    status = main(["evaluate", *map(str, [*common, *evaluated, "--out", tmp_path / "card"])])
    _, err = capsys.readouterr()
    assert status == 0, err
    spread = {}
    for line in (tmp_path / "card" / "rollouts.jsonl").read_text().splitlines():
        rolled = json.loads(line)
        shares = rolled["actions"][0]["trace"]["distribution"].values()
        spread[rolled["cascade"]] = max(shares) - min(shares)
    assert spread["c2"] < 1e-4 < min(spread["c0"], spread["c1"])  # c2 is of event e2
    single = ["--id", "c2", "--summarizer", "tally", "--adapter", tmp_path / "folds" / "e2"]
    status = main(["run", *map(str, [*common, *single, "--out", tmp_path / "single"])])
    stdout, err = capsys.readouterr()
    assert status == 0, err
    assert list(json.loads(stdout)["simulated"].values()) == pytest.approx([0.25] * 4, abs=1e-4)
