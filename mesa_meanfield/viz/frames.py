"""What a page shows of a run: frozen pictures of it between two steps, taken in the run's own thread.

A page never looks at a model itself, which another thread may be stepping.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesa_meanfield.actions import labels_of
from mesa_meanfield.activation import agent_key
from mesa_meanfield.data import Decision, MeanField, State, Tick
from mesa_meanfield.experiments.runs import TickCounts
from mesa_meanfield.experiments.taps import Tap
from mesa_meanfield.protocols import Intervention, Usage
from mesa_meanfield.scheduler import MeanFieldScheduler

if TYPE_CHECKING:
    import mesa

MAX_POSTS = 60
"""How many posts are kept for the feed."""
MAX_REASONS = 4
"""How many different reasons for failed decisions are kept, the commonest."""


@dataclass(frozen=True, slots=True)
class Post:
    """What one account did in one tick."""

    tick: int
    who: str
    labels: Mapping[str, str]
    text: str
    kind: str = ""
    """``recorded``, ``injected``, ``failed``, or empty for an agent that decided."""


@dataclass(frozen=True, eq=False)  # a page asks whether it is another one, never whether it says the same
class Frame:
    """A run between two steps."""

    steps: int = 0
    """Of the model."""
    tick: int = 0
    """How many ticks of the crowd are over."""
    topic: str = ""
    field: MeanField = dataclasses.field(default_factory=MeanField)
    before: MeanField = dataclasses.field(default_factory=MeanField)
    """The mean field one tick earlier."""
    fields: Mapping[str, MeanField] = dataclasses.field(default_factory=dict)
    """Group -> its mean field."""
    ticks: tuple[TickCounts, ...] = ()
    """What the agents decided, tick by tick; injected posts are left out."""
    posts: tuple[Post, ...] = ()
    """The latest ones, newest first."""
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Dimension -> its labels, in the order of their colours."""
    usage: Usage = dataclasses.field(default_factory=Usage)
    failed: int = 0
    """How many decisions failed so far; the other failures of ``usage`` are summaries."""
    reasons: tuple[tuple[str, int], ...] = ()
    """Why, with how often, of the last tick that had any."""
    removed: int = 0
    """How many agents were gone before they could act."""
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Agent key -> what the agent is called."""
    interventions: tuple[Intervention, ...] = ()
    """What was added on the page."""
    over: bool = False
    """Whether the model has come to its end."""
    space: bytes | None = None
    """A picture of the model's space, as PNG."""


class Watcher:
    """Sees every tick of a crowd and takes its frames.

    Args:
        model: Whose frames; held only through what is given to `frame`.
        crowd: Its scheduler, between which and its recorder this puts itself.
    """

    def __init__(self, model: mesa.Model, crowd: MeanFieldScheduler) -> None:
        self._crowd = crowd
        self._tap = Tap()
        self._tap.into(crowd, self._see)
        self._posts: deque[Post] = deque(maxlen=MAX_POSTS)
        self._latest: dict[str, Mapping[str, str]] = {}
        self._reasons: tuple[tuple[str, int], ...] = ()
        self._before = self._last = crowd.field
        self._names = _names(model)

    def frame(
        self, model: mesa.Model, *, steps: int, interventions: Sequence[Intervention] = (), space: bytes | None = None
    ) -> Frame:
        """The run as it is now."""
        crowd = self._crowd
        self._names |= _names(model)  # agents come and go
        if crowd.field is not self._last:
            self._before, self._last = self._last, crowd.field
        return Frame(
            steps=steps,
            tick=crowd.tick,
            topic=crowd.topic,
            field=crowd.field,
            before=self._before,
            fields=dict(crowd.fields),
            ticks=tuple(self._tap.ticks),
            posts=tuple(reversed(self._posts)),
            labels=self.labels(model),
            usage=crowd.usage,
            failed=sum(tick.failures for tick in self._tap.ticks),
            reasons=self._reasons,
            removed=crowd.removed,
            names=dict(self._names),
            interventions=tuple(interventions),
            over=not model.running,
            space=space,
        )

    def latest(self, key: str) -> Mapping[str, str]:
        """The labels of an agent's last decision."""
        return self._latest.get(key, {})

    def labels(self, model: mesa.Model) -> dict[str, tuple[str, ...]]:
        """Those that can be decided, then others that have come up."""
        policy = self._crowd.policy
        usual = [one.actions for one in (policy.values() if isinstance(policy, Mapping) else [policy])]
        own = [getattr(agent, "actions", None) for agent in model.agents]
        found = labels_of(dict.fromkeys(space for space in (*usual, *own) if space is not None))
        for dimension, counts in self._crowd.field.counts.items():
            found[dimension] = tuple(dict.fromkeys((*found.get(dimension, ()), *counts)))
        return found

    def _see(self, tick: Tick) -> None:
        reasons = Counter(d.failure for d in tick.decisions if d.failure is not None)
        if reasons:
            self._reasons = tuple(reasons.most_common(MAX_REASONS))
        for state, did in zip(tick.states, tick.decisions, strict=True):
            if did.failure is None and not did.injected:
                self._latest[state.agent] = did.labels
            self._posts.append(_post(tick.number, self._names.get(state.agent, state.agent), state, did))


def _post(tick: int, name: str, state: State, did: Decision) -> Post:
    kind = "injected" if did.injected else "recorded" if did.recorded else ""
    text = did.text or ("" if did.value is None else str(did.value))
    if did.failure is not None:
        kind, text = "failed", did.failure
    return Post(tick, name if not did.injected else state.agent, dict(did.labels), text, kind)


def _names(model: mesa.Model) -> dict[str, str]:
    """What agents are called: by their own ``name`` where that is a text, else by type and key."""
    found = {}
    for agent in model.agents:
        key, name = agent_key(agent), getattr(agent, "name", None)
        found[key] = name if isinstance(name, str) and name else f"{type(agent).__name__} {key}"
    return found
