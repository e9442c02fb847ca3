"""A thin base class for agents that remember what they did, and how agents that are there already become such."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import mesa

from mesa_meanfield.activation import who
from mesa_meanfield.data import Decision

MEMORY = 3
"""How many decisions a `MeanFieldAgent` keeps where nothing else is said."""


class MeanFieldAgent(mesa.Agent):  # type: ignore[misc]  # Mesa is untyped for mypy
    """An agent that keeps its last decisions, since history belongs to the agent.

    Subclasses write ``observe``; one that overrides ``act`` calls ``super().act(decision)``. Before another
    Mesa agent's class, as in ``class Person(MeanFieldAgent, VirusAgent)``, it adds to that what it has.

    Args:
        model: The Mesa model.
        args: Passed on to the class that stands behind this one.
        memory: How many decisions are kept.
        kwargs: Passed on as args.
    """

    # Any: what another class of agents takes
    def __init__(self, model: mesa.Model, *args: Any, memory: int = MEMORY, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        self.memory = deque(maxlen=memory)

    @cached_property
    def memory(self) -> deque[Decision]:
        """The last decisions, oldest first."""
        return deque(maxlen=MEMORY)  # of an agent that was adopted, and so never made as one of this class

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


def adopt(agents: Iterable[Any], kind: type[Any]) -> list[Any]:  # Any: the modeler's own agents
    """Make agents that are there already into agents of a subclass, where they stand and as they are.

    For models that make their agents themselves and leave no say in their class, as those that Mesa ships do.
    An agent keeps its number, its attributes, its cell and its place in the model's order, and nothing is
    drawn; ``__init__`` of the subclass is not called, so what it would set belongs into class attributes.
    Mesa's ``model.agents_by_type`` knows it by its new class from now on.

    Args:
        agents: An AgentSet or any iterable of agents that are in a model.
        kind: A subclass of the class of each, for example one with ``observe`` and ``act``.

    Returns:
        The agents, in the order of their model.

    Raises:
        TypeError: ``kind`` is no such subclass.
        ValueError: An agent is in no model any more.
    """
    chosen = {id(agent): agent for agent in agents}
    for agent in chosen.values():
        if not issubclass(kind, type(agent)):
            raise TypeError(f"{who(agent)} cannot become a {kind.__name__}: that must be a subclass of its class")
        if agent not in agent.model.agents:
            raise ValueError(f"{who(agent)} cannot become a {kind.__name__}: it was removed from its model")
    adopted = []
    for model in dict.fromkeys(agent.model for agent in chosen.values()):
        for agent in list(model.agents):  # all of them, so that their order stays, and with it what shuffle_do draws
            number = agent.unique_id
            model.deregister_agent(agent)
            if id(agent) in chosen:
                agent.__class__ = kind
                adopted.append(agent)
            model.register_agent(agent)
            agent.unique_id = number  # Mesa 3.5 gives a new one whenever an agent is registered
    return adopted
