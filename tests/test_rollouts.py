import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import action, cascade

from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import BackendUnavailable, DataError
from mesa_meanfield.evaluation.rollouts import Job, Kept, Key, RollOut, by_simulation, roll_out
from mesa_meanfield.progress import report, watching
from mesa_meanfield.protocols import Usage


def rolled(name="tally", cascade="c1", replica=0, text="Hm 海象."):
    acted = action("a4", "deny", text, distribution={"support": 0.25, "deny": 0.75})
    return RollOut(name, cascade, replica, 7, (acted,), "All quiet.", Usage(3, 200, 90, 0.5, 1, 0, 2), 4.5, 9)


def kept_in(folder, *some):
    kept = Kept(Directory(folder / "card"))
    for one in some:
        kept.add(one)
    return folder / "card.partial" / "rollouts.jsonl"


def again(folder):
    return Kept(Directory(folder / "card", resume=True))


def test_what_is_kept_is_read_again_without_loss(tmp_path):
    first, second = rolled(), rolled("llm", "c2", 4, text="A backslash: \\ud83d, a whole emoji: \U0001f9a6")
    kept_in(tmp_path, first, second)
    assert list(again(tmp_path).done) == [Key("tally", "c1", 0), Key("llm", "c2", 4)]
    assert list(again(tmp_path).done.values()) == [first, second]


def test_half_an_emoji_in_a_reply_makes_no_file_unreadable(tmp_path):
    kept_in(tmp_path, rolled(text="So \ud83d"))
    assert again(tmp_path).done[Key("tally", "c1", 0)].actions[0].text == "So \N{REPLACEMENT CHARACTER}"


@given(st.data())
def test_a_kill_inside_a_line_loses_that_line_alone(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kill")
    first, second, third = rolled(), rolled("llm"), rolled("none")
    file = kept_in(folder, first, second)
    whole = file.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    length = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:length])
    kept = again(folder)
    there = [first, second][: (length >= end_of_first) + (length == len(whole))]
    assert list(kept.done.values()) == there
    kept.add(third)
    assert list(again(folder).done.values()) == [*there, third]


def test_a_damaged_line_is_told_by_file_and_line(tmp_path):
    file = kept_in(tmp_path, rolled(), rolled("llm"))
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[1].replace('"replica"', '"replika"') + "\n")
    with pytest.raises(DataError, match=r"rollouts\.jsonl line 2: is no roll-out \(replica: "):
        again(tmp_path)


def test_only_what_is_missing_is_made_replicas_together_and_long_cascades_first():
    short, long = cascade(4, key="short"), cascade(9, key="long")
    jobs = by_simulation(["none", "llm"], [short, long], 2, done=[Key("none", "short", 1), Key("llm", "long", 0)])
    assert [job.key for job in jobs] == [
        ("none", "long", 0),
        ("none", "long", 1),
        ("none", "short", 0),
        ("llm", "long", 1),
        ("llm", "short", 0),
        ("llm", "short", 1),
    ]


def test_roll_outs_run_at_the_same_time_and_all_arrive():
    both = threading.Barrier(2, timeout=20)

    def simulate(job, tick):
        both.wait()
        tick()
        return rolled(job.name)

    jobs = [Job(name, cascade(4), 0) for name in ("none", "tally", "recent", "llm")]
    heard = []
    with watching(lambda *said: heard.append(said)):
        done = list(roll_out(jobs, simulate, ticks=4, workers=2))
    assert {one.name for one in done} == {"none", "tally", "recent", "llm"}
    assert heard[-1] == ("ticks", 4, 4)


def test_the_first_failure_stops_the_others_and_what_was_done_has_arrived():
    made, stopped, started = threading.Event(), [], time.monotonic()

    def simulate(job, tick):
        if job.name == "good":
            return rolled("good")
        if job.name == "bad":
            assert made.wait(20)
            raise BackendUnavailable("the server is down")
        while time.monotonic() < started + 60:  # the endless one: stopped at a report
            try:
                report("choices", 0, 1)
            except BaseException:
                stopped.append(job.name)
                raise
            time.sleep(0.01)
        return rolled("endless")

    arrived = []
    jobs = [Job(name, cascade(4), 0) for name in ("good", "bad", "endless", "never")]

    def gather():
        for one in roll_out(jobs, simulate, ticks=4, workers=3):
            arrived.append(one.name)
            made.set()

    with pytest.raises(BackendUnavailable, match="the server is down"):
        gather()
    assert arrived == ["good"]
    assert "endless" in stopped


def test_leaving_early_stops_the_rest():
    started = []

    def simulate(job, tick):
        started.append(job.replica)
        with suppress(KeyError):
            tick()
        return rolled(replica=job.replica)

    jobs = [Job("tally", cascade(4), r) for r in range(500)]
    rest = roll_out(jobs, simulate, ticks=4, workers=1)
    next(rest)
    rest.close()
    assert len(started) < 500
