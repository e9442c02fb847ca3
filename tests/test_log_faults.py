"""The call log's file: many at a time, damaged, full, read-only; and what is not in it."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_server import FakeServer
from logged import CANDIDATES, CROWD, logged

from mesa_meanfield import ScriptedBackend, ServerBackend
from mesa_meanfield.backends import database
from mesa_meanfield.backends.asked import replies_asked
from mesa_meanfield.backends.calls import CallLog, Given, Outcome
from mesa_meanfield.cli import main
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Reply, Request, Usage

HERE = Path(__file__).parent
BIG = [Request("The bridge closes.", f"I am number {i}.", i) for i in range(400)]


def answers(said="well", requests=CROWD):
    """A unit for the log."""
    return [(one, Given(Outcome.ANSWER, json.dumps([said, None, True]).encode())) for one in asked(requests)]


def asked(requests=CROWD):
    return replies_asked("scripted", {}, requests)


def held(path) -> int:
    """How many answers are in a log, each looked at."""
    log = CallLog(path, writable=False)
    found = len(log.find(one.key for one in asked(BIG)))
    log.close()
    return found


def in_child(code, *given, **how):
    """A Python process with the tests' modules at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, given)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


# --- Many at a time -----------------------------------------------------------------------------


def test_threads_write_and_read_one_log(tmp_path):
    log = CallLog(tmp_path / "log")
    start = threading.Barrier(8)

    def work(number):
        start.wait(30)
        for i in range(10):
            unit = BIG[10 * i : 10 * i + 10]
            _, kept = log.add(answers(f"thread {number}", unit), Usage(calls=1))
            assert len(log.find(kept)) == 10
        return {key: one.answer for key, one in log.find(one.key for one in asked(BIG)).items()}

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(work, range(8)))
    assert all(one == seen[0] for one in seen)  # whoever was first, all see the same
    assert len(seen[0]) == 100
    assert log.contents().usage.calls == 80


WRITER = """
import sys
from logged import logged
from mesa_meanfield import ScriptedBackend
from mesa_meanfield.protocols import Request
path, number = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
backend = logged(path, ScriptedBackend(lambda request: f"{number}"), unit=5)
crowd = [Request("The bridge closes.", f"I am number {i}.", i) for i in range(400)]
turn = 1 if number % 2 else -1
print([int(reply.text) for reply in backend.generate(crowd[::turn])][::turn])
"""


def test_processes_that_begin_at_once_share_one_log(tmp_path):
    children = [in_child(WRITER, tmp_path / "log", number, stdin=subprocess.PIPE) for number in range(4)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    done = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0] * 4, done
    said = [json.loads(out) for out, _ in done]
    assert all(one == said[0] for one in said)
    assert logged(tmp_path / "log").generate(BIG) == [Reply(str(number)) for number in said[0]]
    with sqlite3.connect(tmp_path / "log") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="optional: there is no fork here")
def test_a_forked_child_opens_the_file_anew(tmp_path):
    log = CallLog(tmp_path / "log")
    log.add(answers(), Usage())
    code = """
import os, sys, warnings
from test_log_faults import *
warnings.simplefilter("ignore", DeprecationWarning)  # of threads that numpy has; the child touches none
log = CallLog(sys.argv[1])
log.add(answers("parent", BIG[:10]), Usage())
child = os.fork()
if not child:
    log.add(answers("child", BIG[10:20]), Usage())
    log.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
log.add(answers("parent", BIG[20:30]), Usage())
"""
    child = in_child(code, tmp_path / "log")
    assert child.communicate(timeout=300)[1] == ""
    assert child.returncode == 0
    assert held(tmp_path / "log") == 30


def test_threads_that_end_leave_no_file_open(tmp_path):
    log = CallLog(tmp_path / "log")
    log.add(answers(), Usage())
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("optional: open files cannot be counted here")

    def opened():
        gc.collect()
        return [to for one in folder.iterdir() if (to := os.path.realpath(one)).startswith(str(tmp_path))]

    before = opened()
    for _ in range(20):
        thread = threading.Thread(target=lambda: log.find([b"x"]))
        thread.start()
        thread.join()
    assert before
    assert sorted(opened()) == sorted(before)


def test_a_log_is_never_read_as_a_whole(tmp_path):
    log = CallLog(tmp_path / "log")
    for start in range(0, len(BIG), 20):
        log.add(answers("x" * 100_000, BIG[start : start + 20]), Usage(calls=20))
    tracemalloc.start()
    try:
        assert log.contents().calls == {"reply": 400}
        assert log.forget_failures() == 0
        assert len(log.find([asked(BIG)[7].key])) == 1
        assert log.like(asked([Request("The bridge closes.", "I am number 9.", 77)])[0]).seed == 9
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "log").stat().st_size > 30e6
    assert peak < 2e6


# --- Damage -------------------------------------------------------------------------------------


def told(work) -> str:
    """The one line that is said about a log."""
    with pytest.raises(DataError) as caught:
        work()
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("writable", [True, False])
def test_garbage_and_other_databases_are_told_and_left_alone(tmp_path, writable):
    (tmp_path / "garbage").write_bytes(b"no database at all " * 100)
    (tmp_path / "text").write_text("x")
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name, why in (
        ("garbage", "file is not a database; this is no call log"),
        ("text", "this is no call log"),
        ("other", "database of another program"),
    ):
        line = told(lambda name=name: CallLog(tmp_path / name, writable=writable))
        assert why in line
        assert str(tmp_path / name) in line
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_log_of_another_version_is_told(tmp_path):
    CallLog(tmp_path / "log").close()
    with sqlite3.connect(tmp_path / "log") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for writable in (True, False):
        line = told(lambda writable=writable: CallLog(tmp_path / "log", writable=writable))
        assert "a call log of version 7, where this package reads version 1" in line


def test_a_log_that_is_not_there_or_has_nothing_in_it_is_told(tmp_path):
    assert "there is no such call log" in told(lambda: CallLog(tmp_path / "log", writable=False))
    (tmp_path / "empty").touch()
    assert "nothing is in this file" in told(lambda: CallLog(tmp_path / "empty", writable=False))
    (tmp_path / "file").write_text("")
    assert "cannot be made" in told(lambda: CallLog(tmp_path / "file" / "log"))
    assert "unable to open" in told(lambda: CallLog(tmp_path))
    CallLog(tmp_path / "new")
    assert "there are none" in told(lambda: logged(tmp_path / "new"))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_log_is_told(tmp_path, share):
    log = CallLog(tmp_path / "log")
    log.add(answers("x" * 100, BIG), Usage())
    log.close()
    os.truncate(tmp_path / "log", int(share * (tmp_path / "log").stat().st_size))
    for writable in (False, True):
        told(
            lambda writable=writable: CallLog(tmp_path / "log", writable=writable).find(one.key for one in asked(BIG))
        )


def test_no_damage_ever_gives_another_answer(tmp_path):
    log = CallLog(tmp_path / "log")
    log.add(answers("abcdefgh" * 10, BIG), Usage())
    log.close()
    good = (tmp_path / "log").read_bytes()
    right = answers("abcdefgh" * 10, BIG)[0][1].answer
    told_of = 0
    for place in range(100, len(good), len(good) // 150):
        (tmp_path / "log").write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            found = CallLog(tmp_path / "log", writable=False).find(one.key for one in asked(BIG))
        except DataError:
            told_of += 1
        else:
            assert {one.answer for one in found.values()} <= {right}
    assert told_of > 20


def test_a_torn_end_of_what_was_written_ahead_loses_the_last_unit_alone(tmp_path):
    log = CallLog(tmp_path / "log")
    for start in range(0, 40, 10):
        log.add(answers("x" * 50, BIG[start : start + 10]), Usage())
    for name in ("log", "log-wal"):
        (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())
    ahead = (tmp_path / "copy-log-wal").stat().st_size
    os.truncate(tmp_path / "copy-log-wal", ahead - 100)
    assert held(tmp_path / "copy-log") == 30


# --- Disks --------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_all_that_was_committed_stays(tmp_path):
    log = CallLog(tmp_path / "log")
    log.add(answers(), Usage(calls=5))
    log._database._idle[0].execute("PRAGMA max_page_count = 20")  # SQLite's own word for a full disk
    line = told(lambda: log.add(answers("x" * 1000, BIG), Usage()))
    assert "database or disk is full; make room on the disk and go on" in line
    log._database._idle[0].execute("PRAGMA max_page_count = 1000000")
    assert held(tmp_path / "log") == 5
    log.add(answers("x" * 1000, BIG), Usage())
    assert held(tmp_path / "log") == 400


FULL = """
import resource, sys
from test_log_faults import *
log = CallLog(sys.argv[1])
log.add(answers(), Usage())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
line = told(lambda: log.add(answers("x" * 1000, BIG), Usage()))
assert len(log.find(one.key for one in asked())) == 5
print(line)
"""


def test_a_file_that_may_not_grow_is_told_and_all_that_was_committed_stays(tmp_path):
    child = in_child(FULL, tmp_path / "log")
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert "all that was answered before is kept" in out
    assert held(tmp_path / "log") == 5


READ_ONLY = """
import os, sys
from test_log_faults import *
if not os.geteuid():  # to whom all is permitted
    os.setgid(65534)
    os.setuid(65534)
backend = logged(Path(sys.argv[1]))
assert backend.generate(CROWD) == ScriptedBackend().generate(CROWD)
print(told(lambda: CallLog(sys.argv[1])))
"""


def test_a_log_is_replayed_where_nothing_may_be_written():
    with tempfile.TemporaryDirectory() as folder:  # which others may look into, other than tmp_path
        log = Path(folder) / "log"
        logged(log, ScriptedBackend()).generate(CROWD)
        CallLog(log).close()
        gc.collect()
        log.chmod(0o444)
        Path(folder).chmod(0o555)
        out, err = (child := in_child(READ_ONLY, log)).communicate(timeout=300)
        Path(folder).chmod(0o755)
    assert child.returncode == 0, err
    assert "attempt to write a readonly database; file and folder must be writable" in out


def test_a_log_that_is_held_by_another_is_waited_for_and_then_told(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_PATIENCE", 0.1)
    log = CallLog(tmp_path / "log")
    other = sqlite3.connect(tmp_path / "log", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "database is locked; another process has held it" in told(lambda: log.add(answers(), Usage()))
    other.execute("ROLLBACK")
    other.close()
    assert len(log.add(answers(), Usage())[1]) == 5


def test_a_log_that_is_closed_is_one_file_and_can_be_opened_again(tmp_path):
    log = CallLog(tmp_path / "log")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: log.add(answers(f"{i}", BIG[10 * i : 10 * i + 10]), Usage()), range(4)))
    log.close()
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert held(tmp_path / "log") == 40
    log.add(answers(), Usage())
    log.drop_if_empty()
    assert (tmp_path / "log").exists()
    CallLog(tmp_path / "other").drop_if_empty()
    assert os.listdir(tmp_path) == ["log"]


# --- Secrets ------------------------------------------------------------------------------------


def test_a_log_holds_neither_keys_nor_credentials_nor_prompts(tmp_path, monkeypatch):
    secret = "sk-logged-0123456789"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeServer() as fake, ServerBackend(fake.url, api_key=secret) as server:
        backend = logged(tmp_path / "log", server)
        name = backend.name
        backend.generate(CROWD)
        backend.score(CROWD, CANDIDATES)
        again = logged(tmp_path / "log", server)
        assert name == server.name == again.name
        again.generate(CROWD)
        assert again.hits == 5
    named = ScriptedBackend(name=f"http://me:{secret}@host/v1")
    assert logged(tmp_path / "log", named).name == "http://host/v1"
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert name.encode() in content
    for hidden in (secret, "me:", "The bridge closes", "I am number"):
        assert hidden.encode() not in content


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys):
    (tmp_path / "log").write_bytes(b"no database at all " * 100)
    from mesa_meanfield.cli import run

    monkeypatch.setattr(run, "load_backend", lambda *_, **__: logged(tmp_path / "log", ScriptedBackend()))
    assert main(["run", "--backend", "scripted", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"mesa-meanfield run: {tmp_path / 'log'}: file is not a database")
