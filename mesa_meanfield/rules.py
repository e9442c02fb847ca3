"""Policies that ask no model: a rule of the modeler's, or the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.protocols import ActionSpace, Turn, Usage


class RulePolicy:
    """A rule decides, so that rule-based agents count in the mean field, too.

    Args:
        rule: Agent and mean field -> a label of ``actions``, a text, a number, a `Decision`, or None for
            an agent that does nothing this tick.
        actions: The action space whose labels the rule gives; without it a string is a text.
    """

    def __init__(
        self,
        rule: Callable[[Any, MeanField], Decision | str | float | None],  # Any: the modeler's own agent class
        actions: ActionSpace | None = None,
    ) -> None:
        self.rule = rule
        self.actions = actions
        self.usage = Usage()

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision | None]:
        """One decision per turn, in order; None where the rule says nothing.

        Raises:
            ValueError: The rule gave a label that the action space does not have.
        """
        return [self._read(turn, self.rule(turn.agent, field)) for turn in turns]

    def _read(self, turn: Turn, said: Decision | str | float | None) -> Decision | None:
        if said is None or isinstance(said, Decision):
            return said
        space = turn.actions or self.actions
        if not isinstance(said, str):
            if (space is not None and space.choice is not None) or not isinstance(said, Real) or said is True:
                raise ValueError(
                    f"The rule gave {said!r} for agent {turn.state.agent}; expected a label, text or number"
                )
            return Decision(value=said, seed=turn.seed)
        if space is None or space.choice is None:
            read = space.text.read(said) if space and space.text else Decision(said)
            return replace(read, seed=turn.seed)
        if said not in space.choice.options:
            options = ", ".join(space.choice.options)
            raise ValueError(f"The rule gave {said!r} for agent {turn.state.agent}, which is not one of {options}")
        return Decision(labels={space.choice.dimension: said}, seed=turn.seed)


class RecordedPolicy:
    """The record decides: a warm-up goes through the same scheduler as a simulation.

    Args:
        decisions: Agent key -> what that agent did.
        actions: The action space whose labels the record has.
    """

    def __init__(
        self, decisions: Mapping[str, Decision] | Mapping[int, Decision], actions: ActionSpace | None = None
    ) -> None:
        self.decisions = {str(agent): replace(d, recorded=True) for agent, d in decisions.items()}
        self.actions = actions
        self.usage = Usage()

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """The recorded decision of every turn.

        Raises:
            ValueError: The record has none for an agent.
        """
        missing = [turn.state.agent for turn in turns if turn.state.agent not in self.decisions]
        if missing:
            raise ValueError(f"The record has no decision of agent {missing[0]} ({len(missing)} missing)")
        return [self.decisions[turn.state.agent] for turn in turns]
