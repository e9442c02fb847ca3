"""Posts in a CSV or TSV file, one per row, under any column names."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import BeforeValidator

from mesa_meanfield.cascades.conversion import Conversion, Draft, Feed, known
from mesa_meanfield.cascades.records import (
    BrokenRecord,
    Count,
    Flag,
    Gender,
    MaybeId,
    MaybeMoment,
    MaybeText,
    Moment,
    Record,
    Text,
    parse,
)
from mesa_meanfield.data import Action, Cascade, Popularity, Profile
from mesa_meanfield.errors import DataError

_Row = tuple[int, dict[str, str]]
"""A row's line in the file, and what it has: field -> cell."""

_Group = tuple[str, list[_Row], bool]
"""A cascade's id and rows, and whether a broken row stands before them, which may be their first one."""


def _lower(value: str) -> str | None:
    return value.strip().lower() or None


class _Post(Record):
    """The fields that a table can have; where one is missing or empty, it is not known."""

    text: Text
    time: Moment
    id: MaybeId = None
    parent: MaybeId = None
    cascade: MaybeId = None
    user: MaybeId = None
    name: MaybeText = None
    description: MaybeText = None
    location: MaybeText = None
    followers: Count = None
    friends: Count = None
    statuses: Count = None
    verified: Flag = None
    gender: Gender = None
    created: MaybeMoment = None
    reposts: Count = None
    likes: Count = None
    topic: MaybeText = None
    event: MaybeText = None
    domain: MaybeText = None
    veracity: Annotated[Literal["true", "false", "unverified"] | None, BeforeValidator(_lower)] = None


FIELDS = tuple(_Post.model_fields)
"""What a column can be, beside ``label:DIMENSION``."""


def read_columns(given: str) -> dict[str, str]:
    """Read a mapping such as ``text=Body,id=tweet id,label:stance=Stance``: field -> column.

    Raises:
        DataError: It is no such mapping, or a field is none of `FIELDS`.
    """
    columns = {}
    for part in re.split(r",(?=[\w:]+=)", given):
        name, equals, column = part.partition("=")
        if not equals or not column or not (name in FIELDS or re.fullmatch(r"label:\S+", name)):
            raise DataError(f"{part!r} is no FIELD=COLUMN; the fields are {', '.join(FIELDS)} and label:DIMENSION")
        columns[name] = column
    return columns


def table(source: Path, job: Conversion, columns: Mapping[str, str] | None = None) -> Feed:
    """Read a table with a header, ``.tsv`` with tabs, all else with commas, one cascade in memory at a time.

    The rows of a cascade stand together. Its topic is what the column of ``topic`` holds, else its first row.

    Args:
        source: The file, UTF-8.
        job: What to do with it.
        columns: Field -> column; a field that is not named here has the column of its own name, if any.

    Raises:
        DataError: The file or a column is missing.
    """
    with _opened(source) as lines:
        try:
            header: list[str] = next(_reader(source, lines), [])
        except csv.Error as error:
            raise DataError(f"{source} line 1: {error}; expected a header") from None
    given = {column: column for column in header if column in FIELDS or column.startswith("label:")}
    wanted = given | dict(columns or {})
    for name in ("text", "time"):
        if name not in wanted:
            raise DataError(f"{source}: which column is the {name}? say --columns {name}=COLUMN; {_told(header)}")
    for name, column in wanted.items():
        if column not in header:
            raise DataError(f"{source}: has no column {column!r} for {name}; {_told(header)}")
    job.name(source.stem, "en")
    places = {name: header.index(column) for name, column in wanted.items()}
    return Feed(None, _cascades(source, _rows(source, len(header), places, job), job))


def _told(header: Sequence[str]) -> str:
    return f"it has {', '.join(header)}" if header else "it is empty"


def _opened(source: Path) -> TextIO:
    try:
        # Bytes that are no UTF-8 come through as half characters, so that they are told by their row.
        return source.open(newline="", encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror or error}; give a CSV file") from None


def _reader(source: Path, lines: TextIO) -> Any:  # Any: csv keeps the class to itself
    return csv.reader(lines, delimiter="\t" if source.suffix == ".tsv" else ",", strict=True)


def _rows(source: Path, width: int, places: Mapping[str, int], job: Conversion) -> Iterator[_Row | None]:
    """The rows; None for a broken one."""
    with _opened(source) as lines:
        reader = _reader(source, lines)
        next(reader)
        while True:
            try:
                cells = next(reader)
                fault = _fault(cells, width, places)
            except StopIteration:
                return
            except csv.Error as error:
                cells, fault = [""], str(error)
            if fault:
                job.leave_out(BrokenRecord(f"{source} line {reader.line_num}: {fault}"))
                yield None
            elif cells:
                yield reader.line_num, {name: cells[place] for name, place in places.items()}


def _fault(cells: Sequence[str], width: int, places: Mapping[str, int]) -> str:
    if cells and len(cells) != width:
        return f"has {len(cells)} cells, the header has {width}"
    if cells and "cascade" in places and not cells[places["cascade"]].strip():
        return "cascade: is empty"
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return ""


def _groups(rows: Iterator[_Row | None]) -> Iterator[_Group]:
    key, group, doubt, broken = "", list[_Row](), False, False
    for row in rows:
        if row is None:
            broken = True
            continue
        found = row[1].get("cascade", "").strip()
        if group and found != key:
            yield key, group, doubt
            group = []
        if not group:
            key, doubt = found, broken
        broken = False
        group.append(row)
    if group:
        yield key, group, doubt


def _cascades(source: Path, rows: Iterator[_Row | None], job: Conversion) -> Iterator[Cascade | None]:
    return job.every(_each_once(source, _groups(rows)), lambda group: _cascade(source, *group, job))


def _each_once(source: Path, groups: Iterator[_Group]) -> Iterator[_Group]:
    seen: set[str] = set()
    for key, rows, doubt in groups:
        if key in seen:
            raise DataError(f"{source} line {rows[0][0]}: a cascade goes on here; sort the rows by their cascade")
        seen.add(key)
        yield key, rows, doubt


def _cascade(source: Path, key: str, rows: Sequence[_Row], doubt: bool, job: Conversion) -> Cascade | None:
    def read(row: _Row) -> Draft:
        return _draft(parse(_Post, row[1], f"{source} line {row[0]}"), row, source)

    key, where = key or source.stem, f"{source} line {rows[0][0]}"
    first = parse(_Post, rows[0][1], where)
    if first.topic is not None:
        author = Profile(f"author of topic {key}")  # who wrote it is not known
        topic = Draft(Action(f"topic {key}", None, first.time, author, first.topic))
    elif doubt:
        raise BrokenRecord(f"{where}: the topic of this cascade may be the broken row above")
    elif first.parent not in (None, first.id):
        raise BrokenRecord(f"{where}: parent: the first row of a cascade is its topic and answers no other")
    else:
        topic, rows = _draft(first, rows[0], source), rows[1:]
    label: dict[str, str | bool | None] = {**topic.action.labels}
    return job.cascade(
        key,
        topic,
        job.every(rows, read),
        label=label,
        veracity=first.veracity,
        event=first.event,
        domain=first.domain,
    )


def _draft(post: _Post, row: _Row, source: Path) -> Draft:
    identity = post.id or f"{source.stem} line {row[0]}"
    author = Profile(
        key=post.user or f"author of {identity}",
        description=post.description,
        location=post.location,
        followers=post.followers,
        friends=post.friends,
        statuses=post.statuses,
        verified=post.verified,
        gender=post.gender,
        created=post.created,
    )
    labels = {name.removeprefix("label:"): cell.strip() for name, cell in row[1].items() if name.startswith("label:")}
    action = Action(
        id=identity,
        parent=post.parent,
        time=post.time,
        author=author,
        text=post.text,
        labels={name: label for name, label in labels.items() if label},
        popularity=Popularity(post.reposts, post.likes),
    )
    return Draft(action, known(post.name, post.user))
