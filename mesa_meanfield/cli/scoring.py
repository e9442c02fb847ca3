"""From roll-outs to the scorecard and its files."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mesa_meanfield.cascades.dimensions import known_labels
from mesa_meanfield.cascades.known import ANNOTATED
from mesa_meanfield.cli.evaluation import Evaluation, learnt
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.simulating import Held
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.annotation.agreement import Pair, agreements, gold_pairs
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.report.page import write_report
from mesa_meanfield.evaluation.results import Compared, Results
from mesa_meanfield.evaluation.rollouts import Kept
from mesa_meanfield.evaluation.scorecard import Annotation, Card, Scorecard

PER_CASCADE = "per_cascade.jsonl"
REPORT = "report.html"


def score(job: Evaluation, kept: Kept, directory: Directory, start: float) -> Scorecard:
    """Label texts where that was asked for, score, and write the files."""
    results = results_of(job, kept)
    others: list[Card] = []
    annotation = None
    if job.annotator is not None:
        others, annotation = _annotated(job, job.annotator, results)
    compared = results.dimension(job.settings.dimension, job.settings.labels, job.trained)
    assert compared is not None  # `comparable` saw to it
    return publish(
        compared,
        directory,
        others=others,
        annotation=annotation,
        left_out=job.left_out,
        config=job.config,
        seconds=time.perf_counter() - start,
    )


def results_of(job: Evaluation, kept: Kept | Held) -> Results:
    """The roll-outs as one whole."""
    known = {one.id for one in job.cascades}
    return Results(
        names=tuple(one.name for one in job.simulations),
        cascades=job.cascades,
        # In one order, whichever was done first: floating-point sums depend on it.
        rollouts=tuple(one for key, one in sorted(kept.done.items()) if key.cascade in known),
        cutting=job.settings.cutting,
        seed=job.given.seed,
    )


def publish(
    compared: Compared,
    directory: Directory,
    *,
    others: Sequence[Card] = (),
    annotation: Annotation | None = None,
    left_out: Mapping[str, str],
    config: Mapping[str, Any],  # Any: JSON
    seconds: float,
) -> Scorecard:
    """Score one dimension and write the scorecard, the figures of every cascade and the report.

    Args:
        compared: The main dimension.
        directory: Where the files go.
        others: What other dimensions came to.
        annotation: How they were labelled.
        left_out: Cascade -> why it was not compared.
        config: How it was made.
        seconds: How long that took.
    """
    directory.write_lines(PER_CASCADE, (row.model_dump(mode="json") for row in compared.rows()))
    scorecard = Scorecard(
        **dict(compared.card()),
        others=tuple(others),
        annotation=annotation,
        left_out=tuple(f"{one} {why}" for one, why in left_out.items()),
        settings=_flat(config),
        seconds=seconds,
        per_cascade_file=str(directory.path / PER_CASCADE),
        report=str(directory.path / REPORT),
    )
    directory.write("scorecard.json", scorecard.model_dump(mode="json"))
    with progress("Report"):
        write_report(directory.partial / REPORT, scorecard, compared.stories())
    return scorecard


def _annotated(job: Evaluation, annotator: Annotator, results: Results) -> tuple[list[Card], Annotation]:
    """Label real and simulated texts alike: the cards of the dimensions, and how it went."""
    cutting = job.settings.cutting
    results = labelled(annotator, results)
    real = results.cascades
    cards = []
    for dimension in (f"{ANNOTATED}{name}" for name in annotator.dimensions):
        labels = known_labels(dimension)
        training = real if job.given.folds else ()  # no others are labelled
        try:
            trained = learnt(real, training, dimension, labels, cutting)
        except DataError as error:  # too few texts got labels: hours of roll-outs are not to be lost for that
            note(f"{dimension}: {error}; its rivals have learnt nothing")
            trained = {}
        compared = results.dimension(dimension, labels, trained)
        if compared is not None:
            cards.append(compared.card())
    pairs = sum((gold_pairs(one.actions) for one in real), Counter[Pair]())
    return cards, annotator.annotation(agreements(pairs))


def labelled(annotator: Annotator, results: Results) -> Results:
    """The same with labels for the texts of all that is compared, real and simulated."""
    by_id = {one.id: one for one in results.cascades}
    with progress("Annotation"):
        played_and_compared = annotator.annotate_all(map(results.cutting.covered, results.cascades))
        real = tuple(
            replace(one, actions=(*new.actions, *one.actions[len(new.actions) :]))
            for one, new in zip(results.cascades, played_and_compared, strict=True)
        )
        simulated = [replace(by_id[one.cascade], actions=one.actions) for one in results.rollouts]
        rollouts = tuple(
            replace(one, actions=new.actions)
            for one, new in zip(results.rollouts, annotator.annotate_all(simulated), strict=True)
        )
    return replace(results, cascades=real, rollouts=rollouts)


def _flat(config: Mapping[str, Any]) -> dict[str, str | int | float | bool | list[str] | None]:
    """The settings without mappings in them; lists of anything but texts are JSON."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": one for name, one in _flat(value).items()}
        elif isinstance(value, list) and not all(isinstance(one, str) for one in value):
            flat[key] = json.dumps(value, ensure_ascii=False)
        else:
            flat[key] = value
    return flat
