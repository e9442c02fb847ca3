"""The common format: one cascade per line, UTF-8 JSON, in and out without loss."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mesa_meanfield.data import Cascade
from mesa_meanfield.errors import DataError


def iter_cascades(file: str | Path) -> Iterator[Cascade]:
    """The cascades of a file, one at a time; blank lines are passed over.

    Raises:
        DataError: The file is missing or a line is no cascade; says file, line and field.
    """
    return (cascade for _, cascade in _numbered(Path(file)))


def _numbered(path: Path) -> Iterator[tuple[int, Cascade]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line  # some editors write one
                if line.strip():
                    yield number, _read_line(line, f"{path} line {number}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; give a JSON Lines file") from error


def read_cascades(file: str | Path) -> list[Cascade]:
    """All cascades of a file.

    Raises:
        DataError: The file is missing or empty, a line is no cascade, or two have the same id.
    """
    cascades: dict[str, Cascade] = {}
    for number, cascade in _numbered(Path(file)):
        if cascade.id in cascades:
            raise DataError(
                f"{file} line {number}: the cascade id {cascade.id!r} stands there twice; ids must differ"
            )
        cascades[cascade.id] = cascade
    if not cascades:
        raise DataError(f"{file}: holds no cascade; expected one JSON object per line")
    return list(cascades.values())


def write_cascades(file: str | Path, cascades: Iterable[Cascade]) -> None:
    """Write cascades, replacing the file at once: a kill leaves the old one or the whole new one."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.partial")
    with part.open("w", encoding="utf-8") as lines:
        for cascade in cascades:
            lines.write(json.dumps(to_json(cascade), ensure_ascii=False, separators=(",", ":")) + "\n")
    os.replace(part, path)


def to_json(cascade: Cascade) -> dict[str, Any]:  # Any: JSON
    """A cascade as JSON values; a recorded action has no ``trace``."""
    found: dict[str, Any] = _adapter().dump_python(cascade, mode="json")
    for action in found["actions"]:
        if action["trace"] is None:
            del action["trace"]
    return found


@cache
def _adapter() -> TypeAdapter[Cascade]:
    return TypeAdapter(Cascade)


def _read_line(line: bytes, where: str) -> Cascade:
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = re.sub(r" at line 1 column \d+$", "", first["msg"].removeprefix("Value error, "))
        said = f"{where}: {f'{field}: ' if field else ''}{message}{more}"
        raise DataError("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in said)) from None
