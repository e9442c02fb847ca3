"""``run`` once more: killed and gone on with, replayed without its model, paid for out of a cache or a budget."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fake_server import FakeServer, isolated
from worlds import cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.cli import main
from mesa_meanfield.prompts import prompt_hash
from mesa_meanfield.store import first_difference

assert isolated  # a fixture for all tests here
SECRET = "sk-recorded-0123456789"
LABELS = ("comment", "query", "deny", "support", "well", "so")
NEEDS_SIGKILL = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="optional: kill -9 is not known here")
OFFLINE = """
import socket, sys
class NoModels:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "transformers", "peft"): raise ImportError(name)
sys.meta_path.insert(0, NoModels())
def closed(*_, **__): raise OSError("the network is off")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = closed
from mesa_meanfield.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "cascades.jsonl"
    write_cascades(file, [cascade(20, key="c1")])
    return file


def run(capsys, *arguments):
    status = main(["run", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def made(capsys, out, *arguments, backend="scripted"):
    """A run that must succeed."""
    status, _, err = run(capsys, "--backend", backend, "--out", out, *arguments)
    assert status == 0, err
    return out


def results(folder):
    """All that must not change, byte for byte; of the result what is no time and no place."""
    result = json.loads((folder / "result.json").read_text())
    result["usage"].pop("seconds")
    files = {name: (folder / name).read_bytes() for name in ("decisions.jsonl", "fields.jsonl", "trend.png")}
    return files | {name: one for name, one in result.items() if name not in ("seconds", "run_dir", "replay")}


def last_line(err):
    return err.strip().splitlines()[-1]


@NEEDS_SIGKILL
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_run_that_was_killed_is_gone_on_with_to_the_same_files_for_what_is_missing(capsys, data, tmp_path, share):
    with FakeServer(words=LABELS) as fake:
        given = ["--backend", fake.url, "--data", str(data)]
        whole = made(capsys, tmp_path / "whole", *given[2:], backend=fake.url)
        cost, fatal = len(fake.asked), round(share * len(fake.asked))
        child: list[subprocess.Popen[bytes]] = []

        def kill(_):
            if len(fake.asked) == cost + fatal:
                os.kill(child[0].pid, signal.SIGKILL)

        fake.status_of = kill
        command = [sys.executable, "-m", "mesa_meanfield.cli", "run", *given, "--out", str(tmp_path / "run")]
        child.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        assert child[0].wait(120) == -signal.SIGKILL
        assert not (tmp_path / "run").exists()
        fake.status_of = lambda _: None
        paid = len(fake.asked)
        status, _, err = run(capsys, "--resume", tmp_path / "run")
        assert status == 0, err
        again = len(fake.asked) - paid
    assert results(tmp_path / "run") == results(whole)
    assert again <= cost - fatal + 16  # what was under way when the child died is asked again, and the probe
    assert not (tmp_path / "run.partial").exists()


def test_a_run_is_replayed_without_model_network_and_torch_and_its_data_may_have_moved(capsys, data, tmp_path):
    with FakeServer(words=LABELS) as fake:
        recorded = made(capsys, tmp_path / "run", "--data", data, backend=fake.url)
    data.rename(tmp_path / "moved.jsonl")
    given = ["run", "--replay", recorded, "--data", tmp_path / "moved.jsonl", "--out", tmp_path / "again", "--json"]
    command = [sys.executable, "-c", OFFLINE, *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["replay"] == {"of": str(recorded), "first_difference": None}
    assert "byte for byte" in last_line(done.stderr)
    assert results(tmp_path / "again") == results(recorded)
    assert not (tmp_path / "again" / CALLS).exists()


def test_a_call_that_is_missing_is_told_with_status_2(capsys, data, tmp_path):
    recorded = made(capsys, tmp_path / "run", "--data", data)
    with sqlite3.connect(recorded / CALLS) as connection:
        connection.execute("DELETE FROM calls WHERE unit = (SELECT max(unit) FROM calls)")
    connection.close()
    status, out, err = run(capsys, "--replay", recorded, "--out", tmp_path / "again")
    assert (status, out) == (2, "")
    assert last_line(err).endswith("only what was recorded can be replayed")
    assert not (tmp_path / "again").exists()


def test_a_replay_that_differs_is_told_where(capsys, data, tmp_path):
    recorded = made(capsys, tmp_path / "run", "--data", data)
    file = recorded / "decisions.jsonl"
    file.write_text(file.read_text().replace('"label": "', '"label": "un', 1))
    status, _, err = run(capsys, "--replay", recorded, "--out", tmp_path / "again")
    assert status == 2
    assert "they differ first in decisions.jsonl line 1;" in last_line(err)


@pytest.mark.parametrize("way", ["--replay", "--resume", "--cache"])
def test_a_damaged_log_is_told_in_one_line_and_left_alone(capsys, data, tmp_path, way):
    recorded = made(capsys, tmp_path / "run", "--data", data)
    garbage = b"no database at all " * 100
    (recorded / CALLS).write_bytes(garbage)
    if way == "--resume":
        recorded = recorded.rename(tmp_path / "run.partial")
    given = [way, recorded] if way != "--cache" else [way, recorded / CALLS, "--backend", "scripted", "--data", data]
    status, _, err = run(capsys, *given)
    assert status == 2
    assert f"{CALLS}: file is not a database" in last_line(err)
    assert (recorded / CALLS).read_bytes() == garbage
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("calls", [4, 5, 20])
def test_a_budget_stops_cleanly_and_a_new_one_goes_on_to_the_same_run(capsys, data, tmp_path, calls):
    whole = made(capsys, tmp_path / "whole", "--data", data)
    out = tmp_path / "run"
    status, _, err = run(capsys, "--backend", "scripted", "--data", data, "--out", out, "--max-calls", calls)
    assert status == 1
    assert f"the budget of {calls} calls is spent" in last_line(err).lower()
    assert f"go on by: mesa-meanfield run --resume {out}" in err
    known = CallLog(tmp_path / "run.partial" / CALLS, writable=False).contents()
    assert 0 < known.usage.calls <= calls
    status, _, err = run(
        capsys, "--resume", out, "--max-calls", json.loads((whole / "result.json").read_text())["usage"]["calls"]
    )
    assert status == 0, err
    assert results(out) == results(whole)


def test_runs_share_a_cache_when_asked_and_each_has_a_log_of_its_own(capsys, data, tmp_path):
    with FakeServer(words=LABELS) as fake:
        first = made(capsys, tmp_path / "a", "--data", data, "--cache", tmp_path / "shared", backend=fake.url)
        asked = len(fake.asked)
        second = made(capsys, tmp_path / "b", "--data", data, "--cache", tmp_path / "shared", backend=fake.url)
        assert len(fake.asked) == asked + 1  # to see whether it is there
    assert first_difference(first, second) is None
    assert run(capsys, "--replay", second, "--out", tmp_path / "c")[0] == 0


def test_a_recorded_run_is_a_backend(capsys, data, tmp_path):
    recorded = made(capsys, tmp_path / "run", "--data", data)
    again = made(capsys, tmp_path / "again", "--data", data, backend=f"replay:{recorded}#scripted")
    assert first_difference(recorded, again) is None
    status, _, err = run(capsys, "--backend", f"replay:{recorded}#other", "--data", data)
    assert status == 2
    assert "nothing was asked of other" in last_line(err)


# --- What does not go together --------------------------------------------------------------------


def test_what_would_change_a_run_is_told_and_loses_nothing(capsys, data, tmp_path):
    words = tmp_path / "words"
    words.mkdir()
    (words / "tally.j2").write_text("All went on.")
    run(
        capsys,
        "--backend",
        "scripted",
        "--data",
        data,
        "--prompts",
        words,
        "--out",
        tmp_path / "run",
        "--max-calls",
        9,
    )
    kept = {file.name: file.read_bytes() for file in (tmp_path / "run.partial").iterdir()}

    def refused(*arguments):
        status, _, err = run(capsys, "--resume", tmp_path / "run", *arguments)
        assert status == 2
        assert {file.name: file.read_bytes() for file in (tmp_path / "run.partial").iterdir()} == kept
        return last_line(err)

    assert "--seed: " in refused("--seed", "3")
    assert "was begun with 0, which cannot change" in refused("--seed", "3")
    assert "--resume goes on in " in refused("--out", tmp_path / "other")
    (words / "tally.j2").write_text("All stood still.")
    assert "the template en/tally.j2 has changed since" in refused()
    (words / "tally.j2").write_text("All went on.")
    data.write_text(data.read_text().replace("Remark 3", "Remark 4"))
    assert "the files of --data have changed since" in refused()
    data.unlink()
    assert "say by --data where it is now" in refused()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "x", "--resume", "y"], "--resume and --replay exclude each other"),
        (["--dry-run", "--max-calls", "9"], "--dry-run asks nobody, so that --max-calls is of no use"),
        (["--max-calls", "0"], "--max-calls must be above 0"),
        (["--max-cost", "1"], "--max-cost needs --price-per-million"),
        (["--resume", "nowhere"], "nowhere.partial: there is no unfinished work"),
        (["--replay", "nowhere"], "nowhere/config.json: cannot be read"),
        (["--backend", "replay:nowhere"], "nowhere: there is no such call log"),
        (["--dry-run", "--backend", f"http://me:{SECRET}@host/v1"], "must not hold a user or password"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert said in last_line(err)
    assert SECRET not in err
    assert os.listdir(tmp_path) == []


# --- Dry runs and secrets -------------------------------------------------------------------------


def test_a_dry_run_counts_the_calls_of_the_run_asks_nobody_and_writes_nothing(capsys, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--data", data, "--no-texts"]
    done = json.loads((made(capsys, tmp_path / "run", *given) / "result.json").read_text())
    before = sorted(tmp_path.rglob("*"))
    dead = ["--backend", "http://127.0.0.1:9/v1#m", "--dry-run"]
    status, out, _ = run(capsys, *dead, *given, "--json", "--price-per-million", "3")
    told = json.loads(out)
    assert (status, told["dry_run"], told["calls"]) == (0, True, done["usage"]["calls"])
    assert told["tokens"] == told["prompt_tokens"] + told["reply_tokens"]
    assert told["reply_tokens"] == 14 + 6 * 120  # labels, and summaries of six ticks at their full length
    assert told["cost"] == pytest.approx(3 * told["tokens"] / 1e6)
    _, out, _ = run(capsys, *dead, *given)
    assert "An estimate: prompts at 4 UTF-8 bytes a token" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_that_a_run_leaves_holds_the_key(capsys, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MESA_MEANFIELD_API_KEY", SECRET)
    with FakeServer(words=LABELS, key=SECRET, echo=True) as fake:
        recorded = made(capsys, tmp_path / "run", "--data", data, backend=fake.url)
    assert f"Bearer {SECRET}" in fake.keys
    assert main(["describe", str(recorded), "--out", str(recorded / "description.md")]) == 0
    for file in recorded.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file


def test_examples_of_prompts_are_those_that_were_asked(capsys, data, tmp_path):
    folder = made(capsys, tmp_path / "run", "--data", data)
    examples = json.loads((folder / "prompts.json").read_text())["examples"]
    assert [one["kind"] for one in examples] == ["reply", "choice", "reply"]  # a summary, a label, a text
    decisions = [json.loads(line) for line in Path(folder / "decisions.jsonl").read_text().splitlines()]
    hashes = {one["prompt_hash"] for one in decisions if not one["recorded"]}
    assert prompt_hash(examples[1]["prefix"], examples[1]["suffix"]) in hashes
    assert "You keep a short running summary" in examples[0]["prefix"]
