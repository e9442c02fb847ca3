"""A recorded cascade as a Mesa model."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace

import mesa

from mesa_meanfield.activation import ArrivalOrder
from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action, Cascade, Decision, Popularity, State, Tick, Trace, cut
from mesa_meanfield.protocols import Policy, Recorder, Summarizer
from mesa_meanfield.rules import RecordedPolicy
from mesa_meanfield.scheduler import MeanFieldScheduler
from mesa_meanfield_models.cascade.agents import Reader


class CascadeModel(mesa.Model):  # type: ignore[misc]  # Mesa is untyped for mypy
    """Plays the first part of a cascade and lets its readers act out the rest under a mean field.

    The readers come in the recorded order, one per recorded action. Each `step` is one tick.

    Args:
        cascade: The record.
        policy: Who decides after the warm-up.
        summarizer: Who writes the mean field, during the warm-up, too.
        dimension: The labels that the warm-up is played with.
        warm_up: Share of the actions that is played.
        per_tick: Actions per tick, default max(4, ceil(n / 20)).
        agents: Keep only the first so many roll-out actions.
        recorder: Gets every tick.
        rng: The seed.
    """

    def __init__(
        self,
        cascade: Cascade,
        *,
        policy: Policy,
        summarizer: Summarizer,
        dimension: str,
        warm_up: float = 0.3,
        per_tick: int | None = None,
        agents: int | None = None,
        recorder: Recorder | None = None,
        rng: int = 0,
    ) -> None:
        super().__init__(rng=rng)
        self.cascade = cascade
        self.cut = cut(cascade, warm_up, per_tick, agents)
        self.ticks: Sequence[tuple[Action, ...]] = (*self.cut.warm_up, *self.cut.roll_out)
        seen: set[str] = set()
        for action in self.real:
            Reader(self, action, language=cascade.language, again=action.author.key in seen)
            seen.add(action.author.key)
        self.crowd = MeanFieldScheduler(
            self,
            policy=policy,
            summarizer=summarizer,
            topic=html.unescape(cascade.topic.text),
            activation=ArrivalOrder([[action.id for action in tick] for tick in self.ticks]),
            recorder=recorder,
        )
        played = [action for tick in self.cut.warm_up for action in tick]
        self._record = RecordedPolicy({a.id: _recorded(a, dimension) for a in played}, policy.actions)
        self._simulated: list[Action] = list(played)
        self.running = bool(self.ticks)

    @property
    def real(self) -> list[Action]:
        """The recorded actions that this run covers, in order."""
        return [action for tick in self.ticks for action in tick]

    @property
    def simulated(self) -> Cascade:
        """What has happened so far, as a cascade: the warm-up as recorded, then the simulated actions."""
        return replace(self.cascade, actions=tuple(self._simulated))

    def step(self) -> None:
        """Play or simulate one tick."""
        warm_up = self.crowd.tick < len(self.cut.warm_up)
        tick = self.crowd.step(self.agents, policy=self._record if warm_up else None)
        if not warm_up:
            slots = {action.id: action for action in self.ticks[tick.number]}
            pairs = zip(tick.states, tick.decisions, strict=True)
            self._simulated += [_simulated(slots[s.agent], s, d, tick) for s, d in pairs]
        self.running = self.crowd.tick < len(self.ticks)


def simulate(
    cascade: Cascade, policy: Policy, summarizer: Summarizer, seed: int, *, dimension: str, warm_up: float = 0.3
) -> Cascade:
    """Roll a cascade out from its warm-up to its end."""
    model = CascadeModel(
        cascade, policy=policy, summarizer=summarizer, dimension=dimension, warm_up=warm_up, rng=seed
    )
    while model.running:
        model.step()
    return model.simulated


def _recorded(action: Action, dimension: str) -> Decision:
    label = label_of(action, dimension)
    labels = {} if label is None else {dimension: label}
    return Decision(text=action.text, labels=labels, parent=action.parent)


def _simulated(slot: Action, state: State, decision: Decision, tick: Tick) -> Action:
    """The action that a reader did in the place of the recorded one: nothing else of that one is kept."""
    return Action(
        id=slot.id,
        parent=None,
        time=slot.time,
        author=slot.author,
        text=decision.text,
        labels=dict(decision.labels),
        popularity=Popularity(),
        trace=Trace(
            tick=tick.number,
            state=state.text,
            distribution=None if decision.distribution is None else dict(decision.distribution),
            seed=decision.seed,
            failure=decision.failure,
        ),
    )
