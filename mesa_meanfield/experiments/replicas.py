"""Many replicas of one model, each in a thread of its own, which share a language model through common batches."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import mesa

from mesa_meanfield.data import Tick
from mesa_meanfield.errors import Cancelled, DataError, LeakError, MeanFieldError
from mesa_meanfield.evaluation.waves import WORKERS, Start, in_waves
from mesa_meanfield.experiments.runs import Ensemble, FailedRun, RunResult
from mesa_meanfield.experiments.taps import Tap, crowd_of
from mesa_meanfield.interventions import check_ticks
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.scheduler import MeanFieldScheduler

ModelFactory = Callable[[int], mesa.Model]
"""Makes a new model from a seed, with a `MeanFieldScheduler`, a policy and a summarizer of its own. The seed goes to
its parameter ``rng`` where it has one, as Mesa's models do; else it is the first argument."""

_IDLE = 1000  # model steps in a row without a tick of the crowd after which it is taken to stand still


def seeded(make: Callable[..., mesa.Model], given: Mapping[str, object] | None = None) -> ModelFactory:
    """A factory that takes the seed first, of a model class or function and the parameters that it is called with."""
    named = given or {}
    try:
        by_name = "rng" in inspect.signature(make).parameters
    except ValueError:  # something built in
        by_name = False
    if by_name:
        return lambda seed: make(**named, rng=seed)
    return lambda seed: make(seed, **named)


class PairingError(MeanFieldError):
    """Two arms that must be the same up to the fork are not."""


_FATAL = (Cancelled, DataError, LeakError, PairingError)  # concern all replicas: a log that lacks a call, say


@runtime_checkable
class Shared(Protocol):
    """A backend for many threads, as `BatchingBackend`."""

    def replica(self) -> AbstractContextManager[None]:
        """Register the calling thread as one that asks again and is waited for."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """A replica to be made."""

    arm: str
    replica: int
    interventions: tuple[Intervention, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What all replicas of an experiment have in common.

    Raises:
        ValueError: A number is out of its range.
    """

    model_factory: ModelFactory
    ticks: int
    """Of the crowd; a model that stops by itself has fewer."""
    seed: int
    """Replica r's model is made with ``seed + r``."""
    crowd: str | None = None
    """The model's attribute that holds the scheduler, where it has several."""
    shared: Shared | None = None
    """The common model, where policies do not hold it themselves."""
    workers: int | None = None
    _building: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _alone: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.ticks < 1:
            raise ValueError(f"ticks must be at least 1, got {self.ticks}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def run(
        self, jobs: Sequence[Job], errors: list[Exception], watch: Callable[[Job, Tick], None] | None = None
    ) -> Ensemble:
        """Make replicas; those that stand together run together, and begin together.

        Args:
            jobs: Which ones.
            errors: Gets what ended a replica.
            watch: Sees every tick of each, in the thread of that replica.

        Raises:
            Cancelled: The work was stopped.
            DataError: A file cannot be used, or a replay's log lacks a call.
            LeakError: A prompt was made from what nobody can know.
            PairingError: The watcher saw that arms are not paired.
        """
        if not jobs:
            return Ensemble((), (), self.ticks)
        order = {arm: place for place, arm in enumerate(dict.fromkeys(job.arm for job in jobs))}
        workers = min(self.workers or WORKERS, len(jobs))
        made: list[RunResult | FailedRun] = []

        def waves() -> Iterator[Sequence[_Built]]:
            for start in range(0, len(jobs), workers):
                built = [self._built(job, watch, errors) for job in jobs[start : start + workers]]
                made.extend(one for one in built if isinstance(one, FailedRun))
                yield [one for one in built if isinstance(one, _Built)]

        def make(one: _Built, together: Start, tick: Callable[[], None]) -> RunResult | FailedRun:
            return self._make(one, together, tick, errors)

        for one in in_waves(waves(), make, ticks=self.ticks * len(jobs)):
            made.append(one)  # noqa: PERF402  # the waves add to it, too
        made.sort(key=lambda one: (order[one.arm], one.replica))
        runs = tuple(one for one in made if isinstance(one, RunResult))
        return Ensemble(runs, tuple(one for one in made if isinstance(one, FailedRun)), self.ticks)

    def _built(
        self, job: Job, watch: Callable[[Job, Tick], None] | None, errors: list[Exception]
    ) -> _Built | FailedRun:
        seed, tap = self.seed + job.replica, Tap()
        try:
            with self._building:  # a modeler's own code need not be thread-safe before it is a model
                model = seeded(self.model_factory)(seed)
                crowd = crowd_of(model, self.crowd)
                crowd.interventions = [*crowd.interventions, *job.interventions]
                tap.into(crowd, None if watch is None else lambda over: watch(job, over))
        except _FATAL:
            raise
        except Exception as error:
            return _failed(job, seed, tap, error, errors)
        return _Built(job, seed, model, crowd, tap)

    def _make(
        self, one: _Built, together: Start, tick: Callable[[], None], errors: list[Exception]
    ) -> RunResult | FailedRun:
        with ExitStack() as stack:
            common = _common(one.crowd, self.shared)
            for backend in common:
                stack.enter_context(backend.replica())
            together.arrive()
            if not common:  # nothing to be shared, or what is shared need not be thread-safe
                stack.enter_context(self._alone)
            try:
                self._step(one.model, one.crowd, one.tap, tick)
            except _FATAL:
                raise
            except Exception as error:  # of the modeler's own code, too: what other replicas did must not be lost
                return _failed(one.job, one.seed, one.tap, error, errors)
        return RunResult(one.job.arm, one.job.replica, one.seed, tuple(one.tap.ticks[: self.ticks]), one.tap.usage)

    def _step(self, model: mesa.Model, crowd: MeanFieldScheduler, tap: Tap, tick: Callable[[], None]) -> None:
        idle = 0
        while len(tap.ticks) < self.ticks and model.running:
            before = len(tap.ticks)
            model.step()
            idle = 0 if len(tap.ticks) > before else idle + 1
            if idle == _IDLE:
                raise MeanFieldError(f"The scheduler {crowd.name!r} made no tick in {_IDLE} steps of the model")
            for _ in range(before, len(tap.ticks)):
                tick()
        if not tap.ticks:
            raise MeanFieldError("The model was not running when it was made: there is no tick to look at")


def run_replicas(
    model_factory: ModelFactory,
    replicas: int,
    ticks: int,
    *,
    seed: int,
    interventions: Sequence[Intervention] = (),
    arm: str = "run",
    crowd: str | None = None,
    shared: Shared | None = None,
    workers: int | None = None,
) -> Ensemble:
    """Run replicas of a model, which differ in their seed alone.

    Where every policy and summarizer asks a `BatchingBackend` they run at the same time, and what they ask is
    merged into common batches; others run one after the other. So do those whose backends hide that one inside
    them, unless it is given as ``shared``.

    A replica that ends with an error is kept as that error, without data; the others go on. Only what concerns all
    of them ends it all: a cancel, a file that cannot be used, a replay's log that lacks a call, a leak.

    Args:
        model_factory: Makes a model from a seed. Called once per replica, one call at a time.
        replicas: How many.
        ticks: How many ticks of the crowd each makes.
        seed: Replica r is made with ``seed + r``.
        interventions: What happens to the crowd, beside what the model itself has in ``crowd.interventions``.
            All replicas share them, so they keep nothing in themselves.
        arm: The name of it all in tables.
        crowd: The model's attribute that holds the scheduler, where it has several.
        shared: The common model, where it cannot be found as ``backend`` of policies and summarizers.
        workers: How many run at a time, default 16.

    Raises:
        ValueError: A number is out of its range, or a model has no scheduler that could be meant.
        Exception: What ended the first replica, where none ran to its end.
    """
    at_least_one(replicas)
    check_ticks(interventions, ticks)
    setting = Setting(model_factory, ticks, seed, crowd, shared, workers)
    errors: list[Exception] = []
    made = setting.run([Job(arm, r, tuple(interventions)) for r in range(replicas)], errors)
    if not made.runs:
        raise errors[0]
    return made


def at_least_one(replicas: int) -> None:
    """Check the number of replicas.

    Raises:
        ValueError: There are none.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be at least 1, got {replicas}")


@dataclass(frozen=True, slots=True)
class _Built:
    """A replica whose model stands ready."""

    job: Job
    seed: int
    model: mesa.Model
    crowd: MeanFieldScheduler
    tap: Tap


def _failed(job: Job, seed: int, tap: Tap, error: Exception, errors: list[Exception]) -> FailedRun:
    errors.append(error)
    told = str(error) if isinstance(error, MeanFieldError) else f"{type(error).__name__}: {error}"
    return FailedRun(job.arm, job.replica, seed, len(tap.ticks), told, tap.usage)


def _common(crowd: MeanFieldScheduler, shared: Shared | None) -> list[Shared]:
    """The backends for many threads that a crowd asks; none where a part of it may ask another."""
    if shared is not None:
        return [shared]
    policies = crowd.policy.values() if isinstance(crowd.policy, Mapping) else [crowd.policy]
    backends = {id(one): one for part in (*policies, crowd.summarizer) if (one := getattr(part, "backend", None))}
    common = [one for one in backends.values() if isinstance(one, Shared)]
    return common if len(common) == len(backends) else []
