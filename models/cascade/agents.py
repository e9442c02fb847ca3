"""The readers of a cascade."""

from __future__ import annotations

import mesa

from mesa_meanfield.agents import MeanFieldAgent
from mesa_meanfield.cascades.personas import persona
from mesa_meanfield.data import Action


class Reader(MeanFieldAgent):
    """The author of one recorded action, who sees a persona and nothing of the record.

    Args:
        model: The cascade model.
        action: The recorded action in whose place the reader acts, guarded: of one after the warm-up only the
            id and the author can be used.
        language: The language of the persona.
        again: Whether this author has acted in the cascade before.
        level: How much of the profile is told, one of `PERSONAS`.
    """

    def __init__(
        self, model: mesa.Model, action: Action, *, language: str, again: bool, level: str = "graded"
    ) -> None:
        super().__init__(model, memory=1)
        self.key = action.id
        self.persona = persona(action.author, language, again=again, level=level)

    def observe(self) -> str:
        """The persona alone: no parent, time or truth of the topic."""
        return self.persona
