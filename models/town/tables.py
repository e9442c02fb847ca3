"""The tables of a scenario file: what can stand in each."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade
from mesa_meanfield.tomlfile import Table, TomlForm, table_of


class Whole(Table):
    """A whole scenario file, its tables unread."""

    title: str = Field(min_length=1)
    topic: str = Field(min_length=1)
    """What everyone has heard; stands in every prompt."""
    domain: str = ""
    language: str = "en"
    """Of the prompts; one of `mesa_meanfield.prompts.LANGUAGES`."""
    ticks: int = Field(8, ge=1)
    """How long the story is."""
    decision: dict[str, Any]  # Any: TOML, here and below
    rules: dict[str, Any] = Field(default_factory=dict)
    names: dict[str, Any] = Field(default_factory=dict)
    personas: dict[str, dict[str, dict[str, Any]]]
    community: list[dict[str, Any]] = Field(default_factory=list)
    timeline: list[dict[str, Any]] = Field(default_factory=list)


class DecisionTable(Table):
    """What can be decided."""

    labels: dict[str, str] = Field(min_length=2)
    """Label -> what it means, in the words of the one who decides."""
    dimension: str = "decision"
    """What the labels are about; its name in shares."""
    question: str = ""
    letters: bool = True
    """Whether the model answers with a letter: one token for every label."""
    post: str = ""
    """What is asked for the text that goes with a label."""
    silent: list[str] = Field(default_factory=list)
    """Labels that carry no text."""


class RulesTable(Table):
    """The rule-based part of the population."""

    share: float = Field(0.2, ge=0, le=1)
    threshold: list[float] = Field([0.3, 0.7], min_length=2, max_length=2)
    """The lowest and the highest threshold; each agent's own is drawn evenly between them."""


class NamesTable(Table):
    """What people can be called; for those who look at the model, not for the language model."""

    first: list[str] = Field(default_factory=list)
    last: list[str] = Field(default_factory=list)


class ValueTable(Table):
    """One value of a trait."""

    weight: float = Field(ge=0)
    """How probable it is, relative to the trait's other values."""
    says: str = ""
    """The sentence that the model is told about itself."""
    only: dict[str, list[str]] = Field(default_factory=dict)
    """Earlier trait -> with which of its values alone this one goes."""


class CommunityTable(Table):
    """A part of the town."""

    name: str = Field(min_length=1)
    share: float = Field(gt=0)
    """How many live there, relative to the other communities."""
    says: str = ""
    """The sentence that its people are told about themselves."""
    weights: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Trait -> value -> its weight here, where it is another one than in the rest of the town."""


_WRITTEN = {"reach": float | str, "who": float | str, "change": str}
TIMELINE = {
    name: (kind, table_of(kind, _WRITTEN))
    for name, kind in {"announce": Announce, "inject": Inject, "mute": Mute, "persuade": Persuade}.items()
}
"""What can happen, by its name in the file: the intervention and its table."""
_WHO = 'a share from 0 to 1, "community:NAME" or "most_influential:N" (those with most friends)'
FORM = TomlForm(
    "scenario",
    Whole,
    {
        "reach": _WHO,
        "who": _WHO,
        "change": "a text, which comes behind what its people are told about themselves",
        "threshold": "two numbers from 0 to 1, the lowest and the highest threshold",
        "personas": "tables [personas.TRAIT] with lines VALUE = {weight = NUMBER, says = TEXT}",
        "community": "a list of tables, each below a line [[community]]",
        "timeline": "a list of tables, each below a line [[timeline]]",
        "labels": 'lines LABEL = "what it means", at least two; in the timeline {DIMENSION = LABEL}',
    },
    tables=("decision", "personas"),
)
