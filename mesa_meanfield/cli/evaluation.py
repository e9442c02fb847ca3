"""An evaluation from its arguments to its roll-outs: prepare, simulate, or go on with what was begun."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cli.adapters import NONE
from mesa_meanfield.cli.common import (
    SHIPPED,
    asked_for,
    circumstances,
    new_directory,
    note_labels,
    prompts_in,
    read_data,
    sha256,
)
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.simulations import Models, Settings, Simulation, simulations_of, simulator
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.directory import Directory, check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.results import Cutting
from mesa_meanfield.evaluation.rivals import Trained, folds, train_folds
from mesa_meanfield.evaluation.rollouts import Kept, by_simulation, roll_out
from mesa_meanfield.evaluation.selection import comparable, stratified

LABELS = "labels.jsonl"
_ANEW = ("json", "jobs", "batch", "resume", "out")
"""What may differ when an evaluation is gone on with: nothing that changes a result."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation before it starts."""

    given: argparse.Namespace
    out: Path
    cascades: tuple[Cascade, ...]
    """Those that are compared."""
    trained: Mapping[str, Trained]
    """Event -> what its rivals have learnt from others."""
    left_out: Mapping[str, str]
    simulations: tuple[Simulation, ...]
    settings: Settings
    models: Models
    annotator: Annotator | None
    config: Mapping[str, Any]


def prepare(given: argparse.Namespace) -> Evaluation:
    """Read and check everything, and load the models, before anything is written.

    Raises:
        DataError: Data or arguments are not as they should be.
        BackendError: A model cannot be used.
        ValueError: An argument is out of its range.
    """
    _check(given)
    given.backend, given.adapter = given.backend or ["embedded"], given.adapter or ["none"]
    cutting = Cutting(given.warm_up, given.per_tick, given.agents, given.min_actions)
    everything = _read(given)
    dimension = given.dimension or Counter(map(dimension_of, everything)).most_common(1)[0][0]
    labels = labels_of_dimension(dimension, everything)
    cascades, left_out = comparable(
        everything, dimension, min_actions=given.min_actions, warm_up=given.warm_up, agents=given.agents
    )
    if not cascades:
        few = f"at least {given.min_actions} actions and a label of {dimension!r} after the warm-up"
        raise DataError(f"{_source(given)}: no cascade has {few}; see --min-actions and --dimension")
    if given.limit is not None:
        cascades = stratified(cascades, given.limit, given.seed)
    trained = learnt(cascades, _training(given, everything), dimension, labels, cutting)
    note_labels([action for one in cascades for action in one.actions], dimension, labels)
    prompts = {language: prompts_in(language, given.prompts) for language in {one.language for one in cascades}}
    if given.out is not None and given.resume is None:
        check_free(given.out)
    out = given.resume or given.out or new_directory(f"evaluate-{given.seed}")
    simulations = simulations_of(
        given.summarizers,
        given.backend,
        given.adapter,
        given.persona,
        summarizer_adapter=given.summarizer_adapter,
        calibration=given.calibration,
    )
    with progress("Backend"):
        models = Models(simulations, {event_of(one) for one in cascades}, batch=given.batch)
        annotator = _annotator(given, out, models)
    config = {
        **asked_for(given, *_ANEW),
        "data_sha256": [sha256(file) for file in given.data or [SHIPPED]],
        "train_sha256": [sha256(file) for file in given.train],
        "models": dict(models.names),
        "dimension": dimension,
        "labels": list(labels),
        **circumstances(),
    }
    settings = Settings(
        dimension=dimension,
        labels=labels,
        prompts=prompts,
        cutting=cutting,
        texts=given.texts,
        seed=given.seed,
        likelihood=given.text_likelihood,
        summary_tokens=given.summary_tokens,
    )
    return Evaluation(
        given=given,
        out=out,
        cascades=tuple(cascades),
        trained=trained,
        left_out=left_out,
        simulations=tuple(simulations),
        settings=settings,
        models=models,
        annotator=annotator,
        config=config,
    )


def _annotator(given: argparse.Namespace, out: Path, models: Models) -> Annotator | None:
    """Who labels the texts, its labels kept beside the directory: they are of use to other evaluations, too."""
    if given.annotator is None:
        return None
    cache = given.labels_cache or out.parent / LABELS
    cache.parent.mkdir(parents=True, exist_ok=True)
    return Annotator(models.bare(given.annotator, given.batch), cache=cache, seed=given.seed)


def _check(given: argparse.Namespace) -> None:
    for name in ("replicas", "jobs", "min_actions", "limit", "summary_tokens"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not given.texts and (given.text_likelihood or given.annotator):
        raise DataError("--no-texts leaves no texts for --text-likelihood or --annotator; drop one of them")
    if given.summarizer_adapter != NONE and "llm" not in given.summarizers:
        raise DataError("--summarizer-adapter writes summaries for llm alone, which is not among --summarizers")


def _source(given: argparse.Namespace) -> str:
    return ", ".join(map(str, given.data)) or "the shipped cascades"


def _read(given: argparse.Namespace) -> list[Cascade]:
    """All cascades of all data files.

    Raises:
        DataError: Two files have a cascade of the same id.
    """
    found: dict[str, Path | None] = {}
    cascades = []
    for file in given.data or [None]:
        for one in read_data(file)[0]:
            if one.id in found:
                raise DataError(f"{file}: cascade {one.id!r} is in {found[one.id]}, too; ids must differ")
            found[one.id] = file
            cascades.append(one)
    return cascades


def _training(given: argparse.Namespace, everything: Sequence[Cascade]) -> list[Cascade]:
    """What rivals may learn from, those of the same event to be left out each time."""
    training = {(one.dataset, one.id): one for file in given.train for one in read_cascades(file)}
    if given.folds:
        training |= {(one.dataset, one.id): one for one in everything}
    return list(training.values())


def simulate(job: Evaluation, kept: Kept) -> None:
    """Make the roll-outs that are not there yet."""
    names = [one.name for one in job.simulations]
    jobs = by_simulation(names, job.cascades, job.given.replicas, kept.done)
    ticks = {one.id: _ticks(one, job.settings) for one in job.cascades}
    make = simulator(job.simulations, job.models, job.settings)
    if kept.done:
        note(f"{len(kept.done)} roll-outs are there already, {len(jobs)} are still to be made")
    with progress("Roll-outs", total=len(jobs)) as advance:
        for one in roll_out(jobs, make, ticks=sum(ticks[o.cascade.id] for o in jobs), workers=job.given.jobs):
            kept.add(one)
            advance(f"{one.name}: {one.cascade}")


def learnt(
    cascades: Sequence[Cascade],
    training: Sequence[Cascade],
    dimension: str,
    labels: Sequence[str],
    cutting: Cutting,
) -> Mapping[str, Trained]:
    """Event -> what its rivals have learnt from the training cascades of other events; nothing without any.

    Raises:
        DataError: For an event there is nothing to learn from.
    """
    if not training:
        return {}
    by_event = folds(cascades, training, among=False)
    return train_folds(by_event, dimension, labels, warm_up=cutting.warm_up, min_actions=cutting.min_actions)


def _ticks(cascade: Cascade, settings: Settings) -> int:
    parts = settings.cutting.cut(cascade)
    return len(parts.warm_up) + len(parts.roll_out)


def as_asked(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments with which an unfinished evaluation was begun.

    Raises:
        DataError: There is none, or its data has changed.
    """
    path = given.resume.with_name(given.resume.name.removesuffix(".partial"))
    file = Directory(path, resume=True).partial / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        asked = {key: config[key] for key in vars(given) if key not in {"do", "command", *_ANEW}}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file}: cannot be read ({error}); begin anew with another --out") from error
    for name in ("data", "train"):
        asked[name] = [Path(one) for one in asked[name]]
        now = [sha256(one) for one in asked[name] or ([SHIPPED] if name == "data" else [])]
        if now != config[f"{name}_sha256"]:
            raise DataError(f"{file}: the files of --{name} have changed since; begin anew with another --out")
    for name in ("prompts", "labels_cache"):
        asked[name] = None if asked[name] is None else Path(asked[name])
    return argparse.Namespace(**{**vars(given), **asked, "resume": path})
