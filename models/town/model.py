"""A town that hears a story: language-model and rule-based people on a social network, under a mean field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mesa
import numpy as np
from mesa.datacollection import DataCollector

from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend, Summarizer
from mesa_meanfield.reporters import failures, field_text, share, usage
from mesa_meanfield.rules import RulePolicy
from mesa_meanfield.scheduler import MeanFieldScheduler
from mesa_meanfield.summarizers import NoField, summarizer_named
from mesa_meanfield_models.town.agents import Citizen, Follower, Resident, follow
from mesa_meanfield_models.town.network import place, social_network
from mesa_meanfield_models.town.personas import draw_names, draw_persona, sizes
from mesa_meanfield_models.town.scenario import Scenario, read_scenario
from mesa_meanfield_models.town.sight import SEE


class Town(mesa.Model):  # type: ignore[misc]  # Mesa is untyped for mypy
    """People on a social network who hear a story and decide, tick by tick, what to make of it.

    Every argument is a string or a number, so that the town runs under ``batch_run`` and in SolaraViz. Two towns
    that differ in ``see``, ``backend``, ``summarizer`` or ``texts`` alone have the same people in the same network;
    another ``network`` has the same people.

    Args:
        story: The scenario: one of `SCENARIOS`, the path of a file of one's own, or a `Scenario`. (Mesa 3.5 keeps
            the name ``scenario`` for itself, in models and in SolaraViz.)
        backend: The language model: a spec string as for `load_backend`, or a backend. A local model that is named
            by a string is loaded once in a process.
        summarizer: Who writes the mean field: one of `SUMMARIZERS`, or a summarizer. Nobody where people see their
            neighbours instead.
        see: How people see each other, one of `SEE`.
        citizens: How many people, the rule-based ones among them.
        network: Who knows whom, one of `NETWORKS`.
        rules: The share of rule-based people; by default the scenario's.
        shown: How many of its neighbours' posts somebody sees at most, where people see their neighbours.
        texts: Whether decisions come with a short post; without them only labels are asked for.
        rng: The seed, a whole number or such a number as text.

    Raises:
        ValueError: An argument is out of its range.
        DataError: There is no such scenario, or its file is not as it should be.
        BackendError: The backend cannot be loaded.
    """

    def __init__(
        self,
        story: str | Path | Scenario = "health",
        backend: str | Backend = "scripted",
        summarizer: str | Summarizer = "tally",
        see: str = "global",
        citizens: int = 60,
        network: str = "small-world",
        rules: float | None = None,
        shown: int = 5,
        texts: bool = True,
        rng: int | str | None = 42,
    ) -> None:
        super().__init__(rng=_seed(rng))
        if see not in SEE:
            raise ValueError(f"see must be one of {', '.join(SEE)}, got {see!r}")
        if shown < 1:
            raise ValueError(f"At least one of the neighbours' posts must be shown, got shown={shown}")
        self.story = story if isinstance(story, Scenario) else read_scenario(story)
        self.see = see
        self.shown = shown
        self._settle(citizens, network, self.story.rules if rules is None else rules)
        actions = self.story.actions(texts=texts)
        asked, prompts = kept_backend(backend), Prompts(self.story.language)
        if see == "neighbours":
            summarizer = NoField()
        elif isinstance(summarizer, str):
            summarizer = summarizer_named(summarizer, asked, prompts)
        self.crowd = MeanFieldScheduler(
            self,
            policy={
                Citizen: LLMPolicy(asked, actions, prompts=prompts, on_failure="skip"),
                Follower: RulePolicy(follow, actions),
            },
            summarizer=summarizer,
            topic=self.story.topic,
            group=_community if see == "community" else None,
            interventions=self.story.timeline,
        )
        self.datacollector = DataCollector(_reporters(self.story))

    def step(self) -> None:
        """One tick; the town stops running when the story is over."""
        self.crowd.step(self.agents)
        self.datacollector.collect(self)
        self.running = self.crowd.tick < self.story.ticks

    def _settle(self, citizens: int, network: str, rules: float) -> None:
        """Draw the people and their ties, each from a stream of its own: more of one does not change the others."""
        if not 0 <= rules <= 1:
            raise ValueError(f"rules is a share from 0 to 1, got {rules}")
        story = self.story
        people, called, ties, ruled = self.rng.spawn(4)
        living = [
            community
            for community, size in zip(story.communities, sizes(story.communities, citizens), strict=True)
            for _ in range(size)
        ]
        graph = social_network(network, [one.name for one in living], int(ties.integers(2**31)))
        self.grid = place(graph, self.random)
        names = draw_names(story.first_names, story.last_names, called)
        following = set(ruled.permutation(citizens)[: round(rules * citizens)].tolist())
        thresholds = ruled.uniform(*story.threshold, size=citizens)
        for node, community in enumerate(living):
            who: dict[str, Any] = {  # Any: an agent's arguments
                "community": community.name,
                "persona": draw_persona(story.traits, community, people),
                "name": next(names),
            }
            cell = self.grid[node]
            if node in following:
                Follower(self, cell, float(thresholds[node]), **who)
            else:
                Citizen(self, cell, **who)


def town_of(seed: int, **arguments: Any) -> Town:  # Any: those of `Town`
    """A town by its seed first, as ``run_replicas``, ``sweep`` and plan files make models."""
    return Town(**arguments, rng=seed)


def _reporters(story: Scenario) -> dict[str, Any]:  # Any: functions of a model
    """What is collected after each tick: the last tick's share of each label, the mean field, costs and failures."""
    shares = {label: share(label, story.choice.dimension, latest=True) for label in story.choice.options}
    costs = {name: usage(name) for name in ("calls", "tokens_asked", "tokens_computed", "seconds")}
    return {**shares, "field": field_text(), **costs, "failures": failures()}


def _community(agent: Resident) -> str:
    return agent.community


def _seed(given: int | str | None) -> int | None:
    """A seed from what a page's text field gives."""
    if given is None or isinstance(given, int | np.integer):
        return given
    try:
        return int(given)
    except ValueError:
        raise ValueError(f"rng must be a whole number, got {given!r}") from None
