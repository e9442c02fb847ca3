"""Each occasion simulated with its post and without it, and kept as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from denials import DENIAL, PLACEBO
from outcomes import OTHER, Kept, Outcome

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.cli.common import summarizer_named
from mesa_meanfield.cli.output import progress
from mesa_meanfield.cli.simulations import Models, Settings, Simulation
from mesa_meanfield.data import Action, event_of
from mesa_meanfield.evaluation.rollouts import roll_out
from mesa_meanfield.experiments.backtest import Occasion, backtest
from mesa_meanfield.experiments.replicas import ModelFactory, Shared
from mesa_meanfield.ibtune.calibration import calibrated
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Intervention
from mesa_meanfield_models.cascade.model import CascadeModel

SOURCE = {"zh": "一位网友"}
"""Language -> who says what is announced."""


@dataclass(frozen=True)
class Task:
    """A post to be tested."""

    of: Occasion
    kind: str
    instead: Action | None
    """Another post for its place, as a placebo."""


@dataclass(frozen=True)
class How:
    """What all simulations have in common."""

    dimension: str
    labels: tuple[str, ...]
    announce: bool
    replicas: int
    seed: int
    factory: Callable[[Occasion], ModelFactory]
    """Makes models of an occasion's cascade."""
    shared: Shared | None
    """The language model of all of them; None where none is asked."""

    def put_in(self, of: Occasion, post: Action) -> Intervention:
        """A recorded post as an intervention; its text is declared by being read off the plain record."""
        if self.announce:
            return of.announce(post.text, SOURCE.get(of.cascade.language, "A reader"))
        label = label_of(post, self.dimension)
        return of.inject(post.text, {} if label is None else {self.dimension: label})


def factory_of(simulation: Simulation, models: Models, settings: Settings) -> Callable[[Occasion], ModelFactory]:
    """Occasion -> the function from a seed to its model, whose agents ask a language model."""

    def of(one: Occasion) -> ModelFactory:
        event, prompts = event_of(one.cascade), settings.prompts[one.cascade.language]
        space = calibrated(settings.space(one.cascade.language), models.calibrations(simulation, event))

        def make(seed: int) -> CascadeModel:
            return CascadeModel(
                one.cascade,
                policy=LLMPolicy(models.policy(simulation, event), space, prompts=prompts, on_failure="skip"),
                summarizer=summarizer_named(simulation.summarizer, models.summarizer(simulation, event), prompts),
                dimension=settings.dimension,
                warm_up=one.warm_up,
                per_tick=one.per_tick,
                persona=simulation.persona,
                rng=seed,
            )

        return make

    return of


def simulate(tasks: Sequence[Task], how: How, kept: Kept, *, jobs: int, end: float | None) -> None:
    """Make what is not there yet; nothing is begun after ``end``, by the monotonic clock."""
    left = [one for one in tasks if (one.of.cascade.id, one.kind) not in kept.done]

    def make(task: Task, tick: Callable[[], None]) -> Outcome | None:
        if end is not None and time.monotonic() >= end:
            return None
        made = one_outcome(task, how)
        tick()
        return made

    if not left:
        return
    with progress("Back-test", total=len(left)) as advance:
        for made in roll_out(left, make, ticks=len(left), workers=jobs):
            if made is not None:
                kept.add(made)
                advance(f"{made.cascade}, {made.kind}")


def one_outcome(task: Task, how: How) -> Outcome:
    """Simulate one task."""
    start, of = time.perf_counter(), task.of
    others = {} if task.instead is None else {OTHER: _named_as(of.post, task.instead)}
    made = backtest(
        of,
        how.factory(of),
        how.put_in(of, of.post),
        dimension=how.dimension,
        labels=how.labels,
        replicas=how.replicas,
        seed=how.seed,
        others={name: how.put_in(of, post) for name, post in others.items()},
        shared=how.shared,
    )
    return Outcome(
        cascade=of.cascade.id,
        event=event_of(of.cascade),
        kind=task.kind,
        post=of.post.id,
        other=None if task.instead is None else task.instead.id,
        labels=how.labels,
        played=round(of.warm_up * len(of.cascade.actions)),
        at=of.at,
        ticks=len(of.ticks),
        real=of.recorded(how.dimension, how.labels),
        arms=made.arms,
        failures=made.failures,
        tokens=made.usage.tokens_asked,
        seconds=time.perf_counter() - start,
    )


def tasks_of(
    found: Sequence[Occasion],
    placebo: Callable[[Occasion], Occasion | None] | None,
    instead: Callable[[Occasion], Action | None],
) -> list[Task]:
    """Each denial, with its placebos where there are to be any."""
    tasks = []
    for of in found:
        tasks.append(Task(of, DENIAL, instead(of) if placebo is not None else None))
        if placebo is not None and (elsewhere := placebo(of)) is not None:
            tasks.append(Task(elsewhere, PLACEBO, None))
    return tasks


def _named_as(post: Action, other: Action) -> Action:
    """Another post in the name of the tested one, so that nothing but what it says differs."""
    return replace(other, id=post.id)
