"""Runs with a call log, for tests: made here, or in a child process that is killed on its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from worlds import STANCES, cascade

from mesa_meanfield import Choice, ChoiceThenText, LLMPolicy, LLMSummarizer, ScriptedBackend
from mesa_meanfield.backends import calls
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.log import LoggedBackend, replayed
from mesa_meanfield.protocols import Backend, Request
from mesa_meanfield.store import RunDirectory
from mesa_meanfield_models.cascade.model import CascadeModel

CANDIDATES = ("share", "doubt", "ignore")
CROWD = [Request("The bridge closes.", f"I am number {i}.", i) for i in range(5)]


class Noting(ScriptedBackend):
    """A scripted backend that notes what it is asked, and can do something before it answers."""

    def __init__(self, *args, before: Callable[[int], None] = lambda call: None, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked: list[tuple[str, tuple[Request, ...]]] = []
        self._before = before

    def generate(self, requests):
        self._note("replies", requests)
        return super().generate(requests)

    def score(self, requests, candidates):
        self._note("choices", requests)
        return super().score(requests, candidates)

    def _note(self, what: str, requests: Sequence[Request]) -> None:
        self._before(len(self.asked))
        self.asked.append((what, tuple(requests)))

    @property
    def sizes(self) -> list[int]:
        """How many requests each call had."""
        return [len(requests) for _, requests in self.asked]


def logged(path: Path, backend: Backend | None = None, **known) -> LoggedBackend:
    """A model behind the log in this file; without one a replay."""
    return LoggedBackend(backend, CallLog(path, writable=backend is not None), **known)


def simulated(backend: Backend, directory: RunDirectory) -> Path:
    """A small run with choices, texts and summaries, recorded."""
    space = ChoiceThenText(Choice(STANCES, dimension="stance"))
    model = CascadeModel(
        cascade(24),
        policy=LLMPolicy(backend, space, on_failure="skip"),
        summarizer=LLMSummarizer(backend),
        dimension="stance",
        recorder=directory,
    )
    while model.running:
        model.step()
    return directory.finish({"usage": {**asdict(model.crowd.usage), "seconds": None}})


def run(out: Path, backend: Backend, *, resume: bool = False) -> Path:
    """The small run with its log, from the start or gone on with."""
    directory = RunDirectory(out, {"seed": 0}, dimension="stance", resume=resume)
    return simulated(LoggedBackend(backend, directory.calls, unit=3), directory)


def replay(recorded: Path, out: Path) -> Path:
    """The small run again, without a model."""
    return simulated(replayed(recorded), RunDirectory(out, {"seed": 0}, dimension="stance"))


def results(run: Path) -> dict[str, bytes]:
    """All that a run came to, byte for byte."""
    return {name: (run / name).read_bytes() for name in ("decisions.jsonl", "fields.jsonl", "result.json")}


def killed(out: Path, place: str, number: int, *, resume: bool = False) -> subprocess.CompletedProcess[str]:
    """The small run in a child that dies by kill -9: at a call of the model, or at a row of the log."""
    given = json.dumps([str(out), place, number, resume])
    command = [sys.executable, __file__, given]
    here = Path(__file__).parent
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _main() -> None:
    out, place, number, resume = json.loads(sys.argv[1])
    rows, row = iter(range(sys.maxsize)), calls._row

    def row_or_death(*given):
        if place == "row" and next(rows) == number:
            _die()
        return row(*given)

    calls._row = row_or_death  # rows are made inside the transaction
    run(Path(out), Noting(before=lambda call: _die() if (place, number) == ("call", call) else None), resume=resume)


if __name__ == "__main__":
    _main()
