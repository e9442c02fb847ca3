"""An evaluation from its arguments to its scorecard, step by step: prepare, simulate, score."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.cascades.dimensions import dimension_of, known_labels, labels_of_dimension
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cascades.known import ANNOTATED
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
from mesa_meanfield.cli.simulations import Models, Settings, Simulation, event_of, simulations_of, simulator
from mesa_meanfield.data import Cascade
from mesa_meanfield.directory import Directory, check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.annotation.agreement import Pair, agreements, gold_pairs
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.report.page import write_report
from mesa_meanfield.evaluation.results import Cutting, Results
from mesa_meanfield.evaluation.rollouts import Kept, by_simulation, roll_out
from mesa_meanfield.evaluation.scorecard import Annotation, Card, Scorecard
from mesa_meanfield.evaluation.selection import comparable, stratified

PER_CASCADE = "per_cascade.jsonl"
REPORT = "report.html"
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
    training: tuple[Cascade, ...]
    """Those that rivals may learn from, those of the same event to be left out each time."""
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
    training = _training(given, everything, cascades)
    note_labels([action for one in cascades for action in one.actions], dimension, labels)
    prompts = {language: prompts_in(language, given.prompts) for language in {one.language for one in cascades}}
    if given.out is not None and given.resume is None:
        check_free(given.out)
    out = given.resume or given.out or new_directory(f"evaluate-{given.seed}")
    simulations = tuple(simulations_of(given.summarizers, given.backend, given.adapter, given.persona))
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
        cutting=Cutting(given.warm_up, given.per_tick, given.agents, given.min_actions),
        texts=given.texts,
        seed=given.seed,
        likelihood=given.text_likelihood,
    )
    return Evaluation(
        given=given,
        out=out,
        cascades=tuple(cascades),
        training=tuple(training),
        left_out=left_out,
        simulations=simulations,
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
    for name in ("replicas", "jobs", "min_actions", "limit"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not given.texts and (given.text_likelihood or given.annotator):
        raise DataError("--no-texts leaves no texts for --text-likelihood or --annotator; drop one of them")


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


def _training(given: argparse.Namespace, everything: Sequence[Cascade], cascades: Sequence[Cascade]) -> list[Cascade]:
    """What rivals may learn from.

    Raises:
        DataError: It holds nothing but the events compared.
    """
    training = {(one.dataset, one.id): one for file in given.train for one in read_cascades(file)}
    if given.folds:
        training |= {(one.dataset, one.id): one for one in everything}
    events = {event_of(one) for one in cascades}
    if training and len(events) == 1 and {event_of(one) for one in training.values()} == events:
        raise DataError(
            f"the rivals have nothing to learn from but event {events.pop()!r}; give --train other events"
        )
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


def score(job: Evaluation, kept: Kept, directory: Directory, start: float) -> Scorecard:
    """Label texts where that was asked for, score, and write the files."""
    known = {one.id for one in job.cascades}
    results = Results(
        names=tuple(one.name for one in job.simulations),
        cascades=job.cascades,
        # In one order, whichever was done first: floating-point sums depend on it.
        rollouts=tuple(one for key, one in sorted(kept.done.items()) if key.cascade in known),
        training=job.training,
        cutting=job.settings.cutting,
        seed=job.given.seed,
    )
    others: list[Card] = []
    annotation = None
    if job.annotator is not None:
        others, annotation = _annotated(job, job.annotator, results)
    compared = results.dimension(job.settings.dimension, job.settings.labels)
    assert compared is not None  # `comparable` saw to it
    directory.write_lines(PER_CASCADE, (row.model_dump(mode="json") for row in compared.rows()))
    scorecard = Scorecard(
        **dict(compared.card()),
        others=tuple(others),
        annotation=annotation,
        left_out=tuple(f"{one} {why}" for one, why in job.left_out.items()),
        settings=_flat(job.config),
        seconds=time.perf_counter() - start,
        per_cascade_file=str(directory.path / PER_CASCADE),
        report=str(directory.path / REPORT),
    )
    directory.write("scorecard.json", scorecard.model_dump(mode="json"))
    with progress("Report"):
        write_report(directory.partial / REPORT, scorecard, compared.stories())
    return scorecard


def _annotated(job: Evaluation, annotator: Annotator, results: Results) -> tuple[list[Card], Annotation]:
    """Label real and simulated texts alike: the cards of the dimensions, and how it went."""
    by_id = {one.id: one for one in job.cascades}
    simulated = [replace(by_id[one.cascade], actions=one.actions) for one in results.rollouts]
    with progress("Annotation"):
        real = list(annotator.annotate_all(job.cascades))
        labelled = list(annotator.annotate_all(simulated))
    pairs = sum((gold_pairs(one.actions) for one in real), Counter[Pair]())
    results = replace(
        results,
        cascades=tuple(real),
        rollouts=tuple(
            replace(one, actions=said.actions) for one, said in zip(results.rollouts, labelled, strict=True)
        ),
        training=tuple(real) if job.given.folds else (),  # no others are labelled
    )
    names = [f"{ANNOTATED}{dimension}" for dimension in annotator.dimensions]
    found = [results.dimension(name, known_labels(name)) for name in names]
    return [one.card() for one in found if one is not None], annotator.annotation(agreements(pairs))


def _flat(config: Mapping[str, Any]) -> dict[str, str | int | float | bool | list[str] | None]:
    """The settings without mappings in them."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": one for name, one in value.items()}
        else:
            flat[key] = value
    return flat


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
