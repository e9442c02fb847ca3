"""The pictures of a comparison and of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mesa_meanfield.evaluation.quantiles import band
from mesa_meanfield.evaluation.report.drawing import (
    COLOURS,
    GREY,
    label_text,
    legend_below,
    percent,
    picture,
    plain_style,
    tidy,
)
from mesa_meanfield.evaluation.report.table import figure, interval, known
from mesa_meanfield.experiments.comparison import CONTROL, TREATMENT, Comparison
from mesa_meanfield.experiments.estimates import student
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.report.words import points
from mesa_meanfield.experiments.runs import Values

MAX_LABELS = 8
"""Labels of a dimension that are drawn; the first ones are."""
BAND = 0.9
"""The share of the replicas within a band, where they are enough."""

_COLUMNS = 4
_ARMS = {CONTROL: "0.25", TREATMENT: COLOURS[1]}
_EFFECT = COLOURS[0]


def effect_curves(comparison: Comparison, dimension: str, played: int = 0) -> tuple[Figure, str]:
    """Each label's share in both arms, with bands over replicas, and beneath it the paired difference.

    Args:
        comparison: The two arms.
        dimension: Whose labels.
        played: How many ticks were played from a record.

    Returns:
        The figure, and what it shows in words.
    """
    labels = comparison.ensemble.labels[dimension][:MAX_LABELS]
    columns = min(_COLUMNS, len(labels))
    blocks = -(-len(labels) // columns)
    drawn = Figure(figsize=(2.45 * columns + 0.6, 3.7 * blocks + 0.7), layout="constrained")
    ratios = {"height_ratios": [3, 2] * blocks}
    panels = drawn.subplots(2 * blocks, columns, sharex=True, squeeze=False, gridspec_kw=ratios)
    for panel in panels.flatten():
        panel.set_axis_off()
    for index, label in enumerate(labels):
        block, column = divmod(index, columns)
        above, below = panels[2 * block, column], panels[2 * block + 1, column]
        _arms(above, comparison, label, dimension)
        _difference(below, comparison, label, dimension)
        above.set_title(label_text(label, 24), fontsize=10, fontweight="bold")
        below.set_xlabel("tick", fontsize=9)
        for panel in (above, below):
            _frame(panel, comparison.ensemble.ticks, played, comparison.fork_at)
        if column == 0:
            above.set_ylabel("share", fontsize=9)
            below.set_ylabel("difference, points", fontsize=9)
    for row in range(2 * blocks):
        _same_heights([panel for panel in panels[row] if panel.axison], from_zero=row % 2 == 0)
    handles: dict[str, Artist] = {
        "with the intervention": Line2D([], [], color=_ARMS[TREATMENT], lw=2),
        "without": Line2D([], [], color=_ARMS[CONTROL], lw=2),
        "paired difference": Line2D([], [], color=_EFFECT, lw=2),
        "first tick with it": Line2D([], [], color="0.4", lw=1, ls=":"),
    }
    if played:
        handles["played from the record"] = Patch(color="0.92")
    legend_below(drawn, list(handles.values()), list(handles))
    ends = "; ".join(_told(comparison, label, dimension) for label in labels)
    return drawn, f"Shares of {dimension} with the intervention and without, and their difference: {ends}."


effect_picture = picture(effect_curves)


def save_effect(file: Path, comparison: Comparison, dimension: str, played: int = 0) -> None:
    """Write `effect_curves` as a PNG file."""
    with plain_style():
        drawn, _ = effect_curves(comparison, dimension, played)
        drawn.savefig(file, dpi=130, format="png")


def _arms(panel: Axes, comparison: Comparison, label: str, dimension: str) -> None:
    for arm, colour in _ARMS.items():
        curves = comparison.ensemble.arm(arm).curves(label, dimension)
        ticks = np.arange(curves.shape[1])
        if len(curves) > 1:
            low, _, high = band(curves, BAND)
            panel.fill_between(ticks, low, high, color=colour, alpha=0.16, lw=0)
        panel.plot(ticks, _mean(curves), color=colour, lw=2, zorder=3 if arm == TREATMENT else 2)
    panel.yaxis.set_major_formatter(percent)


def _difference(panel: Axes, comparison: Comparison, label: str, dimension: str) -> None:
    differences = 100 * comparison.differences(label, dimension)
    ticks = np.arange(differences.shape[1])
    ends = [student(differences[:, t], comparison.confidence) for t in ticks]
    low, high = (np.array([np.nan if one[end] is None else one[end] for one in ends], float) for end in (0, 1))
    panel.axhline(0, color="0.5", lw=0.8)
    panel.fill_between(ticks, low, high, color=_EFFECT, alpha=0.22, lw=0)
    panel.plot(ticks, _mean(differences), color=_EFFECT, lw=2)
    panel.yaxis.set_major_formatter(lambda value, _: figure(value, 0, sign=bool(round(value))))


def _frame(panel: Axes, ticks: int, played: int, fork: int | None) -> None:
    panel.set_axis_on()
    if played:
        panel.axvspan(-0.5, played - 0.5, color="0.92", lw=0, zorder=0)
    if fork is not None:
        panel.axvline(fork, color="0.4", lw=1, ls=":")
    panel.set_xlim(-0.5, ticks - 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.xaxis.set_tick_params(labelbottom=True, labelsize=8)
    panel.yaxis.set_tick_params(labelsize=8)
    tidy(panel)


def _same_heights(panels: Sequence[Axes], *, from_zero: bool) -> None:
    """One scale for a row of panels."""
    low = min(panel.get_ylim()[0] for panel in panels)
    high = max(panel.get_ylim()[1] for panel in panels)
    if not from_zero:
        high = max(abs(low), abs(high), 1.0)  # points: a difference of nothing is a flat line, not noise blown up
    for panel in panels:
        panel.set_ylim((0, min(1.0, high)) if from_zero else (-high, high))


def _mean(curves: Values) -> Values:
    """Over replicas, shape (T,); NaN where no replica has a value."""
    size = np.isfinite(curves).sum(axis=0)
    mean: Values = np.divide(np.nansum(curves, axis=0), size, out=np.full(len(size), np.nan), where=size > 0)
    return mean


def _told(comparison: Comparison, label: str, dimension: str) -> str:
    one = comparison.effect(label, dimension=dimension)
    return f"{label} {points(one.control)} to {points(one.treatment)} %"


@picture
def ranking(plan: Plan, what: str) -> tuple[Figure, str]:
    """Each candidate's objective with its interval, the best one in colour.

    Args:
        plan: The ranking.
        what: The objective, in words.
    """
    drawn = Figure(figsize=(10, 0.9 + 0.42 * len(plan.ranking)), layout="constrained")
    panel = drawn.subplots()
    longest = max(one.rounds for one in plan.ranking)
    for row, one in enumerate(plan.ranking):
        colour = COLOURS[0] if row == 0 and plan.stopped == "separated" else "0.25" if one.rounds == longest else GREY
        low, high = (known(end) for end in one.ci)
        if low is not None and high is not None:
            panel.plot([low, high], [row, row], color=colour, lw=2)
        if (mean := known(one.objective)) is not None:
            panel.plot([mean], [row], "o", ms=7, color=colour)
        beside = f"{figure(one.objective)} · {interval(one.ci)} · n = {one.replicas}"
        at = panel.get_yaxis_transform()
        panel.text(1.01, row, beside, transform=at, va="center", fontsize=9, fontweight="bold" if row == 0 else None)
    panel.set_yticks(range(len(plan.ranking)), [label_text(one.intervention) for one in plan.ranking])
    panel.set_ylim(len(plan.ranking) - 0.5, -0.5)
    panel.set_xlabel(label_text(f"{what}  ({'more' if plan.maximise else 'less'} is better)", 100), fontsize=9)
    panel.xaxis.set_major_locator(MaxNLocator(6))
    tidy(panel, "x")
    told = "; ".join(f"{one.intervention} {figure(one.objective)} ({interval(one.ci)})" for one in plan.ranking)
    return drawn, f"Each candidate's objective with its interval, the best first: {told}."


@picture
def candidate_curves(plan: Plan, label: str, dimension: str | None, played: int = 0) -> tuple[Figure, str]:
    """A label's mean share over time with every candidate, the best ones in colours of their own.

    Args:
        plan: The ranking, with its runs.
        label: Whose share.
        dimension: Of which dimension; without it the first one that has the label.
        played: How many ticks were played from a record.
    """
    drawn = Figure(figsize=(10, 3.6), layout="constrained")
    panel = drawn.subplots()
    for place, one in reversed(list(enumerate(plan.ranking))):
        runs = plan.ensemble.arm(one.intervention)
        if not runs.runs:
            continue
        look: dict[str, Any] = {
            "color": COLOURS[place] if place < len(COLOURS) else GREY,
            "zorder": 10 - min(place, 8),
        }
        curves = runs.curves(label, dimension)
        panel.plot(_mean(curves), lw=2.4 if place == 0 else 1.6, ls="-" if place < len(COLOURS) else ":", **look)
    _frame(panel, plan.ensemble.ticks, played, None)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(percent)
    panel.set_ylabel(label_text(f"share of {label}", 40), fontsize=9)
    panel.set_xlabel("tick", fontsize=9)
    handles: dict[str, Artist] = {
        one.intervention: Line2D([], [], lw=2, color=COLOURS[place] if place < len(COLOURS) else GREY)
        for place, one in enumerate(plan.ranking)
    }
    if played:
        handles["played from the record"] = Patch(color="0.92")
    legend_below(drawn, list(handles.values()), list(handles))
    return drawn, f"The mean share of {label} over time with each candidate; the table has the figures."
