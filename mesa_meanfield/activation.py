"""Who is active in a tick: everyone, a random share, or those whose turn the data says it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mesa_meanfield.seeds import derive, unit

Agent = Any  # a modeler's own agent class


class Activation(Protocol):
    """Picks the active agents of a tick, in the order in which they will act."""

    def __call__(self, agents: Sequence[Agent], *, tick: int, seed: int) -> Sequence[Agent]:
        """The active ones of ``agents``; randomness comes from ``seed`` alone."""
        ...


def everyone(agents: Sequence[Agent], *, tick: int, seed: int) -> Sequence[Agent]:
    """All of them, in their order."""
    return agents


class RandomShare:
    """Each agent is active with the same probability, whoever else comes or goes.

    Args:
        share: The probability, in (0, 1].
    """

    def __init__(self, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        self.share = share

    def __call__(self, agents: Sequence[Agent], *, tick: int, seed: int) -> Sequence[Agent]:
        """The active ones, in their order."""
        return [a for a in agents if unit(derive(seed, agent_key(a)), "active") < self.share]


class ArrivalOrder:
    """The agents are active when and in the order in which they came in the data.

    Args:
        ticks: For each tick the keys of its agents, in order; nobody is active after the last.
    """

    def __init__(self, ticks: Sequence[Sequence[str | int]]) -> None:
        self.ticks = tuple(tuple(map(str, keys)) for keys in ticks)

    def __call__(self, agents: Sequence[Agent], *, tick: int, seed: int) -> Sequence[Agent]:
        """Those of the tick who are there."""
        if tick >= len(self.ticks):
            return []
        there = {agent_key(agent): agent for agent in agents}
        return [there[key] for key in self.ticks[tick] if key in there]


def takes_part(agent: Agent) -> bool:
    """Whether the agent is a `Participant`; isinstance says the same, but takes 5 microseconds for it."""
    return getattr(agent, "observe", None) is not None and getattr(agent, "act", None) is not None


def agent_key(agent: Agent) -> str:
    """What names an agent in seeds and records: its ``key`` where it has one, else Mesa's ``unique_id``.

    Raises:
        TypeError: ``key`` is neither a str nor an int, so that it would not name the agent the next time.
    """
    key = getattr(agent, "key", None)
    if key is None:
        key = agent.unique_id
    if not isinstance(key, str | int):
        raise TypeError(f"{type(agent).__name__}: key must be a str or an int, got {type(key).__name__}")
    return str(key)


def who(agent: Agent) -> str:
    """What an error calls the agent: its type and its key."""
    return f"{type(agent).__name__} {agent_key(agent)}"
