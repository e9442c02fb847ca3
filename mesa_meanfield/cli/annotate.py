"""``mesa-meanfield annotate``: a language model labels the texts of cascades, real and simulated alike."""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import SPECS, is_server, load_backend
from mesa_meanfield.cascades.dimensions import annotated_dimensions, known_labels, label_of
from mesa_meanfield.cascades.jsonl import iter_cascades, write_cascades
from mesa_meanfield.cascades.known import ANNOTATED, BEHAVIOUR
from mesa_meanfield.cli.common import probe, seed
from mesa_meanfield.cli.output import Advance, note, print_json, print_lines, print_table, progress
from mesa_meanfield.data import Cascade, normalise
from mesa_meanfield.errors import DataError, ReplyError
from mesa_meanfield.evaluation.annotation.agreement import GOLD, Pair, agreements, gold_pairs
from mesa_meanfield.evaluation.annotation.annotator import Annotator
from mesa_meanfield.evaluation.scorecard import Agreement
from mesa_meanfield.prompts import LANGUAGES

_TEXTS = 128
"""How many texts are asked together at least, and then kept."""

_STEPS = 100
"""In how many steps the progress is told, however many cascades there are."""


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "annotate",
        help="a model labels the texts of cascades",
        description="Label every text of the cascades, recorded or simulated, and write them with the labels added.",
        epilog=f"Labels go by {ANNOTATED}DIMENSION and never replace those of the data. A text whose labels cannot "
        "be read has none. What was labelled stays in the cache: the same command goes on after an interruption.",
    )
    add = parser.add_argument
    add("--data", metavar="FILE", type=Path, required=True, help="cascades in JSON Lines")
    add("--out", metavar="FILE", type=Path, required=True, help="the JSON Lines file to be written")
    add("--dimensions", metavar="D,...", type=_dimensions, default=annotated_dimensions(),
        help=f"what to label (default: {','.join(annotated_dimensions())})")  # fmt: skip
    add("--limit", metavar="N", type=int, help="only the first N cascades")
    add("--cache", metavar="FILE", type=Path, help="where labels are kept (default: OUT.cache.jsonl)")
    add("--backend", metavar="SPEC", default="embedded", help=f"the model: {SPECS}")
    add("--adapter", metavar="PATH", default="none", help="a peft adapter for a local model (default none)")
    add("--batch", metavar="N", type=int, help="requests per batch; changes no result (default: what is fast)")
    add("--seed", metavar="N", type=seed, default=0, help="of the sampling (default 0)")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=annotate)


def _dimensions(given: str) -> tuple[str, ...]:
    return tuple(one.strip().removeprefix(ANNOTATED) for one in given.split(","))


@dataclass
class _Found:
    """What is counted on the way."""

    labels: dict[str, Counter[str]]
    """Dimension -> label -> how many actions have it."""
    cascades: int = 0
    actions: int = 0
    pairs: Counter[Pair] = field(default_factory=Counter)

    def add(self, cascade: Cascade) -> None:
        self.cascades += 1
        self.actions += len(cascade.actions)
        self.pairs.update(gold_pairs(cascade.actions))
        for dimension, counts in self.labels.items():
            counts.update(filter(None, (label_of(action, dimension) for action in cascade.actions)))


def annotate(given: argparse.Namespace) -> None:
    """Read, label, write batch by batch, and tell what was found."""
    start = time.perf_counter()
    cache = given.cache or given.out.with_name(f"{given.out.name}.cache.jsonl")
    total = _check(given, cache)
    try:
        annotator = _annotator(given, cache)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    names = [*(f"{ANNOTATED}{dimension}" for dimension in annotator.dimensions), BEHAVIOUR]
    found = _Found({name: Counter(dict.fromkeys(known_labels(name), 0)) for name in names})
    try:
        with progress("Annotate", total=math.ceil(total / _step(total))) as advance:
            write_cascades(given.out, _labelled(given, annotator, found, advance, _step(total), total))
    except BaseException:
        given.out.with_name(f"{given.out.name}.partial").unlink(missing_ok=True)  # half a data set is none
        if annotator.texts > len(annotator.failed):
            note(f"what was labelled so far is in {cache}; the same command goes on from there")
        raise
    _tell(given, annotator, found, cache, time.perf_counter() - start)


def _check(given: argparse.Namespace, cache: Path) -> int:
    """See that files and numbers are as they should be; returns how many cascades there are to be labelled."""
    if given.limit is not None and given.limit < 1:
        raise DataError(f"--limit must be at least 1, got {given.limit}")
    if cache.absolute() in (given.data.absolute(), given.out.absolute()):
        raise DataError(f"{cache}: the cache needs a file of its own; give --cache another name")
    if given.out.exists():
        raise DataError(f"{given.out} is there already; give --out another name, or remove it")
    try:
        with given.data.open("rb") as lines:
            total = sum(not line.isspace() for line in lines)
    except OSError as error:
        raise DataError(f"{given.data}: cannot be read: {error.strerror or error}; give a JSON Lines file") from error
    if not total:
        raise DataError(f"{given.data}: holds no cascade; expected one JSON object per line")
    return min(total, given.limit or total)


def _annotator(given: argparse.Namespace, cache: Path) -> Annotator:
    with progress("Backend"):
        adapter = None if given.adapter == "none" else given.adapter
        backend = load_backend(given.backend, batch=given.batch, adapter=adapter)
        # To a server that answers many at once, enough that few of them wait for the last one of a batch.
        batch = max(_TEXTS, 4 * (given.batch or 0))
        annotator = Annotator(backend, dimensions=given.dimensions, cache=cache, seed=given.seed, batch=batch)
        if is_server(given.backend):
            probe(backend)
    return annotator


def _step(total: int) -> int:
    return math.ceil(total / _STEPS)


def _labelled(
    given: argparse.Namespace, annotator: Annotator, found: _Found, advance: Advance, step: int, total: int
) -> Iterator[Cascade]:
    """The cascades with labels, while they are counted and it is told how many are done.

    Raises:
        ReplyError: There were texts, and not one of them has labels.
    """
    foreign: set[str] = set()
    cascades = itertools.islice(iter_cascades(given.data), total)
    for cascade in annotator.annotate_all(cascades):
        if cascade.language not in LANGUAGES and cascade.language not in foreign:
            foreign.add(cascade.language)
            note(f"there are no prompts in language {cascade.language!r}; asking in English")
        found.add(cascade)
        yield cascade
        if found.cascades % step == 0 or found.cascades == total:
            advance(f"({found.cascades:,} cascades, {annotator.texts:,} texts)")
    if annotator.texts and len(annotator.failed) == annotator.texts:
        raise ReplyError(f"Not one of {annotator.texts} texts could be labelled: {_example(annotator)}")


def _example(annotator: Annotator) -> str:
    return next(iter(annotator.failed.values()))


def _tell(given: argparse.Namespace, annotator: Annotator, found: _Found, cache: Path, seconds: float) -> None:
    if annotator.failed:
        note(
            f"{len(annotator.failed)} of {annotator.texts} texts could not be labelled and have no label "
            f"(one of them: {_example(annotator)}); another run asks them again"
        )
    agreement = agreements(found.pairs)
    annotation = annotator.annotation(agreement)
    if given.json:
        counted = {"cascades": found.cascades, "actions": found.actions}
        asked = {"asked": annotator.asked, "cached": annotator.cached}
        files = {"file": str(given.out), "cache": str(cache)}
        print_json(files | counted | asked | annotation.model_dump() | {"labels": found.labels, "seconds": seconds})
        return
    rows = []
    for name, counts in found.labels.items():
        shares = normalise(counts)
        for label, count in counts.items():
            rows.append([name, label, f"{count:,}", f"{shares[label]:.1%}" if shares else ""])
    print_table(f"Labels by {annotation.model}", ["dimension", "label", "actions", "share"], rows)
    if agreement:
        _tell_agreement(agreement)
    spent = annotation.spent
    print_lines(
        f"{given.out}: {found.cascades:,} cascades, {found.actions:,} actions, {annotator.texts:,} different texts",
        f"{annotator.asked:,} texts asked, {annotator.cached:,} from the cache, {annotation.failures:,} failed, "
        f"{spent.retries:,} retries",
        f"{spent.tokens_asked:,} tokens asked, {spent.tokens_computed:,} computed, {spent.seconds:.1f} s in the "
        f"model, {seconds:.1f} s in all",
        f"Cache: {cache}",
    )


def _tell_agreement(agreement: tuple[Agreement, ...]) -> None:
    rows = [
        [one.dimension, one.gold, f"{one.texts:,}", f"{one.accuracy:.1%}", f"{one.chance:.1%}",
         "" if one.kappa is None else f"{one.kappa:.3f}"]
        for one in agreement
    ]  # fmt: skip
    columns = ["dimension", "gold labels", "actions", "accuracy", "commonest label", "Cohen's kappa"]
    print_table("Agreement with gold labels", columns, rows)
    for one in agreement:
        if words := GOLD.get(one.gold):
            print_lines(f"Gold {one.gold}: " + ", ".join(f"{gold} counts as {own}" for gold, own in words.items()))
