"""The SQLite file under the call log: how it is made, opened and closed, and what is said when it cannot be."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesa_meanfield.errors import DataError

VERSION = 1
"""Of the tables; a log of another version is not read."""
_APPLICATION = 0x4D464C47  # tells our files from other programs' databases
_PATIENCE = 60.0  # seconds that a process waits while others write
_GLANCE = 0.05
_SMALLEST = 512  # bytes of a database
_TABLES = f"""
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE TABLE models (name TEXT PRIMARY KEY, scores INTEGER NOT NULL, reads INTEGER NOT NULL);
CREATE TABLE adapters (name TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (name, hash));
CREATE TABLE units (id INTEGER PRIMARY KEY, at REAL NOT NULL, cost TEXT NOT NULL);
CREATE TABLE calls (
    key BLOB PRIMARY KEY, unit INTEGER NOT NULL, kind TEXT NOT NULL, model INTEGER NOT NULL, adapter INTEGER,
    settings INTEGER NOT NULL, prompt TEXT NOT NULL, seed TEXT, outcome INTEGER NOT NULL, answer BLOB NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX calls_by_prompt ON calls (prompt);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk and go on; all that was answered before is kept",
    sqlite3.SQLITE_IOERR: "see to the disk and go on; all that was answered before is kept",
    sqlite3.SQLITE_READONLY: "file and folder must be writable",
    sqlite3.SQLITE_CANTOPEN: "is it there, and may it be read and written?",
    sqlite3.SQLITE_BUSY: f"another process has held it for {_PATIENCE:.0f} s; end that one and go on",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: take a copy of it, or remove it and have everything asked again",
    sqlite3.SQLITE_NOTADB: "this is no call log, or it is damaged from its first bytes on",
}


class Database:
    """The file, with as many connections as threads of this process are at work with it.

    Args:
        path: The file; a new one is made where it may be written.
        writable: If not, the file is not changed at all.

    Raises:
        DataError: It is no call log, is damaged, or cannot be opened.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._process = os.getpid()
        # Not one for each thread: where threads come and go, SQLite keeps a file open for each of them.
        self._idle: list[sqlite3.Connection] = []
        self._inherited: list[sqlite3.Connection] = []
        with self._told():
            if writable:
                _create(path)
        with self.reading():
            pass

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for a look at what is there; errors are told."""
        with self._told():
            connection = self._taken()
            try:
                yield connection
            finally:
                self._idle.append(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One short transaction, whole or not at all; errors are told."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some errors end it themselves
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close all connections, while no thread is at work; the next use opens the file again."""
        self._leave_inherited()
        while self._idle:
            connection = self._idle.pop()
            if self.writable and not self._idle:
                with suppress(sqlite3.Error):  # another process is still at work with it, and will do this
                    connection.execute("PRAGMA busy_timeout = 0")
                    connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()

    def _taken(self) -> sqlite3.Connection:
        self._leave_inherited()
        try:
            return self._idle.pop()
        except IndexError:  # all are in use
            return _opened(self.path, writable=self.writable)

    def _leave_inherited(self) -> None:
        if self._process != os.getpid():  # a forked child must not even close what its parent has opened
            self._process, self._idle, self._inherited = os.getpid(), [], self._inherited + self._idle

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say on one line, as `DataError`, what SQLite and the system raise."""
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: {error}; {_ADVICE.get(_code(error), 'is it damaged?')}") from error
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from error


def _create(path: Path) -> None:
    """Make the file where there is none, all of it at once, whoever else is at it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    _check_beginning(path)
    connection = _connect(path, "mode=rwc")
    try:
        connection.execute("BEGIN IMMEDIATE")  # also where it is there: nothing is to be paid for in vain
        if not _is_ours(connection, path):
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _opened(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection to a file that is there."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such call log")
    _check_beginning(path)
    connection = _connect(path, "mode=rw") if writable else _connect_to_read(path)
    try:
        if not _is_ours(connection, path):
            raise DataError(f"{path}: nothing is in this file")
        if writable:
            _write_ahead(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_beginning(path: Path) -> None:
    """SQLite itself takes a very short file for an empty one, and would write over it."""
    if path.is_file() and 0 < path.stat().st_size < _SMALLEST:
        raise DataError(f"{path}: {_ADVICE[sqlite3.SQLITE_NOTADB]}")


def _connect(path: Path, query: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?{query}",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,  # transactions begin where we say so
        check_same_thread=False,  # one thread at a time has it, but not always the same
    )


def _connect_to_read(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("PRAGMA user_version")
    except sqlite3.OperationalError:
        # Where nothing may be written, not even the file by which readers and writers know of each other:
        # then nobody writes, and unless the last one who did was killed, the file is whole by itself.
        connection.close()
        ahead = path.with_name(f"{path.name}-wal")
        if ahead.exists() and ahead.stat().st_size:
            raise
        connection = _connect(path, "mode=ro&immutable=1")
    return connection


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there; False where nothing at all is."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == _APPLICATION:
        if version != VERSION:
            raise DataError(f"{path}: a call log of version {version}, where this package reads version {VERSION}")
        return True
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None:
        raise DataError(f"{path}: the database of another program, no call log")
    return False


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers and one writer work at the same time, and a killed writer leave whole transactions."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:  # SQLite itself does not wait for others here
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_GLANCE)
    connection.execute("PRAGMA synchronous = NORMAL")


def _code(error: sqlite3.Error) -> int:
    code: int | None = getattr(error, "sqlite_errorcode", None)  # errors of the Python side have none
    return -1 if code is None else code & 0xFF
