"""How replicas, a comparison and a plan show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

from mesa_meanfield.display import DIM, HUES, bars, block, counted, dim, lines, table, whisker
from mesa_meanfield.evaluation.report.table import DASH, figure, interval, known
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.comparison import CONTROL, TREATMENT, Comparison, Effect
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.report.words import (
    effect_verdict,
    pairing_in_words,
    percentage,
    plan_verdict,
    points,
    points_between,
)
from mesa_meanfield.experiments.runs import Ensemble, divided

_TREATED = HUES[1]  # the colours of the arms in every picture of a comparison
_EFFECT = HUES[0]


def ensemble_html(ensemble: Ensemble) -> str:
    """Replicas: the mean of each label's share over all decisions, one column for each arm."""
    parts = []
    for dimension, labels in ensemble.labels.items():
        arms = dict.fromkeys(run.arm for run in ensemble.runs)
        columns = {}
        for arm in arms:
            runs = ensemble.arm(arm).runs
            columns[arm] = {label: _mean(run.share(label, dimension) for run in runs) for label in labels}
        parts += [dim(f"{dimension}, mean share of all decisions"), bars(columns)]
    facts = [counted(len(ensemble.runs), "run"), counted(ensemble.ticks, "tick"), _failed(ensemble)]
    return block("Replicas", *parts, facts=facts)


def comparison_html(comparison: Comparison) -> str:
    """A comparison: what the intervention did to each label, and the course of both arms."""
    ensemble, fork = comparison.ensemble, comparison.fork_at
    effects = [comparison.effect(one, dimension=d) for d, labels in ensemble.labels.items() for one in labels]
    parts: list[Markup | str] = []
    if effects:
        main = max(effects, key=lambda one: abs(one.effect or 0.0))
        last = ensemble.ticks - 1
        span = f"in tick {last}" if fork == last else f"over ticks {fork} to {last}"
        parts.append(Markup("<p>{}</p>").format(effect_verdict(main, span, comparison.confidence)))
        interval_head = f"{percentage(comparison.confidence)} interval"
        heads = ("", "over the ticks", "without, %", "with it, %", "effect, points", interval_head, "")
        ends = [end for one in effects for end in (one.effect, *one.ci) if end is not None]
        reach = max([abs(end) for end in ends], default=0.0) or 1.0
        courses = [_courses(comparison, one) for one in effects]
        top = max(
            [value for course in courses for of in course.values() for value in of if value == value], default=1.0
        )
        drawn = [lines(course, top, fork) for course in courses]
        rows = [_effect_row(one, course, reach) for one, course in zip(effects, drawn, strict=True)]
        parts.append(table(heads, rows, (2, 3, 4, 5)))
        parts.append(dim(f"{pairing_in_words(main)} Grey: without, orange: with the intervention."))
    parts += [dim(note) for note in comparison.notes]
    facts = [counted(len(comparison.pairs), "pair"), counted(ensemble.ticks, "tick"), f"fork at tick {fork}"]
    return block("Comparison", *parts, facts=facts)


def plan_html(plan: Plan) -> str:
    """A plan: its ranking, with the objective's intervals."""
    ends = [end for one in plan.ranking for end in (one.objective, *one.ci) if known(end) is not None]
    shown = [end for end in ends if end is not None]
    scale = (min(shown, default=0.0), max(shown, default=1.0))
    rows = [
        (
            str(place),
            one.intervention,
            figure(one.objective),
            interval(one.ci),
            _whisker(one.objective, one.ci, scale, plan.ranking[0].objective or 0.0, _EFFECT if place == 1 else DIM),
            str(one.replicas),
        )
        for place, one in enumerate(plan.ranking, 1)
    ]
    heads = ("", "candidate", "objective", f"{percentage(plan.confidence)} interval", "", "replicas")
    verdict = Markup("<p>{}</p>").format(plan_verdict(plan, "objective"))
    facts = [counted(len(plan.ranking), "candidate"), counted(plan.tokens, "token"), _failed(plan.ensemble)]
    return block("Plan", verdict, table(heads, rows, (2, 3, 5)), dim(f"The search ended: {plan.why}."), facts=facts)


def _courses(comparison: Comparison, one: Effect) -> dict[str, list[float]]:
    """Colour -> the label's mean share at each tick, of both arms."""
    arms = ((DIM, CONTROL), (_TREATED, TREATMENT))
    curves = {colour: comparison.ensemble.arm(arm).curves(one.label, one.dimension) for colour, arm in arms}
    return {colour: [_mean(column) for column in of.T] for colour, of in curves.items()}


def _effect_row(one: Effect, course: Markup, reach: float) -> Sequence[Markup | str]:
    return (
        one.label,
        course,
        points(one.control),
        points(one.treatment),
        points(one.effect, sign=True),
        points_between(one.ci, sign=True),
        _whisker(one.effect, one.ci, (-reach, reach), 0.0, _EFFECT),
    )


def _whisker(
    value: float | None, ends: Interval, scale: tuple[float, float], mark: float, colour: str
) -> Markup | str:
    return DASH if value is None else whisker(value, ends, scale, mark, colour)


def _mean(values: Iterable[float]) -> float:
    """The mean of the known ones; NaN where none is."""
    known_ones = np.array([value for value in values if value == value], dtype=np.float64)
    return float(divided(known_ones.sum(), float(len(known_ones))))


def _failed(ensemble: Ensemble) -> str:
    return f"{len(ensemble.failed)} failed" if ensemble.failed else ""
