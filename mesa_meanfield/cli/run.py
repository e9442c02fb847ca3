"""``mesa-meanfield run``: simulate one cascade from its warm-up on, and see how close it came."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.load import SPECS, is_server, load_backend
from mesa_meanfield.backends.log import LoggedBackend, replayed
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension, space_of
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cascades.personas import PERSONAS
from mesa_meanfield.cli import recording
from mesa_meanfield.cli.adapters import add_arguments, choose, recalled
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
from mesa_meanfield.cli.outcome import Job, outcome, print_outcome
from mesa_meanfield.cli.output import note, print_json, progress
from mesa_meanfield.cli.recording import Before
from mesa_meanfield.cli.weights import hardware, weights_of
from mesa_meanfield.cli.wording import Examples, check_prompts, write_prompts
from mesa_meanfield.data import Cascade, cut
from mesa_meanfield.directory import check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.comparison import real_counts
from mesa_meanfield.evaluation.rivals import train as train_rivals
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Backend, Recorder
from mesa_meanfield.store import RunDirectory, first_difference
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
    recording.add_arguments(parser)
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=run, usual=parser.parse_args([]))


def run(given: argparse.Namespace) -> None:
    """Load, simulate, compare, write, print."""
    start = time.perf_counter()
    recording.check(given)
    given, before = recording.once_more(given)
    budget = recording.budget_of(given)
    try:
        job = _prepare(given, before)
        if given.dry_run:
            counted = recording.counting(given.backend)
            _simulate(_model(given, job, *job.chosen.backends(counted)), job)
            recording.print_estimate(given, [counted])
            return
        recorded = None if given.replay is None else replayed(given.replay)
        base = recorded or _loaded(given, budget)
        job.chosen.check(base)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    out = given.resume or given.out or new_directory(f"{job.cascade.id}-{given.summarizer}-{given.seed}")
    config = _config(given, job, base, before)
    directory = RunDirectory(out, config, dimension=job.dimension, resume=given.resume is not None)
    examples = Examples()
    try:
        write_prompts(directory.partial, [job.prompts])
        with recording.opened(given.cache) as cache:
            asked = recorded or LoggedBackend(budget.watch(base), directory.calls, cache=cache)
            decides, writes = job.chosen.backends(examples.watch(asked))
            model = _model(given, job, decides, writes, directory)
            _simulate(model, job)
        write_prompts(directory.partial, [job.prompts], examples)
        comparison, result = outcome(
            job, model, name=given.summarizer, backend=decides.name, folder=directory.partial
        )
        result |= {"seconds": time.perf_counter() - start, "run_dir": str(directory.path)}
        if given.replay is not None:
            different = first_difference(given.replay, directory.partial)
            result["replay"] = {"of": str(given.replay), "first_difference": different}
        directory.finish(result)
    finally:
        directory.drop_if_nothing_recorded()
        if directory.partial.exists():
            again = f"{directory.partial} holds the replay up to there"
            if given.replay is None:
                again = f"go on by: mesa-meanfield run --resume {directory.path}"
            note(f"not done; {again}")
    recording.tell_paid(given, budget)
    if given.json:
        print_json(result)
    else:
        print_outcome(job, model, comparison, result)
    if given.replay is not None:
        recording.tell_replay(given.replay, directory.path, result["replay"]["first_difference"])


def _prepare(given: argparse.Namespace, before: Before | None) -> Job:
    """Read and check everything, before any model is loaded."""
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
    space = space_of(dimension, labels, prompts.language, texts=given.texts)
    if before is not None and given.replay is not None:
        chosen = recalled(before.config.get("adapters", {}), space)
    else:
        chosen = choose(given, space)
    if before is not None and given.resume is not None:
        check_prompts(before.folder, [prompts])
        if chosen.told != before.config.get("adapters"):
            raise DataError(f"{before.folder}: its adapters have changed since; begin anew with another --out")
    return Job(cascade, source, trained, dimension, labels, prompts, chosen)


def _loaded(given: argparse.Namespace, budget: Budget) -> Backend:
    """The model, under its budget; a server has answered once."""
    with progress("Backend"):
        base = load_backend(given.backend, batch=given.batch)
        if is_server(given.backend):
            probe(budget.watch(base))
    return base


def _model(
    given: argparse.Namespace, job: Job, decides: Backend, writes: Backend, recorder: Recorder | None = None
) -> CascadeModel:
    return CascadeModel(
        job.cascade,
        policy=LLMPolicy(decides, job.chosen.space, prompts=job.prompts, on_failure="skip"),
        summarizer=summarizer_named(given.summarizer, writes, job.prompts),
        dimension=job.dimension,
        warm_up=given.warm_up,
        per_tick=given.per_tick,
        agents=given.agents,
        persona=given.persona,
        recorder=recorder,
        rng=given.seed,
    )


def _simulate(model: CascadeModel, job: Job) -> None:
    with progress(f"Cascade {job.cascade.id}", total=len(model.ticks)) as advance:
        while model.running:
            model.step()
            warm_up = model.crowd.tick <= len(model.cut.warm_up)
            advance("ticks, played (warm-up)" if warm_up else "ticks, simulated")


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


def _config(given: argparse.Namespace, job: Job, base: Backend, before: Before | None) -> Mapping[str, Any]:
    weights = before.config.get("weights") if before is not None else weights_of(given.backend, base)
    return {
        "command": "run",
        **asked_for(given, "usual", "resume", "out", "dry_run"),
        "data": None if given.data is None else str(given.data),
        "data_sha256": sha256(given.data or SHIPPED),
        "train_sha256": [sha256(file) for file in given.train],
        "id": job.cascade.id,
        "model": base.name if job.chosen.policy is None else f"{base.name}+{job.chosen.policy.kind}",
        "weights": weights,
        "adapters": job.chosen.told,
        "dimension": job.dimension,
        "labels": list(job.labels),
        "language": job.prompts.language,
        "machine": hardware(),
        **circumstances(),
    }
