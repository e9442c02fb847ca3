"""An evaluation before its roll-outs: read and checked, its models loaded and recorded."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.log import LoggedBackend, fingerprint
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
from mesa_meanfield.cli.output import progress
from mesa_meanfield.cli.recording import ANEW, Before
from mesa_meanfield.cli.rerun import check_same, made_by, recorded_calibrations, recorded_made_by
from mesa_meanfield.cli.simulations import Models, Settings, Simulation, simulations_of
from mesa_meanfield.cli.weights import hardware
from mesa_meanfield.cli.wording import Examples, check_prompts
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.directory import check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.results import Cutting
from mesa_meanfield.evaluation.rivals import Trained, folds, train_folds
from mesa_meanfield.evaluation.selection import comparable, stratified
from mesa_meanfield.protocols import Backend

LABELS = "labels.jsonl"
Load = Callable[[str], Backend]


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
    examples: Examples
    """Some of the prompts, once they were asked."""


def prepare(given: argparse.Namespace, before: Before | None = None, load: Load | None = None) -> Evaluation:
    """Read and check everything, and load the models, before anything is written.

    Args:
        given: The arguments.
        before: The evaluation that is gone on with, or replayed.
        load: Spec -> the model; by default it is loaded, and answers.

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
    if before is not None and given.resume is not None:
        check_prompts(before.folder, prompts.values())
    out = given.resume or given.out or new_directory(f"evaluate-{given.seed}")
    simulations = simulations_of(
        given.summarizers,
        given.backend,
        given.adapter,
        given.persona,
        summarizer_adapter=given.summarizer_adapter,
        calibration=given.calibration,
    )
    replayed = before if given.replay is not None else None
    with progress("Backend"):
        models = Models(
            simulations,
            {event_of(one) for one in cascades},
            batch=given.batch,
            load=load,
            calibrations=None if replayed is None else recorded_calibrations(replayed),
        )
        if given.annotator is not None:
            models.bare(given.annotator)
    config = {
        "command": "evaluate",
        **asked_for(given, *ANEW),
        "replay": None if given.replay is None else str(given.replay),
        "data_sha256": [sha256(file) for file in given.data or [SHIPPED]],
        "train_sha256": [sha256(file) for file in given.train],
        "models": dict(models.names),
        **(recorded_made_by(replayed) if replayed is not None else {} if given.dry_run else made_by(models)),
        "dimension": dimension,
        "labels": list(labels),
        "machine": hardware(),
        **circumstances(),
    }
    if before is not None and given.resume is not None:
        check_same(before, config)
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
        annotator=None,
        config=config,
        examples=Examples(),
    )


def recorded(job: Evaluation, log: CallLog | None, cache: CallLog | None, budget: Budget) -> Evaluation:
    """The evaluation whose models are behind a call log, with whoever labels the texts.

    Args:
        job: An evaluation that asks its models themselves.
        log: Where their answers are kept; None where they come from one, or are made up.
        cache: The log that runs share.
        budget: What may be paid for.
    """

    def behind(base: Backend, adapters: Mapping[str, str]) -> Backend:
        if log is not None:
            hashes = {name: fingerprint(folder) for name, folder in adapters.items()}
            base = LoggedBackend(budget.watch(base), log, cache=cache, adapters=hashes)
        return job.examples.watch(base)

    job.models.record(behind)
    return replace(job, annotator=_annotator(job.given, job.out, job.models))


def _annotator(given: argparse.Namespace, out: Path, models: Models) -> Annotator | None:
    """Who labels the texts, its labels kept beside the directory: they are of use to other evaluations, too."""
    if given.annotator is None:
        return None
    cache = None
    if not given.dry_run:
        # What a replayed evaluation knew from there, its own log does not have.
        cache = given.labels_cache or (given.replay or out).parent / LABELS
        cache.parent.mkdir(parents=True, exist_ok=True)
    return Annotator(models.bare(given.annotator), cache=cache, seed=given.seed)


def _check(given: argparse.Namespace) -> None:
    for name in ("replicas", "min_actions", "limit", "summary_tokens"):
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
