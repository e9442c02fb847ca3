"""What an evaluation has gathered, and the scorecard's parts that come out of it."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mesa_meanfield.cascades.dimensions import positions_of
from mesa_meanfield.data import Cascade, Cut, cut
from mesa_meanfield.display import counted
from mesa_meanfield.evaluation.cases import Case, Guess, case_of, guess_of
from mesa_meanfield.evaluation.report.page import Example, Story
from mesa_meanfield.evaluation.rivals import Trained, rivals, uniform
from mesa_meanfield.evaluation.rollouts import RollOut
from mesa_meanfield.evaluation.scorecard import Card, CascadeRow, Spent
from mesa_meanfield.evaluation.scoring import card, rows
from mesa_meanfield.evaluation.selection import comparable
from mesa_meanfield.protocols import Usage

_EXAMPLES = 3


@dataclass(frozen=True)
class Cutting:
    """How every cascade is cut."""

    warm_up: float = 0.3
    """Share of the actions that is played."""
    per_tick: int | None = None
    """Actions per tick, default max(4, ceil(n / 20))."""
    agents: int | None = None
    """Only the first so many actions after the warm-up."""
    min_actions: int = 15
    """Smaller cascades are left out, counted before the warm-up."""

    def cut(self, cascade: Cascade) -> Cut:
        """The cascade, cut."""
        return cut(cascade, self.warm_up, self.per_tick, self.agents)

    def covered(self, cascade: Cascade) -> Cascade:
        """The cascade with the actions that are played or compared alone."""
        parts = self.cut(cascade)
        n = sum(map(len, (*parts.warm_up, *parts.roll_out)))
        return replace(cascade, actions=cascade.actions[:n])


@dataclass(frozen=True)
class Results:
    """Recorded cascades, and what was simulated in their place."""

    names: tuple[str, ...]
    """Of the simulations, in the scorecard's order."""
    cascades: tuple[Cascade, ...]
    """The recorded ones."""
    rollouts: tuple[RollOut, ...]
    cutting: Cutting
    seed: int

    def __repr__(self) -> str:
        of = f"{counted(len(self.cascades), 'cascade')}, {counted(len(self.rollouts), 'roll-out')}"
        return f"<Results of {', '.join(self.names)}: {of}>"

    def dimension(self, dimension: str, labels: Sequence[str], trained: Mapping[str, Trained]) -> Compared | None:
        """One dimension's labels, where any cascade has such after its warm-up; else None.

        Args:
            dimension: What the labels are about.
            labels: All of them.
            trained: Event -> what its rivals have learnt from others; without it they know nothing.
        """
        how = self.cutting
        kept, _ = comparable(self.cascades, dimension, min_actions=1, warm_up=how.warm_up, agents=how.agents)
        if not kept:
            return None
        cases = [case_of(one, how.cut(one), dimension, labels) for one in kept]
        guesses: dict[str, list[Guess | None]] = defaultdict(list)
        for case in cases:
            for rival in rivals(case, trained.get(case.event)):
                guesses[rival.name].append(rival)
        by_key: dict[tuple[str, str], list[RollOut]] = defaultdict(list)
        for one in sorted(self.rollouts, key=lambda one: one.replica):
            by_key[one.name, one.cascade].append(one)
        for name in self.names:
            for case in cases:
                replicas = [one.actions for one in by_key[name, case.cascade]]
                guesses[name].append(guess_of(name, replicas, dimension, labels) if replicas else None)
        even = uniform(labels)
        priors = tuple(trained[case.event].prior if case.event in trained else even for case in cases)
        return Compared(self, dimension, tuple(cases), dict(guesses), priors)

    def spent(self) -> dict[str, Spent]:
        """Simulation -> what its roll-outs cost."""
        found = {name: Usage() for name in self.names}
        for one in self.rollouts:
            found[one.name] += one.usage
        return {name: Spent.of(usage) for name, usage in found.items()}

    def nll_token(self) -> dict[str, float | None]:
        """Simulation -> -log P per token of the recorded texts, where it was asked for."""
        nats: dict[str, float] = defaultdict(float)
        tokens: dict[str, int] = defaultdict(int)
        for one in self.rollouts:
            nats[one.name] += one.nats or 0.0
            tokens[one.name] += one.tokens
        return {name: nats[name] / tokens[name] if tokens[name] else None for name in self.names}


@dataclass(frozen=True, eq=False)
class Compared:
    """One dimension, ready to be scored."""

    results: Results
    dimension: str
    cases: tuple[Case, ...]
    guesses: Mapping[str, Sequence[Guess | None]]
    priors: tuple[Mapping[str, float], ...]

    def __repr__(self) -> str:
        return f"<Compared on {self.dimension}: {counted(len(self.cases), 'cascade')}, {', '.join(self.guesses)}>"

    def card(self) -> Card:
        """All figures."""
        return card(
            self.cases,
            self.guesses,
            priors=self.priors,
            positions=positions_of(self.dimension),
            spent=self.results.spent(),
            nll_token=self.results.nll_token(),
            seed=self.results.seed,
        )

    def rows(self) -> list[CascadeRow]:
        """Every entry on every cascade."""
        return list(rows(self.cases, self.guesses, positions_of(self.dimension)))

    def stories(self) -> list[Story]:
        """The cascades for display."""
        first = {(one.name, one.cascade): one for one in reversed(self.results.rollouts)}
        by_id = {one.id: one for one in self.results.cascades}
        stories = []
        for place, case in enumerate(self.cases):
            made = {name: one for name in self.results.names if (one := first.get((name, case.cascade)))}
            guesses = {name: guess for name, of in self.guesses.items() if (guess := of[place]) is not None}
            examples = [
                example for name, one in made.items() for example in _examples(by_id[case.cascade], name, one)
            ]
            fields = {name: one.field for name, one in made.items() if one.field}
            topic = html.unescape(by_id[case.cascade].topic.text)
            stories.append(Story(topic, case, guesses, examples, fields))
        return stories


def _examples(cascade: Cascade, name: str, made: RollOut) -> list[Example]:
    """The first places at which both wrote something."""
    real = {action.id: html.unescape(action.text).strip() for action in cascade.actions}
    texts = ((real[action.id], action.text.strip()) for action in made.actions)
    return [Example(name, was, said) for was, said in texts if was and said][:_EXAMPLES]
