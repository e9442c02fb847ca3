"""An experiment under way: its model behind its call log, its directory, and what is told of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.backends.load import is_server, load_backend
from mesa_meanfield.backends.log import LoggedBackend, replayed
from mesa_meanfield.cli import recording
from mesa_meanfield.cli.common import circumstances, new_directory, probe
from mesa_meanfield.cli.experiment import Prepared
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.planmodel import check_labels, labels_known
from mesa_meanfield.cli.planrecords import CONFIG, check_same, first_different, in_words, recorded_config
from mesa_meanfield.cli.weights import hardware, weights_of
from mesa_meanfield.cli.wording import Examples, check_prompts, write_prompts
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.waves import WORKERS
from mesa_meanfield.experiments.replicas import ModelFactory
from mesa_meanfield.experiments.report.page import About
from mesa_meanfield.experiments.witness import Witness
from mesa_meanfield.protocols import Backend

PLAN = "plan.toml"
REPORT = "report.html"
RESULT = "result.json"


@dataclass(frozen=True)
class Work:
    """An experiment under way."""

    prepared: Prepared
    directory: Directory | None
    """None in a dry run."""
    make: ModelFactory
    """Makes a model, the first replica's watched by the witness."""
    witness: Witness
    shared: BatchingBackend | None
    labels: Mapping[str, tuple[str, ...]]
    """Dimension -> its labels, where they are known beforehand."""
    model: str
    """The language model's name; empty where there is none."""
    log: CallLog | None
    examples: Examples
    """Some of the prompts, once they were asked."""
    start: float

    @property
    def budget(self) -> int | None:
        """How many tokens may be asked; None for no limit."""
        given = getattr(self.prepared.given, "budget_tokens", None)
        return self.prepared.plan.budget_tokens if given is None else int(given)

    @property
    def folder(self) -> Directory:
        """The directory, of what is no dry run."""
        assert self.directory is not None
        return self.directory

    def finish(self, result: Mapping[str, Any], tables: Sequence[str]) -> None:
        """Write what came out, give the directory its name, and say whether a replay came to the same.

        Raises:
            DataError: It did not.
        """
        directory, replay = self.folder, self.prepared.given.replay
        directory.write(RESULT, result)
        write_prompts(directory.partial, self.prepared.subject.prompts, self.examples)
        if self.log is not None:
            self.log.close()  # an open database must not be moved
        different = None if replay is None else first_different(replay, directory.partial, tables)
        directory.finish()
        if replay is not None:
            recording.tell_replay(replay, directory.path, different)

    def about(self, question: str, files: Mapping[str, str]) -> About:
        """What the report tells of how it was made."""
        subject = self.prepared.subject
        return About(
            question=question,
            model=subject.about,
            topic=subject.topic,
            backend=self.model,
            played=subject.played,
            settings=self._settings(),
            files=[f"{name} ({what})" for name, what in files.items()],
            command=self._command(),
            seconds=time.perf_counter() - self.start,
        )

    def _settings(self) -> dict[str, object]:
        plan, told = self.prepared.plan, self.prepared.subject.told
        return {
            "plan file": plan.path.name,
            "plan_sha256": self.prepared.asked["plan_sha256"],
            **{key: in_words(value) for key, value in told.items()},
            "language model": self.model or None,
            "ticks": self.prepared.ticks,
            "replicas": plan.replicas,
            "seed of the first replica": plan.seed,
            "confidence": plan.confidence,
            "token budget": self.budget and f"{self.budget:,}",
        }

    def _command(self) -> str:
        given = self.prepared.given
        parts = ["mesa-meanfield", given.command, str(given.plan)]
        unusual = {"jobs": given.jobs if given.jobs != WORKERS else None, "batch": given.batch}
        for name, value in (self.prepared.asked["arguments"] | unusual).items():
            parts += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        return shlex.join(parts)


@contextmanager
def begun(prepared: Prepared) -> Iterator[Work]:
    """Make the directory, load the model, and hand both out; what is left unfinished can be gone on with.

    Raises:
        DataError: The directory cannot be had, or is of another experiment.
        BackendError: The model cannot be loaded.
    """
    start, given, budget = time.perf_counter(), prepared.given, recording.budget_of(prepared.given)
    before: Mapping[str, Any] = {}
    for run in (given.resume and _out(prepared).with_name(f"{_out(prepared).name}.partial"), given.replay):
        if run is not None:
            check_same(run / CONFIG, prepared.asked)
            check_prompts(run, prepared.subject.prompts)
            before = recorded_config(run) or {}
    given = recording.same_batches(given, before)
    prepared = replace(prepared, given=given)
    directory = Directory(_out(prepared), resume=given.resume is not None)
    log = None
    try:
        if prepared.subject.spec is not None and given.replay is None:
            log = CallLog(directory.partial / CALLS)
            log.forget_failures()  # what failed last time is asked again
        with recording.opened(given.cache) as cache, _as_data_errors(prepared):
            base = _loaded(prepared, budget)
            if given.resume is None:
                (directory.partial / PLAN).write_bytes(prepared.plan.content)
                directory.write(CONFIG, _config(prepared, base))
            asked = base if base is None or log is None else LoggedBackend(budget.watch(base), log, cache=cache)
            write_prompts(directory.partial, prepared.subject.prompts)
            yield _work(prepared, directory, asked, log, start)
        recording.tell_paid(given, budget)
    finally:
        if directory.partial.exists():
            _leave(prepared, directory, log)


def dry_run(prepared: Prepared, simulate: Callable[[Work], object]) -> None:
    """Print what an experiment would cost about; nothing is asked or written."""
    assert prepared.subject.spec is not None  # seen to by `prepare`
    counted = recording.counting(prepared.subject.spec)
    with _as_data_errors(prepared):
        simulate(_work(prepared, None, counted, None, time.perf_counter()))
    recording.print_estimate(prepared.given, [counted])


def _work(
    prepared: Prepared, directory: Directory | None, base: Backend | None, log: CallLog | None, start: float
) -> Work:
    plan, subject = prepared.plan, prepared.subject
    examples = Examples()
    make, shared = subject.factory(None if base is None else examples.watch(base))
    labels = labels_known(make, plan.seed, subject.crowd, f"{plan.path}: [model]")
    check_labels(plan, labels)
    witness = Witness(plan.seed, subject.crowd)
    name = "" if base is None else base.name
    return Work(prepared, directory, witness.watching(make), witness, shared, labels, name, log, examples, start)


@contextmanager
def _as_data_errors(prepared: Prepared) -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # an argument out of its range, or a label that there is not
        raise DataError(f"{prepared.plan.path}: {error}") from error


def _out(prepared: Prepared) -> Path:
    given, plan = prepared.given, prepared.plan
    if given.resume is not None:
        resumed: Path = given.resume
        return resumed.with_name(resumed.name.removesuffix(".partial"))
    return given.out or new_directory(f"{given.command}-{plan.path.stem}-{plan.seed}")


def _leave(prepared: Prepared, directory: Directory, log: CallLog | None) -> None:
    """Leave what is unfinished so that it can be gone on with, or nothing where there is nothing."""
    if log is not None:
        log.drop_if_empty()
    directory.drop_if_empty(CALLS)
    if directory.partial.exists():
        given = prepared.given
        again = shlex.join(["mesa-meanfield", given.command, str(given.plan), "--resume", str(directory.path)])
        note(f"not done; go on by: {again}")


def _loaded(prepared: Prepared, budget: Budget) -> Backend | None:
    """The model, or what was recorded of it; a server has answered once."""
    given, spec = prepared.given, prepared.subject.spec
    if spec is None:
        return None
    if given.replay is not None:
        return replayed(given.replay)
    with progress("Backend"):
        base = load_backend(spec, batch=given.batch)
        if is_server(spec):
            probe(budget.watch(base))
    return base


def _config(prepared: Prepared, base: Backend | None) -> dict[str, Any]:  # Any: JSON
    plan = prepared.plan
    return {
        "command": prepared.given.command,
        "asked": dict(prepared.asked),
        "plan": str(plan.path),
        "ticks": prepared.ticks,
        "replicas": plan.replicas,
        "seed": plan.seed,
        "confidence": plan.confidence,
        **{name: getattr(prepared.given, name) for name in recording.BATCHES},
        "backend": prepared.subject.spec,
        "model": None if base is None else base.name,
        "weights": {} if base is None or prepared.subject.spec is None else weights_of(prepared.subject.spec, base),
        **prepared.subject.told,
        "machine": hardware(),
        **circumstances(),
    }
