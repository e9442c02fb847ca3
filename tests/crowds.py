"""The smallest crowds that tests need."""

from __future__ import annotations

import mesa

from mesa_meanfield import Choice, Decision, LLMPolicy, MeanFieldScheduler, ScriptedBackend, TallySummarizer

YES_NO = Choice(("yes", "no"))


class Voter(mesa.Agent):
    """Sees its number and remembers what it did."""

    def __init__(self, model: mesa.Model) -> None:
        super().__init__(model)
        self.done: list[Decision] = []

    def observe(self) -> str | None:
        return f"I am voter {self.unique_id}."

    def act(self, decision: Decision) -> None:
        self.done.append(decision)


class Stone(mesa.Agent):
    """Neither observes nor acts."""


class Log(ScriptedBackend):
    """A scripted backend that notes the order of everything."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def score(self, requests, candidates):
        self.events.append(f"batch of {len(requests)}")
        return super().score(requests, candidates)

    def generate(self, requests):
        self.events.append(f"replies to {len(requests)}")
        return super().generate(requests)


class Crowd(mesa.Model):
    """Voters under one scheduler; what is not given is the simplest there is."""

    def __init__(self, voters: int = 5, *, backend=None, policy=None, summarizer=None, rng=1, **scheduler):
        super().__init__(rng=rng)
        Voter.create_agents(self, voters)
        self.backend = backend or ScriptedBackend()
        self.crowd = MeanFieldScheduler(
            self,
            policy=policy or LLMPolicy(self.backend, YES_NO),
            summarizer=summarizer or TallySummarizer(),
            topic="Shall we?",
            **scheduler,
        )

    def step(self) -> None:
        self.crowd.step(self.agents)


def labels(tick) -> dict[str, str]:
    """Agent -> its label in a tick."""
    return {s.agent: d.labels["action"] for s, d in zip(tick.states, tick.decisions, strict=True)}
