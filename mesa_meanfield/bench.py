"""How many decisions per second a backend brings to a crowd: whole ticks with prompts of known lengths, timed.

Each tick is the first one of a new crowd and has prompts that no other tick has, so that no answer can come
from an earlier one.
"""

from __future__ import annotations

import gc
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import mesa

from mesa_meanfield.actions import Choice, FreeText
from mesa_meanfield.backends.local.peaks import Spent, phases_of
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import ActionSpace, Backend, Sampling, Usage
from mesa_meanfield.scheduler import MeanFieldScheduler
from mesa_meanfield.summarizers import TallySummarizer

CHOICE = Choice(("share", "reply", "ignore"))
"""What crowds choose from: one token each for most models."""
KINDS = ("text", "choice", "collapsed")
"""A text from each agent; a label from each agent; labels from a crowd that has few different states."""
_TOPIC = (
    "a leaflet without a name says that the old bridge over the river will be closed for a whole year. "
    "The paper has not printed a word of it. A baker on the market heard that the steel has cracks, and a man "
    "from the shipyard laughed at that. The mayor is on a journey, and the town hall does not answer. "
    "Some already plan the longer way to work, others say that the same was told five years ago. "
    "The ferry has raised its price this morning. A teacher asks who would gain by such a rumour."
)
_STATE = (
    "who reads the paper at breakfast, talks to the neighbours on the stairs, walks over the bridge twice a day, "
    "keeps a small garden behind the house, seldom believes what is told on the market, has two children at the "
    "school beyond the river and a brother who works for the town."
)
_TRADES = ("nurse", "baker", "teacher", "fisher", "clerk", "driver", "student", "joiner", "painter", "farmer")


@dataclass(frozen=True)
class Sizes:
    """How large the crowds and their prompts are."""

    agents: int = 32
    """Agents with a state of their own each, who write texts and choose labels."""
    shared: int = 190
    """Tokens that all prompts of a tick begin with, the chat template left out."""
    own: int = 40
    """Tokens that each prompt has of its own."""
    new: int = 32
    """Tokens of a text at most."""
    crowd: int = 10_000
    """Agents of the crowd that has few states; 0 for no such crowd."""
    archetypes: int = 200
    """How many states it has."""

    def __post_init__(self) -> None:
        if min(self.agents, self.shared, self.own, self.new, self.archetypes) < 1 or self.crowd < 0:
            raise ValueError(f"All numbers must be at least 1 (those of the collapsed crowd's agents 0), got {self}")


# --- Crowds ----------------------------------------------------------------------------------------


class Citizen(mesa.Agent):  # type: ignore[misc]  # Mesa is untyped for mypy
    """Costs as little as an agent can: it sees one text and keeps the last decision."""

    def __init__(self, model: mesa.Model, state: str) -> None:
        super().__init__(model)
        self.state = state
        self.decision: Decision | None = None

    def observe(self) -> str:
        """The same in each tick."""
        return self.state

    def act(self, decision: Decision) -> None:
        """Keep the decision."""
        self.decision = decision


class Town(mesa.Model):  # type: ignore[misc]  # Mesa is untyped for mypy
    """Citizens under one scheduler."""

    def __init__(self, backend: Backend, space: ActionSpace, topic: str, states: Sequence[str], seed: int) -> None:
        super().__init__(rng=seed)
        Citizen.create_agents(self, len(states), list(states))
        policy = LLMPolicy(backend, space, on_failure="skip")
        self.crowd = MeanFieldScheduler(self, policy=policy, summarizer=TallySummarizer(), topic=topic)

    def step(self) -> None:
        """One tick."""
        self.crowd.step(self.agents)


@dataclass(frozen=True)
class Task:
    """What a crowd is asked."""

    space: ActionSpace
    topic: str
    states: tuple[str, ...]
    """One per agent."""
    shared: int
    """Tokens that the prompts share."""
    own: int
    """Tokens that a prompt has of its own."""

    def town(self, backend: Backend, seed: int) -> Town:
        """A crowd that has decided nothing yet."""
        return Town(backend, self.space, self.topic, self.states, seed)


def counter(backend: Backend) -> Callable[[str], int]:
    """What counts a text's tokens: a local backend's own ones, else words."""
    tokenizer = getattr(backend, "tokenizer", None)
    if tokenizer is None:
        return lambda text: len(text.split())
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def task(kind: str, sizes: Sizes, count: Callable[[str], int], number: int) -> Task:
    """Write prompts of about the wanted lengths, or as short as the templates allow.

    Args:
        kind: One of `KINDS`.
        sizes: What is wanted.
        count: Text -> its tokens.
        number: Makes these prompts different from those of any other number.
    """
    space = FreeText(Sampling(max_tokens=sizes.new)) if kind == "text" else CHOICE
    agents, states = (sizes.crowd, sizes.archetypes) if kind == "collapsed" else (sizes.agents, sizes.agents)
    prompts, day = Prompts(), 1000 + len(KINDS) * number + KINDS.index(kind)

    def topic(words: int) -> str:
        return " ".join([f"On day {day},", *islice(cycle(_TOPIC.split()), words)])

    def state(who: int, words: int) -> str:
        who_says = f"You are number {1000 + who}, a {_TRADES[who % len(_TRADES)]} of {20 + who % 60},"
        return " ".join([who_says, *islice(cycle(_STATE.split()), words)])

    def shared(words: int) -> int:
        return count(prompts.policy_prefix(space, MeanField(), topic=topic(words)))

    def own(words: int) -> int:
        return count(prompts.policy_suffix(space, state(0, words)))

    long = bisect_left(range(sizes.shared), sizes.shared, key=shared)  # no word has less than a token
    wide = bisect_left(range(sizes.own), sizes.own, key=own)
    different = [state(who, wide) for who in range(min(agents, states))]
    return Task(space, topic(long), tuple(islice(cycle(different), agents)), shared(long), own(wide))


# --- Times -----------------------------------------------------------------------------------------


@dataclass
class Timed:
    """What the ticks of one kind took."""

    decisions: int = 0
    """In each tick."""
    seconds: list[float] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    """Of all ticks."""
    phases: dict[str, Spent] = field(default_factory=dict)
    """Of all ticks, where the backend tells them."""
    shared: int = 0
    own: int = 0
    written: int = 0
    """Tokens of all texts."""

    def add(self, work: Task, backend: Backend, seed: int, count: Callable[[str], int]) -> None:
        """Time one tick."""
        town, before = work.town(backend, seed), phases_of(backend)
        gc.collect()
        start = time.perf_counter()
        town.step()
        self.seconds.append(time.perf_counter() - start)
        self.decisions, self.shared, self.own = len(work.states), work.shared, work.own
        self.usage += town.crowd.usage
        for name, after in phases_of(backend).items():
            self.phases[name] = self.phases.get(name, Spent()) + (after - before.get(name, Spent()))
        self.written += sum(count(one.decision.text) for one in town.agents if one.decision is not None)

    @property
    def held(self) -> float:
        """Tokens of its own that a row has while its text is written, on average."""
        return self.own + self.written / (2 * self.decisions * len(self.seconds))

    def told(self) -> dict[str, Any]:  # Any: JSON
        """As JSON; rates are decisions per second."""
        return {
            "per_s": self.decisions / statistics.median(self.seconds),
            "low": self.decisions / max(self.seconds),
            "high": self.decisions / min(self.seconds),
            "decisions": self.decisions,
            "seconds": self.seconds,
            "failures": self.usage.failures,
            "prompt": {"shared": self.shared, "own": self.own},
            "reply_tokens": self.written / (self.decisions * len(self.seconds)),
            "tokens": tokens_told(self.usage),
        }


def tokens_told(usage: Usage) -> dict[str, int]:
    """Tokens asked, computed and saved."""
    asked, computed = usage.tokens_asked, usage.tokens_computed
    return {"asked": asked, "computed": computed, "saved": asked - computed}


def overhead(agents: int, *, ticks: int = 3, seed: int = 0) -> float:
    """Microseconds per agent and tick that the scheduler takes, with agents of different states.

    The time of the fastest tick, without what the agents' own methods and the scripted backend take of it.
    """
    backend, sizes = ScriptedBackend(), Sizes(crowd=agents, archetypes=agents)
    town = task("collapsed", sizes, counter(backend), 0).town(backend, seed)
    town.step()  # what is made once is no cost of a tick
    rest = []
    for _ in range(ticks):
        gc.collect()
        start, spent = time.perf_counter(), backend.usage.seconds
        town.step()
        rest.append(time.perf_counter() - start - (backend.usage.seconds - spent))
    start = time.perf_counter()
    for one in town.agents:
        one.observe()
        one.act(one.decision)
    return 1e6 * (min(rest) - (time.perf_counter() - start)) / agents
