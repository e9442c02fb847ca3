"""Sweeps: every combination of parameters in several replicas, which all share one model through common batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.log import LoggedBackend
from mesa_meanfield.errors import BudgetSpent
from mesa_meanfield.evaluation.rollouts import roll_out
from mesa_meanfield.evaluation.waves import WORKERS
from mesa_meanfield.experiments.replicas import Job, Setting, at_least_one, seeded
from mesa_meanfield.experiments.runs import COLUMNS, Ensemble
from mesa_meanfield.plain import told
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Backend

if TYPE_CHECKING:
    import mesa
    import pandas as pd

Made = Callable[..., "mesa.Model"]
"""A model class, or any function that makes a model from parameters and a seed."""
_MEASURED = tuple(name for name in COLUMNS if name != "arm")
_FAILED = ("replica", "seed", "ticks", "error")
_TAKEN = {*COLUMNS, *_FAILED, "rng"}  # columns of the tables, and what each replica has of its own


@dataclass(frozen=True)
class Cell:
    """One combination of parameters."""

    parameters: Mapping[str, Any]  # Any: a modeler's own values

    @property
    def name(self) -> str:
        """What tells it from the others: its arm in `Sweep.ensemble`."""
        return ", ".join(f"{name}={told(value)}" for name, value in self.parameters.items())

    def beside(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the parameters as its first columns; what is no number or text is named in words."""
        for place, (name, value) in enumerate(self.parameters.items()):
            plain = value is None or isinstance(value, str | int | float)
            table.insert(place, name, value if plain else told(value))
        return table


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep."""

    cells: tuple[Cell, ...]
    """All combinations; the last parameter changes first."""
    ensemble: Ensemble
    """The replicas that ran; each cell is an arm of its name."""
    replicas: int
    """How many of each cell were asked for."""
    stopped: str | None
    """Why some were not made: the budget is spent. None where nothing is missing."""

    @property
    def missing(self) -> int:
        """How many replicas were not begun, or under way, when the budget was spent."""
        return len(self.cells) * self.replicas - len(self.ensemble.runs) - len(self.ensemble.failed)

    def frame(self, *, cumulative: bool = False) -> pd.DataFrame:
        """A tidy table: one row for each combination of parameters, replica, tick, dimension and label.

        Its first columns are the parameters, the others those of `Ensemble.frame` without ``arm``.

        Args:
            cumulative: Shares of all decisions so far, instead of each tick's.
        """
        return self._table(lambda arm: arm.frame(cumulative=cumulative).drop(columns="arm"), _MEASURED)

    def failed(self) -> pd.DataFrame:
        """The replicas that ended with an error, of which nothing is in `frame`, as a tidy table.

        Its columns are the parameters and ``replica, seed, ticks`` (how many were over) and ``error``.
        """
        import pandas as pd  # takes a third of a second to import

        def rows(arm: Ensemble) -> pd.DataFrame:
            return pd.DataFrame([[getattr(one, name) for name in _FAILED] for one in arm.failed], columns=[*_FAILED])

        return self._table(rows, _FAILED)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the tables must know."""
        notes, failed = [], self.ensemble.failed
        if failed:
            first = failed[0]
            notes.append(
                f"{len(failed)} replicas failed and are left out; the first, replica {first.replica} of "
                f"{first.arm}, in its tick {first.ticks}: {first.error}"
            )
        if missed := sum(run.failures for run in self.ensemble.runs):
            notes.append(f"{missed} decisions failed and count in no share")
        if self.stopped is not None:
            notes.append(f"{self.missing} replicas are missing: {self.stopped}")
        return tuple(notes)

    def _table(self, of: Callable[[Ensemble], pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        tables = [cell.beside(of(self.ensemble.arm(cell.name))) for cell in self.cells]
        parts = [table for table in tables if len(table)]  # those without rows have no types of columns
        empty = pd.DataFrame(columns=[*self.cells[0].parameters, *columns])
        return pd.concat(parts, ignore_index=True) if parts else empty


def sweep(
    model: Made,
    parameters: Mapping[str, Any],
    *,
    replicas: int,
    ticks: int,
    seed: int = 0,
    backend: Backend | str | None = None,
    log: CallLog | None = None,
    budget: Budget | None = None,
    crowd: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Sweep:
    """Run replicas of a model with every combination of parameters, all at a time in one process.

    Replica r has the same seed in every cell, so that cells are compared on the same random numbers. First come
    the replicas 0 of all cells, then the replicas 1, and so on: a sweep that its budget ends has about as many of
    each. It is gone on with by making it again with its log and a new budget; what is in the log costs nothing.

    Args:
        model: Makes a model: called with the parameters, with the seed as ``rng`` where it has a parameter of that
            name, as Mesa's models do, else as its first argument, and with ``backend`` where one is given here.
        parameters: Name -> a value, or several: as for ``mesa.batch_run`` any iterable but a string is several.
        replicas: How many of each combination.
        ticks: How many ticks of the crowd each makes.
        seed: Replica r is made with ``seed + r``.
        backend: The model that all share, or its spec string; each gets it as a `BatchingBackend`. Without it models
            load their own, and share batches only where it is one for many threads.
        log: Where all calls are kept, and found again. It is the caller's to close.
        budget: What may be paid for; when it is spent, what is done is returned.
        crowd: The model's attribute that holds the scheduler, where it has several.
        workers: How many run at a time, default 16.
        progress: Whether to show on stderr how many ticks are over.

    Raises:
        ValueError: An argument is out of its range, or the parameters have a name or value that cannot be.
        DataError: The log cannot be used, or a replay lacks a call.
        Exception: What ended the first replica, where none ran to its end for another reason than the budget.
    """
    at_least_one(replicas)
    cells = _grid(parameters, "backend" if backend is not None else None)
    if backend is None and (log is not None or budget is not None):
        raise ValueError("A log or a budget needs the backend that is asked: give it as backend=")
    shared = None if backend is None else _shared(backend, log, budget)
    given: dict[str, object] = {} if shared is None else {"backend": shared}
    makers = {one.name: seeded(model, {**one.parameters, **given}) for one in cells}
    first = Setting(makers[cells[0].name], ticks, seed, crowd, shared, workers)
    # Copies share their locks: in all cells together, one model is built at a time.
    of_cell = {name: replace(first, model_factory=maker) for name, maker in makers.items()}
    errors: list[Exception] = []

    def make(job: Job, tick: Callable[[], None]) -> Ensemble:
        return of_cell[job.arm].run([job], errors, lambda *_: tick())

    jobs = [Job(name, r) for r in range(replicas) for name in of_cell]
    made, stopped, total = [], None, ticks * len(jobs)
    with _bar(total) if progress else nullcontext():
        try:
            for one in roll_out(jobs, make, ticks=total, workers=min(workers or WORKERS, len(jobs))):
                made.append(one)  # noqa: PERF402  # what is done before an error must be there
        except BudgetSpent as error:
            stopped = str(error)
    found = _joined(made, list(of_cell), ticks)
    if errors and stopped is None and not found.runs:
        raise errors[0]
    return Sweep(tuple(cells), found, replicas, stopped)


def _grid(parameters: Mapping[str, Any], reserved: str | None) -> list[Cell]:
    """All combinations, each once."""
    for name in parameters:
        if name in _TAKEN or name == reserved:
            raise ValueError(f"{name!r} is a column of the tables, or given to every replica: rename the parameter")
    cells = [Cell(dict(zip(parameters, one, strict=True))) for one in product(*map(_values, parameters.values()))]
    if not cells:
        raise ValueError(f"A parameter needs at least one value, got {dict(parameters)}")
    names = [cell.name for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"Two combinations are both {twice}: give each value once, and functions different names")
    return cells


def _values(given: object) -> list[object]:
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return [one.item() if isinstance(one, np.generic) else one for one in several]


def _shared(backend: Backend | str, log: CallLog | None, budget: Budget | None) -> BatchingBackend:
    """The backend for all threads, with the budget inside the log, so that what is recorded costs nothing."""
    one = load_backend(backend) if isinstance(backend, str) else backend
    if isinstance(one, BatchingBackend):
        if log is not None or budget is not None:
            raise ValueError("A log and a budget go inside a BatchingBackend: give the backend itself")
        return one
    if budget is not None:
        one = budget.watch(one)
    return BatchingBackend(one if log is None else LoggedBackend(one, log))


def _joined(made: Sequence[Ensemble], names: Sequence[str], ticks: int) -> Ensemble:
    """Cell by cell, replica by replica."""
    place = {name: number for number, name in enumerate(names)}
    runs = sorted((run for one in made for run in one.runs), key=lambda run: (place[run.arm], run.replica))
    failed = sorted((run for one in made for run in one.failed), key=lambda run: (place[run.arm], run.replica))
    return Ensemble(tuple(runs), tuple(failed), ticks)


@contextmanager
def _bar(total: int) -> Iterator[None]:
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("Ticks", total=total)
        with watching(lambda what, done, of: bar.update(task, completed=done)):
            yield
