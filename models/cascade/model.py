"""A recorded cascade as a Mesa model."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import mesa

from mesa_meanfield.activation import ArrivalOrder
from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action, Cascade, Decision, Popularity, State, Tick, Trace, cut
from mesa_meanfield.interventions import check_ticks
from mesa_meanfield.protocols import Intervention, Participant, Policy, Recorder, Summarizer
from mesa_meanfield.provenance import LeakGuard, Ledger
from mesa_meanfield.rules import RecordedPolicy
from mesa_meanfield.scheduler import MeanFieldScheduler
from mesa_meanfield_models.cascade.agents import Reader


class MakesReader(Protocol):
    """Makes the agent that acts in the place of a recorded action: `Reader`, or a class of one's own."""

    def __call__(self, model: mesa.Model, action: Action, *, language: str, again: bool, level: str) -> Participant:
        """The agent; its ``key`` is the action's id."""
        ...


class CascadeModel(mesa.Model):  # type: ignore[misc]  # Mesa is untyped for mypy
    """Plays the first part of a cascade and lets its readers act out the rest under a mean field.

    The readers come in the recorded order, one per recorded action. Each `step` is one tick.

    Nobody in it can use the record after the warm-up: the model, its readers and whoever asks them see it
    guarded, and a prompt that was made from what comes later ends the run with a `LeakError`, before a model
    is asked. Who acts, and in which order, is known. Once a run is over the record may be read for comparing.

    Args:
        cascade: The record; where code of your own reads it, too, give both the same ``guarded(cascade)``.
        policy: Who decides after the warm-up.
        summarizer: Who writes the mean field, during the warm-up, too.
        dimension: The labels that the warm-up is played with.
        warm_up: Share of the actions that is played.
        per_tick: Actions per tick, default max(4, ceil(n / 20)).
        agents: Keep only the first so many roll-out actions.
        persona: How much readers hear of their profiles: ``graded``, or ``none``.
        reader: Makes the readers.
        recorder: Gets every tick.
        interventions: What changes the ticks, which count from the start of the warm-up. A recorded post that is
            put in must be a plain string: what is read through the guarded record is refused as a leak.
        rng: The seed.

    Raises:
        ValueError: An argument is out of its range.
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
        persona: str = "graded",
        reader: MakesReader = Reader,
        recorder: Recorder | None = None,
        interventions: Sequence[Intervention] = (),
        rng: int = 0,
    ) -> None:
        super().__init__(rng=rng)
        ledger = Ledger.of(cascade)
        record = ledger.record
        self.cascade = ledger.view
        """The record, guarded: what is read from it between two ticks, by whomever, counts as told."""
        self.cut = cut(self.cascade, warm_up, per_tick, agents)
        self.ticks: Sequence[tuple[Action, ...]] = (*self.cut.warm_up, *self.cut.roll_out)
        check_ticks(interventions, len(self.ticks))
        seen: set[str] = set()
        for action in self.real:
            again = action.author.key in seen
            reader(self, action, language=record.language, again=again, level=persona)
            seen.add(action.author.key)
        played = record.actions[: sum(map(len, self.cut.warm_up))]
        self.crowd = MeanFieldScheduler(
            self,
            policy=policy,
            summarizer=summarizer,
            topic=html.unescape(record.topic.text),
            activation=ArrivalOrder([[action.id for action in tick] for tick in self.ticks]),
            recorder=recorder,
            guard=LeakGuard(ledger, [action.id for action in played]),
            interventions=interventions,
        )
        self._ledger = ledger
        self._played = RecordedPolicy({a.id: _recorded(a, dimension) for a in played}, policy.actions)
        self._slots = {action.id: action for action in record.actions[len(played) :]}
        self._simulated: list[Action] = []
        self.running = bool(self.ticks)

    @property
    def real(self) -> list[Action]:
        """The recorded actions that this run covers, in order."""
        return [action for tick in self.ticks for action in tick]

    @property
    def simulated(self) -> Cascade:
        """What has happened so far, as a cascade: the warm-up as recorded, then the simulated actions.

        Guarded until the run is over, as the warm-up's popularity and the times are of the record.
        """
        record = self._ledger.record
        played = record.actions[: len(self._played.decisions)]
        so_far = replace(record, actions=(*played, *self._simulated))
        return self._ledger.guarded(so_far, len(played)) if self.running else so_far

    def step(self) -> None:
        """Play or simulate one tick."""
        warm_up = self.crowd.tick < len(self.cut.warm_up)
        tick = self.crowd.step(self.agents, policy=self._played if warm_up else None)
        if not warm_up:
            pairs = zip(tick.states, tick.decisions, strict=True)
            self._simulated += [_simulated(self._slots[s.agent], s, d, tick) for s, d in pairs if not d.injected]
        self.running = self.crowd.tick < len(self.ticks)


def simulate(
    cascade: Cascade,
    policy: Policy,
    summarizer: Summarizer,
    seed: int,
    *,
    dimension: str,
    warm_up: float = 0.3,
    per_tick: int | None = None,
    agents: int | None = None,
    persona: str = "graded",
    reader: MakesReader = Reader,
    recorder: Recorder | None = None,
    interventions: Sequence[Intervention] = (),
) -> Cascade:
    """Roll a cascade out from its warm-up to its end; the arguments are those of `CascadeModel`."""
    model = CascadeModel(
        cascade,
        policy=policy,
        summarizer=summarizer,
        dimension=dimension,
        warm_up=warm_up,
        per_tick=per_tick,
        agents=agents,
        persona=persona,
        reader=reader,
        recorder=recorder,
        interventions=interventions,
        rng=seed,
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
