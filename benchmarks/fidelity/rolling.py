"""The roll-outs of a cell, each kept as soon as it is done, with the hashes of the adapters that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cells import Cell
from plan import Plan

from mesa_meanfield.cli.common import circumstances
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.simulations import Models, simulator
from mesa_meanfield.data import event_of
from mesa_meanfield.directory import OpenDirectory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.rollouts import Job, Kept, RollOut, by_simulation
from mesa_meanfield.evaluation.waves import in_waves

CONFIG = "config.json"
_HASHED = ("adapter_config.json", "adapter_model.safetensors", "calibration.json")


def roll(job: Plan, cell: Cell) -> None:
    """Make the roll-outs of a cell that are not there yet, on the folds whose adapters are.

    Raises:
        DataError: An adapter has changed since some of the roll-outs were made.
        BackendError: The model or an adapter cannot be used.
    """
    ready = [fold for fold in job.folds if cell.ready(job.out, fold)]
    if missing := [fold for fold in job.folds if fold not in ready]:
        note(f"{cell.title}: no adapters for {', '.join(missing)}, whose cascades stay without a roll-out")
    temperatures = cell.calibration(job.out)
    if temperatures is not None and not temperatures.is_dir():
        return
    cascades = [one for one in job.cascades if event_of(one) in ready]
    if not cascades:
        return
    folder = OpenDirectory(job.out / "cells" / cell.key)
    kept = Kept(folder)
    jobs = by_simulation([cell.title], cascades, job.given.replicas, kept.done)
    if not jobs:
        return
    wanted = {event_of(one.cascade) for one in jobs}
    used = {fold: _hashes(cell, job.out, fold) for fold in ready if fold in wanted}
    known = _known(folder, cell, used)
    simulation = cell.simulation(job.out, job.given.backend)
    with progress("Backend"):
        models = Models([simulation], used, batch=None)
    name = models.names[job.given.backend]
    if known.get("model", name) != name:
        raise DataError(f"{folder.path} was made by {known['model']}, not {name}; remove it to make it anew")
    made_by = {"cell": cell.title, "model": name, "adapters": known.get("adapters", {}) | used}
    folder.write(CONFIG, made_by | dict(circumstances()))
    make = simulator([simulation], models, job.settings)
    with progress(cell.title, total=len(jobs)) as advance:
        for one in in_waves(_waves(job, jobs), make, ticks=sum(_ticks(job, one) for one in jobs)):
            kept.add(one)
            advance(f"{one.cascade}, replica {one.replica + 1}")


def rolled(job: Plan, cell: Cell) -> list[RollOut]:
    """The roll-outs of a cell that are there, of the folds and replicas that are asked for, in one order."""
    folder = job.out / "cells" / cell.key
    if not folder.is_dir():
        return []
    known = {one.id for one in job.cascades}
    done = sorted(Kept(OpenDirectory(folder)).done.items())
    return [one for key, one in done if key.cascade in known and key.replica < job.given.replicas]


def _waves(job: Plan, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Some at a time, none begun when the time is over."""
    for start in range(0, len(jobs), job.given.jobs):
        if job.over:
            return
        yield jobs[start : start + job.given.jobs]


def _ticks(job: Plan, one: Job) -> int:
    parts = job.settings.cutting.cut(one.cascade)
    return len(parts.warm_up) + len(parts.roll_out)


def _known(folder: OpenDirectory, cell: Cell, used: dict[str, dict[str, str]]) -> dict[str, Any]:  # Any: JSON
    """What was said when the cell was begun; its adapters must be the same."""
    file = folder.path / CONFIG
    try:
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}; remove {folder.path} to make it anew") from error
    for fold, hashes in used.items():
        if known.get("adapters", {}).get(fold, hashes) != hashes:
            raise DataError(
                f"{cell.title}: the adapters for {fold} have changed since its roll-outs were made; "
                f"remove {folder.path} to make them anew"
            )
    return known


def _hashes(cell: Cell, out: Path, fold: str) -> dict[str, str]:
    """Of the files that a cell's roll-outs of a fold depend on."""
    folders = [(one.name, one.folder(out, fold)) for one in cell.adapters]
    if (temperatures := cell.calibration(out)) is not None:
        folders.append(("calibration", temperatures))
    files = {f"{name}/{file}": folder / file for name, folder in folders for file in _HASHED}
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(files.items()) if file.is_file()
    }
