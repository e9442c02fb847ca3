"""``mesa-meanfield calibrate``: any model that gives probabilities, no training, honest figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_server import FakeServer
from worlds import cascade

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.ibtune.calibration import Calibration, read_calibrations

PROBABILITIES = {"comment": 0.7, "query": 0.1, "deny": 0.1, "support": 0.1}
FLOOD = ("comment", "comment", "comment", "query")
FIRE = ("comment", "comment", "query", "deny")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def data(tmp_path):
    """Two events, in each of which four decisions come after the warm-up."""
    file = tmp_path / "cascades.jsonl"
    events = {"flood": FLOOD, "fire": FIRE}
    write_cascades(file, [replace(cascade(8, said, key=f"{name}1"), event=name) for name, said in events.items()])
    return file


def sure(body):
    """A server's answer that gives the labels these probabilities, whatever is asked."""
    top = [{"token": word, "logprob": math.log(p), "bytes": list(word.encode())} for word, p in PROBABILITIES.items()]
    content = [{**top[0], "top_logprobs": top}]
    choice = {
        "message": {"role": "assistant", "content": "comment"},
        "finish_reason": "stop",
        "logprobs": {"content": content},
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}


def calibrate(capsys, *arguments):
    status = main(["calibrate", "--warm-up", "0.5", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def nll(first, p):
    """Per decision, where the first label has probability p and the rest have what remains, in equal parts."""
    return -first * math.log(p) - (1 - first) * math.log((1 - p) / 3)


def test_a_server_is_calibrated_to_what_was_decided(capsys, data, tmp_path):
    with FakeServer(reply=sure) as fake:
        status, out, err = calibrate(
            capsys, "--backend", fake.url, "--data", data, "--out", tmp_path / "run", "--json"
        )
    assert status == 0, err
    told = json.loads(out)
    # Five of eight took the first label: 7 ** (1 / T) / (7 ** (1 / T) + 3) = 5 / 8.
    assert told["temperature"] == pytest.approx(math.log(7) / math.log(5), rel=1e-4)
    assert told["nll_before"] == pytest.approx(nll(5 / 8, 0.7))
    assert told["nll_after"] == pytest.approx(nll(5 / 8, 5 / 8))
    assert told["nll_uniform"] == pytest.approx(math.log(4))
    assert told["nll_shares"] == pytest.approx(-(5 * math.log(5 / 8) + 2 * math.log(2 / 8) + math.log(1 / 8)) / 8)
    assert (told["decisions"], told["unscored"], told["ticks"], told["cascades"]) == (8, 0, 2, 2)
    assert told["events"] == ["fire", "flood"]
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"calibration.json", "config.json", "result.json"}
    (found,) = read_calibrations(tmp_path / "run")
    assert found == Calibration(
        "stance",
        ("comment", "query", "deny", "support"),
        *(told[name] for name in ("temperature", "nll_before", "nll_after", "decisions")),
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["data_sha256"].keys() == {"cascades.jsonl"}
    assert config["summarizer"] == "tally"


def test_each_event_is_also_seen_at_the_temperature_of_the_others(capsys, data, tmp_path):
    with FakeServer(reply=sure) as fake:
        given = ["--backend", fake.url, "--data", data, "--out", tmp_path / "run"]
        status, out, err = calibrate(capsys, *given)
    assert status == 0, err
    left_out = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["events_left_out"]
    fire, flood = left_out["each"]
    assert (fire["events"], flood["events"]) == (["fire"], ["flood"])
    assert fire["temperature"] == pytest.approx(math.log(7) / math.log(9), rel=1e-4)  # of flood: three of four
    assert fire["nll_after"] == pytest.approx(nll(1 / 2, 3 / 4), rel=1e-4)
    assert flood["temperature"] == pytest.approx(math.log(7) / math.log(3), rel=1e-4)  # of fire: two of four
    assert flood["nll_after"] == pytest.approx(nll(3 / 4, 1 / 2), rel=1e-4)
    assert left_out["nll_before"] == pytest.approx(nll(5 / 8, 0.7))
    assert left_out["nll_after"] == pytest.approx((fire["nll_after"] + flood["nll_after"]) / 2)
    assert f"│ all   │         8 │                           │ {nll(5 / 8, 0.7):.4f} │" in out
    assert f"NLL per decision: {nll(5 / 8, 0.7):.4f} -> {nll(5 / 8, 5 / 8):.4f} nats on the 8 decisions of 2" in out


def test_run_decides_at_the_temperature_found(capsys, data, tmp_path):
    with FakeServer(reply=sure) as fake:
        given = ["--backend", fake.url, "--data", data]
        status, _, err = calibrate(capsys, *given, "--out", tmp_path / "fitted")
        assert status == 0, err
        given += [
            "--summarizer",
            "tally",
            "--no-texts",
            "--calibration",
            tmp_path / "fitted",
            "--out",
            tmp_path / "run",
        ]
        assert main(["run", *map(str, given)]) == 0
    lines = (tmp_path / "run" / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [row["distribution"] for row in map(json.loads, lines) if row["distribution"]]
    assert shown
    assert all(one["comment"] == pytest.approx(5 / 8, abs=1e-4) for one in shown)


def test_only_the_events_named_are_fitted(capsys, data, tmp_path):
    with FakeServer(reply=sure) as fake:
        given = ["--backend", fake.url, "--data", data, "--out", tmp_path / "run", "--json"]
        status, out, err = calibrate(capsys, *given, "--events", "fire")
    assert status == 0
    told = json.loads(out)
    assert told["temperature"] == pytest.approx(math.log(7) / math.log(3), rel=1e-4)
    assert told["events_left_out"] is None
    assert "all decisions are of one event" in err


def test_requests_that_fail_are_counted_and_teach_nothing(capsys, data, tmp_path):
    lost = replace(cascade(8, ["deny", "query"], key="storm1", topic="An owl in the attic."), event="storm")
    write_cascades(tmp_path / "more.jsonl", [lost])

    def refused(body):
        return 400 if "An owl" in json.dumps(body) else None

    with FakeServer(reply=sure, status_of=refused) as fake:
        given = ["--backend", fake.url, "--data", data, tmp_path / "more.jsonl", "--out", tmp_path / "run", "--json"]
        status, out, err = calibrate(capsys, *given)
    assert status == 0, err
    told = json.loads(out)
    assert (told["decisions"], told["unscored"]) == (8, 4)
    assert told["temperature"] == pytest.approx(math.log(7) / math.log(5), rel=1e-4)
    assert len(told["events_left_out"]["each"]) == 2
    assert "4 decisions got no probabilities" in err


def test_a_model_that_knows_nothing_is_told(capsys, tmp_path):
    status, out, err = calibrate(capsys, "--backend", "scripted", "--out", tmp_path / "run")
    assert status == 0, err
    assert "at an end of 0.05 to 20.0" in err
    assert "for all labels alike" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--events", "fire", "quake"], "there is no event 'quake'; there are fire, flood"),
        (["--beside-adapter"], "--beside-adapter needs --adapter PATH"),
        (["--adapter", "here"], "An adapter needs a local model"),
        (["--warm-up", "1"], "warm_up must be"),
        (["--per-tick", "0"], "per_tick must be"),
        (["--dimension", "mood"], "Dimension 'mood' has 0 labels"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(capsys, data, tmp_path, given, said):
    usual = ["--backend", "scripted", "--data", data, "--out", tmp_path / "run"]
    status, _, err = calibrate(capsys, *usual, *given)
    assert status == 2
    assert said in err.splitlines()[-1]
    assert not list(tmp_path.glob("run*"))


def test_a_server_without_probabilities_is_told_and_leaves_nothing(capsys, data, tmp_path):
    with FakeServer(logprobs=False) as fake:
        status, _, err = calibrate(capsys, "--backend", fake.url, "--data", data, "--out", tmp_path / "run")
    assert status == 2
    assert "calibrate needs the probability of every label" in err.splitlines()[-1]
    assert not list(tmp_path.glob("run*"))


def test_an_old_directory_is_never_overwritten(capsys, data, tmp_path):
    (tmp_path / "run").mkdir()
    status, _, err = calibrate(capsys, "--backend", "scripted", "--data", data, "--out", tmp_path / "run")
    assert status == 2
    assert "nothing is overwritten" in err


def test_no_torch_is_loaded_for_a_model_elsewhere(data, tmp_path):
    given = ["calibrate", "--backend", "scripted", "--data", str(data), "--out", str(tmp_path / "run"), "--json"]
    code = f"import sys; from mesa_meanfield.cli import main; main({given}); print({{'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
