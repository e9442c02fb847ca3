"""The common format: one cascade per line, UTF-8 JSON, in and out without loss."""

from __future__ import annotations

import json
import os
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
    path = Path(file)
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read_line(line, f"{path} line {number}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; give a JSON Lines file") from error


def read_cascades(file: str | Path) -> list[Cascade]:
    """All cascades of a file.

    Raises:
        DataError: The file is missing or empty, a line is no cascade, or two have the same id.
    """
    cascades = list(iter_cascades(file))
    if not cascades:
        raise DataError(f"{file}: holds no cascade; expected one JSON object per line")
    seen: set[str] = set()
    for cascade in cascades:
        if cascade.id in seen:
            raise DataError(f"{file}: the cascade id {cascade.id!r} stands there twice; ids must differ")
        seen.add(cascade.id)
    return cascades


def write_cascades(file: str | Path, cascades: Iterable[Cascade]) -> None:
    """Write cascades, replacing the file at once: a kill leaves the old one or the whole new one."""
    path = Path(file)
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
        message = first["msg"].removeprefix("Value error, ")
        raise DataError(f"{where}: {f'{field}: ' if field else ''}{message}{more}") from None
