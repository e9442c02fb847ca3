"""A thin base class for agents that remember what they did."""

from __future__ import annotations

from collections import deque

import mesa

from mesa_meanfield.data import Decision


class MeanFieldAgent(mesa.Agent):  # type: ignore[misc]  # Mesa is untyped for mypy
    """An agent that keeps its last decisions, since history belongs to the agent.

    Subclasses write ``observe``; one that overrides ``act`` calls ``super().act(decision)``.

    Args:
        model: The Mesa model.
        memory: How many decisions are kept.
    """

    def __init__(self, model: mesa.Model, *, memory: int = 3) -> None:
        super().__init__(model)
        self.memory: deque[Decision] = deque(maxlen=memory)
        """The last decisions, oldest first."""

    @property
    def decision(self) -> Decision | None:
        """The last decision, if there was any."""
        return self.memory[-1] if self.memory else None

    def observe(self) -> str | None:
        """Say what you see, as text; None to abstain this tick."""
        raise NotImplementedError(f"{type(self).__name__} must say what it sees: write observe(self) -> str")

    def act(self, decision: Decision) -> None:
        """Remember the decision."""
        self.memory.append(decision)
