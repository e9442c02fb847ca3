"""Trainings and calibrations, each a run of ``mesa-meanfield`` in a process of its own, never repeated."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import urns
from cells import ADAPTER_FILE, Training
from plan import Plan, bind

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli.common import sha256
from mesa_meanfield.cli.output import note
from mesa_meanfield.data import event_of
from mesa_meanfield.errors import DataError

OPTIONS = (
    "steps",
    "epochs",
    "batch",
    "accumulation",
    "learning_rate",
    "rank",
    "dropout",
    "samples",
    "summary_tokens",
    "every",
    "patience",
    "per_tick",
    "prompts",
    "seed",
    "checkpoint_minutes",
)
"""What ``tune`` is told where it was said; None leaves it to its own defaults."""
LESSON = "first-lesson"
_CHANGES_NOTHING = ("checkpoint_minutes",)


def train(job: Plan, training: Training) -> list[str]:
    """Train on every fold that has no adapters yet, some at once; the folds that failed."""
    bind(job, "training", _settings(job))
    waiting = [fold for fold in job.folds if not _folder(job, training, fold).is_dir()]
    with ThreadPoolExecutor(job.given.jobs_training, thread_name_prefix="training") as pool:
        try:
            return [fold for fold in pool.map(lambda fold: _train(job, training, fold), waiting) if fold]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # nothing new is begun; those under way end by themselves
            raise


def fit_temperature(job: Plan, summarizer: str) -> bool:
    """Fit the bare model's temperature behind the mean fields of a summarizer; whether there is one."""
    out, given = job.out / "calibration" / summarizer, job.given
    if out.is_dir():
        return True
    if not given.calibrate_on:
        note("no --calibrate-on, so there is nothing to fit a temperature on")
        return False
    shutil.rmtree(out.with_name(f"{out.name}.partial"), ignore_errors=True)  # of a killed one; it takes minutes
    asked = ["calibrate", "--data", given.data, "--events", *_calibration_events(job), "--summarizer", summarizer]
    asked += ["--backend", given.backend, "--dimension", job.settings.dimension, "--seed", given.seed]
    asked += _said(job, ("per_tick", "prompts"))
    return _run(job, [*asked, "--out", out], f"calibration of the bare model, {summarizer}", out)


def _train(job: Plan, training: Training, fold: str) -> str | None:
    """One fold; its name where it failed."""
    out = _folder(job, training, fold)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out) as lock:
        if out.is_dir() or job.over:  # it may have been waited for
            return None
        given = job.given
        asked = ["tune", "--data", _without(job, fold), "--stages", training.stages]
        asked += ["--summarizer", training.summarizer, "--backend", given.backend]
        asked += ["--dimension", job.settings.dimension, *(["--texts"] if given.texts else [])]
        asked += [*_said(job, OPTIONS), *given.more]
        if training.summarizer != "none" and (begin := _lesson(job) if given.first_lesson else given.begin_with):
            asked += ["--policy-adapter", begin]  # nothing can be read where there is no field
        if events := _calibration_events(job):
            asked += ["--held-out", *events]
        if out.with_name(f"{out.name}.partial").is_dir():
            asked.append("--resume")
        what = f"training {training.key} without {fold}"
        return None if _run(job, [*asked, "--out", out], what, out, keep=(lock,)) else fold


def _lesson(job: Plan) -> Path:
    """The adapter that has learnt to read, trained the first time that it is asked for."""
    out = job.out / LESSON
    with _alone(out) as lock:
        if not out.is_dir():
            data = out.with_name("urns.jsonl")
            urns.main(["--out", str(data)])
            asked = ["tune", "--data", data, "--backend", job.given.backend, *urns.LESSON]
            asked += [*_said(job, ("rank", "dropout", "prompts", "seed")), *job.given.more]
            if out.with_name(f"{out.name}.partial").is_dir():
                asked.append("--resume")
            if not _run(job, [*asked, "--out", out], "the first lesson", out, keep=(lock,)):
                raise DataError("the first lesson failed, and the trainings need it")
    return out / "adapters" / "policy"


@contextmanager
def _alone(out: Path) -> Iterator[int]:
    """Nobody else makes this meanwhile, not even a training that has outlived what began it.

    Yields:
        The file that is locked: whoever inherits it holds the lock, too.
    """
    with out.with_name(f"{out.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"{out} is being made by another process; waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _folder(job: Plan, training: Training, fold: str) -> Path:
    return job.out / "tune" / training.key / fold


def _calibration_events(job: Plan) -> list[str]:
    return [name.strip() for name in job.given.calibrate_on.split(",") if name.strip()]


def _without(job: Plan, fold: str) -> Path:
    """A file of all cascades but the fold's, and of their copies: what is not in it cannot be learned."""
    copies = f"-{job.given.copies}-copies" if job.given.copies else ""
    file = job.out / "data" / f"without-{fold}{copies}.jsonl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        held = {one.id for one in job.everything if event_of(one) == fold}
        part = file.with_name(f"{file.name}.{os.getpid()}.partial")
        kept = [one for one in job.everything if event_of(one) != fold and one.id not in held]
        rng, left = np.random.default_rng(job.given.seed), _calibration_events(job)
        how = {"times": job.given.copies, "concentration": urns.CONCENTRATION, "not_like": left}
        write_cascades(part, urns.with_copies(kept, rng, **how))
        os.replace(part, file)
    return file


def _said(job: Plan, names: Sequence[str]) -> list[str]:
    said = {name: getattr(job.given, name) for name in names}
    return [f"--{name.replace('_', '-')}={value}" for name, value in said.items() if value is not None]


def _settings(job: Plan) -> dict[str, Any]:  # Any: JSON
    names = [name for name in OPTIONS if name not in _CHANGES_NOTHING]
    said = {name: getattr(job.given, name) for name in (*names, "copies", "first_lesson", "more")}
    said["prompts"] = None if said["prompts"] is None else str(said["prompts"])
    said["begin_with"] = None if job.given.begin_with is None else sha256(job.given.begin_with / ADAPTER_FILE)
    return said


def _run(job: Plan, command: Sequence[object], what: str, out: Path, keep: Sequence[int] = ()) -> bool:
    """Run ``mesa-meanfield`` to its end, its words kept in a file beside what it makes; whether it went well."""
    log = out.with_name(f"{out.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // job.given.jobs_training))
    note(f"{what} begins; its log: {log}")
    with log.open("ab") as file:
        asked = [sys.executable, "-m", "mesa_meanfield.cli", *map(str, command)]
        done = subprocess.run(  # noqa: S603 - our own command
            asked,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            pass_fds=keep,
        )
    if done.returncode == 0:
        note(f"{what} is done")
        return True
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    note(f"{what} failed and its cells stay empty: {said[-1] if said else f'status {done.returncode}'}")
    return False
