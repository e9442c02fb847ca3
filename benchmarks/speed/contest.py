"""Who takes part, and how each answers the same prompts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mesa_meanfield.bench import CHOICE, Sizes, Task, Timed, task
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import Backend, Reply, Request, Usage

Count = Callable[[str], int]
Decide = Callable[[Sequence[Request]], tuple[float, list[str]]]
"""Requests -> the seconds that it took, and the replies."""


class _Catch:
    """A backend that only keeps what it is asked."""

    name = "catch"
    usage = Usage()

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        return [Reply("caught")] * len(requests)

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        self.asked += requests
        return np.zeros((len(requests), len(candidates)))


def asked(work: Task) -> list[Request]:
    """Exactly what our scheduler asks its backend in a task's tick."""
    catch = _Catch()
    work.town(catch, 0).step()
    return catch.asked


@dataclass
class Ours:
    """Whole ticks of our scheduler."""

    kind: str
    backend: Backend
    sizes: Sizes
    count: Count
    name: str = "ours"
    timed: Timed = field(default_factory=Timed)

    def play(self, number: int) -> None:
        """One tick."""
        self.timed.add(task(self.kind, self.sizes, self.count, number), self.backend, number, self.count)


@dataclass
class Rival:
    """Anything else that answers the requests of such a tick."""

    kind: str
    name: str
    decide: Decide
    sizes: Sizes
    count: Count
    timed: Timed = field(default_factory=Timed)
    unread: int = 0
    """Written labels that are none."""

    def play(self, number: int) -> None:
        """Answer the requests of one tick."""
        work = task(self.kind, self.sizes, self.count, number)
        requests = asked(work)
        gc.collect()
        seconds, replies = self.decide(requests)
        self.timed.seconds.append(seconds)
        self.timed.decisions, self.timed.shared, self.timed.own = len(replies), work.shared, work.own
        self.timed.written += sum(map(self.count, replies))
        if self.kind == "choice":
            self.unread += sum(not _readable(reply) for reply in replies)


def timed(decide: Callable[[Sequence[Request]], list[str]]) -> Decide:
    """The same with its time."""

    def decided(requests: Sequence[Request]) -> tuple[float, list[str]]:
        start = time.perf_counter()
        replies = decide(requests)
        return time.perf_counter() - start, replies

    return decided


def rates_by_batch(
    decide: Callable[[Sequence[Request], int], list[str]],
    batches: Sequence[int],
    sizes: Sizes,
    kind: str,
    count: Count,
) -> Mapping[int, float]:
    """Replies per second for each size of batch, each tried once with at least one whole batch."""
    rates = {}
    for batch in batches:
        agents = max(batch, sizes.agents)
        requests = asked(task(kind, _more(sizes, agents), count, 999))
        start = time.perf_counter()
        decide(requests, batch)
        rates[batch] = agents / (time.perf_counter() - start)
    return rates


def _more(sizes: Sizes, agents: int) -> Sizes:
    return Sizes(agents, sizes.shared, sizes.own, sizes.new, sizes.crowd, sizes.archetypes)


def _readable(reply: str) -> bool:
    try:
        CHOICE.read(reply)
    except ReplyError:
        return False
    return True
