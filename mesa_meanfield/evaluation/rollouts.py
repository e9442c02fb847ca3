"""Many roll-outs at a time, each kept as soon as it is done, so that a kill loses only those under way."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from mesa_meanfield.data import Action, Cascade
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import Cancelled, DataError
from mesa_meanfield.progress import report, watching
from mesa_meanfield.protocols import Usage

FILE = "rollouts.jsonl"
# The escape of one, as it is written alone, behind an even number of backslashes; whole ones are no escapes.
_HALF_EMOJI = re.compile(rb"(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}")
_Asked = TypeVar("_Asked")  # a job of any kind
_Made = TypeVar("_Made")  # and what comes of it
_GLANCE = 0.5  # seconds between two looks at how far the roll-outs under way are


class Key(NamedTuple):
    """Which roll-out it is."""

    name: str
    """Of the simulation."""
    cascade: str
    """Its id."""
    replica: int


@dataclass(frozen=True, slots=True)
class Job:
    """A roll-out to be made."""

    name: str
    cascade: Cascade
    replica: int

    @property
    def key(self) -> Key:
        """Which one it is."""
        return Key(self.name, self.cascade.id, self.replica)


@dataclass(frozen=True, slots=True)
class RollOut:
    """A simulated roll-out, with what it cost."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str
    """Of the simulation."""
    cascade: str
    replica: int
    seed: int
    actions: tuple[Action, ...]
    """The simulated ones; the played warm-up stands in the record."""
    field: str
    """The text of the last mean field."""
    usage: Usage
    nats: float | None = None
    """-log P of the recorded texts under the roll-out's own prompts, where it was asked for."""
    tokens: int = 0
    """How many tokens these texts have."""

    @property
    def key(self) -> Key:
        """Which one it is."""
        return Key(self.name, self.cascade, self.replica)


class Kept:
    """The roll-outs of an evaluation, in a file of its directory.

    Args:
        directory: Where ``rollouts.jsonl`` is, or will be. Half a line at its end, from a kill, is taken away.

    Raises:
        DataError: Another line is no roll-out.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.done: dict[Key, RollOut] = {}
        """All that are kept."""
        file = directory.partial / FILE
        if file.exists():
            _cut_half_line(file)
            for number, line in enumerate(file.read_bytes().splitlines(), 1):
                one = _read(line, f"{file} line {number}")
                self.done[one.key] = one

    def add(self, one: RollOut) -> None:
        """Keep a roll-out."""
        self._directory.append({FILE: [_adapter().dump_python(one, mode="json")]})
        self.done[one.key] = one

    def forget_failures(self) -> None:
        """Forget the roll-outs in which a decision or a summary failed, to make them anew."""
        whole = {key: one for key, one in self.done.items() if not one.usage.failures}
        if len(whole) < len(self.done):
            file = self._directory.partial / FILE
            part = file.with_name(f"{FILE}.partial")
            lines = file.read_bytes().splitlines(keepends=True)  # as they are: to read them mends half an emoji
            part.write_bytes(b"".join(line for line in lines if _read(line, str(file)).key in whole))
            os.replace(part, file)
            self.done = whole


def roll_out(
    jobs: Sequence[_Asked],
    simulate: Callable[[_Asked, Callable[[], None]], _Made],
    *,
    ticks: int,
    workers: int,
    before: int = 0,
) -> Iterator[_Made]:
    """Make roll-outs in several threads and give each one as soon as it is done.

    Args:
        jobs: What to simulate; those that stand together run together.
        simulate: Makes one; called in threads of its own, with a function that it calls after each tick.
        ticks: How many ticks all have, for the progress.
        workers: How many run at a time.
        before: How many of the ticks were made before.

    Raises:
        Whatever the first failing one raised; those under way are stopped at their next report.
    """
    stop = threading.Event()
    ended = Counter()

    def check(what: str, done: int, of: int) -> None:
        if stop.is_set():
            raise Cancelled("another roll-out failed, or the work was interrupted")

    def work(job: _Asked) -> _Made:
        def tick() -> None:
            ended.add()
            check("", 0, 0)

        with watching(check):
            return simulate(job, tick)

    with ThreadPoolExecutor(workers, thread_name_prefix="roll-out") as pool:
        waiting: set[Future[_Made]] = set()
        try:
            waiting = {pool.submit(work, job) for job in jobs}
            while waiting:
                done, waiting = wait(waiting, timeout=_GLANCE, return_when=FIRST_COMPLETED)
                for one in sorted(done, key=lambda one: one.exception() is not None):  # nothing done is lost
                    yield one.result()
                report("ticks", before + ended.value, ticks)
        finally:
            stop.set()
            for left in waiting:
                left.cancel()


class Counter:
    """Counts in several threads."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.value += 1


def by_simulation(
    names: Iterable[str], cascades: Sequence[Cascade], replicas: int, done: Iterable[Key] = ()
) -> list[Job]:
    """The roll-outs still to be made: replicas of a cascade together, as they share prompts, long cascades first."""
    known = set(done)
    longest = sorted(cascades, key=lambda cascade: -len(cascade.actions))
    jobs = [Job(name, cascade, r) for name in names for cascade in longest for r in range(replicas)]
    return [job for job in jobs if job.key not in known]


def _cut_half_line(file: Path) -> None:
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)


@cache
def _adapter() -> TypeAdapter[RollOut]:
    return TypeAdapter(RollOut)


def _read(line: bytes, where: str) -> RollOut:
    try:
        return _adapter().validate_json(_HALF_EMOJI.sub(rb"\1\\ufffd", line))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise DataError(f"{where}: is no roll-out ({told}); remove the line to make it anew") from None
