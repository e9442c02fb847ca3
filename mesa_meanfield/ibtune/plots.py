"""The curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = {"policy": "#0072B2", "sft": "#009E73", "summarizer": "#D55E00"}
_PANELS = (
    ("nll", "NLL per action (nats)"),
    ("distortion", "distortion D (nats)"),
    ("rate", "rate R (nats)"),
    ("kl", "KL(real || simulated) of roll-outs (nats)"),
)


def draw_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:  # Any: JSON
    """Draw a training's lines: steps faint, their running mean strong, looks at held-out ticks as dots.

    Args:
        rows: The lines of ``curves.jsonl``.
        file: Where the PNG goes.
    """
    panels = [(name, title) for name, title in _PANELS if any(row.get(name) is not None for row in rows)]
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    known: dict[str, Artist] = {}  # label -> a line that has it: one legend for all panels
    for number, (name, title) in enumerate(panels):
        panel = figure.add_subplot(1, len(panels), number + 1)
        for stage in dict.fromkeys(row["stage"] for row in rows):
            colour = _COLOURS.get(stage, "0.3")
            steps, values = _column(rows, stage, "train", name)
            if steps:
                panel.plot(steps, values, color=colour, lw=1, alpha=0.3)
                panel.plot(steps, _running(values), color=colour, lw=2, label=stage)
            steps, values = _column(rows, stage, "held out", name)
            if steps:
                panel.plot(steps, values, color=colour, lw=0, marker="o", ms=4, label=f"{stage}, held out")
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("steps")
        panel.grid(axis="y", color="0.9")
        panel.spines[["top", "right"]].set_visible(False)
        if name == "kl":
            panel.set_ylim(0, 1.1 * panel.dataLim.y1 or 1)  # else the noise of a few roll-outs fills it
        known |= {str(line.get_label()): line for line in panel.get_legend_handles_labels()[0]}
    figure.legend(
        known.values(), known.keys(), frameon=False, fontsize=9, ncols=len(known), loc="outside lower center"
    )
    figure.savefig(file, dpi=120)


def _column(rows: Sequence[Mapping[str, Any]], stage: str, split: str, name: str) -> tuple[list[int], list[float]]:
    found = [row for row in rows if row["stage"] == stage and row["split"] == split and row.get(name) is not None]
    return [row["step"] for row in found], [row[name] for row in found]


def _running(values: Sequence[float], width: int = 10) -> list[float]:
    return [float(np.mean(values[max(0, end - width) : end])) for end in range(1, len(values) + 1)]
