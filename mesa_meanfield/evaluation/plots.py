"""Pictures of a run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#000000")  # Okabe-Ito


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
    columns = min(4, len(labels))
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    truth, guess = _running(real, dimension, labels), _running(simulated, dimension, labels)
    for index, (panel, label) in enumerate(zip(panels, labels, strict=False)):
        colour = _COLOURS[index % len(_COLOURS)]
        if warm_up:
            panel.axvspan(0.5, warm_up + 0.5, color="0.92", lw=0)
        panel.plot(range(1, len(truth) + 1), truth[:, index], color="0.25", lw=2)
        after = np.arange(max(warm_up, 1), len(guess) + 1)
        panel.plot(after, guess[after - 1, index], color=colour, lw=2, ls="--")
        apart = 0.03 if truth[-1, index] >= guess[-1, index] else -0.03  # so that close figures stay legible
        apart *= abs(truth[-1, index] - guess[-1, index]) < 0.06
        for curve, tint, shift in ((truth, "0.25", apart), (guess, colour, -apart)):
            end = min(max(curve[-1, index] + shift, 0.02), 0.98)
            panel.annotate(f"{curve[-1, index]:.0%}", (len(curve), end), color=tint, **_BESIDE)
        panel.set_title(label, color=colour, fontweight="bold")
        panel.set_xlabel("actions so far")
        panel.set_ylim(0, 1)
        panel.set_xlim(0.5, len(truth) * 1.14)
        panel.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        panel.grid(axis="y", color="0.9")
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(labels) :]:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=11)
    handles: list[Artist] = [Line2D([], [], color="0.25", lw=2), Line2D([], [], color="0.25", lw=2, ls="--")]
    names = ["real", "simulated"]
    if warm_up:
        handles, names = [*handles, Patch(color="0.92")], [*names, "warm-up (played from the record)"]
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.supylabel(f"share of all actions so far ({dimension})", fontsize=10)
    families = [*matplotlib.rcParams["font.family"], *(f for f in _CJK if f in font_manager.get_font_names())]
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a dollar sign in somebody's text is a dollar sign
        text.set_fontfamily(families)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # this machine has no font for it
        figure.savefig(file, dpi=130, format="png")


_CJK = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei")
_BESIDE = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}


def _running(actions: Sequence[Action], dimension: str, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """The shares of all actions up to each one, shape (len(actions), K); failed ones add nothing."""
    weights = np.zeros((len(actions), len(labels)))
    for row, action in enumerate(actions):
        label = label_of(action, dimension)
        if label is None:
            continue
        exact = action.trace.distribution if action.trace else None
        weights[row] = [exact[one] if exact else float(one == label) for one in labels]
    total = weights.cumsum(axis=0)
    shares: npt.NDArray[np.float64] = total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12)
    return shares
