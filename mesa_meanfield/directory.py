"""A directory of results that is whole or plainly unfinished.

It is written under the name ``NAME.partial`` and renamed when the work is over, so work that was killed is
never taken for done.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesa_meanfield.errors import DataError


class Directory:
    """A directory of results while it is being made.

    Args:
        path: The directory to be; it must not be there yet.
        resume: Go on with the unfinished one instead of beginning one.

    Raises:
        DataError: The directory is there already, or cannot be made; or there is none to go on with.
    """

    def __init__(self, path: str | Path, *, resume: bool = False) -> None:
        self.path = Path(path)
        if not resume:
            check_free(self.path)
        self.partial = _partial(self.path)
        """Where the files are until the work is over."""
        if resume:
            if not self.partial.is_dir():
                raise DataError(f"{self.partial}: there is no unfinished work to go on with")
            return
        try:
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{self.partial} cannot be made: {error.strerror or error}") from error

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file, replacing it at once."""
        self._replace(name, json_text(values, indent=2) + "\n")

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a JSON Lines file, replacing it at once."""
        self._replace(name, "".join(json_text(row) + "\n" for row in rows))

    def append(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Append rows to JSON Lines files: name -> its rows. After an error none of them has any."""
        files = [self.partial / name for name in rows]
        sizes = [file.stat().st_size if file.exists() else 0 for file in files]
        try:
            for file, lines in zip(files, rows.values(), strict=True):
                _append(file, lines)
        except OSError:  # a full disk: nothing half stays, so that the same can be written again
            for file, size in zip(files, sizes, strict=True):
                if file.exists():
                    os.truncate(file, size)
            raise

    def _replace(self, name: str, text: str) -> None:
        part = self.partial / f"{name}.partial"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, self.partial / name)

    def finish(self) -> Path:
        """Give the directory its name; returns it."""
        os.rename(self.partial, self.path)
        return self.path

    def drop_if_empty(self, *names: str) -> None:
        """Remove the unfinished directory if nothing is in any of these files."""
        files = [self.partial / name for name in names]
        if self.partial.is_dir() and not any(file.exists() and file.stat().st_size for file in files):
            shutil.rmtree(self.partial)


class OpenDirectory(Directory):
    """A directory that keeps its name and is never over, as more results may come; every line in it is whole."""

    def __init__(self, path: str | Path) -> None:
        self.path = self.partial = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)


def json_text(values: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON in which a number that is infinite or none at all is null, since JSON knows no other way."""

    def finite(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {key: finite(one) for key, one in value.items()}
        return [finite(one) for one in value] if isinstance(value, list | tuple) else value

    return json.dumps(finite(values), ensure_ascii=False, indent=indent, allow_nan=False)


def check_free(path: Path) -> None:
    """See that a directory of results can have this name.

    Raises:
        DataError: One stands there, or one that did not end.
    """
    if path.exists() or not path.name:
        raise DataError(f"{path} is there already; choose another --out, nothing is overwritten")
    if _partial(path).exists():
        raise DataError(f"{_partial(path)} holds an unfinished run; remove it or choose another --out")


def _append(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = "".join(json_text(row) + "\n" for row in rows)
    with file.open("ab", buffering=0) as opened:  # one write for all rows
        opened.write(lines.encode(errors="backslashreplace"))  # half an emoji becomes its JSON escape


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
