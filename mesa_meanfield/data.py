"""What flows through a simulation: frozen values without behaviour of their own.

States become decisions, the decisions of a tick become a mean field. Recorded data and simulated
runs are the same type, `Cascade`, so that every metric, training and replay works on either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import AwareDatetime

from mesa_meanfield.display import Shown, counted, line, shares_line

Counts = Mapping[str, Mapping[str, int]]
"""Exact counts: dimension -> label -> how often."""

Shares = dict[str, dict[str, float]]
"""Exact shares: dimension -> label -> share; they sum to one in each dimension that has any count."""


class Source(NamedTuple):
    """One thing of a record from which something was made."""

    action: str | None
    """The id of the recorded action; None for what is said of the cascade as a whole."""
    field: str


class Notice(NamedTuple):
    """A public statement that stands in a prompt beside the mean field."""

    source: str
    """Who says it."""
    text: str
    channel: str = "official"
    """``official``, or ``media`` for a report."""


@dataclass(frozen=True, slots=True)
class State:
    """What one agent sees before it decides."""

    agent: str
    """The agent's key, unique in its population."""
    text: str
    group: str | None = None
    """The group whose mean field the agent sees beside the global one."""
    sources: frozenset[Source] = field(default=frozenset(), compare=False)
    """What of the record it was made from, where a `LeakGuard` looks on. Twins see the same, whatever it is."""
    notices: tuple[Notice, ...] = ()
    """The public statements that reach the agent, in their order."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one agent does: an action with its text, labels, distribution and seed."""

    text: str = ""
    value: Any = None  # a number or a pydantic object: whatever the action space reads
    labels: Mapping[str, str] = field(default_factory=dict)
    """Dimension -> label."""
    distribution: Mapping[str, float] | None = None
    """The exact probabilities from which the label was sampled."""
    seed: int | None = None
    failure: str | None = None
    """Why the model's reply could not be used. A failed decision counts nowhere."""
    parent: str | None = None
    """The key of the agent whose action this one answers."""
    prompt_hash: str | None = None
    recorded: bool = False
    """Whether it was played from data (warm-up) instead of being decided now."""
    injected: bool = False
    """Whether an account outside the population did it: an intervention, and no agent of the model."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do: no text, no value, no label."""
        return not self.text and self.value is None and not self.labels


@dataclass(frozen=True, slots=True)
class Tick:
    """One round: who saw what and did what, in the order of acting."""

    number: int
    states: tuple[State, ...] = ()
    decisions: tuple[Decision, ...] = ()
    interventions: tuple[str, ...] = ()
    """What changed anything in this tick, each as its repr."""

    def __repr__(self) -> str:  # a crowd's states would fill the terminal
        failed = len(self.decisions) - len(self.valid)
        return f"<Tick {self.number}: {counted(len(self.decisions), 'decision')}, {failed} failed>"

    def __post_init__(self) -> None:
        if len(self.states) != len(self.decisions):
            raise ValueError(f"{len(self.states)} states but {len(self.decisions)} decisions in tick {self.number}")

    @property
    def recorded(self) -> bool:
        """Whether all that its agents did was played from data (warm-up)."""
        played = [decision.recorded for decision in self.decisions if not decision.injected]
        return bool(played) and all(played)

    @property
    def valid(self) -> list[tuple[State, Decision]]:
        """The pairs that count: those without a failed call."""
        return [(s, d) for s, d in zip(self.states, self.decisions, strict=True) if d.failure is None]

    @property
    def groups(self) -> dict[str, Tick]:
        """Group -> the part of the tick that it played, in the order of their first actions."""
        pairs: dict[str, list[tuple[State, Decision]]] = {}
        for state, decision in zip(self.states, self.decisions, strict=True):
            if state.group is not None:
                pairs.setdefault(state.group, []).append((state, decision))
        return {
            group: Tick(self.number, tuple(state for state, _ in of), tuple(decision for _, decision in of))
            for group, of in pairs.items()
        }


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the numeric decisions came to."""

    size: int
    """How many numbers there were so far."""
    mean: float
    """Their mean so far."""
    latest_mean: float
    latest_quantiles: Mapping[str, float]
    """Quantiles of the last tick that had numbers: "0.1", "0.25", "0.5", "0.75", "0.9"."""


@dataclass(frozen=True, slots=True)
class MeanField(Shown):
    """What the population did so far: a short text with exact shares beside it."""

    _shown_by: ClassVar = "mesa_meanfield.notebook:field_html"
    text: str = ""
    counts: Counts = field(default_factory=dict)
    """All actions so far."""
    latest_counts: Counts = field(default_factory=dict)
    """The actions of the last tick in which anybody decided."""
    size: int = 0
    """How many decisions were counted so far."""
    tells_shares: bool = False
    """Whether agents are told the exact shares behind the text, as `Prompts.policy_prefix` renders them."""
    numbers: Numbers | None = None
    carried: tuple[Any, ...] = ()
    """What a summarizer remembers from tick to tick; only that summarizer reads it."""
    sources: frozenset[Source] = field(default=frozenset(), compare=False)
    """What of the record it was made from, where a `LeakGuard` looks on."""

    def __repr__(self) -> str:  # what a summarizer carries along may be all actions so far
        told = (counted(self.size, "decision"), shares_line(self.shares), line(self.text) and repr(line(self.text)))
        return f"<MeanField of {'; '.join(filter(None, told))}>"

    @property
    def shares(self) -> Shares:
        """The exact shares of all actions so far."""
        return {dimension: normalise(counts) for dimension, counts in self.counts.items()}

    @property
    def latest(self) -> Shares:
        """The exact shares of the last tick in which anybody decided."""
        return {dimension: normalise(counts) for dimension, counts in self.latest_counts.items()}

    def share(self, label: str, dimension: str | None = None) -> float:
        """One label's share of all actions so far; NaN before there are any, so that it can be collected.

        Args:
            label: Whose share.
            dimension: Of which dimension; without it the first one that has the label.
        """
        for name, shares in self.shares.items():
            if name == dimension or (dimension is None and label in shares):
                return shares.get(label, math.nan)
        return math.nan

    def counted(self, tick: Tick, labels: Mapping[str, Sequence[str]] | None = None) -> MeanField:
        """The same text with the tick counted in; every summarizer starts from this.

        Args:
            tick: What happened; failed decisions are left out.
            labels: Dimension -> all its labels, so that a label nobody chose stands there with 0.
        """
        decisions = [decision for _, decision in tick.valid]
        latest: dict[str, Counter[str]] = {d: Counter(dict.fromkeys(ls, 0)) for d, ls in (labels or {}).items()}
        for decision in decisions:
            for dimension, label in decision.labels.items():
                latest.setdefault(dimension, Counter())[label] += 1
        total = {dimension: Counter(counts) for dimension, counts in self.counts.items()}
        for dimension, counts in latest.items():
            total.setdefault(dimension, Counter()).update(counts)
        return MeanField(
            text=self.text,
            counts={dimension: dict(counts) for dimension, counts in total.items()},
            latest_counts={dimension: dict(counts) for dimension, counts in latest.items()},
            size=self.size + len(decisions),
            tells_shares=self.tells_shares,
            numbers=_numbers(self.numbers, decisions),
            carried=self.carried,
            sources=self.sources,
        )


def normalise(counts: Mapping[str, float]) -> dict[str, float]:
    """Counts -> shares; without any count there is nothing to share out, so the result is empty."""
    total = math.fsum(counts.values())
    return {label: count / total for label, count in counts.items()} if total > 0 else {}


def _numbers(before: Numbers | None, decisions: Iterable[Decision]) -> Numbers | None:
    values = [float(d.value) for d in decisions if isinstance(d.value, Real) and not isinstance(d.value, bool)]
    if not values:
        return before
    size, mean = (before.size, before.mean) if before else (0, 0.0)
    latest = math.fsum(values) / len(values)
    grid = (0.1, 0.25, 0.5, 0.75, 0.9)
    return Numbers(
        size=size + len(values),
        mean=(size * mean + len(values) * latest) / (size + len(values)),
        latest_mean=latest,
        latest_quantiles={str(q): float(v) for q, v in zip(grid, np.quantile(values, grid), strict=True)},
    )


# --- Cascades: a topic and what it drew ------------------------------------------------------------

_STRICT = {
    "extra": "forbid",
    "strict": True,
}  # how pydantic reads these classes: nothing lost, nothing guessed


@dataclass(frozen=True, slots=True)
class Profile:
    """Who wrote something, as far as the data says. Counts are those at the time of crawling."""

    __pydantic_config__: ClassVar = _STRICT
    key: str
    description: str | None = None
    location: str | None = None
    followers: int | None = None
    friends: int | None = None
    statuses: int | None = None
    verified: bool | None = None
    gender: str | None = None
    created: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class Popularity:
    """How an action fared in the end: knowledge from the future, never shown to an agent."""

    __pydantic_config__: ClassVar = _STRICT
    reposts: int | None = None
    likes: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """How a simulated action came about; recorded actions have none."""

    __pydantic_config__: ClassVar = _STRICT
    tick: int
    state: str
    distribution: dict[str, float] | None = None
    seed: int | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One reply, repost or comment."""

    __pydantic_config__: ClassVar = _STRICT
    id: str
    parent: str | None
    time: AwareDatetime
    author: Profile
    text: str
    labels: dict[str, str] = field(default_factory=dict)
    popularity: Popularity = Popularity()
    trace: Trace | None = None

    @property
    def failed(self) -> bool:
        """Whether it stands for a simulated decision that failed."""
        return self.trace is not None and self.trace.failure is not None


@dataclass(frozen=True, slots=True)
class Topic:
    """The post that a cascade reacts to."""

    __pydantic_config__: ClassVar = _STRICT
    author: Profile
    text: str
    time: AwareDatetime
    label: dict[str, str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cascade(Shown):
    """A topic and the actions it drew, in their order; observed and simulated alike."""

    __pydantic_config__: ClassVar = _STRICT
    _shown_by: ClassVar = "mesa_meanfield.notebook:cascade_html"
    id: str
    dataset: str
    event: str | None
    domain: str
    language: str
    veracity: str | None
    topic: Topic
    actions: tuple[Action, ...]

    def __repr__(self) -> str:  # nothing that a guard forbids is read
        what = f"{self.id!r} ({self.domain}, {self.language}): {counted(len(self.actions), 'action')}"
        return f"<Cascade {what} on {line(self.topic.text)!r}>"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for index, action in enumerate(self.actions):
            if action.id in seen:
                raise ValueError(f"actions[{index}].id {action.id!r} stands there twice")
            if action.parent is not None and action.parent not in seen:
                raise ValueError(f"actions[{index}].parent {action.parent!r} is no earlier action of the cascade")
            if index and action.time < self.actions[index - 1].time:
                raise ValueError(f"actions[{index}].time is before that of the action above it; sort by time")
            seen.add(action.id)


def event_of(cascade: Cascade) -> str:
    """What splits and folds go by: the cascade's event, else its own id."""
    return cascade.event or cascade.id


@dataclass(frozen=True, slots=True)
class Cut:
    """A cascade cut into ticks by order, not by time."""

    warm_up: tuple[tuple[Action, ...], ...]
    """The ticks that are played from the record."""
    roll_out: tuple[tuple[Action, ...], ...]
    """The ticks that are simulated."""


def cut(cascade: Cascade, warm_up: float = 0.3, per_tick: int | None = None, agents: int | None = None) -> Cut:
    """Cut a cascade into warm-up and roll-out ticks.

    The warm-up is the first floor(warm_up * n) of the n actions; it is played in ticks of the same
    size as the roll-out, so that the mean field is updated as often.

    Args:
        cascade: What to cut.
        warm_up: Share of the actions that is played, in [0, 1).
        per_tick: Actions per tick, default max(4, ceil(n / 20)).
        agents: Keep only the first so many roll-out actions.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not 0 <= warm_up < 1:
        raise ValueError(f"warm_up must be at least 0 and below 1, got {warm_up}")
    n = len(cascade.actions)
    size = max(4, math.ceil(n / 20)) if per_tick is None else per_tick
    if size < 1:
        raise ValueError(f"per_tick must be at least 1, got {per_tick}")
    if agents is not None and agents < 1:
        raise ValueError(f"agents must be at least 1, got {agents}")
    first = math.floor(warm_up * n + 1e-9)  # .3 * 10 is 3 in this world, not 2.9999999999999996
    played, simulated = cascade.actions[:first], cascade.actions[first:]
    if agents is not None:
        simulated = simulated[:agents]
    return Cut(
        tuple(played[i : i + size] for i in range(0, len(played), size)),
        tuple(simulated[i : i + size] for i in range(0, len(simulated), size)),
    )
