"""One town: what it asked, what that cost, and what its language-model people were expected to do."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import dataclass, field

from mesa_meanfield.backends.watched import Call, WatchedBackend
from mesa_meanfield.data import Tick
from mesa_meanfield.protocols import Backend, Usage
from mesa_meanfield_models.town import Citizen, Town

Shares = dict[str, float]


@dataclass
class Asked:
    """The questions for labels of one run."""

    questions: int = 0
    prefixes: int = 0
    """Different shared beginnings, each tick's counted apart."""
    prefix_characters: int = 0
    """Of those beginnings."""
    own_characters: int = 0
    """Of what belongs to single agents."""

    def look(self, call: Call, asked: Backend) -> nullcontext[None]:
        """Count a call."""
        if call.kind == "choice":
            prefixes = {request.prefix for request in call.requests}
            self.questions += len(call.requests)
            self.prefixes += len(prefixes)
            self.prefix_characters += sum(map(len, prefixes))
            self.own_characters += sum(len(request.suffix) for request in call.requests)
        return nullcontext()


@dataclass
class Run:
    """One town's course."""

    story: str
    see: str
    seed: int
    decisions: int = 0
    """Of the language model, failed ones left out."""
    failures: int = 0
    calls: int = 0
    tokens_asked: int = 0
    tokens_computed: int = 0
    seconds: float = 0.0
    """Inside the backend."""
    asked: Asked = field(default_factory=Asked)
    shares: list[Shares] = field(default_factory=list)
    """Of each tick: label -> its expected share among the language-model people."""
    communities: list[dict[str, Shares]] = field(default_factory=list)
    """Of each tick: community -> the same for its people."""


def run(story: str, see: str, seed: int, backend: Backend, given: argparse.Namespace) -> Run:
    """Run one town to the asked tick."""
    one = Run(story, see, seed)
    town = Town(
        story,
        WatchedBackend(backend, one.asked.look),
        given.summarizer,
        see,
        given.citizens,
        given.network,
        shown=given.shown,
        texts=given.texts,
        rng=seed,
    )
    if town.story.ticks < given.ticks:
        raise ValueError(f"the story {story!r} ends after {town.story.ticks} ticks")
    for _ in range(given.ticks):
        town.step()
        assert town.crowd.last is not None  # a tick is over
        _count(one, town, town.crowd.last)
    usage: Usage = town.crowd.usage
    one.calls, one.tokens_asked, one.tokens_computed = usage.calls, usage.tokens_asked, usage.tokens_computed
    one.seconds, one.failures = usage.seconds, usage.failures
    return one


def _count(one: Run, town: Town, tick: Tick) -> None:
    people = {str(agent.unique_id): agent for agent in town.agents if isinstance(agent, Citizen)}
    dimension, labels = town.story.choice.dimension, town.story.choice.options
    by_community: dict[str, list[Shares]] = {}
    for state, decision in tick.valid:
        if state.agent in people and dimension in decision.labels:
            certain = {decision.labels[dimension]: 1.0}  # of a backend without probabilities
            chances = dict(decision.distribution or certain)
            by_community.setdefault(people[state.agent].community, []).append(chances)
    everyone = [chances for of in by_community.values() for chances in of]
    one.decisions += len(everyone)
    one.shares.append(_mean(everyone, labels))
    one.communities.append({name: _mean(of, labels) for name, of in by_community.items()})


def _mean(chances: list[Shares], labels: tuple[str, ...]) -> Shares:
    return {label: sum(one.get(label, 0.0) for one in chances) / len(chances) for label in labels}
