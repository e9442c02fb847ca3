"""The run directory: everything that is needed to see what a run did.

It is written under the name ``NAME.partial`` and renamed when the run is over, so a killed run is
never taken for a whole one. Each tick is appended at once: what stands there is whole.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mesa_meanfield.data import Decision, MeanField, State, Tick
from mesa_meanfield.errors import DataError


class RunDirectory:
    """Records a run; a `Recorder` for the scheduler.

    ``config.json`` holds what the run was asked to do, ``decisions.jsonl`` one line per decision,
    ``fields.jsonl`` one per tick (a tick counts as recorded when its line is there), ``result.json``
    what came out.

    Args:
        path: The directory to be; it must not be there yet.
        config: What the run was asked to do: JSON-able, without secrets.
        dimension: Whose labels and shares are written as ``label`` and ``shares``; without it those of the first.

    Raises:
        DataError: The directory is there already, or cannot be made.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, dimension: str | None = None) -> None:
        self.path = Path(path)
        check_free(self.path)
        self.partial = _partial(self.path)
        """Where the files are until the run is over."""
        self._dimension = dimension
        try:
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"{self.partial} cannot be made: {error.strerror or error}") from error
        self._write("config.json", config)
        for name in ("decisions.jsonl", "fields.jsonl"):
            (self.partial / name).touch()

    def record(self, tick: Tick, field: MeanField, groups: Mapping[str, MeanField]) -> None:
        """Append a tick: first its decisions, then the mean field that came out of it."""
        rows = [self._decision(tick, *pair) for pair in zip(tick.states, tick.decisions, strict=True)]
        row = {"tick": tick.number, "recorded": tick.recorded, **self._field(field)}
        if groups:
            row["groups"] = {group: self._field(one) for group, one in groups.items()}
        files = [self.partial / "decisions.jsonl", self.partial / "fields.jsonl"]
        sizes = [file.stat().st_size for file in files]
        try:
            for file, lines in zip(files, (rows, [row]), strict=True):
                _append(file, lines)
        except OSError:  # a full disk: no half tick stays, so that the same one can be recorded again
            for file, size in zip(files, sizes, strict=True):
                os.truncate(file, size)
            raise

    def finish(self, result: Mapping[str, Any]) -> Path:
        """Write what came out and give the directory its name.

        Returns:
            The directory.
        """
        self._write("result.json", result)
        os.rename(self.partial, self.path)
        return self.path

    def drop_if_nothing_recorded(self) -> None:
        """Remove the unfinished directory if not even one tick went into it."""
        if self.partial.is_dir() and not (self.partial / "fields.jsonl").stat().st_size:
            shutil.rmtree(self.partial)

    def _decision(self, tick: Tick, state: State, decision: Decision) -> dict[str, Any]:
        return {
            "tick": tick.number,
            "agent": state.agent,
            "label": None if decision.failure else self._of_dimension(decision.labels),
            "labels": dict(decision.labels),
            "value": _value(decision.value),
            "distribution": None if decision.distribution is None else dict(decision.distribution),
            "text": decision.text,
            "seed": decision.seed,
            "failure": decision.failure,
            "recorded": decision.recorded,
            "prompt_hash": decision.prompt_hash,
            "state": state.text,
            "group": state.group,
            "parent": decision.parent,
        }

    def _field(self, field: MeanField) -> dict[str, Any]:
        return {
            "text": field.text,
            "shares": self._of_dimension(field.shares) or {},
            "latest": self._of_dimension(field.latest) or {},
            "size": field.size,
        }

    def _of_dimension(self, by_dimension: Mapping[str, Any]) -> Any:  # Any: a label, or shares
        dimension = self._dimension or next(iter(by_dimension), None)
        return None if dimension is None else by_dimension.get(dimension)

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        text = json_text(values, indent=2) + "\n"
        part = self.partial / f"{name}.partial"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, self.partial / name)


def json_text(values: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON in which a number that is infinite or none at all is null, since JSON knows no other way."""

    def finite(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {key: finite(one) for key, one in value.items()}
        return [finite(one) for one in value] if isinstance(value, list | tuple) else value

    return json.dumps(finite(values), ensure_ascii=False, indent=indent, allow_nan=False)


def _value(value: object) -> Any:  # Any: a JSON value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", fallback=str, warnings=False)
    return value if isinstance(value, int | float | None) else str(value)


def _append(file: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json_text(row) + "\n" for row in rows)
    with file.open("ab", buffering=0) as opened:  # one write per tick
        opened.write(lines.encode(errors="backslashreplace"))  # half an emoji becomes its JSON escape


def check_free(path: Path) -> None:
    """See that a run directory can have this name.

    Raises:
        DataError: A run stands there, or one that did not end.
    """
    if path.exists() or not path.name:
        raise DataError(f"{path} is there already; choose another --out, nothing is overwritten")
    if _partial(path).exists():
        raise DataError(f"{_partial(path)} holds an unfinished run; remove it or choose another --out")


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
