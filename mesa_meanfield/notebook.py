"""How a cascade and a mean field show themselves in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import timedelta

from markupsafe import Markup

from mesa_meanfield.cascades.dimensions import label_of, labels_of_dimension
from mesa_meanfield.cascades.known import BEHAVIOUR
from mesa_meanfield.data import Cascade, MeanField
from mesa_meanfield.display import TEXT, bars, block, counted, curves, dim, fold, legible, said, table
from mesa_meanfield.errors import DataError

_FIRST = 5  # actions that are shown on demand


def field_html(field: MeanField) -> str:
    """A mean field: its text, and the exact shares of all actions and of the latest tick."""
    parts = [said(field.text, 2 * TEXT)]
    latest = field.latest
    for dimension, shares in field.shares.items():
        parts.append(bars({f"{dimension}, all so far": shares, "latest tick": latest.get(dimension, {})}))
    numbers = field.numbers
    if numbers is not None:
        middle = numbers.latest_quantiles["0.5"]
        parts.append(
            dim(
                f"{counted(numbers.size, 'number')} so far, mean {numbers.mean:.4g}; latest tick: mean "
                f"{numbers.latest_mean:.4g}, median {middle:.4g}"
            )
        )
    return block("Mean field", *parts, facts=[counted(field.size, "decision")])


def cascade_html(cascade: Cascade) -> str:
    """A cascade: its topic, its shares with their course, and its first actions."""
    actions = cascade.actions
    made = [place for place, action in enumerate(actions) if action.trace is not None]
    failed = sum(actions[place].failed for place in made)
    facts = [
        cascade.dataset,
        cascade.domain,
        cascade.language,
        counted(len(actions), "action"),
        f"{len(made)} simulated"
        if made
        else f"over {_span(actions[-1].time - cascade.topic.time)}"
        if actions
        else "",
        f"{failed} failed" if failed else "",
    ]
    parts = [said(html.unescape(cascade.topic.text))]
    for dimension in dict.fromkeys(d for action in actions for d in action.labels) or (BEHAVIOUR,):
        parts += _course(cascade, dimension, made[0] if made and made[0] else None)
    if made and made[0]:
        parts.append(dim(f"The line stands before action {made[0] + 1}, the first simulated one."))
    rows = [
        (action.author.key, ", ".join(action.labels.values()), legible(html.unescape(action.text), 120))
        for action in actions[:_FIRST]
    ]
    if rows:
        parts.append(fold(f"the first {counted(len(rows), 'action')}", table((), rows)))
    return block(f"Cascade {cascade.id}", *parts, facts=facts)


def guarded_html(cascade: Cascade) -> str:
    """A guarded cascade: what is free to read alone, since what is read counts as told to the crowd."""
    facts = [cascade.dataset, cascade.domain, cascade.language, counted(len(cascade.actions), "action")]
    remark = dim("Guarded while the crowd is under way: whatever is read of its actions counts as told to the crowd.")
    return block(f"Cascade {cascade.id}", said(html.unescape(cascade.topic.text)), remark, facts=facts)


def _course(cascade: Cascade, dimension: str, mark: int | None) -> Iterator[Markup]:
    labels = [label_of(action, dimension) for action in cascade.actions]
    size = sum(label is not None for label in labels)
    try:
        options = labels_of_dimension(dimension, [cascade])  # the order, and so the colours, of every report
    except DataError:  # a single label
        options = tuple(dict.fromkeys(label for label in labels if label is not None))
    if size:
        shares = {option: labels.count(option) / size for option in options}
        yield bars({f"{dimension}, {counted(size, 'action')}": shares})
        yield curves(labels, options, mark)


def _span(time: timedelta) -> str:
    seconds = time.total_seconds()
    for unit, noun in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * unit:
            return counted(round(seconds / unit), noun)
    return counted(round(seconds), "second")
