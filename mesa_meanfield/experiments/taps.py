"""Where a crowd's ticks are counted: between its scheduler and its recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mesa

from mesa_meanfield.data import MeanField, Tick
from mesa_meanfield.experiments.runs import TickCounts
from mesa_meanfield.protocols import Recorder, Usage
from mesa_meanfield.scheduler import MeanFieldScheduler


def crowd_of(model: mesa.Model, name: str | None = None) -> MeanFieldScheduler:
    """The model's scheduler.

    Raises:
        ValueError: There is none, or there are several and no name says which one is meant.
    """
    kind = type(model).__name__
    if name is not None:
        found = getattr(model, name, None)
        if not isinstance(found, MeanFieldScheduler):
            raise ValueError(f"{kind}.{name} is no MeanFieldScheduler but {found!r}")
        return found
    held = {key: one for key, one in vars(model).items() if isinstance(one, MeanFieldScheduler)}
    if len(set(map(id, held.values()))) > 1:
        raise ValueError(f"{kind} has the schedulers {', '.join(held)}; say which one is meant: crowd={min(held)!r}")
    if not held:
        raise ValueError(f"{kind} holds no MeanFieldScheduler; name the attribute that has it: crowd=NAME")
    return next(iter(held.values()))


class Tap:
    """Counts every tick of a crowd, before the crowd's own recorder gets it."""

    def __init__(self) -> None:
        self.ticks: list[TickCounts] = []
        self._crowd: MeanFieldScheduler | None = None
        self._own: Recorder | None = None
        self._watch: Callable[[Tick], None] | None = None
        self._counted = Usage()

    @property
    def usage(self) -> Usage:
        """What the crowd spent so far, unfinished ticks included."""
        return Usage() if self._crowd is None else self._crowd.usage

    def into(self, crowd: MeanFieldScheduler, watch: Callable[[Tick], None] | None) -> None:
        """Stand between the crowd and its recorder."""
        self._crowd, self._own, self._watch = crowd, crowd.recorder, watch
        crowd.recorder = self

    def record(self, tick: Tick, field: MeanField, groups: Mapping[str, MeanField]) -> None:
        """Count a tick and pass it on."""
        if self._watch is not None:
            self._watch(tick)
        if self._own is not None:
            self._own.record(tick, field, groups)
        usage = self.usage
        self.ticks.append(TickCounts.of(tick, field, usage - self._counted))
        self._counted = usage
