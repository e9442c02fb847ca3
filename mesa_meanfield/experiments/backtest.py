"""Back-tests: a recorded post taken out of its cascade and put back as an intervention, with it and without.

What the simulated readers do after it can be held against what the recorded ones did. Only the *other* actions
count, on both sides: the post is in neither share, and its author is no agent of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mesa_meanfield.cascades.dimensions import counts_of
from mesa_meanfield.data import Action, Cascade, cut
from mesa_meanfield.errors import MeanFieldError
from mesa_meanfield.experiments.counterfactual import compare
from mesa_meanfield.experiments.replicas import ModelFactory, Shared, run_replicas
from mesa_meanfield.experiments.runs import RunResult
from mesa_meanfield.interventions import Announce, Inject
from mesa_meanfield.protocols import Intervention, Usage

WITHOUT, WITH = "without", "with"
"""The arms that every back-test has."""

Halves = tuple[tuple[float, ...], tuple[float, ...]]
"""Counts per label, those before the post and those after it."""


@dataclass(frozen=True)
class Occasion:
    """A recorded post and the cascade without it, cut so that the post falls between two ticks or into one."""

    cascade: Cascade
    """The other actions. Replies to the post answer what it answered."""
    post: Action
    warm_up: float
    """The share of the other actions that is played, for the model."""
    per_tick: int
    at: int
    """The tick at whose end the post is heard, so that those of the next one are the first who know it."""
    split: bool
    """Whether actions of that tick stand on both sides of the post in the record; then none of them counts."""

    @cached_property
    def ticks(self) -> tuple[tuple[Action, ...], ...]:
        """The recorded ticks, those that are played and those in whose place others are simulated."""
        parts = cut(self.cascade, self.warm_up, self.per_tick)
        return (*parts.warm_up, *parts.roll_out)

    @property
    def before(self) -> range:
        """The ticks before the post, the played ones included."""
        return range(self.at if self.split else self.at + 1)

    @property
    def after(self) -> range:
        """The ticks whose readers know the post."""
        return range(self.at + 1, len(self.ticks))

    def recorded(self, dimension: str, labels: Sequence[str]) -> Halves:
        """How often each label stands in the record before the post and after it; unlabelled ones count nowhere."""
        halves = ([a for t in part for a in self.ticks[t]] for part in (self.before, self.after))
        before, after = (tuple(map(float, counts_of(half, dimension, labels).values())) for half in halves)
        return before, after

    def simulated(self, run: RunResult, dimension: str, labels: Sequence[str]) -> Halves:
        """The same of a run: exact expectations where distributions are known."""
        expected = [tick.expected.get(dimension, {}) for tick in run.ticks]
        before, after = (
            tuple(sum(expected[t].get(label, 0.0) for t in part) for label in labels)
            for part in (self.before, self.after)
        )
        return before, after

    def inject(self, text: str, labels: Mapping[str, str]) -> Inject:
        """The post as one of an account outside the population, in the account's name.

        Args:
            text: What it says; a plain string, by which it is declared that this part of the record is told.
            labels: Dimension -> label; with one it counts in the mean field's shares.
        """
        return Inject(self.at, text, self.post.id, labels)

    def announce(self, text: str, source: str) -> Announce:
        """The post as a statement that stands in the prompts of all who come after it, to the end."""
        return Announce(self.at + 1, text, source, channel="media")


def occasion(
    cascade: Cascade,
    place: int,
    *,
    warm_up: float = 0.3,
    per_tick: int | None = None,
    until_post: bool = False,
    horizon: int | None = None,
) -> Occasion:
    """Take a post out of its cascade.

    Args:
        cascade: The record.
        place: Which of its actions the post is, from 0.
        warm_up: Share of the actions that is played.
        per_tick: Actions per tick, as of `cut` for the whole cascade.
        until_post: Play on up to the post, so that all that is simulated comes after it.
        horizon: Keep only so many actions after the post's tick.

    Raises:
        ValueError: The post is played, nothing stands before or after it, or an argument is out of its range.
    """
    actions = cascade.actions
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon must be at least 1, got {horizon}")
    parts = cut(cascade, warm_up, per_tick)
    size = max((len(tick) for tick in (*parts.warm_up, *parts.roll_out)), default=1)
    least = sum(map(len, parts.warm_up))
    if not least <= place < len(actions):
        raise ValueError(f"The post must be one of the {len(actions)} actions and none of the first {least}: {place}")
    played = place if until_post else least
    ticks, into = divmod(place - played, size)
    at = -(-played // size) + ticks - (into == 0)
    first = played + (ticks + (into > 0)) * size  # of those who know it, in the cascade without it
    post = actions[place]
    others = (
        *actions[:place],
        *(replace(one, parent=post.parent) if one.parent == post.id else one for one in actions[place + 1 :]),
    )
    others = others if horizon is None else others[: first + horizon]
    if at < 0 or first >= len(others):
        raise ValueError(f"Nothing stands {'before' if at < 0 else 'after the tick of'} the post {post.id}")
    return Occasion(
        cascade=replace(cascade, actions=others),
        post=post,
        warm_up=played / len(others),
        per_tick=size,
        at=at,
        split=into > 0,
    )


@dataclass(frozen=True)
class Backtest:
    """What a model's readers did with a post and without it."""

    arms: Mapping[str, tuple[Halves, ...]]
    """Arm -> its replicas, the same ones in the same order: those that ran to their end in every arm."""
    usage: Usage
    failures: int
    """Decisions that failed, in all arms."""


def backtest(
    of: Occasion,
    model_factory: ModelFactory,
    post: Intervention,
    *,
    dimension: str,
    labels: Sequence[str],
    replicas: int,
    seed: int,
    others: Mapping[str, Intervention] | None = None,
    shared: Shared | None = None,
    workers: int | None = None,
) -> Backtest:
    """Simulate an occasion with the post and without it, on the same random numbers.

    Args:
        of: The post and its cascade.
        model_factory: Makes a model of ``of.cascade`` from a seed, cut as ``of`` says.
        post: What is put in, as of `Occasion.inject` or `Occasion.announce`.
        dimension: What the labels are about.
        labels: Those that are counted.
        replicas: How many pairs.
        seed: Replica r is made with ``seed + r`` in every arm.
        others: Further arms, name -> what is put in instead.
        shared: The common model, where it cannot be found in the policy and the summarizer.
        workers: How many runs at a time.

    Raises:
        PairingError: Something differs before the post.
        MeanFieldError: No replica ran to its end in every arm.
        Exception: What ended the first run, where none of an arm did.
    """
    ticks = len(of.ticks)
    pair = compare(model_factory, [post], replicas=replicas, ticks=ticks, seed=seed, shared=shared, workers=workers)
    made = {
        WITHOUT: {control.replica: control for _, control in pair.pairs},
        WITH: {treatment.replica: treatment for treatment, _ in pair.pairs},
    }
    usage = pair.ensemble.usage
    for name, instead in (others or {}).items():
        more = run_replicas(
            model_factory, replicas, ticks, seed=seed, interventions=[instead], shared=shared, workers=workers
        )
        made[name], usage = {run.replica: run for run in more.runs}, usage + more.usage
    common = [r for r in range(replicas) if all(r in runs for runs in made.values())]
    if not common:
        raise MeanFieldError(f"No replica of {of.cascade.id} ran to its end in every arm; run it again")
    return Backtest(
        arms={name: tuple(of.simulated(runs[r], dimension, labels) for r in common) for name, runs in made.items()},
        usage=usage,
        failures=sum(runs[r].failures for runs in made.values() for r in common),
    )
