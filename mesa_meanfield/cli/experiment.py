"""What ``compare`` and ``plan`` have in common: from a plan file to a running model in its directory."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import SPECS
from mesa_meanfield.cli import recording
from mesa_meanfield.cli.common import seed
from mesa_meanfield.cli.planfile import PlanFile, read_plan_file
from mesa_meanfield.cli.planmodel import Subject, subject_of
from mesa_meanfield.cli.planparts import Functions
from mesa_meanfield.cli.planrecords import recorded_config
from mesa_meanfield.directory import check_free
from mesa_meanfield.errors import DataError

_NO_ARGUMENTS = (*recording.ANEW, *recording.BATCHES, "plan", "do", "command")
"""What is given beside the arguments that decide the result; of the plan file, its content does."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What both commands are given."""
    add = parser.add_argument
    add("plan", metavar="PLAN", type=Path, help="the plan file, in TOML; see docs/experiments.md")
    add("--replicas", metavar="R", type=int, help="replicas, in the place of the plan file's")
    add("--seed", metavar="N", type=seed, help="of the first replica, in the place of the plan file's")
    add("--backend", metavar="SPEC", help=f"the model, in the place of the plan file's: {SPECS}")
    recording.add_batches(parser, "runs")
    add("--out", metavar="DIR", type=Path, help="the directory (default: a new one under runs/)")
    recording.add_arguments(parser)
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


def prepare(given: argparse.Namespace) -> Prepared:
    """Read the plan file and find what it names.

    Raises:
        DataError: The file, or what it names, is not as it should be.
        BackendError: An adapter cannot be used.
    """
    recording.check(given)
    if given.replicas is not None and given.replicas < 1:
        raise DataError(f"--replicas must be at least 1, got {given.replicas}")
    plan = read_plan_file(given.plan)
    over = {name: value for name in ("replicas", "seed") if (value := getattr(given, name)) is not None}
    plan = replace(plan, **over)
    functions = Functions(plan.path.parent)
    subject = subject_of(plan, given.backend, functions, recorded=recorded_config(given.replay))
    if given.out is not None and given.resume is None:
        check_free(given.out)
    if subject.spec is None and (given.replay is not None or given.dry_run):
        raise DataError(f"{plan.path}: [model] has no backend, so that nothing is recorded, counted or replayed")
    arguments = {name: _plain(value) for name, value in vars(given).items() if name not in _NO_ARGUMENTS}
    sha256 = hashlib.sha256(plan.content).hexdigest()
    return Prepared(given, plan, functions, subject, _ticks(plan, subject), {
        "command": given.command, "plan_sha256": sha256, "arguments": arguments,
    })  # fmt: skip


def _ticks(plan: PlanFile, subject: Subject) -> int:
    if plan.ticks is None and subject.ticks is None:
        raise DataError(f"{plan.path}: ticks is missing: say above the first table how many ticks a run has")
    if plan.ticks is not None and subject.ticks is not None and plan.ticks > subject.ticks:
        raise DataError(f"{plan.path}: ticks is {plan.ticks}, but there are {subject.ticks}: {subject.about}")
    return plan.ticks or subject.ticks or 0


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
