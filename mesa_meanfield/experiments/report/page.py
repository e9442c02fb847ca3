"""The pages on which a person reads a comparison or a plan: each one file that needs no other, and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesa_meanfield.evaluation.report.pages import setting, template
from mesa_meanfield.experiments.comparison import Comparison
from mesa_meanfield.experiments.objectives import AreaUnder, Objective
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.report import figures, views
from mesa_meanfield.experiments.report.examples import Example
from mesa_meanfield.experiments.report.words import (
    effect_verdict,
    in_words,
    objective_in_words,
    pairing_in_words,
    percentage,
    plan_verdict,
    points,
)
from mesa_meanfield.protocols import Intervention, Usage

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class About:
    """What both pages tell of how their figures came about."""

    question: str
    """In one sentence; empty where nobody asked one."""
    model: str
    """What was simulated, in a few words."""
    topic: str
    """What the crowd talked about; empty where that is not known."""
    backend: str
    """The language model's name; empty where there was none, or it is the simulated model's own."""
    played: int
    """How many ticks were played from a record."""
    settings: Mapping[str, object]
    """What was asked for."""
    files: Sequence[str]
    """What lies beside the page."""
    command: str
    """How the same is done again."""
    seconds: float


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison for display."""

    comparison: Comparison
    label: str
    """The label that the page begins with."""
    dimension: str
    largest: bool
    """Whether nobody asked for that label, and it is the one with the largest effect."""
    interventions: Sequence[Intervention]
    control: Sequence[Intervention]
    examples: Sequence[Example]


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan for display."""

    plan: Plan
    objective: Objective
    candidates: Mapping[str, Sequence[Intervention]]
    examples: Sequence[Example]
    """Of the best candidate beside the second one."""


def write_comparison(path: str | Path, made: Compared, about: About) -> None:
    """Write a comparison as one HTML file; equal figures give equal bytes.

    Args:
        path: Where the page goes.
        made: What came out.
        about: How it came about.
    """
    comparison = made.comparison
    main = comparison.effect(made.label, dimension=made.dimension)
    last = comparison.ensemble.ticks - 1
    span = f"in tick {last}" if comparison.fork_at == last else f"over ticks {comparison.fork_at} to {last}"
    names = [(dimension, one) for dimension, labels in comparison.ensemble.labels.items() for one in labels]
    page = template("compare.j2", _TEMPLATES, points=points).render(
        about=about,
        settings=_settings(about),
        question=about.question or f"How would the shares of {made.dimension} change?",
        made=made,
        comparison=comparison,
        main=main,
        verdict=effect_verdict(main, span, comparison.confidence),
        pairing=pairing_in_words(main),
        certain=_without_chance(main.ci) and main.effect != 0,
        interventions=[in_words(one) for one in made.interventions],
        control=[in_words(one) for one in made.control],
        span=span,
        last=last,
        pictures=[
            (dimension, figures.effect_picture(comparison, dimension, about.played), _left(labels))
            for dimension, labels in comparison.ensemble.labels.items()
        ],
        since=views.effects([comparison.effect(one, dimension=d) for d, one in names]),
        end=views.effects([comparison.effect(one, -1, dimension=d) for d, one in names]),
        ticks=[(d, views.by_tick(comparison, d)) for d in comparison.ensemble.labels],
        confidence=percentage(comparison.confidence),
        band=percentage(figures.BAND),
        usage=comparison.ensemble.usage,
    )
    _write(path, page)


def write_plan(path: str | Path, made: Planned, about: About) -> None:
    """Write a plan as one HTML file; equal figures give equal bytes.

    Args:
        path: Where the page goes.
        made: What came out.
        about: How it came about.
    """
    plan, what = made.plan, objective_in_words(made.objective)
    label = getattr(made.objective, "label", None)
    curves = None
    if label is not None:
        dimension = getattr(made.objective, "dimension", None)
        curves = figures.candidate_curves(plan, label, dimension, about.played)
    usage: Usage = plan.ensemble.usage
    page = template("plan.j2", _TEMPLATES, points=points).render(
        about=about,
        settings=_settings(about),
        question=about.question or f"Which of {len(plan.ranking)} interventions is best for the {what}?",
        made=made,
        plan=plan,
        what=what,
        label=label,
        verdict=plan_verdict(plan, what),
        candidates=[
            (one.intervention, [in_words(part) for part in made.candidates[one.intervention]]) for one in plan.ranking
        ],
        ranking=figures.ranking(plan, what),
        table=views.ranking(plan),
        area=isinstance(made.objective, AreaUnder),
        curves=curves,
        censored=any(one.censored for one in plan.ranking),
        confidence=percentage(plan.confidence),
        look=percentage(plan.look_confidence),
        usage=usage,
    )
    _write(path, page)


def _write(path: str | Path, page: str) -> None:
    Path(path).write_text(page, encoding="utf-8", newline="\n")


def _settings(about: About) -> dict[str, str]:
    return {key: setting(value) for key, value in about.settings.items()}


def _left(labels: Sequence[str]) -> int:
    return max(0, len(labels) - figures.MAX_LABELS)


def _without_chance(ends: tuple[float | None, float | None]) -> bool:
    return ends[0] is not None and ends[0] == ends[1]
