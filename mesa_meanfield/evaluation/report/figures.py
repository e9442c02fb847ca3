"""The report's pictures of a scorecard. Simulations have colours of their own, rivals are grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mesa_meanfield.evaluation.report.drawing import COLOURS, GREY, label_text, legend_below, percent, picture, tidy
from mesa_meanfield.evaluation.report.table import by_kl, figure, interval, known, lowest
from mesa_meanfield.evaluation.report.verdict import winner
from mesa_meanfield.evaluation.scorecard import Card, Domain, Entry, Interval, Paired

MAX_DOMAINS = 12
"""Domains that `by_domain` draws; the others are the smallest."""
MAX_ENTRIES = 6
"""Simulations that `by_domain` and `reliability` draw: those with the lowest KL."""

_WIDTH = 10  # inches; a page's column at 96 pixels an inch
_MARKERS = "osD^vPX"
_TALL = 25
"""From this ratio of the largest to the smallest KL on, the axis is logarithmic."""


@picture
def kl_by_entry(card: Card) -> tuple[Figure, str]:
    """Each entry's KL with its interval, the noise floor as a line."""
    entries = [*by_kl(card.entries, "simulation"), *by_kl(card.entries, "rival")]
    drawn, panel = _rows(len(entries))
    for row, entry in enumerate(entries):
        if known(entry.kl) is None:
            panel.text(0.01, row, "no KL", transform=panel.get_yaxis_transform(), va="center", color=GREY)
        else:
            _whisker(panel, row, entry.kl, entry.kl_ci, _look(card, entry))
        _beside(panel, row, figure(entry.kl), entry.kl_ci)
    _kl_axis(panel, card, [(entry.kl, entry.kl_ci) for entry in entries])
    panel.set_yticks(range(len(entries)), [label_text(entry.name) for entry in entries])
    for tick, entry in zip(panel.get_yticklabels(), entries, strict=True):
        tick.set_color("0" if entry.kind == "simulation" else "0.4")
    told = "; ".join(f"{entry.name} {figure(entry.kl)} ({interval(entry.kl_ci)})" for entry in entries)
    return drawn, f"KL of each entry with its 95 % interval: {told}. Noise floor {figure(card.noise_floor)}."


@picture
def differences(pairs: Sequence[Paired]) -> tuple[Figure, str]:
    """A forest plot of paired differences; those with a winner are in colour."""
    drawn, panel = _rows(len(pairs))
    panel.axvline(0, color="0.3", lw=1)
    for row, pair in enumerate(pairs):
        better = winner(pair)
        look = {"color": COLOURS[0] if better else GREY, "marker": "o"}
        if known(pair.difference) is not None:
            _whisker(panel, row, pair.difference, pair.ci, look)
        _beside(panel, row, figure(pair.difference, sign=True), pair.ci, sign=True, bold=bool(better))
    panel.set_yticks(range(len(pairs)), [f"{label_text(p.a, 20)} − {label_text(p.b, 20)}" for p in pairs])
    panel.set_xlabel("difference in nats")
    panel.set_title("← the first is better", loc="left", fontsize=9, color="0.3")
    panel.set_title("the second is better →", loc="right", fontsize=9, color="0.3")
    panel.xaxis.set_major_formatter(lambda value, _: figure(value, 2))
    told = "; ".join(
        f"{pair.a} minus {pair.b} {figure(pair.difference, sign=True)} ({interval(pair.ci, sign=True)})"
        for pair in pairs
    )
    return drawn, f"Paired differences with their 95 % intervals: {told}."


@picture
def by_domain(card: Card) -> tuple[Figure, str]:
    """The KL of the best simulations and the best rival in each domain, the largest domains first."""
    rival = lowest(card, "rival")
    entries = [*by_kl(card.entries, "simulation")[:MAX_ENTRIES], *([rival] if rival else [])]
    domains = domains_of(card)[:MAX_DOMAINS]
    drawn, panel = _rows(len(domains), each=0.2 + 0.12 * len(entries))
    shifts = np.linspace(-0.3, 0.3, len(entries)) if len(entries) > 1 else [0.0]
    for entry, shift in zip(entries, shifts, strict=True):
        look, found = _look(card, entry), {domain.domain: domain for domain in entry.by_domain}
        for row, (name, _) in enumerate(domains):
            if name in found and known(found[name].kl) is not None:
                _whisker(panel, row + float(shift), found[name].kl, found[name].kl_ci, look)
        panel.plot([], [], lw=1.5, ms=6, label=entry.name, **look)
    for row in range(1, len(domains)):
        panel.axhline(row - 0.5, color="0.85", lw=0.8)
    shown: list[Domain] = [one for entry in entries for one in entry.by_domain]
    _kl_axis(panel, card, [(one.kl, one.kl_ci) for one in shown])
    panel.set_yticks(range(len(domains)), [f"{label_text(name)} ({size})" for name, size in domains])
    legend_below(drawn, *panel.get_legend_handles_labels())
    names = ", ".join(entry.name for entry in entries)
    return drawn, f"KL by domain of {names}; the figures are in the table."


@picture
def reliability(entries: Sequence[Entry], colours: Sequence[str]) -> tuple[Figure, str]:
    """Observed against predicted shares of labels, over a histogram of how many there were of each."""
    columns = 3 if len(entries) in (3, 5, 6) else min(4, max(2, len(entries)))
    rows = -(-len(entries) // columns)
    drawn = Figure(figsize=(2.5 * columns, 3.3 * rows), layout="constrained")
    panels = drawn.subplots(
        2 * rows, columns, squeeze=False, sharex=True, gridspec_kw={"height_ratios": [3, 1] * rows}
    )
    for panel in panels.flatten():
        panel.set_axis_off()
    for index, (entry, colour) in enumerate(zip(entries, colours, strict=True)):
        row, column = divmod(index, columns)
        _reliability_of(entry, panels[2 * row, column], panels[2 * row + 1, column], colour, left=column == 0)
    told = "; ".join(f"{entry.name}: calibration error {figure(entry.calibration_error)}" for entry in entries)
    return drawn, f"Reliability diagrams. {told}."


@picture
def errors_by_horizon(card: Card) -> tuple[Figure, str]:
    """How the error of the foreseen shares grows from window to window."""
    drawn = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    panel, rival = drawn.subplots(), lowest(card, "rival")
    longest = 1
    for entry in (*by_kl(card.entries, "simulation"), *by_kl(card.entries, "rival")):
        errors = [math.nan if error is None else error for error in entry.forecast.error_by_horizon]
        if all(map(math.isnan, errors)):
            continue
        longest = max(longest, len(errors))
        look = _look(card, entry)
        if entry.kind == "rival":
            nearest = rival is not None and entry.name == rival.name
            look = {"color": "0.35" if nearest else "0.8", "ls": "--" if nearest else "-", "zorder": 1}
            label = f"{entry.name} (best rival)" if nearest else "_other rivals"
        else:
            label = entry.name
        panel.plot(range(1, len(errors) + 1), errors, lw=1.8, ms=5, label=label, **look)
    if any(entry.kind == "rival" and entry != rival for entry in card.entries):
        panel.plot([], [], color="0.8", label="other rivals")
    panel.set_xticks(range(1, longest + 1) if longest <= 20 else range(1, longest + 1, -(-longest // 10)))
    panel.set_xlim(0.8, longest + 0.2)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("window after the warm-up")
    panel.set_ylabel("total variation")
    tidy(panel)
    legend_below(drawn, *panel.get_legend_handles_labels())
    told = "; ".join(
        f"{entry.name} {', '.join(figure(error, 2) for error in entry.forecast.error_by_horizon)}"
        for entry in card.entries
    )
    return drawn, f"Mean total variation between real and foreseen shares, window by window: {told}."


def domains_of(card: Card) -> list[tuple[str, int]]:
    """Each domain and its number of cascades, the largest first."""
    sizes: dict[str, int] = {}
    for one in (domain for entry in card.entries for domain in entry.by_domain):
        sizes[one.domain] = max(one.cascades, sizes.get(one.domain, 0))  # an entry may lack some
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def colour_of(card: Card, entry: Entry) -> str:
    """A simulation's colour, by its place on the scorecard, so that it is the same in all pictures."""
    simulations = [one.name for one in card.entries if one.kind == "simulation"]
    return GREY if entry.kind == "rival" else COLOURS[simulations.index(entry.name) % len(COLOURS)]


def _look(card: Card, entry: Entry) -> dict[str, Any]:
    """Colour, marker and line of an entry; of more simulations than colours the later ones are dashed."""
    simulations = [one.name for one in card.entries if one.kind == "simulation"]
    if entry.kind == "rival":
        return {"color": GREY, "marker": "o"}
    place = simulations.index(entry.name)
    marker = _MARKERS[place % len(_MARKERS)]
    return {"color": colour_of(card, entry), "marker": marker, "ls": "-" if place < len(COLOURS) else "--"}


def _rows(count: int, each: float = 0.3) -> tuple[Figure, Axes]:
    """A figure with so many named rows, the first one on top."""
    drawn = Figure(figsize=(_WIDTH, each * max(count, 1) + 1.0), layout="constrained")
    panel = drawn.subplots()
    panel.set_ylim(max(count, 1) - 0.5, -0.5)
    tidy(panel, "x")
    panel.tick_params(axis="y", length=0)
    return drawn, panel


def _whisker(panel: Axes, row: float, value: float | None, ends: Interval, look: dict[str, Any]) -> None:
    low, high = (known(end) for end in ends)
    if low is not None and high is not None:
        panel.plot([low, high], [row, row], **{**look, "marker": ""}, lw=1.8, solid_capstyle="butt")
    panel.plot([math.nan if value is None else value], [row], **{**look, "ls": ""}, ms=6)


def _beside(panel: Axes, row: int, value: str, ends: Interval, *, sign: bool = False, bold: bool = False) -> None:
    told = value if known(ends[0]) is None else f"{value}  ({interval(ends, sign=sign)})"
    panel.annotate(
        told,
        (1.015, row),
        xycoords=panel.get_yaxis_transform(),
        va="center",
        fontsize=9,
        fontweight="bold" if bold else "normal",
    )


def _kl_axis(panel: Axes, card: Card, figures: Sequence[tuple[float | None, Interval]]) -> None:
    """The axis of KL with the noise floor; logarithmic where the largest is so large that the others would meet."""
    kls = [kl for value, _ in figures if (kl := known(value)) is not None]
    floor, positive = known(card.noise_floor), [kl for kl in kls if kl > 0]
    tall = bool(positive) and max(positive) > _TALL * min(positive)
    if floor is not None:  # first, so that the axis reaches it
        panel.axvline(floor, color="0.2", lw=1.2, ls=(0, (5, 3)))
    if tall:
        smallest = min([*positive, *([floor] if floor else [])])
        panel.set_xscale("log")
        panel.set_xlim(left=smallest / 2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        panel.set_xlim(left=0)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.set_xlabel("KL in nats" + (" (logarithmic)" if tall else ""))
    if floor is not None:
        panel.annotate(
            "noise floor", (floor, 1), (3, 2), xycoords=panel.get_xaxis_transform(), textcoords="offset points",
            fontsize=8.5, color="0.2",
        )  # fmt: skip


def _reliability_of(entry: Entry, panel: Axes, below: Axes, colour: str, *, left: bool) -> None:
    bins = [one for one in entry.reliability if one.size]
    panel.set_axis_on()
    below.set_axis_on()
    panel.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    panel.plot([one.predicted for one in bins], [one.observed for one in bins], "o-", color=colour, ms=4.5, lw=1.4)
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    error = "" if known(entry.calibration_error) is None else f"\nerror {figure(entry.calibration_error)}"
    panel.set_title(label_text(entry.name, 24) + error, fontsize=10)
    below.bar(
        [one.low for one in bins], [one.size for one in bins], [one.high - one.low for one in bins],
        align="edge", color=colour, alpha=0.55, edgecolor="white", lw=0.6,
    )  # fmt: skip
    for axis in (panel.xaxis, panel.yaxis, below.xaxis):
        axis.set_major_formatter(percent)
        axis.set_ticks([0, 0.5, 1])
    below.set_xlabel("predicted probability", fontsize=9)
    below.xaxis.set_tick_params(labelbottom=True)  # shared axes hide it above a panel that is off
    if left:
        panel.set_ylabel("observed share", fontsize=9)
        below.set_ylabel("labels", fontsize=9)
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    tidy(panel, "both")
    tidy(below)
