"""What ``compare`` and ``plan`` have in common: from a plan file to a running model in its directory."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.backends.load import SPECS, is_server, load_backend
from mesa_meanfield.backends.log import LoggedBackend, replayed
from mesa_meanfield.cli.common import circumstances, new_directory, probe, seed
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.planfile import PlanFile, read_plan_file
from mesa_meanfield.cli.planmodel import Subject, check_labels, labels_known, subject_of
from mesa_meanfield.cli.planparts import Functions
from mesa_meanfield.cli.planrecords import check_same, in_words
from mesa_meanfield.directory import Directory, check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.replicas import WORKERS, ModelFactory
from mesa_meanfield.experiments.report.page import About
from mesa_meanfield.experiments.witness import Witness
from mesa_meanfield.protocols import Backend

PLAN = "plan.toml"
REPORT = "report.html"
RESULT = "result.json"
_ANEW = ("json", "jobs", "batch", "resume", "replay", "out", "plan", "do", "command")
"""What may differ when an experiment is gone on with: nothing that changes a result."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What both commands are given."""
    add = parser.add_argument
    add("plan", metavar="PLAN", type=Path, help="the plan file, in TOML; see docs/experiments.md")
    add("--replicas", metavar="R", type=int, help="replicas, in the place of the plan file's")
    add("--seed", metavar="N", type=seed, help="of the first replica, in the place of the plan file's")
    add("--backend", metavar="SPEC", help=f"the model, in the place of the plan file's: {SPECS}")
    add(
        "--jobs",
        metavar="N",
        type=int,
        default=WORKERS,
        help=f"runs at a time, in common batches (default {WORKERS})",
    )
    add("--batch", metavar="N", type=int, help="requests per batch; changes no result (default: what is fast)")
    add("--out", metavar="DIR", type=Path, help="the directory (default: a new one under runs/)")
    add("--resume", metavar="DIR", type=Path, help="go on with an unfinished one: nothing is asked a second time")
    add("--replay", metavar="DIR", type=Path, help="make it again from a run's call log, without any model")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")


@dataclass(frozen=True)
class Prepared:
    """A plan file with all that it names found, before anything is written or a model is loaded."""

    given: argparse.Namespace
    plan: PlanFile
    functions: Functions
    subject: Subject
    ticks: int
    asked: Mapping[str, Any]  # Any: JSON
    """What decides the result: the plan file's hash, and the arguments."""


@dataclass(frozen=True)
class Work:
    """An experiment under way."""

    prepared: Prepared
    directory: Directory
    make: ModelFactory
    """Makes a model, the first replica's watched by the witness."""
    witness: Witness
    shared: BatchingBackend | None
    labels: Mapping[str, tuple[str, ...]]
    """Dimension -> its labels, where they are known beforehand."""
    model: str
    """The language model's name; empty where there is none."""
    log: CallLog | None
    start: float

    @property
    def budget(self) -> int | None:
        """How many tokens may be asked; None for no limit."""
        given = getattr(self.prepared.given, "budget_tokens", None)
        return self.prepared.plan.budget_tokens if given is None else int(given)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write what came out and give the directory its name."""
        self.directory.write(RESULT, result)
        if self.log is not None:
            self.log.close()  # an open database must not be moved
        self.directory.finish()

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
        for name, value in self.prepared.asked["arguments"].items():
            parts += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
        return shlex.join(parts)


def prepare(given: argparse.Namespace) -> Prepared:
    """Read the plan file and find what it names.

    Raises:
        DataError: The file, or what it names, is not as it should be.
        BackendError: An adapter cannot be used.
    """
    if given.jobs < 1:
        raise DataError(f"--jobs must be at least 1, got {given.jobs}")
    if given.replicas is not None and given.replicas < 1:
        raise DataError(f"--replicas must be at least 1, got {given.replicas}")
    plan = read_plan_file(given.plan)
    over = {name: value for name in ("replicas", "seed") if (value := getattr(given, name)) is not None}
    plan = replace(plan, **over)
    functions = Functions(plan.path.parent)
    subject = subject_of(plan, given.backend, functions)
    if given.out is not None and given.resume is None:
        check_free(given.out)
    if given.replay is not None and (subject.spec is None or given.resume is not None):
        raise DataError("--replay needs a plan file whose model has a backend, and no --resume")
    arguments = {name: _plain(value) for name, value in vars(given).items() if name not in _ANEW}
    sha256 = hashlib.sha256(plan.content).hexdigest()
    return Prepared(given, plan, functions, subject, _ticks(plan, subject), {
        "command": given.command, "plan_sha256": sha256, "arguments": arguments,
    })  # fmt: skip


@contextmanager
def begun(prepared: Prepared) -> Iterator[Work]:
    """Make the directory, load the model, and hand both out; what is left unfinished can be gone on with.

    Raises:
        DataError: The directory cannot be had, or is of another experiment.
        BackendError: The model cannot be loaded.
    """
    start, given = time.perf_counter(), prepared.given
    out = (
        given.resume or given.out or new_directory(f"{given.command}-{prepared.plan.path.stem}-{prepared.plan.seed}")
    )
    out = out.with_name(out.name.removesuffix(".partial")) if given.resume is not None else out
    directory = Directory(out, resume=given.resume is not None)
    if given.resume is not None:
        check_same(directory.partial / "config.json", prepared.asked)
    log = None
    try:
        if prepared.subject.spec is not None and given.replay is None:
            log = CallLog(directory.partial / CALLS)
            log.forget_failures()  # what failed last time is asked again
        with progress("Backend"):
            base = _backend(prepared, log)
        make, shared = prepared.subject.factory(base)
        where = f"{prepared.plan.path}: [model]"
        labels = labels_known(make, prepared.plan.seed, prepared.subject.crowd, where)
        check_labels(prepared.plan, labels)
        if given.resume is None:
            (directory.partial / PLAN).write_bytes(prepared.plan.content)
            directory.write("config.json", _config(prepared, base))
        witness = Witness(prepared.plan.seed, prepared.subject.crowd)
        name = "" if base is None else base.name
        yield Work(prepared, directory, witness.watching(make), witness, shared, labels, name, log, start)
    except ValueError as error:  # an argument out of its range, or a label that there is not
        raise DataError(f"{prepared.plan.path}: {error}") from error
    finally:
        if directory.partial.exists():
            if log is not None:
                log.drop_if_empty()
            directory.drop_if_empty(CALLS)
            if directory.partial.exists():
                again = shlex.join(
                    ["mesa-meanfield", given.command, str(given.plan), "--resume", str(directory.path)]
                )
                note(f"not done; go on by: {again}")


def _backend(prepared: Prepared, log: CallLog | None) -> Backend | None:
    given, spec = prepared.given, prepared.subject.spec
    if spec is None:
        return None
    if given.replay is not None:
        return replayed(given.replay)
    base = load_backend(spec, batch=given.batch)
    if is_server(spec):
        probe(base)
    assert log is not None
    return LoggedBackend(base, log)


def _ticks(plan: PlanFile, subject: Subject) -> int:
    if plan.ticks is None and subject.ticks is None:
        raise DataError(f"{plan.path}: ticks is missing: say above the first table how many ticks a run has")
    if plan.ticks is not None and subject.ticks is not None and plan.ticks > subject.ticks:
        raise DataError(f"{plan.path}: ticks is {plan.ticks}, but there are {subject.ticks}: {subject.about}")
    return plan.ticks or subject.ticks or 0


def _config(prepared: Prepared, base: Backend | None) -> dict[str, Any]:  # Any: JSON
    plan = prepared.plan
    return {
        "asked": dict(prepared.asked),
        "plan": str(plan.path),
        "ticks": prepared.ticks,
        "replicas": plan.replicas,
        "seed": plan.seed,
        "confidence": plan.confidence,
        "backend": prepared.subject.spec,
        "model": None if base is None else base.name,
        **prepared.subject.told,
        **circumstances(),
    }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
