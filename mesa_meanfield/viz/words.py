"""What the page says of a run, as HTML in which everybody's words are escaped."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from mesa_meanfield.data import MeanField
from mesa_meanfield.display import legible
from mesa_meanfield.evaluation.report.pages import template
from mesa_meanfield.interventions import Announce, Inject
from mesa_meanfield.plain import told
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.viz.curves import UNDECIDED, Curves, colour_of, draw, ends
from mesa_meanfield.viz.frames import Frame
from mesa_meanfield.viz.stepping import Status

MAX_GROUPS = 12
"""Groups whose fields are shown."""
_INSIDE = {"choices": "decisions made", "replies": "replies written", "texts": "texts read"}
_KINDS = {"recorded": "from the record", "injected": "added here", "failed": "failed"}


@dataclass(frozen=True)
class Row:
    """One label's line in the table of shares."""

    label: str
    colour: str
    share: float | None
    latest: float | None
    change: float | None
    """Against the tick before, in percentage points."""


def field_html(frame: Frame) -> str:
    """The mean field: its text, exact shares, and what changed since the tick before."""
    now, before = frame.field, frame.before
    return _render(
        "field.j2",
        frame=frame,
        pieces=changed_words(before.text, now.text),
        before=before.text if before.text != now.text else "",
        tables={dimension: rows(frame, now, before, dimension) for dimension in now.counts or frame.labels},
        groups=[
            (group, one, {dimension: rows(frame, one, None, dimension) for dimension in one.counts})
            for group, one in list(frame.fields.items())[:MAX_GROUPS]
        ],
        more_groups=max(0, len(frame.fields) - MAX_GROUPS),
    )


def rows(frame: Frame, now: MeanField, before: MeanField | None, dimension: str) -> list[Row]:
    """The shares of a dimension's labels."""
    labels = frame.labels.get(dimension) or tuple(now.counts.get(dimension, ()))
    shares, latest = now.shares.get(dimension, {}), now.latest.get(dimension, {})
    old = {} if before is None else before.shares.get(dimension, {})
    found = []
    for label in labels:
        share = shares.get(label)
        change = None if share is None or label not in old else 100 * (share - old[label])
        found.append(Row(label, colour_of(label, labels), share, latest.get(label), change))
    return found


def changed_words(before: str, now: str) -> list[tuple[bool, str]]:
    """The text in pieces, each with whether it is new; where nearly all is new, nothing is marked."""
    old, new = re.split(r"(\s+)", before), re.split(r"(\s+)", now)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if not before or matcher.ratio() < 0.35:
        return [(False, now)]
    return [
        (kind != "equal", "".join(new[start:end])) for kind, _, _, start, end in matcher.get_opcodes() if end > start
    ]


def feed_html(frame: Frame) -> str:
    """The latest posts, newest first."""
    posts = [
        (
            post,
            _KINDS.get(post.kind, ""),
            [(label, colour_of(label, frame.labels.get(d, ()))) for d, label in post.labels.items()],
        )
        for post in frame.posts
    ]
    return _render("feed.j2", posts=posts)


def usage_html(frame: Frame) -> str:
    """What the run cost, and what failed."""
    return _render("usage.j2", frame=frame, usage=frame.usage, summaries=max(0, frame.usage.failures - frame.failed))


def curves_html(curves: Curves) -> str:
    """The curves as they stand on the page; empty as long as there is nothing to draw."""
    if not curves.labels or not (curves.run or curves.real):
        return ""
    picture = draw(curves)
    return _render("picture.j2", uri=picture.uri, alt=picture.alt, width=picture.width, height=picture.height)


def space_html(frame: Frame, uri: str, legend: Mapping[str, str] | None) -> str:
    """The model's space, with what its colours mean: by default those of the labels of the first dimension."""
    if legend is None:
        labels = next(iter(frame.labels.values()), ())
        legend = {**{label: colour_of(label, labels) for label in labels}, "none yet": UNDECIDED}
    return _render("space.j2", uri=uri, legend=legend)


def twin_html(curves: Curves, trouble: str, ticks: int) -> str:
    """How far the run is from its untouched twin."""
    found = [
        (label, colour_of(label, curves.labels), run, twin, 100 * (run - twin))
        for label, (run, twin) in ends(curves).items()
        if not math.isnan(run + twin)
    ]
    return _render("twin.j2", found=found, trouble=trouble, ticks=ticks, cumulative=curves.cumulative)


def status_text(status: Status, frame: Frame) -> str:
    """What the run is doing, on one line."""
    if not status.made:
        return "Making the model ..." if status.busy else "There is no model."
    if status.busy:
        inside = f"Step {frame.steps + 1} is under way"
        if status.stopping:
            return f"{inside}; it stops at its next sub-batch ..."
        return f"{inside} ..." if status.playing else f"{inside}, then it pauses ..."
    if status.over:
        return f"The run is over after {_times(frame.tick, 'tick')}; Reset begins a new one."
    if status.unfinished:
        return f"Step {frame.steps + 1} is unfinished; Step or Play goes on with it, and nobody acts twice."
    return "Ready: nothing has happened yet." if frame.steps == 0 else f"{_times(frame.tick, 'tick')} over."


def progress_text(status: Status) -> str:
    """How far the step under way is; empty where it has said nothing."""
    if not status.busy or not status.what:
        return ""
    return f"{status.done} of {status.total} {_INSIDE.get(status.what, status.what)}"


def intervention_text(one: Intervention) -> str:
    """An intervention in plain words."""
    if isinstance(one, Announce):
        who = (
            "everybody"
            if one.reach == 1
            else f"{one.reach:.0%} of the agents"
            if isinstance(one.reach, float)
            else ""
        )
        when = f"from tick {one.at}" + (f" to tick {one.until - 1}" if one.until is not None else "")
        return f"{when}: {one.source} to {who or 'some agents'}: {one.text}"
    if isinstance(one, Inject):
        labels = f" [{', '.join(one.labels.values())}]" if one.labels else ""
        by = one.account if one.copies == 1 else f"{one.copies} accounts {one.account}"
        return f"in tick {one.at}: {by}{labels}: {one.text}"
    return told(one)


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _points(change: float | None) -> str:
    if change is None:
        return ""
    return "±0" if abs(change) < 0.05 else f"{change:+.1f}".replace("-", "\u2212")


def _number(number: float) -> str:
    return f"{number:,.0f}"


@functools.cache
def _template(name: str) -> jinja2.Template:
    known: dict[str, Any] = {"percent": _percent, "points": _points, "number": _number, "legible": legible}
    return template(name, Path(__file__).parent / "templates", **known)


def _render(name: str, **values: Any) -> str:
    return _template(name).render(**values)
