"""Files in TOML that people write: each table checked, and what is wrong said on one line with its place."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mesa_meanfield.errors import DataError


class Table(BaseModel):
    """A table of a file: no field that it does not know, nothing guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Known = TypeVar("_Known", bound=Table)


@dataclass(frozen=True)
class TomlForm:
    """What one kind of file is, for reading it and for its errors."""

    what: str
    """What such a file is called, as in "plan"."""
    whole: type[Table]
    """What can stand above its first table."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Field -> what it must be, where pydantic would say it less well."""
    tables: tuple[str, ...] = ()
    """Those fields of the whole that are tables."""

    def read(self, path: Path) -> tuple[bytes, dict[str, Any]]:  # Any: TOML
        """A file's content and its values, unchecked.

        Raises:
            DataError: It cannot be read, or is no TOML.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            why = error.strerror or error
            raise DataError(f"{path}: cannot be read: {why}; give a {self.what} file in TOML") from error
        try:
            return content, tomllib.loads(content.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise DataError(f"{path}: is no TOML: {error}") from None

    def checked(self, kind: type[_Known], values: Mapping[str, Any], where: str, *more: str) -> _Known:
        """A table's values, checked.

        Args:
            kind: The table.
            values: What stands in it.
            where: File and table, for errors.
            more: What else can stand in it, for errors.

        Raises:
            DataError: They are not as they should be; tells of the first that is not, of unknown names before others.
        """
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            found = error.errors(include_url=False)
        found.sort(key=lambda one: one["type"] != "extra_forbidden")
        one, known = found[0], [*more, *kind.model_fields]
        name = str(one["loc"][0])
        place = ".".join(map(str, one["loc"]))
        if one["type"] == "extra_forbidden" and len(one["loc"]) == 1:
            if kind is not self.whole and name in self.whole.model_fields and not get_close_matches(name, known, 1):
                raise DataError(f"{where}: {name} belongs to the whole {self.what}: write it above the first table")
            raise unknown(where, "field", name, known)
        if name in self.expected and one["type"] != "missing":
            raise DataError(f"{where}: {name} must be {self.expected[name]}, got {values[name]!r}")
        if one["type"] == "missing":
            table = kind is self.whole and name in self.tables
            raise DataError(f"{where}: {f'the table [{name}]' if table else place} is missing")
        raise DataError(f"{where}: {place}: {one['msg']}, got {one['input']!r}")


def table_of(kind: Any, written: Mapping[str, Any]) -> type[Table]:  # Any: a dataclass; types
    """The table with a dataclass's own fields, so that a file and Python say the same.

    Args:
        kind: The dataclass.
        written: Field -> its type in a file, where it is another one there.
    """
    hints = get_type_hints(kind)
    columns: dict[str, Any] = {}
    for one in fields(kind):
        given = one.default is not MISSING or one.default_factory is not MISSING
        columns[one.name] = (written.get(one.name, hints[one.name]), None if given else ...)
    return create_model(kind.__name__, __base__=Table, **columns)


def unknown(where: str, what: str, name: str, known: Iterable[str]) -> DataError:
    """What to say of a name that is none of those that can be."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return DataError(f"{where}: {name!r} is no {what}; {meant}there are {', '.join(names)}")
