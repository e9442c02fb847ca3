"""``mesa-meanfield run``: simulate one cascade from its warm-up on, and see how close it came."""

from __future__ import annotations

import argparse
import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import SPECS, is_server, load_backend
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension, space_of
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cascades.personas import PERSONAS
from mesa_meanfield.cli.adapters import Chosen, add_arguments, choose
from mesa_meanfield.cli.common import (
    SHIPPED,
    SUMMARIZERS,
    asked_for,
    circumstances,
    new_directory,
    note_labels,
    probe,
    prompts_in,
    read_data,
    seed,
    sha256,
    summarizer_named,
)
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.data import Cascade, cut
from mesa_meanfield.directory import check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.comparison import Comparison, compare, real_counts
from mesa_meanfield.evaluation.report.plots import trend
from mesa_meanfield.evaluation.rivals import Trained
from mesa_meanfield.evaluation.rivals import train as train_rivals
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Backend
from mesa_meanfield.store import RunDirectory
from mesa_meanfield_models.cascade.model import CascadeModel


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="simulate one cascade: warm-up on the recorded part, roll-out of the rest",
        description="Play the first part of a recorded cascade, simulate the rest, and compare it with the record.",
    )
    add = parser.add_argument
    add("--data", metavar="FILE", type=Path, help="cascades in JSON Lines; default: the shipped synthetic ones")
    add("--id", metavar="ID", help="which cascade of the file; default: the first one that has actions")
    add("--train", metavar="FILE", type=Path, action="append", default=[], help="other cascades, for the prior")
    add("--warm-up", metavar="SHARE", type=float, default=0.3, help="share of the actions played (default 0.3)")
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--agents", metavar="N", type=int, help="only the first N actions after the warm-up, real and simulated")
    add("--batch", metavar="N", type=int, help="requests per batch; changes no result (default: what is fast)")
    add("--summarizer", choices=SUMMARIZERS, default="llm", help="who writes the mean field (default llm)")
    add("--backend", metavar="SPEC", default="embedded", help=f"the model: {SPECS}")
    add_arguments(parser)
    add(
        "--dimension", metavar="D", help="which labels of the data file to compare (default: its own, else behaviour)"
    )
    add("--persona", choices=PERSONAS, default="graded", help="what agents hear of their profiles (default graded)")
    add("--no-texts", dest="texts", action="store_false", help="decide labels only, no texts: faster")
    add("--prompts", metavar="DIR", type=Path, help="a folder with prompt templates that replace the shipped ones")
    add("--seed", metavar="N", type=seed, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="DIR", type=Path, help="the run directory (default: a new one under runs/)")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=run)


def run(given: argparse.Namespace) -> None:
    """Load, simulate, compare, write, print."""
    start = time.perf_counter()
    try:
        job = _prepare(given)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    out = given.out or new_directory(f"{job.cascade.id}-{given.summarizer}-{given.seed}")
    directory = RunDirectory(out, _config(given, job), dimension=job.dimension)
    try:
        _simulate(job, directory)
        comparison, result = _evaluate(given, job, directory)
        result |= {"seconds": time.perf_counter() - start, "run_dir": str(directory.path)}
        directory.finish(result)
    finally:
        directory.drop_if_nothing_recorded()
        if directory.partial.exists():
            note(f"the run did not end; what was recorded is in {directory.partial}")
    if given.json:
        print_json(result)
    else:
        _print(job, comparison, result)


@dataclass(frozen=True)
class _Job:
    """A run before it starts."""

    cascade: Cascade
    source: str
    trained: Trained | None
    dimension: str
    labels: tuple[str, ...]
    backend: Backend
    """What decides."""
    chosen: Chosen
    model: CascadeModel

    @property
    def played(self) -> int:
        return sum(map(len, self.model.cut.warm_up))


def _prepare(given: argparse.Namespace) -> _Job:
    cascades, source = read_data(given.data)
    cascade = pick(cascades, given.id, source)
    dimension = given.dimension or dimension_of(cascade)
    labels = labels_of_dimension(dimension, cascades)  # not from --train, which must not change a simulation
    train = _others(cascade, given.train)
    where = f"{source}: cascade {cascade.id!r}"
    try:
        real_counts(cut(cascade, given.warm_up, given.per_tick, given.agents), dimension, labels)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    try:
        trained = train_rivals(train, dimension, labels, warm_up=given.warm_up) if train else None
    except DataError as error:
        raise DataError(f"--train {', '.join(map(str, given.train))}: {error}") from None
    note_labels(cascade.actions, dimension, labels)
    prompts = prompts_in(cascade.language, given.prompts)
    if given.out is not None:
        check_free(given.out)
    chosen = choose(given, space_of(dimension, labels, prompts.language, texts=given.texts))
    with progress("Backend"):
        base = load_backend(given.backend, batch=given.batch)
        decides, writes = chosen.backends(base)
        if is_server(given.backend):
            probe(base)
    model = CascadeModel(
        cascade,
        policy=LLMPolicy(decides, chosen.space, prompts=prompts, on_failure="skip"),
        summarizer=summarizer_named(given.summarizer, writes, prompts),
        dimension=dimension,
        warm_up=given.warm_up,
        per_tick=given.per_tick,
        agents=given.agents,
        persona=given.persona,
        rng=given.seed,
    )
    return _Job(cascade, source, trained, dimension, labels, decides, chosen, model)


def _simulate(job: _Job, directory: RunDirectory) -> None:
    model = job.model
    model.crowd.recorder = directory
    with progress(f"Cascade {job.cascade.id}", total=len(model.ticks)) as advance:
        while model.running:
            model.step()
            warm_up = model.crowd.tick <= len(model.cut.warm_up)
            advance("ticks, played (warm-up)" if warm_up else "ticks, simulated")


def _evaluate(given: argparse.Namespace, job: _Job, directory: RunDirectory) -> tuple[Comparison, dict[str, Any]]:
    simulated, usage = job.model.simulated.actions, job.model.crowd.usage
    comparison = compare(
        job.model.cut,
        simulated[job.played :],
        job.dimension,
        job.labels,
        name=given.summarizer,
        trained=job.trained,
    )
    if comparison.failures:
        note(f"{comparison.failures} of {len(simulated) - job.played} decisions failed and count nowhere")
    title = f"{job.cascade.id} ({job.cascade.domain}) · {given.summarizer} · {job.backend.name}"
    picture = directory.partial / "trend.png"
    real, played, dimension, labels = job.model.real, job.played, job.dimension, job.labels
    try:
        trend(picture, real, simulated, warm_up=played, dimension=dimension, labels=labels, title=title)
    except OSError as error:  # no picture is no reason to lose the figures
        note(f"{picture} cannot be written: {error}")
    return comparison, {
        "cascade": job.cascade.id,
        "dimension": job.dimension,
        "labels": list(job.labels),
        "real": comparison.real,
        "simulated": comparison.simulated.shares,
        "kl": comparison.simulated.kl,
        "js": comparison.simulated.js,
        "noise_floor": comparison.noise_floor,
        "rivals": {entry.name: entry.kl for entry in comparison.rivals},
        "ticks": len(job.model.cut.roll_out),
        "agents": len(simulated) - job.played,
        "adapters": job.chosen.told,
        "failures": comparison.failures,
        "summary_failures": usage.failures - comparison.failures,
        "usage": {
            "calls": usage.calls,
            "tokens_asked": usage.tokens_asked,
            "tokens_computed": usage.tokens_computed,
            "retries": usage.retries,
            "seconds": usage.seconds,
        },
    }


def pick(cascades: Sequence[Cascade], wanted: str | None, source: str) -> Cascade:
    """The cascade with an id, or the first one that has actions.

    Raises:
        DataError: There is none.
    """
    for cascade in cascades:
        if cascade.id == wanted or (wanted is None and cascade.actions):
            return cascade
    if wanted is None:
        raise DataError(f"{source}: no cascade has any action; nothing to simulate")
    some = ", ".join(cascade.id for cascade in cascades[:20]) + (", ..." if len(cascades) > 20 else "")
    raise DataError(f"{source}: there is no cascade {wanted!r}; there are {some}")


def _others(cascade: Cascade, files: Sequence[Path]) -> list[Cascade]:
    """The training cascades, each once, without the one that is simulated and those of its event."""
    read = {(one.dataset, one.id): one for file in files for one in read_cascades(file)}
    same = {key for key, one in read.items() if key[1] == cascade.id or (one.event and one.event == cascade.event)}
    if files and len(same) == len(read):
        raise DataError(f"--train {files[0]}: holds nothing but this cascade and its event; give other events")
    return [one for key, one in read.items() if key not in same]


def _config(given: argparse.Namespace, job: _Job) -> Mapping[str, Any]:
    return {
        **asked_for(given),
        "data": job.source,
        "data_sha256": sha256(given.data or SHIPPED),
        "id": job.cascade.id,
        "model": job.backend.name,
        "adapters": job.chosen.told,
        "dimension": job.dimension,
        "labels": list(job.labels),
        **circumstances(),
    }


def _print(job: _Job, comparison: Comparison, result: Mapping[str, Any]) -> None:
    def row(name: str, shares: Mapping[str, float], *figures: float) -> list[str]:
        cells = [f"{shares[label]:.1%}" for label in comparison.labels]
        return [name, *cells, *(f"{figure:.3f}" for figure in figures)]

    guesses = [(f"simulated ({comparison.simulated.name})", comparison.simulated)]
    guesses += [(entry.name, entry) for entry in comparison.rivals]
    rows = [[*row("real", comparison.real), "", ""]]
    rows += [row(name, entry.shares, entry.kl, entry.js) for name, entry in guesses]
    rows.append(["noise floor", *[""] * len(comparison.labels), f"{comparison.noise_floor:.3f}", ""])
    cascade = job.cascade
    topic = " ".join(html.unescape(cascade.topic.text).split())
    print_lines(f"{cascade.id} ({cascade.domain}, {cascade.language}): {topic}")
    title = f"Shares of {result['dimension']} after {job.played} played actions ({result['agents']} simulated)"
    print_table(title, ["", *comparison.labels, "KL (nats)", "JS distance"], rows)
    if told := str(job.chosen):
        print_lines(f"Adapters: {told}")
    usage = result["usage"]
    print_lines(
        f"{result['agents']} decisions in {result['ticks']} ticks, {result['failures']} failed, "
        f"{result['summary_failures']} summaries failed, {usage['retries']} retries",
        f"{usage['calls']} calls, {usage['tokens_asked']} tokens asked, {usage['tokens_computed']} computed, "
        f"{usage['seconds']:.1f} s in the model, {result['seconds']:.1f} s in all",
        f"Run directory: {result['run_dir']} (trend.png shows the shares over time)",
    )
