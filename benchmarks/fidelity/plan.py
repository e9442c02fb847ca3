"""What an ablation is asked to do, read and checked before anything is written."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import ADAPTER_FILE, CELLS, Cell, cells_named

from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cli.common import prompts_in, sha256
from mesa_meanfield.cli.evaluation import learnt
from mesa_meanfield.cli.simulations import Settings
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.directory import OpenDirectory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.results import Cutting
from mesa_meanfield.evaluation.rivals import Trained
from mesa_meanfield.evaluation.selection import comparable, stratified

MIN_ACTIONS = 15
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Plan:
    """An ablation before it starts."""

    given: argparse.Namespace
    out: Path
    cells: tuple[Cell, ...]
    """Those that are to be made now, in this order."""
    folds: tuple[str, ...]
    """The events that are reported on, each by what was trained without it."""
    everything: tuple[Cascade, ...]
    cascades: tuple[Cascade, ...]
    """Those of the folds that are compared."""
    left_out: Mapping[str, str]
    trained: Mapping[str, Trained]
    """Fold -> what its rivals have learnt from the other events."""
    settings: Settings
    data_sha256: str
    end: float | None
    """When nothing new is begun any more, by the monotonic clock."""

    @property
    def over(self) -> bool:
        """Whether nothing new is to be begun."""
        return self.end is not None and time.monotonic() >= self.end


def plan(given: argparse.Namespace) -> Plan:
    """Read and check everything.

    Raises:
        DataError: Data or arguments are not as they should be.
        ValueError: An argument is out of its range.
    """
    for name in ("replicas", "jobs", "jobs_training", "limit"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if given.first_lesson and given.begin_with is not None:
        raise DataError("--first-lesson trains what trainings begin with; leave --begin-with")
    if given.copies < 0:
        raise DataError(f"--copies must be at least 0, got {given.copies}")
    if given.begin_with is not None and not (given.begin_with / ADAPTER_FILE).is_file():
        raise DataError(f"--begin-with {given.begin_with}: {ADAPTER_FILE} is missing there")
    cells = cells_named(given.cells) if given.cells else CELLS
    folds, calibrate_on = _events(given.folds), _events(given.calibrate_on)
    everything = read_cascades(given.data)
    known = {event_of(one) for one in everything}
    for option, events in (("--folds", folds), ("--calibrate-on", calibrate_on)):
        if unknown := [event for event in events if event not in known]:
            raise DataError(f"{option}: {given.data} has no event {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if both := set(folds) & set(calibrate_on):
        raise DataError(f"{min(both)!r} is in --folds and in --calibrate-on; what decides anything is not reported")
    if not folds:
        raise DataError("--folds: at least one event is needed")
    dimension = given.dimension or Counter(map(dimension_of, everything)).most_common(1)[0][0]
    if (given.copies or given.first_lesson) and dimension != "stance":
        raise DataError(f"--copies and --first-lesson are made for stances, and these labels are of {dimension!r}")
    labels = labels_of_dimension(dimension, everything)
    cutting = Cutting(per_tick=given.per_tick, agents=given.agents, min_actions=MIN_ACTIONS)
    cascades, left_out = comparable(
        [one for one in everything if event_of(one) in folds],
        dimension,
        min_actions=cutting.min_actions,
        warm_up=cutting.warm_up,
        agents=cutting.agents,
    )
    if given.limit is not None:
        cascades = stratified(cascades, given.limit, given.seed)
    if empty := [fold for fold in folds if fold not in map(event_of, cascades)]:
        raise DataError(f"--folds: no cascade of {empty[0]!r} has {MIN_ACTIONS} actions and labels of {dimension!r}")
    return Plan(
        given=given,
        out=given.out,
        cells=cells,
        folds=folds,
        everything=tuple(everything),
        cascades=tuple(cascades),
        left_out=left_out,
        trained=learnt(cascades, everything, dimension, labels, cutting),
        settings=Settings(
            dimension=dimension,
            labels=labels,
            prompts={language: prompts_in(language, given.prompts) for language in {o.language for o in cascades}},
            cutting=cutting,
            texts=given.texts,
            seed=given.seed,
            likelihood=False,
            summary_tokens=given.summary_tokens,
        ),
        data_sha256=sha256(given.data),
        end=None if given.minutes is None else time.monotonic() + 60 * given.minutes,
    )


def bind(job: Plan, part: str, settings: Mapping[str, Any]) -> None:  # Any: JSON
    """See that what is there was made with these settings; the first time, say so for later.

    Args:
        job: Where that is.
        part: What the settings are of.
        settings: Whatever changes a result.

    Raises:
        DataError: It was made with others.
    """
    file = job.out / SETTINGS
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}; take another --out") from error
    wanted = json.loads(json.dumps(settings))
    for name, value in known.get(part, {}).items():
        if value != wanted.get(name):
            raise DataError(
                f"{job.out} was begun with {name} {value}, not {wanted.get(name)}; take the same, or another --out"
            )
    OpenDirectory(job.out).write(SETTINGS, known | {part: wanted})


def _events(given: str) -> tuple[str, ...]:
    events = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if odd := [name for name in events if Path(name).name != name]:
        raise DataError(f"event {odd[0]!r} cannot be the name of a folder; rename it in the data")
    return events
