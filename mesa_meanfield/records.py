"""A run's directory read again: what it was asked, what came out, and what its call log holds, for any command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.asked import plain
from mesa_meanfield.backends.calls import CALLS, CallLog, Contents
from mesa_meanfield.errors import DataError

Json = Mapping[str, Any]
"""An object as it was written; what is in it is looked at where it is used."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions of one run, counted."""

    played: int
    """Recorded ones, that were played."""
    simulated: int
    failed: int
    """Of the simulated ones."""
    scored: int
    """Of the simulated ones, those that were drawn from a distribution that is known."""
    ticks_played: int
    ticks: int
    """All of them, the played ones included."""
    groups: tuple[str, ...]
    """Those that had a mean field of their own."""


@dataclass(frozen=True)
class Record:
    """What a directory of results says; what is not there is empty or None."""

    path: Path
    finished: bool
    config: Json
    result: Json
    """``result.json``, or an evaluation's ``scorecard.json``."""
    prompts: Json
    """Templates and examples."""
    plan: str | None
    """The plan file's text."""
    calls: Contents | None
    decided: Decided | None
    rollouts: int | None
    """How many an evaluation made."""
    files: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """What made it."""
        asked = self.config.get("asked")
        found = self.config.get("command") or (asked.get("command") if isinstance(asked, dict) else None)
        return None if found is None else str(found)


def read_record(path: str | Path) -> Record:
    """Read what a command left, whether it ended or not. User names and passwords in addresses are left out.

    Args:
        path: The run's directory; an unfinished one's with or without the ``.partial`` of its name.

    Raises:
        DataError: There is none, or one of its files cannot be read.
    """
    folder = Path(path)
    if not folder.exists():
        folder = folder.with_name(f"{folder.name}.partial")
    if not (folder / "config.json").is_file():
        raise DataError(f"{path}: no run is there; its config.json is missing")
    plan = folder / "plan.toml"
    return Record(
        path=folder,
        finished=not folder.name.endswith(".partial"),
        config=_object(folder / "config.json"),
        result=_object(folder / "result.json") or _object(folder / "scorecard.json"),
        prompts=_object(folder / "prompts.json"),
        plan=plain(plan.read_text(encoding="utf-8", errors="replace")) if plan.is_file() else None,
        calls=_contents(folder / CALLS),
        decided=_decided(folder),
        rollouts=_lines(folder / "rollouts.jsonl"),
        files=tuple(sorted(file.name for file in folder.iterdir())),
    )


def _object(file: Path) -> Json:
    if not file.is_file():
        return {}
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from None
    if not isinstance(read, dict):
        raise DataError(f"{file}: is no JSON object")
    return {key: _clean(value) for key, value in read.items()}


def _clean(value: Any) -> Any:  # Any: JSON
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


def _contents(file: Path) -> Contents | None:
    if not file.is_file():
        return None
    log = CallLog(file, writable=False)
    try:
        return log.contents()
    finally:
        log.close()


def _decided(folder: Path) -> Decided | None:
    decisions, fields = folder / "decisions.jsonl", folder / "fields.jsonl"
    if not (decisions.is_file() and fields.is_file()):
        return None
    played = simulated = failed = scored = ticks_played = ticks = 0
    groups: dict[str, None] = {}
    try:
        with decisions.open(encoding="utf-8") as rows:  # one by one: there may be millions
            for row in map(json.loads, rows):
                played += row["recorded"]
                simulated += not row["recorded"]
                failed += row["failure"] is not None
                scored += row["distribution"] is not None
        with fields.open(encoding="utf-8") as rows:
            for row in map(json.loads, rows):
                ticks += 1
                ticks_played += row["recorded"]
                groups |= dict.fromkeys(row.get("groups", ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: its decisions or mean fields cannot be read ({error})") from None
    return Decided(played, simulated, failed, scored, ticks_played, ticks, tuple(groups))


def _lines(file: Path) -> int | None:
    if not file.is_file():
        return None
    with file.open("rb") as lines:
        return sum(1 for _ in lines)
