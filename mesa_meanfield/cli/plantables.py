"""The tables of a plan file: what can stand in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from mesa_meanfield.cascades.personas import PERSONAS
from mesa_meanfield.cli.common import SUMMARIZERS
from mesa_meanfield.tomlfile import Table


class Said(Table):
    """What a script lets an agent do; without text and labels nothing."""

    text: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class Named(Table):
    """A function that changes a state's text."""

    function: str


class Call(Table):
    """An intervention or an objective of one's own."""

    call: str


class CascadeTable(Table):
    """A recorded cascade: its first part played, the rest simulated."""

    data: str | None = None
    """The file, from the plan file's folder on; without it the shipped cascades."""
    id: str | None = None
    """Which cascade of it; without it the first one that has actions."""
    warm_up: float = Field(0.3, ge=0, lt=1)
    per_tick: int | None = Field(None, ge=1)
    agents: int | None = Field(None, ge=1)
    summarizer: str = "llm"
    backend: str = "embedded"
    adapter: str = "auto"
    summarizer_adapter: str = "auto"
    calibration: str | None = None
    dimension: str | None = None
    persona: str = "graded"
    texts: bool = True
    prompts: str | None = None

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"summarizer": SUMMARIZERS, "persona": PERSONAS}


class FactoryTable(Table):
    """A Mesa model of one's own."""

    factory: str
    """A function: seed -> model."""
    parameters: dict[str, Any] = Field(default_factory=dict)  # Any: the function's own business
    """What else it is given, by name."""
    backend: str | None = None
    """A model that all replicas share; the function gets it as ``backend``."""
    crowd: str | None = None
    """The model's attribute that holds the scheduler, where it has several."""

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}


class Budget(Table):
    """What may be spent."""

    tokens: int | None = Field(None, ge=1)


class Whole(Table):
    """A whole plan file, its tables of several kinds unread."""

    model: dict[str, Any]  # Any: TOML, here and below
    question: str = ""
    ticks: int | None = Field(None, ge=1)
    replicas: int = Field(20, ge=1)
    fork_at: int | None = Field(None, ge=0)
    seed: int = Field(0, ge=0)
    confidence: float = Field(0.95, gt=0, lt=1)
    label: str | None = None
    intervention: list[dict[str, Any]] = Field(default_factory=list)
    control: list[dict[str, Any]] = Field(default_factory=list)
    candidates: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    objective: dict[str, Any] | None = None
    budget: Budget = Budget(tokens=None)
