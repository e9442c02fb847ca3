"""The people of the town: those whom a language model plays, and those who follow a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mesa.discrete_space import Cell, CellAgent

from mesa_meanfield.agents import MeanFieldAgent
from mesa_meanfield.data import MeanField
from mesa_meanfield_models.town.personas import Persona
from mesa_meanfield_models.town.sight import neighbours_posts, own_history, shares_seen

if TYPE_CHECKING:
    from mesa_meanfield_models.town.model import Town


class Resident(MeanFieldAgent, CellAgent):  # type: ignore[misc]  # Mesa is untyped for mypy
    """Somebody who lives in the town.

    Args:
        model: The town.
        cell: The place in the network.
        community: The part of the town.
        persona: Who it is.
        name: What it is called; the language model is not told, lest a name say more than the stated traits.
    """

    model: Town

    def __init__(self, model: Town, cell: Cell, *, community: str, persona: Persona, name: str) -> None:
        super().__init__(model, memory=1)
        self.cell = cell
        self.community = community
        self.persona = persona.text
        """Who it is, in the sentences that the language model gets."""
        self.traits: Mapping[str, str] = persona.traits
        """Trait -> value."""
        self.name = name

    @property
    def label(self) -> str | None:
        """What it decided last, by its label; None before it did anything."""
        return None if self.decision is None else self.decision.labels.get(self.model.story.choice.dimension)

    @property
    def friends(self) -> int:
        """How many people it knows."""
        return len(self.cell.connections)

    def neighbours(self) -> list[Resident]:
        """The people it knows, those who came first into the model before others."""
        return sorted(self.cell.neighborhood.agents, key=lambda other: other.unique_id)

    def observe(self) -> str:
        """Who it is and what it did last; where nobody sees a mean field, what its neighbours did last."""
        posts = neighbours_posts(self, self.model.shown) if self.model.see == "neighbours" else ""
        return "\n".join(part for part in (self.persona, own_history(self), posts) if part)


class Citizen(Resident):
    """Played by the language model."""


class Follower(Resident):
    """Does what most others do, if those are enough: a threshold rule (Granovetter 1978).

    It takes the label that is most frequent among what it saw last, if that label's share is at least its own
    threshold; else it stays with what it did, or does nothing as long as it did nothing. Of equally frequent labels
    it takes its own, if that is among them, else the first one. On a network this is the rule of Watts (2002) for
    more than two labels.

    Args:
        model: The town.
        cell: The place in the network.
        threshold: The least share that moves it.
        community: The part of the town.
        persona: Who it is.
        name: What it is called.
    """

    def __init__(
        self, model: Town, cell: Cell, threshold: float, *, community: str, persona: Persona, name: str
    ) -> None:
        super().__init__(model, cell, community=community, persona=persona, name=name)
        self.threshold = threshold


def follow(agent: Follower, field: MeanField) -> str | None:
    """The rule of `Follower`, for a `RulePolicy`."""
    shares = shares_seen(agent, field)
    most = max(shares.values(), default=0.0)
    if not shares or most < agent.threshold:
        return agent.label
    frequent = [label for label in agent.model.story.choice.options if shares.get(label) == most]
    return agent.label if agent.label in frequent else frequent[0]
