"""Whether two arms are the same up to their fork, agent by agent, while they run."""

from __future__ import annotations

import threading
from itertools import zip_longest
from typing import NamedTuple

from mesa_meanfield.data import Tick
from mesa_meanfield.errors import MeanFieldError
from mesa_meanfield.experiments.replicas import Job, PairingError


class _Mark(NamedTuple):
    """What two arms must have in common of one decision.

    Distributions are left out: what else is in a batch can move them by rounding, and decisions show whether it
    mattered.
    """

    agent: str
    seen: int
    did: int
    failed: bool


def _marks(tick: Tick) -> list[_Mark]:
    """Hashes, as whole texts would fill the memory."""
    return [
        _Mark(
            state.agent,
            hash((state.text, state.notices, did.prompt_hash)),
            hash((did.text, repr(did.value), tuple(did.labels.items()))),
            did.failure is not None,
        )
        for state, did in zip(tick.states, tick.decisions, strict=True)
    ]


def _difference(a: _Mark | None, b: _Mark | None) -> str:
    if a is None or b is None or a.agent != b.agent:
        return "does not decide in the same place"
    return "is not asked the same" if a.seen != b.seen else "does not decide the same"


class Twins:
    """Sees every tick of both arms before the fork and compares them as soon as the second one is there.

    Args:
        fork_at: The first tick in which they may differ.
    """

    def __init__(self, fork_at: int) -> None:
        self._fork_at = fork_at
        self._first: dict[tuple[int, int], list[_Mark]] = {}  # replica and tick -> what the first arm did
        self._lock = threading.Lock()

    def see(self, job: Job, tick: Tick) -> None:
        """Compare a tick with that of the other arm, or keep it until that one comes.

        Raises:
            PairingError: They differ.
            MeanFieldError: They differ by a failed call, which ends this replica alone.
        """
        if tick.number >= self._fork_at:
            return
        own = _marks(tick)
        with self._lock:
            other = self._first.pop((job.replica, tick.number), None)
            if other is None:
                self._first[job.replica, tick.number] = own
        if other is None or other == own:
            return
        a, b = next((a, b) for a, b in zip_longest(own, other) if a != b)
        names = [{mark.agent for mark in of} for of in (other, own)]
        differing = [mark.agent for mark in (a, b) if mark is not None]
        # One who is missing on the other side, if anybody is: the others have only moved up.
        agent = next((name for name in differing if name not in names[0] & names[1]), differing[0])
        where = f"In replica {job.replica}, tick {tick.number}, agent {agent}"
        if a is not None and b is not None and a.seen == b.seen and a.failed != b.failed:
            raise MeanFieldError(f"{where} has no usable decision in one arm, so that the two are no pair any more")
        raise PairingError(
            f"{where} {_difference(a, b)} with the intervention and without it, before the fork at {self._fork_at}; "
            "an intervention acts too early, or something draws random numbers that are not the seed's"
        )
