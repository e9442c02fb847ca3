"""The tables of a comparison and of a plan as texts, ready for their templates."""

from __future__ import annotations

from collections.abc import Sequence

from mesa_meanfield.evaluation.report.table import DASH, amount, figure, interval, known
from mesa_meanfield.evaluation.report.views import Cell, Row, Sheet
from mesa_meanfield.experiments.comparison import Comparison, Effect
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.racing import Ranked
from mesa_meanfield.experiments.report.words import points, points_between

ONE_PAIR = "one pair of replicas has no interval"
_ACROSS = 4  # labels beside each other in the table of ticks


def effects(found: Sequence[Effect]) -> Sheet:
    """One row for each label; shares in per cent, effects in percentage points."""
    heads = ("Without", "With it", "Effect", "Paired interval", "Unpaired interval", "Variance ratio", "Pairs")
    rows = [Row(one.label, "", _effect_cells(one), first=_begins(found, place)) for place, one in enumerate(found)]
    return Sheet(heads, tuple(rows), _several(found))


def by_tick(comparison: Comparison, dimension: str) -> list[Sheet]:
    """The effect in every tick from the fork on, with its paired interval, a few labels a table."""
    labels = comparison.ensemble.labels[dimension]
    ticks = range(comparison.fork_at, comparison.ensemble.ticks)
    sheets = []
    for at in range(0, len(labels), _ACROSS):
        across = labels[at : at + _ACROSS]
        rows = []
        for tick in ticks:
            found = [comparison.effect(label, tick, dimension=dimension) for label in across]
            rows.append(Row(str(tick), "", tuple(_effect_cell(one) for one in found)))
        sheets.append(Sheet(across, tuple(rows)))
    return sheets


def ranking(plan: Plan) -> Sheet:
    """One row for each candidate, the best first."""
    first = plan.ranking[0]
    heads = ("Objective", "Interval", "Behind the best", "Interval of that", "Replicas", "Rounds", "Tokens")
    rows = [Row(one.intervention, "", _ranked_cells(one, first), detail=_missing(one)) for one in plan.ranking]
    return Sheet(heads, tuple(rows))


def _begins(found: Sequence[Effect], place: int) -> bool:
    return bool(place) and found[place].dimension != found[place - 1].dimension


def _several(found: Sequence[Effect]) -> tuple[str, ...]:
    names = list(dict.fromkeys(one.dimension for one in found))
    return (f"Labels of {', then of '.join(names)}.",) if len(names) > 1 else ()


def _effect_cells(one: Effect) -> tuple[Cell, ...]:
    low, high = (known(end) for end in one.ci)
    beyond = low is not None and high is not None and not low <= 0 <= high
    return (
        Cell(points(one.control)),
        Cell(points(one.treatment)),
        Cell(points(one.effect, sign=True), best=beyond),
        Cell(points_between(one.ci, sign=True), "" if low is not None else ONE_PAIR),
        Cell(points_between(one.effect_unpaired_ci, sign=True), "" if low is not None else ONE_PAIR),
        Cell(figure(one.variance_ratio, 2), "" if known(one.variance_ratio) is not None else "nothing varies"),
        Cell(str(one.replicas)),
    )


def _effect_cell(one: Effect) -> Cell:
    ends = points_between(one.ci, sign=True)
    return Cell(points(one.effect, sign=True), detail="" if ends == DASH else ends)


def _ranked_cells(one: Ranked, first: Ranked) -> tuple[Cell, ...]:
    unknown = "" if known(one.ci[0]) is not None else "fewer than two replicas"
    is_first = one is first
    return (
        Cell(figure(one.objective), best=is_first),
        Cell(interval(one.ci), unknown),
        Cell(DASH if is_first else figure(one.behind, sign=True), "the best one" if is_first else ""),
        Cell(DASH if is_first else interval(one.behind_ci, sign=True), "the best one" if is_first else unknown),
        Cell(str(one.replicas)),
        Cell(str(one.rounds)),
        Cell(amount(one.tokens)),
    )


def _missing(one: Ranked) -> str:
    said = []
    if one.without:
        said.append(f"{one.without} runs without a value")
    if one.censored:
        said.append(f"{one.censored} only a lower bound")
    return ", ".join(said)
