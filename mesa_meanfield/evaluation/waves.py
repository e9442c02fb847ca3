"""Roll-outs that run in step, so that what goes into a batch depends on no clock.

The last digits of probabilities depend on what else is in a batch: sums in another order round differently. Where
roll-outs begin together and wait for each other, the same ones made again meet in the same batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from mesa_meanfield.evaluation.rollouts import Counter, roll_out
from mesa_meanfield.progress import report

WORKERS = 16
"""How many roll-outs run at a time at most, where nothing else is said."""
PATIENCE = 60.0
"""The ``patience`` of a `BatchingBackend` for roll-outs in step, in seconds. All of them ask in every tick: to wait
costs little."""
_GLANCE = 0.2  # seconds between two looks whether the work was stopped
_Asked = TypeVar("_Asked")  # a job of any kind
_Made = TypeVar("_Made")  # and what comes of it


class Start:
    """Where roll-outs wait for each other, so that the first batch has all of them."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._changed = threading.Condition()

    def arrive(self) -> None:
        """Be ready, registered with the backends that all share; go on when all are.

        Raises:
            Cancelled: The work was stopped meanwhile.
        """
        with self._changed:
            self._missing -= 1
            self._changed.notify_all()
            while not self._changed.wait_for(lambda: self._missing <= 0, _GLANCE):
                report("replicas", 0, 0)


def in_waves(
    waves: Iterable[Sequence[_Asked]],
    simulate: Callable[[_Asked, Start, Callable[[], None]], _Made],
    *,
    ticks: int,
) -> Iterator[_Made]:
    """Make roll-outs, those of a wave at the same time, and give each one as soon as it is done.

    Args:
        waves: What to simulate; the next wave is asked for when all of one are done.
        simulate: Makes one; called in threads of its own, with where it arrives once it is registered, and a function
            that it calls after each tick.
        ticks: How many ticks all have, for the progress.

    Raises:
        Whatever the first failing one raised; those under way are stopped at their next report.
    """
    over = Counter()
    for wave in waves:
        start = Start(len(wave))

        def make(job: _Asked, tick: Callable[[], None], start: Start = start) -> _Made:
            def counted() -> None:
                over.add()
                tick()

            return simulate(job, start, counted)

        yield from roll_out(wave, make, ticks=ticks, workers=max(1, len(wave)), before=over.value)
