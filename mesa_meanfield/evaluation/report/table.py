"""The columns of the entries' table, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import BaseModel

from mesa_meanfield.evaluation.scorecard import Card, Entry, Interval, Spent

DASH = "–"
"""Stands for a figure that cannot be known."""


@dataclass(frozen=True)
class Column:
    """One figure of every entry."""

    head: str
    meaning: str
    """What it is, in a sentence."""
    of: Callable[[Entry], float | None]
    better: int
    """-1 where less is better, 1 where more is, 0 where it is no matter of quality."""
    unknown: str = "every decision failed"
    """Why it may be null."""
    show: Callable[[float | None], str] = lambda value: figure(value)
    ci: Callable[[Entry], Interval] | None = None


def meaning(of: type[BaseModel], field: str) -> str:
    """What a field of the scorecard is, in the words of its schema, as one sentence."""
    said = " ".join((of.model_fields[field].description or "").split()).rstrip(".")
    return f"{said[:1].upper()}{said[1:]}."


def known(value: float | None) -> float | None:
    """The value where it is a finite number, else None."""
    return value if value is not None and math.isfinite(value) else None


def figure(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A figure as it is shown, with a true minus sign; a dash where it is unknown."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    shown = f"{value:{'+' if sign else ''}.{digits}f}"
    return shown.replace("-", "−") if float(shown) else f"{0:.{digits}f}"


def interval(ends: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """An interval as it is shown; a dash where an end is unknown."""
    low, high = ends
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return DASH
    return f"{figure(low, digits, sign=sign)} to {figure(high, digits, sign=sign)}"


def amount(value: float | None) -> str:
    """A number of calls or tokens, with two digits or more."""
    value = known(value)
    if value is None:
        return DASH
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.{1 if value < 9.95 * unit else 0}f} {name}"
    return f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    seconds = known(seconds)
    if seconds is None:
        return DASH
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


_IMPOSSIBLE = "something real was impossible in the guess, or every decision failed"
_NO_PROBABILITIES = f"there are no probabilities; {_IMPOSSIBLE}"
_NO_DECISION = "there was no decision to compare"
_ASKS_NOBODY = "no model was asked"

KL = Column("KL", meaning(Entry, "kl"), lambda entry: entry.kl, -1, _IMPOSSIBLE, ci=lambda entry: entry.kl_ci)
JS = Column("JS", meaning(Entry, "js"), lambda entry: entry.js, -1)
WASSERSTEIN = Column("Wasser\u00adstein", meaning(Entry, "wasserstein"), lambda entry: entry.wasserstein, -1)
DTW = Column("DTW", meaning(Entry, "dtw"), lambda entry: entry.dtw, -1)
F1_MACRO = Column("F1 macro", meaning(Entry, "f1_macro"), lambda entry: entry.f1_macro, 1, _NO_DECISION)
F1_MICRO = Column("F1 micro", meaning(Entry, "f1_micro"), lambda entry: entry.f1_micro, 1, _NO_DECISION)
NLL = Column("NLL action", meaning(Entry, "nll"), lambda entry: entry.nll, -1, _NO_PROBABILITIES)
NLL_TOKEN = Column(
    "NLL token", meaning(Entry, "nll_token"), lambda entry: entry.nll_token, -1, "no text was scored by its model"
)
CALIBRATION = Column(
    "Calib. error",
    meaning(Entry, "calibration_error"),
    lambda entry: entry.calibration_error,
    0,  # a guess that knows nothing has none
    "there are no probabilities, or every decision failed",
)
FAILED = Column("Failed", meaning(Entry, "failures"), lambda entry: entry.failures, 0, show=lambda n: amount(n))
TOKENS = Column(
    "Tokens",
    "Prompt and reply tokens of every question, over all replicas, as if each were computed alone.",
    lambda entry: entry.spent.tokens_asked if entry.spent else None,
    0,
    _ASKS_NOBODY,
    lambda tokens: amount(tokens),
)
TIME = Column(
    "Time",
    meaning(Spent, "seconds"),
    lambda entry: entry.spent.seconds if entry.spent else None,
    0,
    _ASKS_NOBODY,
    lambda seconds: duration(seconds),
)

COLUMNS = (KL, JS, WASSERSTEIN, DTW, F1_MACRO, F1_MICRO, NLL, NLL_TOKEN, CALIBRATION, FAILED, TOKENS, TIME)
"""The report's columns."""


def by_kl(entries: Iterable[Entry], kind: str | None = None) -> list[Entry]:
    """The entries (of one kind), the lowest KL first, those without one last."""

    def place(entry: Entry) -> float:
        kl = known(entry.kl)
        return math.inf if kl is None else kl

    return sorted((entry for entry in entries if kind in (None, entry.kind)), key=place)


def comparable(card: Card, entries: Iterable[Entry]) -> list[Entry]:
    """Those whose means are over all cascades; where there are none, those over the most."""
    found = list(entries)
    most = card.cascades if any(entry.cascades == card.cascades for entry in found) else 0
    most = most or max((entry.cascades for entry in found), default=0)
    return [entry for entry in found if entry.cascades == most]


def lowest(card: Card, kind: str | None = None) -> Entry | None:
    """The entry (of one kind) with the lowest KL among those that can be compared; None where none has one."""
    found = [entry for entry in by_kl(card.entries, kind) if known(entry.kl) is not None]
    return next(iter(comparable(card, found)), None)


def best(column: Column, entries: Iterable[Entry]) -> set[str]:
    """The names of those with the best figure, as it is shown; empty where there is nothing to choose between."""
    values = {entry.name: value for entry in entries if (value := known(column.of(entry))) is not None}
    if not column.better or len(values) < 2:
        return set()
    top = column.show(max(values.values(), key=lambda value: column.better * value))
    named = {name for name, value in values.items() if column.show(value) == top}
    return named if len(named) < len(values) else set()


def entry_table(card: Card) -> tuple[list[str], list[list[str]]]:
    """The entries for a terminal of 80 columns: simulations, then rivals, then the noise floor.

    Returns:
        The heads, and the rows with one text per head. A column that no entry has is left out.
    """
    columns = [DTW, F1_MACRO, NLL]
    shown = [KL, JS, *(column for column in columns if any(known(column.of(e)) is not None for e in card.entries))]
    if any(entry.failures for entry in card.entries):
        shown.append(FAILED)
    heads = ["", "KL", "95 %", *(column.head.split()[0] for column in shown[1:])]
    rows = []
    for kind in ("simulation", "rival"):
        group = by_kl(card.entries, kind)
        rows += [[e.name, KL.show(e.kl), _short(e.kl_ci), *(c.show(c.of(e)) for c in shown[1:])] for e in group]
        if group:
            rows.append([""] * len(heads))  # so that unlike things stand apart
    return heads, [*rows, ["noise floor", figure(card.noise_floor), *[""] * (len(heads) - 2)]]


def _short(ends: Interval) -> str:
    return interval(ends).replace(" to ", "–")
