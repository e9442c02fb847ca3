"""``evaluate`` once more: gone on with in the middle of a roll-out, replayed, paid for out of a cache or a budget."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest
from fake_server import FakeServer, isolated
from worlds import cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.cli import main
from mesa_meanfield.cli.rerun import first_different_rollout

assert isolated  # a fixture for all tests here
LABELS = ("deny", "support", "comment", "deny", "query", "comment", "comment")
WORDS = ("comment", "query", "deny", "support", "well", "so")


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "cascades.jsonl"
    write_cascades(file, [replace(cascade(20, LABELS[i:], key=f"c{i}"), event=f"e{i}") for i in range(2)])
    return file


def evaluate(capsys, *arguments):
    status = main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def usual(data, backend="scripted"):
    return ["--backend", backend, "--data", data, "--replicas", 2, "--summarizers", "tally,llm"]


def made(capsys, *arguments):
    status, out, err = evaluate(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def figures(card):
    """All but what it cost, which is a matter of who comes first, and where and when it was made."""
    entries = [{key: one for key, one in entry.items() if key != "spent"} for entry in card["entries"]]
    return entries, card["paired"], card["noise_floor"]


def last_line(err):
    return err.strip().splitlines()[-1]


def test_an_evaluation_is_replayed_without_its_models_and_calibrations(capsys, data, tmp_path):
    flat = {"dimension": "stance", "labels": ["comment", "query", "deny", "support"], "temperature": 3.0}
    fitted = tmp_path / "calibration.json"
    fitted.write_text(json.dumps([flat | {"nll_before": 2.0, "nll_after": 1.4, "decisions": 9}]))
    with FakeServer(words=WORDS) as fake:
        card = made(capsys, *usual(data, fake.url), "--calibration", fitted, "--out", tmp_path / "card")
    fitted.unlink()
    status, out, err = evaluate(capsys, "--replay", tmp_path / "card", "--out", tmp_path / "again", "--json")
    assert status == 0, err
    assert "byte for byte" in last_line(err)
    assert figures(json.loads(out)) == figures(card)
    assert first_different_rollout(tmp_path / "card", tmp_path / "again") is None
    assert not (tmp_path / "again" / CALLS).exists()


def test_a_call_that_is_missing_and_a_difference_are_told_with_status_2(capsys, data, tmp_path):
    made(capsys, *usual(data), "--out", tmp_path / "card")
    file = tmp_path / "card" / "rollouts.jsonl"
    kept = file.read_text()
    file.write_text(kept.replace('"text": "', '"text": "Oh, ', 1))
    status, _, err = evaluate(capsys, "--replay", tmp_path / "card", "--out", tmp_path / "b")
    assert status == 2
    assert "they differ first in " in last_line(err)
    file.write_text(kept)
    with sqlite3.connect(tmp_path / "card" / CALLS) as connection:
        connection.execute("DELETE FROM calls WHERE kind = 'choice'")
    connection.close()
    status, _, err = evaluate(capsys, "--replay", tmp_path / "card", "--out", tmp_path / "c")
    assert status == 2
    assert "only what was recorded can be replayed" in last_line(err)


def test_a_replay_knows_the_labels_that_the_annotator_knew_from_before(capsys, data, tmp_path):
    given = [*usual(data), "--annotator", "scripted"]
    made(capsys, *given, "--out", tmp_path / "first")
    card = made(capsys, *given, "--out", tmp_path / "card")  # all its labels come from the file beside it
    assert CallLog(tmp_path / "card" / CALLS, writable=False).contents().usage.calls
    again = made(capsys, "--replay", tmp_path / "card", "--out", tmp_path / "elsewhere" / "again")
    assert figures(again) == figures(card)
    assert [figures(one | {"noise_floor": 0}) for one in again["others"]] == [
        figures(one | {"noise_floor": 0}) for one in card["others"]
    ]


def test_half_a_roll_out_costs_nothing_again(capsys, data, tmp_path):
    card = made(capsys, *usual(data), "--jobs", 1, "--out", tmp_path / "whole")
    cost = CallLog(tmp_path / "whole" / CALLS, writable=False).contents().usage.calls
    out, some = tmp_path / "card", cost // 2
    status, _, err = evaluate(capsys, *usual(data), "--jobs", 1, "--out", out, "--max-calls", some)
    assert status == 1
    assert f"the budget of {some} calls is spent" in last_line(err).lower()
    kept = CallLog(tmp_path / "card.partial" / CALLS, writable=False).contents().usage.calls
    whole = (tmp_path / "card.partial" / "rollouts.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["usage"]["calls"] for line in whole) < kept <= some
    resumed = made(capsys, "--resume", out, "--jobs", 1, "--max-calls", cost - kept)  # for not one call more
    assert figures(resumed) == figures(card)
    assert first_different_rollout(tmp_path / "whole", out) is None


def test_evaluations_share_a_cache_when_asked(capsys, data, tmp_path):
    for name in ("a", "b"):
        made(capsys, *usual(data), "--jobs", 1, "--cache", tmp_path / "shared", "--out", tmp_path / name)
    logs = [CallLog(tmp_path / name / CALLS, writable=False).contents() for name in ("a", "b")]
    assert logs[0].calls == logs[1].calls
    assert (logs[0].usage.calls > 0, logs[1].usage.calls) == (True, 0)


def test_a_dry_run_counts_the_calls_of_all_and_writes_nothing(capsys, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [*usual(data), "--jobs", 1]
    before = sorted(tmp_path.rglob("*"))
    told = made(capsys, *given, "--no-texts", "--dry-run")
    labelled = made(capsys, *given, "--annotator", "scripted", "--dry-run")
    assert sorted(tmp_path.rglob("*")) == before
    made(capsys, *given, "--no-texts", "--out", tmp_path / "card")
    contents = CallLog(tmp_path / "card" / CALLS, writable=False).contents()
    assert told["calls"] == contents.usage.calls
    assert labelled["calls"] >= told["calls"] + 20  # the recorded remarks at least, which stand in both cascades


def test_what_changed_since_is_told(capsys, data, tmp_path):
    fitted = tmp_path / "calibration.json"
    flat = {"dimension": "stance", "labels": ["comment", "query", "deny", "support"], "temperature": 3.0}
    flat |= {"nll_before": 2.0, "nll_after": 1.4, "decisions": 9}
    fitted.write_text(json.dumps([flat]))
    given = [*usual(data), "--calibration", fitted, "--out", tmp_path / "card", "--max-calls", 30]
    assert evaluate(capsys, *given)[0] == 1
    fitted.write_text(json.dumps([flat | {"temperature": 2.0}]))
    status, _, err = evaluate(capsys, "--resume", tmp_path / "card")
    assert (status, "its calibrations have changed since" in last_line(err)) == (2, True)
    status, _, err = evaluate(capsys, "--resume", tmp_path / "card", "--replicas", 5)
    assert (status, "--replicas: " in last_line(err)) == (2, True)
