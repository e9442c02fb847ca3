"""How values show themselves in a notebook: plain values -> a little HTML that needs no script and no network.

Whatever was written by somebody is escaped. Nothing sets a text's or a page's own colour, so that it reads on a
light page as well as on a dark one; lengths stand beside their figures, so that it also reads without any style.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from markupsafe import Markup

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
"""Those of Okabe and Ito (2008) that show on white and on black, in the order in which all pictures take them."""
DIM = "#888888"
"""For what has no colour of its own, such as rivals and the eighth label."""
TEXT = 240
"""Characters of somebody's text that are shown."""

_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which XML forbids
    "\u061c\u202a-\u202e\u2066-\u2069"  # those that turn the direction of what follows
    "\ud800-\udfff\ufffe\uffff]"  # half surrogates and noncharacters: not to be written as UTF-8 or XML
)
_MAX_BARS = 12
_SAMPLES = 80  # places of a curve
_STYLE = Markup(
    "<style>"
    ".mmf{font-size:13px;line-height:1.45;max-width:60em;margin:.4em 0}"
    ".mmf table,.mmf tr,.mmf th,.mmf td{background:none!important;border:0!important;color:inherit;font-size:13px}"
    ".mmf table{border-collapse:collapse;margin:.3em 0;display:table;width:auto;box-shadow:none}"
    ".mmf th,.mmf td{padding:.1em 1em .1em 0!important;text-align:left!important;vertical-align:middle!important;"
    "font-weight:400;min-width:0;max-width:28em;white-space:normal}"
    ".mmf thead th{opacity:.7;font-size:12px;vertical-align:bottom!important}"
    ".mmf td.n,.mmf th.n{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".mmf p{margin:.3em 0}.mmf .dim{opacity:.7;font-size:12px}"
    ".mmf blockquote{margin:.4em 0;padding:0 0 0 .8em;border-left:3px solid rgba(128,128,128,.45);color:inherit;"
    "white-space:pre-line;unicode-bidi:isolate;opacity:1}"
    ".mmf details{margin:.3em 0;border:0;padding:0;box-shadow:none;background:none}"
    ".mmf summary{cursor:pointer;opacity:.8}.mmf svg{display:block;overflow:visible}"
    "</style>"
)


class Shown:
    """A value that shows itself in a notebook.

    How it is shown stands in a module above it, which is therefore named, and loaded when a first one is shown.
    """

    __slots__ = ()
    _shown_by: ClassVar[str]
    """The function that turns it into HTML, as "module:function"."""

    def _repr_html_(self) -> str:
        module, _, name = self._shown_by.partition(":")
        return str(getattr(importlib.import_module(module), name)(self))


def hue(place: int) -> str:
    """The colour of the label, or simulation, that stands at a place."""
    return HUES[place] if place < len(HUES) else DIM


def legible(text: str, limit: int | None = None) -> str:
    """The text without characters that cannot be shown or that change how others are.

    Each becomes the replacement character, so that a reader sees that something was there.

    Args:
        text: Somebody's words.
        limit: Cut what is longer than so many characters, with an ellipsis.
    """
    shown = _UNSHOWABLE.sub("\ufffd", text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def line(text: str, limit: int = 60) -> str:
    """Somebody's text on one legible line, for a repr."""
    return legible(" ".join(text.split()), limit)


def shares_line(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Shares on one line, for a repr: the largest four of each dimension."""
    told = []
    for dimension, of in shares.items():
        largest = sorted(of.items(), key=lambda item: -item[1])[:4]
        parts = [f"{label} {percent(share)}" for label, share in largest]
        told.append(f"{dimension}: {', '.join(parts)}" + (", …" if len(of) > len(largest) else ""))
    return "; ".join(one for one in told if not one.endswith(": "))


def percent(share: float) -> str:
    """A share as it is shown."""
    return f"{100 * share:.1f}%"


def counted(number: int, noun: str) -> str:
    """A number of things: "1 action", "1,024 actions"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- The parts -------------------------------------------------------------------------------------


def block(title: str, *parts: Markup | str, facts: Iterable[str] = ()) -> str:
    """A whole value: its title, its facts on one line, and whatever follows.

    Args:
        title: What it is.
        parts: HTML; a plain string is escaped.
        facts: What is known of it in a few words each; empty ones are left out.
    """
    known = " · ".join(legible(one) for one in facts if one)
    head = Markup("<p><b>{}</b>{}</p>").format(legible(title), dim(f" {known}", "span") if known else "")
    body = Markup("").join(parts)
    return str(Markup('<div class="mmf">{}{}{}</div>').format(_STYLE, head, body))


def said(text: str, limit: int = TEXT) -> Markup:
    """Somebody's words, cut where they are long."""
    return Markup("<blockquote>{}</blockquote>").format(legible(text.strip(), limit)) if text.strip() else Markup("")


def dim(text: str, tag: str = "p") -> Markup:
    """A remark."""
    return Markup('<{0} class="dim">{1}</{0}>').format(tag, legible(text))


def fold(summary: str, inside: Markup) -> Markup:
    """What is shown on demand."""
    return Markup("<details><summary>{}</summary>{}</details>").format(legible(summary), inside)


def table(heads: Sequence[str], rows: Iterable[Sequence[Markup | str]], numbers: Iterable[int] = ()) -> Markup:
    """A table.

    Args:
        heads: One for each column; none at all leaves the line away.
        rows: One cell for each column; a plain string is escaped.
        numbers: The columns that hold figures.
    """
    right = set(numbers)

    def cells(tag: str, row: Sequence[Markup | str]) -> Markup:
        return Markup("").join(
            Markup("<{0}{1}>{2}</{0}>").format(
                tag,
                Markup(' class="n"') if place in right else "",
                cell if isinstance(cell, Markup) else legible(cell),
            )
            for place, cell in enumerate(row)
        )

    head = Markup("<thead><tr>{}</tr></thead>").format(cells("th", heads)) if any(heads) else ""
    body = Markup("").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in rows)
    return Markup('<table class="mmf-table">{}<tbody>{}</tbody></table>').format(head, body)


def bar(share: float, colour: str) -> Markup:
    """A share as a length; HTML and not SVG, since viewers of notebooks that clean up leave it."""
    wide = 100 * min(max(share, 0.0), 1.0)
    return Markup(
        '<div style="width:9em;height:.75em;background:rgba(128,128,128,.18)">'
        '<div style="width:{:.1f}%;height:100%;background:{}"></div></div>'
    ).format(wide, colour)


def bars(columns: Mapping[str, Mapping[str, float]]) -> Markup:
    """Shares as bars with their figures, one row for each label.

    Args:
        columns: Head -> label -> share; the first column has all labels, in the order of their colours.
    """
    shown = [one for one in columns.values() if one]
    if not shown:
        return Markup("")
    labels = list(shown[0])
    heads, rows = [""], []
    for head, of in columns.items():
        heads += [head, ""] if of else []
    for place, label in enumerate(labels[:_MAX_BARS]):
        row: list[Markup | str] = [label]
        for of in shown:
            row += [bar(of.get(label, 0.0), hue(place)), percent(of.get(label, 0.0))]
        rows.append(row)
    left = len(labels) - _MAX_BARS
    more = dim(f"and {counted(left, 'label')} more") if left > 0 else Markup("")
    return table(heads, rows, range(2, 2 * len(shown) + 1, 2)) + more


def curves(labels: Sequence[str | None], options: Sequence[str], mark: int | None = None) -> Markup:
    """The shares among all actions so far, stacked over the order of the actions.

    Args:
        labels: Of each action; None where it has none and counts nowhere.
        options: All labels, in the order of their colours.
        mark: A line before this action.
    """
    known = [(place, label) for place, label in enumerate(labels, 1) if label is not None]
    if len(known) < 2:
        return Markup("")
    counts = dict.fromkeys(options, 0)
    stacks: list[tuple[float, list[float]]] = []  # where, and the upper edge of each label's area
    step = max(1, len(known) // _SAMPLES)
    for so_far, (place, label) in enumerate(known, 1):
        counts[label] += 1
        if so_far % step == 0 or so_far == len(known):
            edges, total = [0.0], 0
            for option in options:
                total += counts[option]
                edges.append(total / so_far)
            stacks.append((place / len(labels), edges))
    areas = Markup("")
    for index in range(len(options)):
        lower = [f"{300 * x:.1f},{48 - 48 * edges[index]:.1f}" for x, edges in stacks]
        upper = [f"{300 * x:.1f},{48 - 48 * edges[index + 1]:.1f}" for x, edges in reversed(stacks)]
        areas += Markup('<polygon points="{}" fill="{}"/>').format(" ".join(lower + upper), hue(index))
    if mark is not None:
        x = 300 * mark / len(labels)
        areas += Markup('<path d="M{0:.1f} -3V51" stroke="currentColor" stroke-dasharray="3 2"/>').format(x)
    return Markup(
        '<svg width="300" height="48" viewBox="0 0 300 48" role="img" style="margin:.5em 0">'
        "<title>Shares of all actions so far</title>{}</svg>"
    ).format(areas)


def lines(series: Mapping[str, Sequence[float]], top: float, mark: int) -> Markup:
    """Curves over the ticks, from 0 up; gaps where a value is NaN.

    Args:
        series: Colour -> its values at each tick.
        top: The value at the upper edge.
        mark: A line at this tick.
    """
    ticks = max(map(len, series.values()), default=0)
    if ticks < 2:
        return Markup("")
    drawn = Markup('<path d="M0 25.5H120" stroke="currentColor" opacity=".3"/>')
    drawn += Markup('<path d="M{:.1f} 1V25" stroke="currentColor" stroke-dasharray="2 2" opacity=".6"/>').format(
        120 * mark / (ticks - 1)
    )
    for colour, values in series.items():
        pen, path = "M", ""
        for tick, value in enumerate(values):
            if value == value:  # NaN is not equal to itself
                path += f"{pen}{120 * tick / (ticks - 1):.1f} {25 - 23 * value / (top or 1):.1f}"
                pen = "L"
            else:
                pen = "M"
        drawn += Markup('<path d="{}" fill="none" stroke="{}" stroke-width="1.8"/>').format(path, colour)
    return Markup('<svg width="120" height="26" viewBox="0 0 120 26" role="img">{}</svg>').format(drawn)


def whisker(
    value: float, ends: tuple[float | None, float | None], scale: tuple[float, float], mark: float, colour: str
) -> Markup:
    """A figure with its interval on a common scale, and a line at what it is compared with."""
    low, high = scale

    def x(at: float) -> float:
        return 4 + 152 * (min(max(at, low), high) - low) / ((high - low) or 1)

    drawn = Markup('<path d="M{0:.1f} 0V14" stroke="currentColor" stroke-dasharray="2 2" opacity=".6"/>').format(
        x(mark)
    )
    if ends[0] is not None and ends[1] is not None:
        drawn += Markup('<path d="M{:.1f} 7H{:.1f}" stroke="{}" stroke-width="2"/>').format(
            x(ends[0]), x(ends[1]), colour
        )
    drawn += Markup('<circle cx="{:.1f}" cy="7" r="3.5" fill="{}"/>').format(x(value), colour)
    return Markup('<svg width="160" height="14" viewBox="0 0 160 14" role="img">{}</svg>').format(drawn)
