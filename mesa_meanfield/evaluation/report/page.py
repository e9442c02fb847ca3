"""The page on which a person reads an evaluation: one file that needs no other, no network and no script."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesa_meanfield.data import normalise
from mesa_meanfield.evaluation import scorecard as scorecard_schema
from mesa_meanfield.evaluation.cases import Case, Guess
from mesa_meanfield.evaluation.metrics import guessed_shares, kl
from mesa_meanfield.evaluation.report import figures, views
from mesa_meanfield.evaluation.report.pages import setting, template
from mesa_meanfield.evaluation.report.plots import MAX_PANELS, shares_over_time
from mesa_meanfield.evaluation.report.table import COLUMNS, by_kl, figure, known, lowest, meaning
from mesa_meanfield.evaluation.report.verdict import agreement_warning, verdict
from mesa_meanfield.evaluation.scorecard import Card, Entry, Paired, Scorecard

_MAX_PAIRS = 24  # differences in one picture
_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """What was written at one place of a cascade."""

    simulation: str
    """Who wrote the simulated text."""
    real: str
    simulated: str


@dataclass(frozen=True, eq=False)
class Story:
    """One cascade for display. The caller gives all that were compared; the report chooses by a rule."""

    topic: str
    """The post, as plain text."""
    case: Case
    """The main dimension's labels."""
    guesses: Mapping[str, Guess]
    """What each entry said, by its name on the scorecard; rivals are welcome."""
    examples: Sequence[Example] = ()
    """A few texts, real and simulated."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The text of each simulation's last mean field."""


def write_report(path: str | Path, scorecard: Scorecard, stories: Sequence[Story]) -> None:
    """Write an evaluation as one HTML file; the same scorecard and stories give the same bytes.

    Args:
        path: Where the page goes.
        scorecard: What the evaluation says.
        stories: The cascades that were compared, in any order.
    """
    annotation = scorecard.annotation
    page = template("report.j2", means=_meaning).render(
        card=_card(scorecard),
        stories=_stories(scorecard, stories),
        domains=_domains(scorecard),
        reliability=_reliability(scorecard),
        forecast=_forecast(scorecard),
        others=[_card(other) for other in scorecard.others],
        annotation=annotation,
        warning="" if annotation is None else agreement_warning(annotation.agreement),
        scorecard=scorecard,
        settings={key: setting(value) for key, value in sorted(scorecard.settings.items())},
        columns=[(column.head.replace(views.SOFT_HYPHEN, ""), column.meaning) for column in COLUMNS],
    )
    Path(path).write_text(page, encoding="utf-8", newline="\n")


def _meaning(model: str, field: str) -> str:
    """The schema's own words, so that the page and the file say the same."""
    return meaning(getattr(scorecard_schema, model), field)


def _card(card: Card) -> dict[str, Any]:  # Any: whatever the template shows
    pairs = [pair for pair in card.paired if pair.metric == "kl" and known(pair.difference) is not None]
    shown, left = _fewer(card, pairs)
    metrics = sorted({pair.metric for pair in card.paired}, key=lambda metric: (metric != "kl", metric))
    return {
        "card": card,
        "verdict": verdict(card),
        "entries": views.entries(card),
        "kl": figures.kl_by_entry(card) if card.entries else None,
        "differences": figures.differences(shown) if shown else None,
        "left": left,
        "paired": [
            (metric, views.paired([pair for pair in card.paired if pair.metric == metric])) for metric in metrics
        ],
    }


def _fewer(card: Card, pairs: list[Paired]) -> tuple[list[Paired], str]:
    """The pairs that a picture holds, and what is said where there are more."""
    first = lowest(card, "simulation") or lowest(card)
    if len(pairs) <= _MAX_PAIRS or first is None:
        return pairs[:_MAX_PAIRS], ""
    return [pair for pair in pairs if first.name in (pair.a, pair.b)][:_MAX_PAIRS], first.name


def _domains(card: Card) -> dict[str, Any] | None:  # Any: as above
    every = figures.domains_of(card)
    if not every:
        return None
    return {
        "picture": figures.by_domain(card),
        "sheets": views.domains(card),
        "left": len(every) - figures.MAX_DOMAINS,
    }


def _reliability(card: Card) -> dict[str, Any] | None:  # Any: as above
    entries = [entry for entry in by_kl(card.entries, "simulation") if any(one.size for one in entry.reliability)]
    shown = entries[: figures.MAX_ENTRIES]
    if not shown:
        return None
    colours = [figures.colour_of(card, entry) for entry in shown]
    return {"picture": figures.reliability(shown, colours), "left": len(entries) - len(shown)}


def _forecast(card: Card) -> dict[str, Any]:  # Any: as above
    known_at_all = any(known(error) is not None for e in card.entries for error in e.forecast.error_by_horizon)
    return {"picture": figures.errors_by_horizon(card) if known_at_all else None, "sheet": views.foresight(card)}


def _stories(card: Card, stories: Sequence[Story]) -> dict[str, Any]:  # Any: as above
    """Those with the lowest, the median and the highest KL of one entry; chosen by this rule alone."""
    labelled = [story for story in stories if story.case.counts.sum()]
    subject = _subject(card, {name for story in labelled for name in story.guesses})
    if subject is None:
        return {"shown": []}
    usable = [story for story in labelled if subject.name in story.guesses]
    ranked = sorted(usable, key=lambda story: (_kl_of(story, subject.name), story.case.cascade))
    places = {(len(ranked) - 1) // 2: "median KL", len(ranked) - 1: "highest KL", 0: "lowest KL"}
    rival = lowest(card, "rival")
    colour = figures.colour_of(card, subject)
    return {
        "shown": [_story(ranked[place], subject, colour, rival, why) for place, why in sorted(places.items())],
        "subject": subject,
        "rival": rival.name if rival and rival.name != subject.name else "",
        "of": len(ranked),
        "left": max(0, len(card.labels) - MAX_PANELS),
    }


def _subject(card: Card, names: Collection[str]) -> Entry | None:
    """Whose curves are shown: of the simulations that have some the one with the lowest KL, else a rival."""
    best = lowest(card, "simulation")
    ordered = [*by_kl(card.entries, "simulation"), *by_kl(card.entries, "rival")]
    return next((entry for entry in ([best] if best else []) + ordered if entry.name in names), None)


def _story(
    story: Story, subject: Entry, colour: str, rival: Entry | None, why: str
) -> dict[str, Any]:  # Any: as above
    case = story.case
    other = story.guesses.get(rival.name) if rival is not None and rival.name != subject.name else None
    value = _kl_of(story, subject.name)
    return {
        "why": why,
        "case": case,
        "topic": story.topic,
        "kl": figure(value) if math.isfinite(value) else "none, since something real was impossible in the guess",
        "actions": int(case.counts.sum()),
        "picture": shares_over_time(case, story.guesses[subject.name], other, colour=colour),
        "examples": [one for one in story.examples if one.simulation == subject.name][:_MAX_EXAMPLES],
        "field": story.fields.get(subject.name, ""),
    }


def _kl_of(story: Story, name: str) -> float:
    """KL(real || guess) on one cascade in nats; infinite where there is none."""
    labels = story.case.labels
    guess = guessed_shares(story.guesses[name], labels)
    if guess is None:
        return math.inf
    value = kl(normalise(dict(zip(labels, story.case.counts.tolist(), strict=True))), guess)
    return math.inf if math.isnan(value) else value
