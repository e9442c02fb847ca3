"""Where a training was, so that a killed one goes on as if nothing had happened.

Random numbers need no keeping: all of them follow from the seed and the position.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mesa_meanfield.directory import json_text
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.config import CHECKPOINT, CURVES


@dataclass
class Position:
    """How far a training is."""

    stage: int = 0
    """The number of the stage under way."""
    step: int = 0
    """How many of its steps are done."""
    done: int = 0
    """Steps of all stages."""
    tokens: int = 0
    """Tokens computed so far, in training."""
    asked: int = 0
    """As if every question had been computed alone."""
    seconds: float = 0.0
    best: float | None = None
    """The best look at the held-out ticks in this stage."""
    best_look: dict[str, float | None] | None = None
    """All its figures."""
    waited: int = 0
    """Looks since then."""
    lines: int = 0
    """Of the curves."""
    before: list[dict[str, float | None]] = field(default_factory=list)
    """What the held-out ticks came to before each stage."""
    after: list[dict[str, float | None]] = field(default_factory=list)


def write_checkpoint(folder: Path, settings: str, position: Position, tensors: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing the old one at once.

    Args:
        folder: Of the training.
        settings: What it was asked to do, so that nothing else goes on with it.
        position: Where it is.
        tensors: Adapters, the best weights and the optimizer's state.
    """
    part = folder / f"{CHECKPOINT}.partial"
    torch.save({"settings": settings, "position": vars(position), **tensors}, part)
    os.replace(part, folder / CHECKPOINT)


def read_checkpoint(folder: Path, settings: str) -> tuple[Position, dict[str, Any]] | None:
    """The last checkpoint of a training; None where none was written yet.

    Raises:
        DataError: It belongs to other settings or data, or is broken.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return None
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)  # tensors and plain values, never code
        position = Position(**found.pop("position"))
        known = found.pop("settings")
    except Exception as error:  # torch and pickle have many kinds
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}; begin anew") from error
    if known != settings:
        raise DataError(f"{file} is of a training with other settings or data; resume with the same, or begin anew")
    return position, found


def append_to_curves(folder: Path, row: Mapping[str, Any]) -> None:
    """Append one line, in one write."""
    with (folder / CURVES).open("ab", buffering=0) as opened:
        opened.write(f"{json_text(row)}\n".encode())


def rewind_curves(folder: Path, lines: int) -> None:
    """Keep the first so many lines of the curves: what stands behind them is computed again."""
    file = folder / CURVES
    if not file.exists():
        return
    part = file.with_name(f"{CURVES}.partial")
    part.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]))
    os.replace(part, file)
