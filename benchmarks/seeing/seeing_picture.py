"""The shares over the ticks, one panel for each label and story, the three ways over each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from seeing_runs import Run
from seeing_tables import NAMES

from mesa_meanfield_models.town import SEE

_COLOURS = {"global": "#0b6e99", "community": "#c8641b", "neighbours": "#3a7d34"}
_DASHES = {"global": "-", "community": "--", "neighbours": ":"}


def draw(file: Path, runs: Sequence[Run]) -> None:
    """Draw the expected shares: each replica thin, their mean thick.

    Args:
        file: Where the PNG goes.
        runs: Each story's in each way.
    """
    stories = list(dict.fromkeys(one.story for one in runs))
    columns = max(len(one.shares[0]) for one in runs)
    figure = Figure(figsize=(2.6 * columns, 2.5 * len(stories) + 0.5), layout="constrained")
    panels = figure.subplots(len(stories), columns, squeeze=False, sharex=True, sharey=True)
    for row, story in zip(panels, stories, strict=True):
        of = [one for one in runs if one.story == story]
        labels = list(of[0].shares[0])
        for panel in row[len(labels) :]:
            panel.set_axis_off()
        for panel, label in zip(row, labels, strict=False):
            for see in SEE:
                curves = [[tick[label] for tick in one.shares] for one in of if one.see == see]
                style = {"color": _COLOURS[see], "linestyle": _DASHES[see]}
                for curve in curves:
                    panel.plot(curve, linewidth=0.7, alpha=0.5, **style)
                panel.plot([mean(at) for at in zip(*curves, strict=True)], linewidth=2.2, label=NAMES[see], **style)
            panel.set_title(label, fontsize=10)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_xticks(range(len(of[0].shares)))
        row[0].set_ylabel(f"{story}\nexpected share", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("tick", fontsize=9)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(SEE), frameon=False, fontsize=9)
    figure.savefig(file, dpi=130)
