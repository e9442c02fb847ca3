"""What ``compare`` and ``plan`` write beside their reports, and read when they go on with something unfinished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.tables import parquet_can_be_written, save
from mesa_meanfield.protocols import Usage

if TYPE_CHECKING:
    import pandas as pd

CONFIG = "config.json"


def write_table(directory: Directory, name: str, frame: pd.DataFrame) -> list[str]:
    """Write a tidy table as CSV, and as Parquet where pandas can; returns the files' names."""
    kinds = ("csv", "parquet") if parquet_can_be_written() else ("csv",)
    return [save(frame, directory.partial / f"{name}.{kind}").name for kind in kinds]


def usage_of(usage: Usage) -> dict[str, float]:
    """What was spent, as the commands print it."""
    return {name: getattr(usage, name) for name in ("calls", "tokens_asked", "tokens_computed", "retries", "seconds")}


def check_same(file: Path, asked: Mapping[str, Any]) -> None:  # Any: JSON
    """See that something unfinished was begun with the same plan file and arguments.

    Args:
        file: Its `CONFIG`.
        asked: What is asked now.

    Raises:
        DataError: The file cannot be read, or something else was asked.
    """
    try:
        begun = _flat(_read(file)["asked"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: is not of this command ({error}); begin anew with another --out") from error
    now = _flat(asked)
    for name in {**begun, **now}:
        if begun.get(name) != now.get(name):
            raise DataError(f"{file}: was begun with another {name}; give the same, or begin anew with another --out")


def recorded_config(run: Path | None) -> Mapping[str, Any] | None:  # Any: JSON
    """The ``config.json`` of a run that is replayed, if one is.

    Raises:
        DataError: It cannot be read.
    """
    return None if run is None else _read(run / CONFIG)


def first_different(run: Path, other: Path, tables: Sequence[str]) -> str | None:
    """The first of these files that two runs have not in common, byte for byte; None where there is none.

    Raises:
        DataError: One of the files cannot be read.
    """
    for name in tables:
        try:
            if (run / name).read_bytes() != (other / name).read_bytes():
                return name
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}; a run's directory has it") from error
    return None


def in_words(told: object) -> object:
    """A setting for a table: of a dict its entries on one line, without those that are nothing."""
    if not isinstance(told, dict):
        return told
    entries = {key: one["name"] if isinstance(one, dict) and "name" in one else one for key, one in told.items()}
    return ", ".join(f"{key} {one}" for key, one in entries.items() if one is not None) or "none"


def _read(file: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); give the directory of a run") from error
    if not isinstance(values, dict):
        raise DataError(f"{file}: holds no JSON object; give the directory of a run")
    return values


def _flat(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"command": asked["command"], "plan file": asked["plan_sha256"], **asked["arguments"]}
