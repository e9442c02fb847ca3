"""Recorded denials put back into simulated crowds: does what follows go the way it really went?

    python benchmarks/backtest/backtest.py --data FILE.jsonl --out DIR [--backend SPEC] [--minutes 90]

The same command goes on where it was stopped. README.md beside this file says how posts are found and how the
table is read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_table import write_table
from denials import DENYING, Rules, cutting
from filelock import FileLock, Timeout
from outcomes import Kept
from simulating import How, factory_of, simulate, tasks_of

from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension
from mesa_meanfield.cli.adapters import NONE
from mesa_meanfield.cli.common import SUMMARIZERS, circumstances, prompts_in, read_files, seed, sha256
from mesa_meanfield.cli.output import note, print_lines, progress
from mesa_meanfield.cli.simulations import Models, Settings, Simulation
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.directory import Directory, OpenDirectory
from mesa_meanfield.errors import DataError, MeanFieldError
from mesa_meanfield.evaluation.results import Cutting
from mesa_meanfield.evaluation.selection import stratified
from mesa_meanfield.experiments.backtest import Occasion
from mesa_meanfield.ibtune.shipped import WEIGHTS
from mesa_meanfield.seeds import derive

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Plan:
    """A back-test before it starts."""

    given: argparse.Namespace
    dimension: str
    labels: tuple[str, ...]
    label: str
    """Whose share the table is about."""
    rules: Rules
    read: int
    """Cascades in the data."""
    denied: int
    """Those with any denial by the rule."""
    cascades: Mapping[str, Cascade]
    """Those that are tested, as recorded."""
    found: tuple[Occasion, ...]
    usable: int
    """How many could be."""
    hashes: Mapping[str, str]
    """Of the data."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Test what is not tested yet and write the table; the exit status, as `mesa_meanfield.cli.main` gives it."""
    given = _arguments(arguments)
    try:
        return _make(plan(given), None if given.minutes is None else time.monotonic() + 60 * given.minutes)
    except (MeanFieldError, ValueError, OSError) as error:
        print(f"backtest: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("backtest: interrupted; the same command goes on", file=sys.stderr)
        return 1


def plan(given: argparse.Namespace) -> Plan:
    """Read the data and find the posts.

    Raises:
        DataError: Data or arguments are not as they should be, or no post is found.
    """
    for name in ("replicas", "jobs", "limit", "around", "horizon"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise DataError(f"--{name} must be at least 1, got {value}")
    everything, hashes = read_files(given.data)
    dimension = given.dimension or Counter(map(dimension_of, everything)).most_common(1)[0][0]
    labels = labels_of_dimension(dimension, everything)
    denying = [label for label in DENYING if label in labels]
    rule = given.rule or ("label" if denying else "words")
    if rule == "label" and not denying:
        raise DataError(f"--rule label: {dimension} has none of the labels {', '.join(DENYING)}; take words")
    label = given.label or next(iter(denying), labels[0])
    if label not in labels:
        raise DataError(f"--label: {label!r} is none of {', '.join(labels)}")
    how = cutting(given.warm_up, given.per_tick, given.until_post, given.horizon)
    rules = Rules(rule, dimension, given.around, how)
    there = {one.id: found for one in everything if (found := rules.denial(one, labels)) is not None}
    if not there:
        raise DataError(
            f"No cascade has a denial by the rule {rule!r} after its warm-up with {given.around} labelled actions "
            "before it and after its tick; lower --around, or take another --rule"
        )
    cascades = [one for one in everything if one.id in there]
    chosen = cascades if given.limit is None else stratified(cascades, given.limit, given.seed)
    chosen.sort(key=lambda one: derive(given.seed, "order", one.id))  # so that a part of them is a random part
    return Plan(
        given=given,
        dimension=dimension,
        labels=labels,
        label=label,
        rules=rules,
        read=len(everything),
        denied=sum(any(rules.denies(action, one.language) for action in one.actions) for one in everything),
        cascades={one.id: one for one in chosen},
        found=tuple(there[one.id] for one in chosen),
        usable=len(cascades),
        hashes=hashes,
    )


def _make(job: Plan, end: float | None) -> int:
    given, start = job.given, time.perf_counter()
    folder = OpenDirectory(given.out)
    try:
        with FileLock(given.out / ".lock", timeout=0):
            bind(folder, _settings(job))
            how = simulated_by(job, folder)
            kept = Kept(folder)
            tasks = tasks_of(
                job.found,
                (lambda of: job.rules.placebo(job.cascades[of.cascade.id], job.labels, given.seed))
                if given.placebo
                else None,
                lambda of: job.rules.instead(of, given.seed),
            )
            simulate(tasks, how, kept, jobs=given.jobs, end=end)
            wanted = [kept.done[key] for one in tasks if (key := (one.of.cascade.id, one.kind)) in kept.done]
            left = len(tasks) - len(wanted)
            table = write_table(folder, job, wanted, left, time.perf_counter() - start)
    except Timeout:
        raise DataError(f"{given.out}: another call is at work there; wait for its end") from None
    print_lines(table)
    if left:
        note("the time is over; the same command goes on")
    return 0


def simulated_by(job: Plan, folder: Directory) -> How:
    """The language model and all that is asked of it.

    Raises:
        BackendError: It or an adapter cannot be used.
        DataError: It is not what the folder was begun with.
    """
    given, events = job.given, {event_of(one.cascade) for one in job.found}
    one = Simulation(
        given.summarizer, given.summarizer, given.backend, given.adapter, given.persona, given.summarizer_adapter
    )
    with progress("Backend"):
        models = Models([one], events, batch=None)
    adapters = {path: sha256(Path(path) / WEIGHTS) for path in models.adapters}
    bind(folder, {"model": models.names[given.backend], "adapters": adapters})
    languages = {of.cascade.language for of in job.found}
    settings = Settings(
        dimension=job.dimension,
        labels=job.labels,
        prompts={language: prompts_in(language, None) for language in languages},
        cutting=Cutting(),
        texts=given.texts,
        seed=given.seed,
        likelihood=False,
    )
    factory = factory_of(one, models, settings)
    return How(job.dimension, job.labels, given.announce, given.replicas, given.seed, factory, models.shared(one))


def bind(folder: Directory, settings: Mapping[str, Any]) -> None:  # Any: JSON
    """See that what is there was made with these settings; the first time, say so for later.

    A setting that is a mapping may get more keys, as adapters do with more events.

    Raises:
        DataError: It was made with others.
    """
    file = folder.partial / SETTINGS
    try:
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}; take another --out") from error
    for name, value in json.loads(json.dumps(settings)).items():
        was = known.setdefault(name, value)
        both = was.keys() & value.keys() if isinstance(value, dict) else ()
        if any(was[key] != value[key] for key in both) or (not isinstance(value, dict) and was != value):
            raise DataError(
                f"{folder.path} was begun with {name} {was}, not {value}; take the same, or another --out"
            )
        if isinstance(value, dict):
            known[name] = was | value
    folder.write(SETTINGS, {"circumstances": dict(circumstances())} | known)


def _settings(job: Plan) -> dict[str, Any]:  # Any: JSON
    """Whatever changes an outcome."""
    names = ("backend", "summarizer", "adapter", "summarizer_adapter", "persona", "announce", "placebo", "until_post",
             "warm_up", "per_tick", "horizon", "around", "texts", "replicas", "seed")  # fmt: skip
    said = {name: getattr(job.given, name) for name in names}
    return said | {"rule": job.rules.rule, "dimension": job.dimension, "data_sha256": sorted(job.hashes.values())}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", metavar="FILE", type=Path, action="append", required=True,
        help="cascades in JSON Lines; may be given several times, for parts of one data set")  # fmt: skip
    add("--out", metavar="DIR", type=Path, required=True, help="results.jsonl, table.md and the picture")
    add("--rule", choices=("label", "words"), help="how denials are found (default: label where there is one)")
    add("--dimension", metavar="D", help="which labels (default: the data's own)")
    add("--label", metavar="L", help="whose share the table is about (default: the one that denies, else the first)")
    add("--around", metavar="N", type=int, default=5, help="labelled actions before and after (default 5)")
    add("--announce", action="store_true", help="put the post in as a statement in all prompts, not as a post")
    add("--until-post", action="store_true", help="play the record up to the post, not its warm-up alone")
    add("--horizon", metavar="N", type=int, help="only the first N actions after the post's tick")
    add("--warm-up", metavar="X", type=float, default=0.3, help="share that is played (default 0.3)")
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--no-placebo", dest="placebo", action="store_false", help="test the denials alone, at 2 runs instead of 5")
    add("--backend", metavar="SPEC", default="embedded", help="the model (default embedded)")
    add("--summarizer", choices=SUMMARIZERS, default="tally", help="who writes the mean field (default tally)")
    add("--adapter", metavar="PATH", default=NONE,
        help="the policy's, {event} in it perhaps, or shipped (default none)")  # fmt: skip
    add("--summarizer-adapter", metavar="PATH", default=NONE, help="likewise for summaries by a model (default none)")
    add("--persona", choices=("graded", "none"), default="graded", help="what readers hear of their profiles")
    add("--texts", action="store_true", help="write texts, too, not labels alone")
    add("--replicas", metavar="N", type=int, default=3, help="pairs of runs for each post (default 3)")
    add("--limit", metavar="N", type=int, help="only N cascades, drawn in turn from each event")
    add("--jobs", metavar="N", type=int, default=4, help="posts at a time (default 4)")
    add("--minutes", metavar="X", type=float, help="begin nothing new after so long, and write the table")
    add("--seed", metavar="N", type=seed, default=0, help="of all random numbers (default 0)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
