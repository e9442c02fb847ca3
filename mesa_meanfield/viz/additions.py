"""What is added to a run while it is looked at, from its next tick on."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from mesa_meanfield.interventions import Announce
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.scheduler import MeanFieldScheduler

MakeIntervention = Callable[[int], Intervention]
"""The tick in which it is to begin -> the intervention."""


@final
class Additions:
    """The interventions that a page has added to a crowd, and those that wait for its tick to be over."""

    def __init__(self) -> None:
        self.added: list[Intervention] = []
        self.waiting: list[MakeIntervention] = []

    def take(self, crowd: MeanFieldScheduler) -> None:
        """Add those that wait, from the tick on that comes next; nobody may be inside a tick."""
        made = [make(crowd.tick) for make in self.waiting]
        self.waiting.clear()
        self.added += made
        crowd.interventions = [*crowd.interventions, *made]

    def withdraw(self, one: Intervention, crowd: MeanFieldScheduler) -> None:
        """Take one away before it acts; an announcement that does already ends with the last tick."""
        instead: list[Intervention] = []
        if isinstance(one, Announce) and one.at < crowd.tick:
            instead = [Announce(one.at, one.text, one.source, one.reach, crowd.tick, one.channel)]
        elif getattr(one, "at", 0) < crowd.tick:
            return
        self.added = [b for a in self.added for b in (instead if a is one else [a])]
        crowd.interventions = [b for a in crowd.interventions for b in (instead if a is one else [a])]
