import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel
from worlds import tick

from mesa_meanfield import Decision, MeanField
from mesa_meanfield import directory as files
from mesa_meanfield.data import Notice, State, Tick
from mesa_meanfield.errors import DataError
from mesa_meanfield.store import RunDirectory

NEEDS_SIGKILL = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="optional: kill -9 is not known here")


def rows(folder, name):
    """The lines of a file, each a whole JSON value that ends with a line feed."""
    text = (folder / name).read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def record(directory, *ticks):
    """Record these ticks with the mean field that comes out of each."""
    field = MeanField("Calm.")
    for one in ticks:
        field = field.counted(one)
        directory.record(one, field, {})


def test_a_run_has_its_name_only_when_it_is_over(tmp_path):
    directory = RunDirectory(tmp_path / "run", {"seed": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
    record(directory, tick("deny"))
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial"]
    assert directory.finish({"kl": 0.1}) == tmp_path / "run"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "decisions.jsonl", "fields.jsonl", "result.json"}


def test_what_was_asked_and_what_came_out_are_kept_as_they_are(tmp_path):
    path = RunDirectory(tmp_path / "run", {"topic": "海象", "seed": 7}).finish({"kl": 0.25})
    assert json.loads((path / "config.json").read_text("utf-8")) == {"topic": "海象", "seed": 7}
    assert "海象" in (path / "config.json").read_text("utf-8")
    assert json.loads((path / "result.json").read_text("utf-8")) == {"kl": 0.25}


def test_an_infinite_distance_is_written_as_json_that_any_reader_takes(tmp_path):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    path = RunDirectory(tmp_path / "run", {}).finish({"kl": float("inf")})
    found = json.loads((path / "result.json").read_text("utf-8"), parse_constant=refuse)
    assert "kl" in found


def test_each_tick_stands_there_whole_as_soon_as_it_is_recorded(tmp_path):
    directory = RunDirectory(tmp_path / "run", {})
    field = MeanField()
    for number in range(3):
        played = tick("deny", "support", number=number)
        field = field.counted(played)
        directory.record(played, field, {})
        assert [row["tick"] for row in rows(directory.partial, "fields.jsonl")] == list(range(number + 1))
        assert [row["agent"] for row in rows(directory.partial, "decisions.jsonl")] == ["a1", "a2"] * (number + 1)


def test_a_decision_is_kept_with_all_that_made_it(tmp_path):
    directory = RunDirectory(tmp_path / "run", {})
    decision = Decision(
        "海象！\nWow.",
        labels={"stance": "deny"},
        distribution={"deny": 0.75, "support": 0.25},
        seed=2**62,
        prompt_hash="ab",
    )
    record(directory, tick(decision, Decision(failure="unreadable"), number=4))
    first, second = rows(directory.partial, "decisions.jsonl")
    assert first == {
        "tick": 4,
        "agent": "a1",
        "label": "deny",
        "distribution": {"deny": 0.75, "support": 0.25},
        "text": "海象！\nWow.",
        "seed": 2**62,
        "failure": None,
        "recorded": False,
        "injected": False,
        "prompt_hash": "ab",
        "state": "You are reader 1.",
        "notices": [],
        "labels": {"stance": "deny"},
        "value": None,
        "sources": [],
        "group": None,
        "parent": None,
    }
    assert (second["label"], second["failure"]) == (None, "unreadable")


def test_a_pydantic_object_is_kept_as_json(tmp_path):
    class Order(BaseModel):
        good: Literal["wheat", "wood"]
        price: float
        day: date

    class Orders(BaseModel):
        orders: list[Order]

    order = Order(good="wood", price=float("inf"), day=date(2025, 3, 1))
    directory = RunDirectory(tmp_path / "run", {})
    record(directory, tick(Decision(value=Orders(orders=[order])), Decision(value=2.5), Decision(value={1})))
    values = [row["value"] for row in rows(directory.partial, "decisions.jsonl")]
    assert values == [{"orders": [{"good": "wood", "price": None, "day": "2025-03-01"}]}, 2.5, "{1}"]


def test_a_field_is_kept_with_exact_shares_and_those_of_the_groups(tmp_path):
    directory = RunDirectory(tmp_path / "run", {})
    played = tick("deny", "support", "support", "support", number=2)
    field = MeanField("Calm.").counted(played)
    directory.record(played, field, {"north": MeanField("Cold.").counted(tick("deny"))})
    shares = {"deny": 0.25, "support": 0.75}
    north = {"text": "Cold.", "shares": {"deny": 1.0}, "latest": {"deny": 1.0}, "size": 1, "sources": []}
    assert rows(directory.partial, "fields.jsonl") == [
        {
            "tick": 2,
            "recorded": False,
            "interventions": [],
            "text": "Calm.",
            "shares": shares,
            "latest": shares,
            "size": 4,
            "sources": [],
            "groups": {"north": north},
        }
    ]


def test_interventions_and_what_they_did_are_kept(tmp_path):
    directory = RunDirectory(tmp_path / "run", {})
    reader = State("a1", "A reader.", notices=(Notice("the mayor", "It is false.", "media"),))
    decisions = (Decision("Hm."), Decision("Boo!", injected=True))
    record(directory, Tick(1, (reader, State("bot", "")), decisions, ("Announce(at=1)", "Inject(at=1)")))
    first, second = rows(directory.partial, "decisions.jsonl")
    assert first["notices"] == [{"source": "the mayor", "text": "It is false.", "channel": "media"}]
    assert (first["injected"], second["injected"], second["notices"]) == (False, True, [])
    (field,) = rows(directory.partial, "fields.jsonl")
    assert field["interventions"] == ["Announce(at=1)", "Inject(at=1)"]


def test_of_several_dimensions_the_chosen_one_is_written(tmp_path):
    directory = RunDirectory(tmp_path / "run", {}, dimension="mood")
    record(directory, tick(Decision(labels={"stance": "deny", "mood": "calm"}), "deny"))
    assert [row["label"] for row in rows(directory.partial, "decisions.jsonl")] == ["calm", None]
    assert rows(directory.partial, "fields.jsonl")[0]["shares"] == {"calm": 1.0}


def test_a_tick_in_which_nobody_acted_is_recorded(tmp_path):
    directory = RunDirectory(tmp_path / "run", {})
    record(directory, tick())
    assert rows(directory.partial, "decisions.jsonl") == []
    assert rows(directory.partial, "fields.jsonl")[0]["size"] == 0


def test_nothing_that_is_there_is_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(DataError, match=rf"{name} is there already; choose another --out"):
            RunDirectory(tmp_path / name, {})
    assert (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("path", [".", "..", "/", ""])
def test_a_path_that_can_be_no_new_directory_is_told(path):
    with pytest.raises(DataError):
        RunDirectory(path, {})


def test_an_unfinished_run_is_left_alone(tmp_path):
    record(RunDirectory(tmp_path / "run", {"seed": 1}), tick("deny"))
    with pytest.raises(DataError, match=r"run\.partial holds an unfinished run"):
        RunDirectory(tmp_path / "run", {"seed": 2})
    assert json.loads((tmp_path / "run.partial" / "config.json").read_text()) == {"seed": 1}
    assert len(rows(tmp_path / "run.partial", "decisions.jsonl")) == 1


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        RunDirectory(tmp_path / "file" / "run", {})


def test_a_run_without_any_tick_is_dropped_and_one_with_a_tick_is_kept(tmp_path):
    empty, begun = RunDirectory(tmp_path / "empty", {}), RunDirectory(tmp_path / "begun", {})
    record(begun, tick("deny"))
    done = RunDirectory(tmp_path / "done", {})
    done.finish({})
    for directory in (empty, begun, done):
        directory.drop_if_nothing_recorded()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["begun.partial", "done"]


# A child process that dies by kill -9 while its model is asked, or between the two files of a tick.
CHILD = """
import os, signal, sys
from worlds import STANCES, cascade
from mesa_meanfield import Choice, LLMPolicy, NoField, ScriptedBackend, directory as files
from mesa_meanfield.store import RunDirectory
from mesa_meanfield_models.cascade.model import CascadeModel

where, place = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def probability(request, word):
    if place == "asked" and model.crowd.tick == 5:
        die()
    return 1.0

append = files._append

def append_or_die(file, rows):
    if place == "recorded" and file.name == "fields.jsonl" and rows[0]["tick"] == 5:
        die()
    append(file, rows)

files._append = append_or_die
directory = RunDirectory(where, {"seed": 1})
policy = LLMPolicy(ScriptedBackend(probability=probability), Choice(STANCES, dimension="stance"))
model = CascadeModel(cascade(40), policy=policy, summarizer=NoField(), dimension="stance", recorder=directory)
while model.running:
    model.step()
"""


@NEEDS_SIGKILL
@pytest.mark.parametrize(("place", "decisions"), [("asked", 20), ("recorded", 24)])
def test_kill_9_leaves_whole_lines_under_the_unfinished_name(tmp_path, place, decisions):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "run"), place]
    child = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert os.listdir(tmp_path) == ["run.partial"]
    kept = tmp_path / "run.partial"
    assert [row["tick"] for row in rows(kept, "fields.jsonl")] == [0, 1, 2, 3, 4]
    found = rows(kept, "decisions.jsonl")
    assert [row["agent"] for row in found] == [f"a{i + 1}" for i in range(decisions)]
    assert json.loads((kept / "config.json").read_text()) == {"seed": 1}
    assert not (kept / "result.json").exists()


def test_a_full_disk_leaves_no_half_tick_and_the_tick_can_be_recorded_again(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path / "run", {})
    record(directory, tick("deny"))
    append = files._append

    def full(file, lines):
        append(file, lines)
        if file.name == "fields.jsonl":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_append", full)
    with pytest.raises(OSError, match="No space left"):
        record(directory, tick("support", number=1))
    monkeypatch.setattr(files, "_append", append)
    record(directory, tick("support", number=1))
    assert [row["tick"] for row in rows(directory.partial, "decisions.jsonl")] == [0, 1]
    assert [row["tick"] for row in rows(directory.partial, "fields.jsonl")] == [0, 1]
