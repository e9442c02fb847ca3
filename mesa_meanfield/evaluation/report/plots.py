"""Pictures of a run: the shares over time, simulated against real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action
from mesa_meanfield.display import legible
from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Guess, Indices, Rows
from mesa_meanfield.evaluation.curves import shares_of
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

MAX_PANELS = 8
"""Labels that `shares_over_time` draws; the others are the rarest."""

_REAL = "0.25"
_BESIDE: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}


def trend(
    file: Path,
    real: Sequence[Action],
    simulated: Sequence[Action],
    *,
    warm_up: int,
    dimension: str,
    labels: Sequence[str],
    title: str,
) -> None:
    """Draw the share of each label among all actions so far, simulated against real.

    The simulated curve adds up exact distributions where there are any, so it has no sampling noise.

    Args:
        file: Where the PNG goes.
        real: The recorded actions, warm-up included.
        simulated: The played warm-up and the simulated roll-out.
        warm_up: How many of both are the warm-up.
        dimension: Whose labels.
        labels: All of them, one panel each.
        title: Above the picture.
    """
    truth = _running(_weights_of(real, dimension, labels))
    guess = _running(_weights_of(simulated, dimension, labels))
    with plain_style():
        columns = min(4, len(labels))
        figure, panels = _panels(len(labels), columns, 3.4, 2.9)
        for index, panel in enumerate(panels):
            colour = COLOURS[index % len(COLOURS)]
            _real_and_guess(panel, truth[:, index], guess[:, index], warm_up, colour)
            panel.set_title(label_text(labels[index]), color=colour, fontweight="bold")
            panel.set_xlabel("actions so far")
        figure.suptitle(legible(title), fontsize=11)
        _legend(figure, warm_up, {"simulated": Line2D([], [], color=_REAL, lw=2, ls="--")})
        figure.supylabel(f"share of all actions so far ({legible(dimension)})", fontsize=10)
        figure.savefig(file, dpi=130, format="png")


@picture
def shares_over_time(
    case: Case, guess: Guess, rival: Guess | None = None, *, colour: str = COLOURS[0]
) -> tuple[Figure, str]:
    """The share of each label among all actions so far, simulated against real, with a band over replicas.

    The curve of a guess adds up the mean of its exact distributions; the band goes from the lowest to the
    highest replica, each with the labels that it drew. Of many labels the commonest are drawn. Only the slots
    of labelled recorded actions take part, as everywhere in the evaluation.

    Args:
        case: The recorded cascade.
        guess: What was simulated.
        rival: One more guess, for comparison.
        colour: Of the guess.
    """
    common = np.argsort(-(case.warm_up_counts + case.counts), kind="stable")[:MAX_PANELS]
    slots, k = np.flatnonzero(case.roll_out != UNLABELLED), len(case.labels)
    played = case.warm_up[case.warm_up != UNLABELLED]
    before, warm_up = _one_hot(played, k), len(played)

    def curve_of(rows: Rows) -> Rows:
        return _running(np.concatenate([before, np.nan_to_num(rows[slots])]))

    truth, curve = curve_of(_one_hot(case.roll_out, k)), curve_of(guess.expected)
    other = None if rival is None else curve_of(rival.expected)
    runs = np.stack([curve_of(_one_hot(drawn, k)) for drawn in guess.sampled]) if len(guess.sampled) > 1 else None
    figure, panels = _panels(len(common), min(4, k), 2.3, 2.15)
    for panel, index in zip(panels, sorted(common), strict=True):
        if other is not None:
            after = _after(warm_up, len(other))
            panel.plot(after, other[after - 1, index], color=GREY, lw=1.5, ls=":")
        if runs is not None:
            after = _after(warm_up, len(curve))
            drawn = runs[:, after - 1, index]  # (R, len(after))
            panel.fill_between(after, drawn.min(axis=0), drawn.max(axis=0), color=colour, alpha=0.18, lw=0)
        _real_and_guess(panel, truth[:, index], curve[:, index], warm_up, colour)
        panel.set_title(label_text(case.labels[index], 22), fontsize=10, fontweight="bold")
        panel.set_xlabel("actions so far", fontsize=9)
    handles: dict[str, Artist] = {guess.name: Line2D([], [], color=colour, lw=2, ls="--")}
    if runs is not None:
        handles["lowest to highest replica"] = Patch(color=colour, alpha=0.18, lw=0)
    if rival is not None:
        handles[rival.name] = Line2D([], [], color=GREY, lw=1.5, ls=":")
    _legend(figure, warm_up, handles)
    figure.supylabel("share so far", fontsize=9)
    ends = ", ".join(f"{case.labels[i]} {percent(truth[-1, i])} and {percent(curve[-1, i])}" for i in sorted(common))
    return figure, f"Shares over time, one panel per label; at the end, real and {guess.name}: {ends}."


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """One panel per label; width and height are a panel's, in inches."""
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.6, height * rows + 1.0), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten().tolist()
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel in panels[max(0, count - columns) : count]:
        panel.xaxis.set_tick_params(labelbottom=True)  # shared axes hide it above a panel that is off
    return figure, panels[:count]


def _real_and_guess(
    panel: Axes, truth: npt.NDArray[np.float64], guess: npt.NDArray[np.float64], warm_up: int, colour: str
) -> None:
    """One label's curves, with their last figures beside them, on a panel of shares."""
    if warm_up:
        panel.axvspan(0.5, warm_up + 0.5, color="0.92", lw=0)
    panel.plot(range(1, len(truth) + 1), truth, color=_REAL, lw=2)
    after = _after(warm_up, len(guess))
    panel.plot(after, guess[after - 1], color=colour, lw=2, ls="--")
    for curve, place, tint in zip((truth, guess), _apart(truth[-1], guess[-1]), (_REAL, colour), strict=True):
        panel.annotate(percent(curve[-1]), (len(curve), place), color=tint, **_BESIDE)
    panel.set_ylim(0, 1)
    panel.set_xlim(0.5, len(truth) * 1.14)
    panel.yaxis.set_major_formatter(percent)
    tidy(panel)


def _apart(real: float, guess: float, room: float = 0.08) -> tuple[float, float]:
    """Where the last figures of two curves stand so that both are legible: apart, and inside the panel."""
    if abs(real - guess) >= room:
        return real, guess
    middle = min(max((real + guess) / 2, room), 1 - room)
    half = room / 2 if real >= guess else -room / 2
    return middle + half, middle - half


def _legend(figure: Figure, warm_up: int, guesses: dict[str, Artist] | dict[str, Line2D]) -> None:
    handles: dict[str, Artist] = {"real": Line2D([], [], color=_REAL, lw=2), **guesses}
    if warm_up:
        handles["warm-up (played from the record)"] = Patch(color="0.92")
    legend_below(figure, list(handles.values()), list(handles))


def _after(warm_up: int, length: int) -> Indices:
    """The numbers of the actions from the warm-up's last one on."""
    return np.arange(max(warm_up, 1), length + 1)


def _weights_of(actions: Sequence[Action], dimension: str, labels: Sequence[str]) -> Rows:
    """What each action adds to each label, shape (len(actions), K); failed ones add nothing."""
    weights = np.zeros((len(actions), len(labels)))
    for row, action in enumerate(actions):
        label = label_of(action, dimension)
        if label is None:
            continue
        exact = action.trace.distribution if action.trace else None
        weights[row] = [exact[one] if exact else float(one == label) for one in labels]
    return weights


def _one_hot(indices: Indices, k: int) -> Rows:
    rows: Rows = (indices[..., None] == np.arange(k)).astype(np.float64)
    return rows


def _running(weights: Rows) -> Rows:
    """The shares of all actions up to each one, same shape; 0 where there is none yet."""
    shares: Rows = np.nan_to_num(shares_of(weights.cumsum(axis=0)))
    return shares
