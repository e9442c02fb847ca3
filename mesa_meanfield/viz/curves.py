"""The share curves of a page: what agents decided, tick by tick, beside the record and the untouched twin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator

from mesa_meanfield.data import Counts
from mesa_meanfield.evaluation.report.drawing import (
    COLOURS,
    label_text,
    legend_below,
    percent,
    picture,
    tidy,
)
from mesa_meanfield.experiments.runs import TickCounts

Values = npt.NDArray[np.float64]

MAX_PANELS = 8
"""Labels that are drawn; of more the rarest are left out."""
UNDECIDED = "#9aa3af"
"""The colour of what has no label."""
_REAL = "0.25"
_TWIN = "0.55"


def colour_of(label: str, labels: Sequence[str]) -> str:
    """The colour of a label wherever the page shows it."""
    return COLOURS[labels.index(label) % len(COLOURS)] if label in labels else UNDECIDED


@dataclass(frozen=True, eq=False)
class Curves:
    """What is to be drawn; each sequence has one entry per tick."""

    dimension: str
    labels: Sequence[str]
    run: Sequence[TickCounts]
    real: Sequence[Counts] | None = None
    """What was recorded: dimension -> label -> how often."""
    twin: Sequence[TickCounts] | None = None
    """The run without what was added on the page."""
    marks: Sequence[int] = ()
    """Ticks in which something was added on the page."""
    cumulative: bool = False
    """Whether shares are of all decisions so far, instead of each tick's."""

    def of_run(self, ticks: Sequence[TickCounts]) -> Values:
        """The shares of some ticks, shape (T, K); NaN where nobody decided."""
        return self._shares([tick.counts for tick in ticks])

    def of_record(self) -> Values:
        """The recorded shares, shape (T, K)."""
        return self._shares(self.real or ())

    def _shares(self, ticks: Sequence[Counts]) -> Values:
        rows = [[tick.get(self.dimension, {}).get(label, 0) for label in self.labels] for tick in ticks]
        counts = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.labels))
        if self.cumulative:
            counts = counts.cumsum(axis=0)
        total = counts.sum(axis=1, keepdims=True)
        shares: Values = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
        return shares


@picture
def draw(curves: Curves) -> tuple[Figure, str]:
    """One panel for all labels; one for each where there is something to compare with."""
    run, real = curves.of_run(curves.run), curves.of_record()
    twin = curves.of_run(curves.twin or ())
    shown = _shown(curves, run, real)
    last = max(len(run), len(real), len(twin), 2)
    several = curves.real is not None or curves.twin is not None
    columns = min(4, len(shown)) if several else 1
    rows = math.ceil(len(shown) / columns) if several else 1
    figure = Figure(figsize=(8.8, 2.15 * rows + 0.75 if several else 2.9), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten().tolist()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for place, index in enumerate(shown):
        panel, colour = panels[place if several else 0], colour_of(curves.labels[index], curves.labels)
        _line(panel, real[:, index], color=_REAL, lw=1.6, ls="--")
        _line(panel, twin[:, index], color=_TWIN, lw=2.2, ls=":")
        _line(panel, run[:, index], color=colour, lw=2.2)
        if several:
            panel.set_title(label_text(curves.labels[index], 24), color=colour, fontsize=10, fontweight="bold")
    for panel in panels if several else panels[:1]:
        _axes(panel, curves, last)
    figure.supylabel("share of all so far" if curves.cumulative else "share of each tick", fontsize=9)
    names = _legend(figure, curves, shown, several)
    return figure, _in_words(curves, run, real, twin, shown, names)


def _line(panel: Axes, shares: Values, **style: Any) -> None:
    """One curve; a single tick is a point, which a line would not show."""
    if len(shares):
        marker: dict[str, Any] = {"marker": "o", "ms": 4} if len(shares) == 1 else {}
        panel.plot(range(len(shares)), shares, solid_capstyle="round", **marker, **style)


def _axes(panel: Axes, curves: Curves, last: int) -> None:
    tidy(panel)
    played = sum(1 for tick in curves.run if tick.recorded)
    if played:
        panel.axvspan(-0.5, played - 0.5, color="0.93", lw=0)
    for at in curves.marks:
        panel.axvline(at, color="#e69f00", lw=1.2)
    panel.set_xlim(-0.5, last - 0.5)
    panel.set_ylim(-0.02, 1.02)
    panel.yaxis.set_major_formatter(percent)
    panel.yaxis.set_major_locator(MultipleLocator(0.25))
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.tick_params(labelsize=8)
    panel.set_xlabel("tick", fontsize=9)


def _legend(figure: Figure, curves: Curves, shown: Sequence[int], several: bool) -> list[str]:
    handles: dict[str, Artist] = {}
    if several:
        handles["this run"] = Line2D([], [], color=COLOURS[0], lw=2.2)
    else:
        for index in shown:
            label = curves.labels[index]
            handles[label] = Line2D([], [], color=colour_of(label, curves.labels), lw=2.2)
    if curves.real is not None:
        handles["recorded"] = Line2D([], [], color=_REAL, lw=1.6, ls="--")
    if curves.twin is not None:
        handles["untouched twin"] = Line2D([], [], color=_TWIN, lw=2.2, ls=":")
    if any(tick.recorded for tick in curves.run):
        handles["warm-up, played from the record"] = Patch(color="0.93", lw=0)
    if curves.marks:
        handles["added on this page"] = Line2D([], [], color="#e69f00", lw=1.2)
    legend_below(figure, list(handles.values()), list(handles))
    return list(handles)


def _shown(curves: Curves, run: Values, real: Values) -> list[int]:
    weight = np.nan_to_num(np.nanmean(np.concatenate([run, real]), axis=0)) if len(run) + len(real) else None
    every = range(len(curves.labels))
    if weight is None or len(curves.labels) <= MAX_PANELS:
        return list(every)[:MAX_PANELS]
    return sorted(sorted(every, key=lambda i: -weight[i])[:MAX_PANELS])


def _in_words(
    curves: Curves, run: Values, real: Values, twin: Values, shown: Sequence[int], names: Sequence[str]
) -> str:
    parts = []
    for name, values in (("this run", run), ("recorded", real[: len(run)]), ("untouched twin", twin)):
        if len(values):
            ends = ", ".join(f"{curves.labels[i]} {_percent(values[-1, i])}" for i in shown)
            parts.append(f"{name} {ends}")
    at = f"after tick {len(run)}: {'; '.join(parts)}" if parts else "no tick yet"
    return f"Shares over the ticks, with {', '.join(names)}; {at}."


def _percent(share: float) -> str:
    return "none" if math.isnan(share) else percent(share)


def ends(curves: Curves) -> Mapping[str, tuple[float, float]]:
    """Label -> its share in the run and in the twin after the last tick that both have; empty without one."""
    run, twin = curves.of_run(curves.run), curves.of_run(curves.twin or ())
    last = min(len(run), len(twin))
    if not last:
        return {}
    pairs = zip(curves.labels, run[last - 1].tolist(), twin[last - 1].tolist(), strict=True)
    return {label: (a, b) for label, a, b in pairs}
