"""What the agents of one replica were asked and did in every arm, for a reader who wants to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesa_meanfield.data import Decision, MeanField, State, Tick
from mesa_meanfield.drafts import draft
from mesa_meanfield.experiments.replicas import ModelFactory, seeded
from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Intervention, Policy, Recorder, Turn
from mesa_meanfield.scheduler import MeanFieldScheduler


@dataclass(frozen=True)
class Moment:
    """One tick of the watched replica in one arm."""

    tick: Tick
    field: MeanField
    """The one that its agents saw."""
    groups: Mapping[str, MeanField]
    topic: str
    policies: tuple[Policy, ...]

    def prompt(self, state: State, decision: Decision) -> str | None:
        """The prompt of a decision; None where no model was asked, or it cannot be made again as it was.

        It is rendered anew, and is the one that was asked if it has its hash.
        """
        for policy in self.policies:
            if not isinstance(policy, LLMPolicy):
                continue
            (one,) = draft(
                [Turn(state)],
                policy.actions,
                policy.prompts,
                self.field,
                topic=self.topic,
                groups=self.groups,
                instructions=policy.instructions,
            )
            if one.prompt.hash == decision.prompt_hash:
                return f"{one.prompt.prefix}\n\n{one.prompt.suffix}"
        return None


class Witness:
    """Keeps every tick of one replica in all arms.

    Args:
        seed: The replica's: that of its model.
        crowd: The model's attribute that holds the scheduler, where it has several.
    """

    def __init__(self, seed: int, crowd: str | None = None) -> None:
        self._seed = seed
        self._crowd = crowd
        self._seen: dict[tuple[int, ...], list[Moment]] = {}  # by the identities of an arm's interventions

    def watching(self, model_factory: ModelFactory) -> ModelFactory:
        """The factory whose model of that seed is watched."""

        def make(seed: int) -> object:
            model = seeded(model_factory)(seed)
            if seed == self._seed:
                crowd = crowd_of(model, self._crowd)
                crowd.recorder = _Watch(self._seen, crowd)
            return model

        return make

    def seen(self, interventions: Sequence[Intervention]) -> tuple[Moment, ...]:
        """The ticks of the arm that has these interventions, themselves and not equal ones."""
        return tuple(self._seen.get(tuple(map(id, interventions)), ()))


class _Watch:
    """Stands between a crowd and its recorder."""

    def __init__(self, seen: dict[tuple[int, ...], list[Moment]], crowd: MeanFieldScheduler) -> None:
        self._seen = seen
        self._crowd = crowd
        self._own: Recorder | None = crowd.recorder
        self._before = len(crowd.interventions)  # those of the model itself, which all arms have

    def record(self, tick: Tick, field: MeanField, groups: Mapping[str, MeanField]) -> None:
        """Keep a tick and pass it on."""
        crowd = self._crowd
        policies = tuple(crowd.policy.values()) if isinstance(crowd.policy, Mapping) else (crowd.policy,)
        arm = tuple(map(id, crowd.interventions[self._before :]))
        moment = Moment(
            tick, crowd.field, dict(crowd.fields), crowd.topic, policies
        )  # the field is not yet the new one
        self._seen.setdefault(arm, []).append(moment)
        if self._own is not None:
            self._own.record(tick, field, groups)
