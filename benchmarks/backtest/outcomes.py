"""What a back-test of one cascade gave, kept as a line of ``results.jsonl``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.backtest import WITHOUT, Halves

FILE = "results.jsonl"
OTHER = "other"
"""The arm with another post in the denial's place."""


@dataclass(frozen=True)
class Outcome:
    """One tested post. No text of the record is in it."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    cascade: str
    event: str
    kind: str
    """``denial`` or ``placebo``."""
    post: str
    """The id of the post."""
    other: str | None
    """The id of what was put in its place in the arm `OTHER`."""
    labels: tuple[str, ...]
    played: int
    """Actions that were played."""
    at: int
    """The tick of the post, of so many:"""
    ticks: int
    real: Halves
    """Recorded counts before and after, label by label."""
    arms: Mapping[str, tuple[Halves, ...]]
    """Arm -> replica by replica the (expected) counts."""
    failures: int
    tokens: int
    seconds: float

    @property
    def key(self) -> tuple[str, str]:
        """Which one it is."""
        return self.cascade, self.kind

    def shares(self, label: str) -> tuple[float, float]:
        """The recorded shares before and after."""
        return _shares(self.real, self.labels.index(label))

    def change(self, label: str, arm: str | None = None) -> float:
        """The share after the post less that before it, in the record or as the mean over an arm's replicas."""
        found = [self.real] if arm is None else self.arms.get(arm, ())
        k = self.labels.index(label)
        return _mean([after - before for before, after in (_shares(one, k) for one in found)])

    def effect(self, label: str, arm: str) -> float:
        """The share after the post in an arm less that in `WITHOUT`, the mean over replicas."""
        k = self.labels.index(label)
        both = zip(self.arms[arm], self.arms[WITHOUT], strict=True) if arm in self.arms else ()
        return _mean([_shares(one, k)[1] - _shares(bare, k)[1] for one, bare in both])


class Kept:
    """The outcomes that are there; half a line at the end of their file, from a kill, is taken away.

    Raises:
        DataError: Another line is no outcome.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.done: dict[tuple[str, str], Outcome] = {}
        file = directory.partial / FILE
        if file.exists():
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)
            for number, line in enumerate(file.read_bytes().splitlines(), 1):
                one = _read(line, file, number)
                self.done[one.key] = one

    def add(self, one: Outcome) -> None:
        """Keep one more."""
        self._directory.append({FILE: [asdict(one)]})
        self.done[one.key] = one


def _shares(halves: Halves, k: int) -> tuple[float, float]:
    before, after = (half[k] / sum(half) if sum(half) > 0 else float("nan") for half in halves)
    return before, after


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


@cache
def _adapter() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)


def _read(line: bytes, file: Path, number: int) -> Outcome:
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise DataError(f"{file} line {number}: is no outcome ({told}); remove the line to make it anew") from None
