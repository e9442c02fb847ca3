"""The call log: every question that a model was asked, by its hash, and what was answered, in one SQLite file.

What is asked at once is a unit and is committed at once, with what it cost; so a kill at any moment leaves whole
units. Any number of threads and processes may read and write one log. No prompt is in it, only hashes.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, final

from mesa_meanfield.backends.asked import Asked
from mesa_meanfield.backends.database import Database
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Usage

CALLS = "calls.sqlite"
"""What the log of a directory of results is called there."""


class Outcome(IntEnum):
    """What came of a question."""

    ANSWER = 0
    UNSUPPORTED = 1
    """`ScoringUnsupported` was raised."""
    FAILED = 2
    """An answer that says why there is none: a reply's ``failure``, or NaN."""
    UNAVAILABLE = 3
    """`BackendUnavailable` was raised."""


class Given(NamedTuple):
    """What came of a question."""

    outcome: Outcome
    answer: bytes
    """The answer; or the error's words."""


class Kept(NamedTuple):
    """The same as it stands in the log."""

    outcome: Outcome
    answer: bytes
    unit: int
    """The number of the unit that it was asked in."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a log holds, in figures."""

    calls: dict[str, int]
    """Kind of question (reply, choice, text) -> how many are there."""
    failures: int
    """How many of them have no usable answer."""
    models: tuple[str, ...]
    adapters: dict[str, tuple[str, ...]]
    """An adapter's name -> the hash of its files; several where runs that share the log differ."""
    usage: Usage
    """What all of it cost."""
    first: datetime | None
    """When the first unit was committed; None where there is none."""
    last: datetime | None
    """The same of the last one."""


@final
class CallLog:
    """The questions and answers of a run, or of several that share them. Safe for threads and processes.

    The first answer to a question stands, so that all who share a log see the same.

    Args:
        path: The file; a new one is made where it may be written.
        writable: Whether anything may be added. If not, the file is not changed at all.

    Raises:
        DataError: It is no call log, is damaged, or cannot be opened; a disk is full. So does every method.
    """

    def __init__(self, path: str | Path, *, writable: bool = True) -> None:
        self.path = Path(path).absolute()
        self.writable = writable
        self._database = Database(self.path, writable=writable)
        self.settled = 0
        """The last unit whose failures are part of what happened, and not asked anew; see `forget_failures`."""

    # --- Questions and answers ----------------------------------------------------------------------

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Kept]:
        """What is known of questions, by their hashes."""
        with self._database.reading() as connection:
            return self._found(connection, keys)

    def add(self, given: Sequence[tuple[Asked, Given]], cost: Usage) -> tuple[int, dict[bytes, Kept]]:
        """Commit a unit: all of it or, after an error, nothing.

        Args:
            given: The questions, each with what came of it. One that is known keeps its answer, unless that was
                that the model was not available.
            cost: What they cost together.

        Returns:
            The unit's number, and what now stands for these questions.
        """
        with self._database.writing() as connection:
            insert = "INSERT INTO units (at, cost) VALUES (?, ?)"
            unit = connection.execute(insert, (time.time(), json.dumps(asdict(cost)))).lastrowid or 0
            texts = {text for one, _ in given for text in (one.model, one.adapter, one.settings) if text is not None}
            words: dict[str | None, int | None] = {text: _word(connection, text) for text in texts} | {None: None}
            connection.executemany(
                "INSERT INTO calls"
                " (key, unit, kind, model, adapter, settings, prompt, seed, outcome, answer, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET unit = excluded.unit,"
                " outcome = excluded.outcome, answer = excluded.answer, checksum = excluded.checksum"
                " WHERE calls.outcome = 3",
                (_row(one, came, unit, words) for one, came in given),
            )
            return unit, self._found(connection, (one.key for one, _ in given))

    def cost(self, units: Iterable[int]) -> Usage:
        """What some units cost together."""
        with self._database.reading() as connection:
            query = "SELECT cost FROM units WHERE id = ?"
            rows = [connection.execute(query, (unit,)).fetchone() for unit in sorted(units)]
        return sum((self._usage(row[0]) for row in rows if row is not None), Usage())

    def like(self, one: Asked) -> Asked | None:
        """Of the questions with the same prompt, the one that differs least; None where there is none."""
        query = (
            "SELECT key, kind, m.word, a.word, s.word, prompt, seed FROM calls JOIN words m ON m.id = calls.model"
            " LEFT JOIN words a ON a.id = adapter JOIN words s ON s.id = settings WHERE prompt = ? LIMIT 1000"
        )
        with self._database.reading() as connection:
            rows = connection.execute(query, (one.prompt,)).fetchall()
        try:
            known = [Asked._make((*asked, None if seed is None else int(seed))) for *asked, seed in rows]
            return min(known, key=lambda other: (other.kind != one.kind, len(one.unlike(other))), default=None)
        except (AttributeError, TypeError, ValueError):
            raise self._damaged("a question") from None

    def forget_failures(self) -> int:
        """Before a run is gone on with: forget the failures that no good answer came after.

        They are those of a model that went away, which is there again now. What failed before a later answer is
        part of what happened, and stays. Only for a log that nobody else is using.

        Returns:
            How many were forgotten.
        """
        with self._database.writing() as connection:
            last = "SELECT coalesce(max(unit), 0) FROM calls WHERE outcome < 2"
            (self.settled,) = connection.execute(last).fetchone()
            delete = "DELETE FROM calls WHERE outcome >= 2 AND unit >= ?"
            return connection.execute(delete, (self.settled,)).rowcount

    # --- Models, adapters, figures ------------------------------------------------------------------

    def know_model(self, name: str, *, scores: bool, reads: bool) -> None:
        """Note a model: whether it is a `Scorer`, and whether a `LikelihoodScorer`."""
        if self.models().get(name) != (scores, reads):
            with self._database.writing() as connection:
                connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", (name, scores, reads))

    def know_adapter(self, name: str, known_as: str) -> None:
        """Note an adapter's name and the hash of its files."""
        if known_as not in self.adapters().get(name, ()):
            with self._database.writing() as connection:
                connection.execute("INSERT OR IGNORE INTO adapters VALUES (?, ?)", (name, known_as))

    def models(self) -> dict[str, tuple[bool, bool]]:
        """The models' names -> whether each is a `Scorer`, and whether a `LikelihoodScorer`."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT name, scores, reads FROM models ORDER BY name").fetchall()
        return {name: (bool(scores), bool(reads)) for name, scores, reads in rows}

    def adapters(self) -> dict[str, tuple[str, ...]]:
        """The adapters' names -> the hashes of their files, hardly ever more than one each."""
        found: dict[str, tuple[str, ...]] = {}
        with self._database.reading() as connection:
            for name, known_as in connection.execute("SELECT name, hash FROM adapters ORDER BY name, hash"):
                found[name] = (*found.get(name, ()), known_as)
        return found

    def contents(self) -> Contents:
        """What the log holds, in figures."""
        with self._database.reading() as connection:
            calls = dict(
                connection.execute("SELECT kind, count(*) FROM calls GROUP BY kind ORDER BY kind").fetchall()
            )
            failures = connection.execute("SELECT count(*) FROM calls WHERE outcome >= 2").fetchone()[0]
            ends = connection.execute("SELECT min(at), max(at) FROM units").fetchone()
            usage = sum((self._usage(row[0]) for row in connection.execute("SELECT cost FROM units")), Usage())
        first, last = (None if at is None else datetime.fromtimestamp(at, UTC) for at in ends)
        return Contents(calls, failures, tuple(self.models()), self.adapters(), usage, first, last)

    # --- The file -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file, while nobody asks anything; the next use opens it again.

        Where no other process uses it, it is then one file by itself, which can be moved and copied, and read
        where nothing may be written.
        """
        self._database.close()

    def drop_if_empty(self) -> None:
        """Close the file, and remove it if no answer is in it."""
        with self._database.reading() as connection:
            empty = connection.execute("SELECT 1 FROM calls LIMIT 1").fetchone() is None
        self.close()
        if empty:
            self.path.unlink(missing_ok=True)

    def _found(self, connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, Kept]:
        found = {}
        query = "SELECT outcome, answer, checksum, unit FROM calls WHERE key = ?"
        for key in dict.fromkeys(keys):
            row = connection.execute(query, (key,)).fetchone()
            if row is not None:
                outcome, answer, checksum, unit = row
                if not isinstance(answer, bytes) or checksum != _checksum(key, outcome, answer):
                    raise self._damaged("an answer")
                found[key] = Kept(Outcome(outcome), answer, unit)
        return found

    def _usage(self, cost: Any) -> Usage:  # Any: text, unless the file is damaged
        try:
            return Usage(**json.loads(cost))
        except (TypeError, ValueError):
            raise self._damaged("a unit's cost") from None

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path} is damaged: {what} in it is not what was written; take a copy of the file")


def _row(one: Asked, came: Given, unit: int, words: dict[str | None, int | None]) -> tuple[object, ...]:
    seed = None if one.seed is None else str(one.seed)  # it may have more than the 64 bits of SQLite's numbers
    asked = (one.key, unit, one.kind, words[one.model], words[one.adapter], words[one.settings], one.prompt, seed)
    return *asked, int(came.outcome), came.answer, _checksum(one.key, came.outcome, came.answer)


def _word(connection: sqlite3.Connection, text: str) -> int:
    connection.execute("INSERT OR IGNORE INTO words (word) VALUES (?)", (text,))
    number: int = connection.execute("SELECT id FROM words WHERE word = ?", (text,)).fetchone()[0]
    return number


def _checksum(key: bytes, outcome: object, answer: bytes) -> int:
    return zlib.crc32(f"{outcome}".encode(), zlib.crc32(answer, zlib.crc32(key)))
