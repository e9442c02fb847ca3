"""The report's tables as texts, ready for its template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesa_meanfield.evaluation.report.figures import domains_of
from mesa_meanfield.evaluation.report.table import (
    COLUMNS,
    DASH,
    Column,
    best,
    by_kl,
    comparable,
    figure,
    interval,
    known,
)
from mesa_meanfield.evaluation.report.verdict import winner
from mesa_meanfield.evaluation.scorecard import Card, Entry, Hits, Interval, Paired

_ACROSS = 5  # domains beside each other: more do not fit a narrow window

SOFT_HYPHEN = "\u00ad"
NO_INTERVAL = "too few cascades for an interval"


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    text: str
    note: str = ""
    """Why there is none."""
    detail: str = ""
    """Its interval."""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    kind: str
    """The class of its style: "simulation", "rival" or "floor"."""
    cells: tuple[Cell, ...]
    first: bool = False
    """Whether it begins a group."""
    detail: str = ""
    """What must be known of its name."""


@dataclass(frozen=True)
class Sheet:
    """A table with what must be said beneath it."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def entries(card: Card) -> Sheet:
    """All entries with all columns; the best figure of each kind is marked, the noise floor stands last."""
    rows = [row for kind in ("simulation", "rival") for row in _group(card, kind)]
    floor = (Cell(figure(card.noise_floor)), *(Cell("") for _ in COLUMNS[1:]))
    rows.append(Row("noise floor", "floor", floor, first=True))
    return Sheet(tuple(column.head for column in COLUMNS), tuple(rows), tuple(_notes(card)))


def paired(pairs: Sequence[Paired]) -> Sheet:
    """Paired differences of one metric; a winner is named only where the interval excludes zero."""
    rows = []
    for pair in pairs:
        better = winner(pair)
        why = NO_INTERVAL if known(pair.ci[0]) is None else "the interval includes zero"
        cells = (
            Cell(figure(pair.difference, sign=True), "" if known(pair.difference) is not None else "infinite"),
            Cell(interval(pair.ci, sign=True), NO_INTERVAL if known(pair.ci[0]) is None else ""),
            Cell(better or DASH, "" if better else why, best=bool(better)),
            Cell(str(pair.cascades)),
        )
        rows.append(Row(f"{pair.a} − {pair.b}", "", cells))
    return Sheet(("Difference", "95 % interval", "Better", "Cascades"), tuple(rows), ())


def domains(card: Card) -> list[Sheet]:
    """Every entry's KL in every domain, a few domains a table."""
    every = domains_of(card)
    return [_domains(card, every[at : at + _ACROSS]) for at in range(0, len(every), _ACROSS)]


def foresight(card: Card) -> Sheet:
    """Direction, turning points and coverage of every entry."""
    rows = []
    for kind in ("simulation", "rival"):
        for index, entry in enumerate(by_kl(card.entries, kind)):
            seen = entry.forecast
            cells = (_hits(seen.direction), _hits(seen.turning_points), *_coverage(entry), _widened(entry))
            rows.append(Row(entry.name, kind, cells, first=index == 0))
    heads = ("Direction", "Turning points", "Band covers", "Band should cover", "Widened band covers")
    return Sheet(heads, tuple(rows))


def _notes(card: Card) -> list[str]:
    """Why figures are missing, each reason once."""
    reasons: dict[str, list[str]] = {}
    for column in COLUMNS:
        if any(known(column.of(entry)) is None for entry in card.entries):
            reasons.setdefault(column.unknown, []).append(column.head.replace(SOFT_HYPHEN, ""))
    notes = []
    if reasons:
        told = "; ".join(f"{', '.join(heads)} ({reason})" for reason, heads in reasons.items())
        notes.append(f"{DASH} means that there is no figure: {told}.")
    if any(known(entry.kl) is not None and known(entry.kl_ci[0]) is None for entry in card.entries):
        notes.append("No interval: too few cascades.")
    if any(entry.cascades != card.cascades for entry in card.entries):
        notes.append("Means over fewer cascades, where every decision of some failed, are not marked as the best.")
    return notes


def _group(card: Card, kind: str) -> list[Row]:
    group = by_kl(card.entries, kind)
    top = {column.head: best(column, comparable(card, group)) for column in COLUMNS}
    return [
        Row(
            entry.name,
            kind,
            tuple(_cell(column, entry, entry.name in top[column.head]) for column in COLUMNS),
            index == 0,
            "" if entry.cascades == card.cascades else f"{entry.cascades} of {card.cascades} cascades",
        )
        for index, entry in enumerate(group)
    ]


def _cell(column: Column, entry: Entry, is_best: bool) -> Cell:
    value = column.of(entry)
    note = column.unknown if known(value) is None else ""
    return Cell(column.show(value), note, _detail(column.ci(entry)) if column.ci else "", is_best)


def _detail(ends: Interval) -> str:
    return "" if known(ends[0]) is None else interval(ends)


def _domains(card: Card, across: Sequence[tuple[str, int]]) -> Sheet:
    rows = []
    for kind in ("simulation", "rival"):
        for index, entry in enumerate(by_kl(card.entries, kind)):
            found, cells = {domain.domain: domain for domain in entry.by_domain}, []
            for name, _ in across:
                one = found.get(name)
                value = None if one is None else one.kl
                note = (
                    ""
                    if known(value) is not None
                    else "something real was impossible in the guess, or every decision failed"
                )
                cells.append(Cell(figure(value), note, "" if one is None else _detail(one.kl_ci)))
            rows.append(Row(entry.name, kind, tuple(cells), first=index == 0))
    return Sheet(tuple(f"{name} ({size})" for name, size in across), tuple(rows))


def _hits(hits: Hits) -> Cell:
    if not hits.of and not hits.false_alarms:
        return Cell(DASH, "it never happened")
    share = f" ({hits.hits / hits.of:.0%})" if hits.of else ""
    alarms = f"{hits.false_alarms} false alarm{'s' * (hits.false_alarms != 1)}" if hits.false_alarms else ""
    return Cell(f"{hits.hits} of {hits.of}{share}", detail=alarms)


def _coverage(entry: Entry) -> tuple[Cell, Cell]:
    band = entry.coverage
    if band is None or not band.of:
        why = "a rival has no replicas" if entry.kind == "rival" else "a single replica has no band"
        return Cell(DASH, why), Cell(DASH, why)
    return Cell(f"{band.covered / band.of:.0%}", detail=f"{band.covered} of {band.of}"), Cell(f"{band.expected:.0%}")


def _widened(entry: Entry) -> Cell:
    band = entry.widened
    if band is None:
        return Cell(
            DASH, "a rival has no replicas" if entry.kind == "rival" else "it takes two events and two replicas"
        )
    wide = "everything" if band.factor is None else f"{band.factor:.1f} times as wide"
    return Cell(f"{band.after:.0%}", detail=f"of {band.level:.0%}; {wide}")
