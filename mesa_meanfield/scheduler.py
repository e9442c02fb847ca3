"""One tick, top to bottom: observe, intervene, one backend batch, act, summarize.

Activation is simultaneous: everyone sees the same mean field, then everyone acts. Mesa's
``shuffle_do`` is sequential.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import mesa

from mesa_meanfield.actions import labels_of
from mesa_meanfield.activation import Activation, agent_key, everyone, takes_part, who
from mesa_meanfield.data import Decision, MeanField, Source, State, Tick
from mesa_meanfield.errors import BackendUnavailable, Cancelled, MeanFieldError, ReentryError, ReplyError
from mesa_meanfield.interventions import intervene, listed
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import (
    ActionSpace,
    Intervention,
    Policy,
    Recorder,
    Scene,
    Summarizer,
    Turn,
    Usage,
)
from mesa_meanfield.provenance import LeakGuard
from mesa_meanfield.seeds import derive, entropy_of

Policies = Policy | Mapping[type, Policy]
Agent = Any  # a modeler's own agent class: checked to be a Participant when it is asked


_NO_SOURCES: frozenset[Source] = frozenset()
_names: WeakKeyDictionary[mesa.Model, set[str]] = WeakKeyDictionary()  # of each model's schedulers


class MeanFieldScheduler:
    """Lets a crowd decide under a mean field; a Mesa model owns one.

    In the model's ``__init__``: ``self.crowd = MeanFieldScheduler(self, policy=..., summarizer=...,
    topic=...)``; in its ``step``: ``self.crowd.step(self.agents)``. Agents without ``observe`` and
    ``act`` are left alone.

    Args:
        model: The Mesa model, whose generator gives the entropy; nothing is ever drawn from it.
        policy: Who decides, or a policy for each agent type (subclasses count).
        summarizer: Who writes the mean field.
        topic: What it is all about, shown to everyone.
        name: Tells the schedulers of one model apart; part of every seed.
        activation: Who of the agents given to `step` is active in a tick.
        group: Agent -> the name of its group; one mean field per group beside the global one.
        recorder: Gets every tick with its mean field.
        guard: Where the crowd goes on from a record: notes what each prompt was made from, and refuses what
            must not be known.
        interventions: Change what each tick asks, in their order; see `mesa_meanfield.interventions`.
    """

    def __init__(
        self,
        model: mesa.Model,
        *,
        policy: Policies,
        summarizer: Summarizer,
        topic: str = "",
        name: str = "crowd",
        activation: Activation = everyone,
        group: Callable[[Agent], str] | None = None,
        recorder: Recorder | None = None,
        guard: LeakGuard | None = None,
        interventions: Sequence[Intervention] = (),
    ) -> None:
        self.policy = policy
        self.summarizer = summarizer
        self.topic = topic
        self.name = name
        self.activation = activation
        self.group = group
        self.recorder = recorder
        self.guard = guard
        self.interventions = listed(interventions)
        """What changes the ticks to come; may be set at any time between two of them."""
        self.field = MeanField()
        """The mean field that agents see now."""
        self.fields: dict[str, MeanField] = {}
        """Group -> its mean field."""
        self.tick = 0
        """How many ticks are over; Mesa's own counters are never touched."""
        self.last: Tick | None = None
        """The last tick that is over."""
        self.usage = Usage()
        """What all ticks cost so far, unfinished ones included."""
        self.removed = 0
        """How many agents were gone before they could do what was decided for them."""
        for kind, one in policy.items() if isinstance(policy, Mapping) else [(object, policy)]:
            if not isinstance(kind, type):
                raise TypeError(f"policy's keys must be agent types, got {kind!r}")
            _check_part("policy", one, "decide")
        _check_part("summarizer", summarizer, "update")
        names = _names.setdefault(model, set())
        if name in names:
            raise ValueError(f"The model has a scheduler {name!r} already; give this one another name")
        names.add(name)
        self._model = model
        self._entropy = entropy_of(model)
        self._decided: deque[tuple[Turn, Decision | None, bool]] = deque()  # what is still to be done
        self._done: list[tuple[State, Decision]] = []  # what was done in the tick under way
        self._due = False  # whether everyone of a whole tick has acted and the summary is still to be made
        self._spaces: dict[ActionSpace, None] = {}  # the action spaces in use, in the order of their first use
        self._occurrences: dict[str, int] = {}  # key -> how often it has decided in the tick under way
        self._acted: Counter[str] = Counter()  # who had acted in the tick under way when an error came
        self._scene: Scene | None = None  # what was asked last in the tick under way
        self._active: dict[str, None] = {}  # the interventions that changed anything in it
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._cancelled = threading.Event()

    # --- The tick ----------------------------------------------------------------------------------

    def step(self, agents: Iterable[Agent], *, policy: Policies | None = None) -> Tick:
        """One whole tick: `decide`, then `update`.

        A second thread that calls this waits its turn (a visualization server may start two).

        Args:
            agents: An AgentSet or any iterable; those without ``observe`` and ``act`` are left alone.
            policy: Decides this tick instead of the scheduler's own, for example a `RecordedPolicy`.

        Raises:
            Cancelled: `cancel` was called.
            ReentryError: An agent called this from inside the tick.
            LeakError: The guard refuses a prompt.
            MeanFieldError: The model could not be asked.

        After an error the tick is not over, and the next call goes on with it: from the start, with the
        same seeds, where nobody has acted yet; else with those who have not acted; else with the summary.
        (Mesa 3.5 silently runs no ``Model.step`` after one that raised: catch the error inside it, or call
        this method again.)
        """
        with self._entered():
            self._whole(agents, policy)
            return self._update()

    def decide(
        self, agents: Iterable[Agent], *, policy: Policies | None = None, advance: bool = False
    ) -> list[Decision]:
        """Let these agents observe, decide in one batch, and act, as a part of the tick.

        Leaders go before followers by a call for each, and one `update` at the end. All still see the mean
        field of the last tick; followers who are to know the leaders' decisions observe them. Raises as
        `step`; when a model's step is made again after an error, those who had acted are passed over.

        Args:
            agents: Who decides now.
            policy: Decides instead of the scheduler's own.
            advance: Whether the tick is over after this.

        Returns:
            What was decided and done, in the order of acting.
        """
        with self._entered():
            if not advance:
                return self._decide(agents, policy)
            done = self._whole(agents, policy)
            self._update()
            return done

    def update(self) -> Tick:
        """End the tick: summarize what was done, and advance."""
        with self._entered():
            return self._update()

    def cancel(self) -> None:
        """Stop the tick under way at its next sub-batch, and every later one until `resume`."""
        self._cancelled.set()

    def resume(self) -> None:
        """Allow ticks again after `cancel`."""
        self._cancelled.clear()

    # --- How it is done ----------------------------------------------------------------------------

    def _whole(self, agents: Iterable[Agent], override: Policies | None) -> list[Decision]:
        """Decide for everyone who is to decide in this tick, unless only its summary is missing."""
        done = [] if self._due else self._decide(agents, override)
        self._due = True
        return done

    def _decide(self, agents: Iterable[Agent], override: Policies | None) -> list[Decision]:
        self._check_cancelled()
        if self._due:
            raise MeanFieldError(f"Tick {self.tick} of {self.name!r} still lacks its summary: call update() first")
        try:
            late = self._act()  # those whom an error in act() kept from acting
            self._acted.update(state.agent for state, _ in late)
            given = [a for a in agents if takes_part(a)]
            participants = [a for a in given if not self._has_acted(a)]
            members = self._model.agents
            here = {id(agent) for agent in participants if agent in members}  # others cannot be removed from it
            seed = derive(self._entropy, self.name, self.tick, "activation")
            active = self.activation(participants, tick=self.tick, seed=seed)
            turns, occurrences = self._observe(active, here)
            policies = self.policy if override is None else override
            scene = self._intervene(turns, policies, given)
            decisions = self._ask(scene, policies)
            self._occurrences = occurrences
            self._decided.extend((t, d, id(t.agent) in here) for t, d in zip(scene.turns, decisions, strict=True))
            return [decision for _, decision in (*late, *self._act())]
        except BaseException:  # the model's step will be made again from its start
            self._acted = Counter(state.agent for state, _ in self._done)
            if not (self._done or self._decided):  # all will be asked again, maybe with other interventions
                self._scene, self._active = None, {}
            raise

    def _has_acted(self, agent: Agent) -> bool:
        """Whether the agent acted in this tick before an error; told once for each time."""
        if not self._acted:
            return False
        key = agent_key(agent)
        self._acted[key] -= 1
        return self._acted[key] >= 0

    def _observe(self, agents: Sequence[Agent], here: set[int]) -> tuple[list[Turn], dict[str, int]]:
        """The turns of those who see anything, and how often each key has decided in the tick after them."""
        turns = []
        occurrences = self._occurrences.copy()
        common = self._seed("", 0, "tick")
        guard, sources = self.guard, _NO_SOURCES
        keys: dict[str, Agent] = {}
        spaces: set[type] = set()  # kinds known to be action spaces: to ask a protocol takes 10 microseconds
        for agent in agents:
            if self._is_gone(agent, id(agent) in here):
                continue
            if guard is None:
                seen = agent.observe()
            else:
                seen, sources = guard.observe(agent.observe, agent_key(agent), self.tick)
            if seen is None:
                continue
            if not isinstance(seen, str):
                raise TypeError(f"{who(agent)}: observe() must return a str or None, got {type(seen).__name__}")
            own = getattr(agent, "actions", None)
            if own is not None and type(own) not in spaces:
                if not isinstance(own, ActionSpace):
                    raise TypeError(f"{who(agent)}: actions must be an action space such as Choice, got {own!r}")
                spaces.add(type(own))
            key = agent_key(agent)
            if keys.setdefault(key, agent) is not agent:
                raise ValueError(
                    f"{who(agent)}: another agent has the same key; seeds and records need different ones"
                )
            group = None if self.group is None else self.group(agent)
            if group is not None and not isinstance(group, str):
                raise TypeError(f"{who(agent)}: group() must return a str, got {type(group).__name__}")
            occurrences[key] = occurrence = occurrences.get(key, 0) + 1
            seed = self._seed(key, occurrence, "decision")
            turns.append(Turn(State(key, seen, group, sources), seed, own, agent, common))
        return turns, occurrences

    def _intervene(self, turns: Sequence[Turn], policies: Policies, given: Iterable[Agent]) -> Scene:
        """What is about to be asked, after all interventions; noted for the tick's end."""
        if self.guard is not None:
            self.field = self.guard.before_asking(self.tick, self.field, self.fields)
        seed = derive(self._entropy, self.name, "interventions")
        scene = Scene(self.tick, tuple(turns), self.field, self.fields, self.topic, seed)
        if self.interventions:
            everyone_there = {id(a): a for a in (*self._model.agents, *given) if takes_part(a)}
            own = [turn.actions for turn in turns]
            usual = [p.actions for p in (policies.values() if isinstance(policies, Mapping) else [policies])]
            spaces = dict.fromkeys(space for space in (*self._spaces, *usual, *own) if space is not None)
            scene = replace(scene, population=tuple(everyone_there.values()), labels=labels_of(spaces))
            scene, active = intervene(self.interventions, scene, self.guard)
            self._active.update(dict.fromkeys(active))
        self._scene = scene
        return scene

    def _ask(self, scene: Scene, policies: Policies) -> list[Decision | None]:
        guard, turns = self.guard, scene.turns
        by_policy: dict[int, tuple[Policy, list[int]]] = {}
        for index, turn in enumerate(turns):
            policy = scene.scripts.get(turn.state.agent) or _policy_of(turn.agent, policies)
            by_policy.setdefault(id(policy), (policy, []))[1].append(index)
        decisions: list[Decision | None] = [None] * len(turns)
        for policy, indices in by_policy.values():
            noting = nullcontext() if guard is None else guard.deciding(type(policy).__name__, self.tick)
            with self._metered(policy), watching(self._watch), noting:
                part = [turns[i] for i in indices]
                decided = policy.decide(part, scene.field, topic=scene.topic, groups=scene.groups)
            if len(decided) != len(part):
                raise ValueError(f"{type(policy).__name__} gave {len(decided)} decisions for {len(part)} turns")
            for index, one in zip(indices, decided, strict=True):
                if one is not None and not isinstance(one, Decision):
                    raise TypeError(f"{type(policy).__name__} must decide by Decision or None, got {one!r}")
                decisions[index] = one
            usual = policy.actions
            spaces = {id(space): space for turn in part if (space := turn.actions or usual) is not None}
            self._spaces.update(dict.fromkeys(spaces.values()))  # hashed once, not for every agent
        self._check_cancelled()  # the last moment at which nobody has acted
        return decisions

    def _act(self) -> list[tuple[State, Decision]]:
        done = []
        while self._decided:
            turn, decision, was_here = self._decided[0]
            if decision is not None and not self._is_gone(turn.agent, was_here):
                if not decision.empty:
                    turn.agent.act(decision)  # type: ignore[attr-defined]  # a Participant, see _decide
                done.append((turn.state, decision))
                self._done.append(done[-1])
            self._decided.popleft()
        return done

    def _is_gone(self, agent: Agent, was_here: bool) -> bool:
        gone = was_here and agent not in self._model.agents
        self.removed += gone
        return gone

    def _update(self) -> Tick:
        self._check_cancelled()
        if self._scene is None and self.interventions:  # nobody was to decide, and accounts outside still post
            self._intervene((), self.policy, ())
        done = (*self._done, *(self._scene.posts if self._scene else ()))
        tick = Tick(self.tick, tuple(s for s, _ in done), tuple(d for _, d in done), tuple(self._active))
        field, fields = self.field, dict(self.fields)
        if tick.states:  # nobody active: no call, the field stays as it is
            for group, part in tick.groups.items():
                fields[group] = self._summarize(fields.get(group, MeanField()), part, group)
            field = self._summarize(field, tick, None)
        if self.recorder is not None:
            self.recorder.record(tick, field, fields)  # before the tick is over, so that none is ever missing
        self.field, self.fields, self.last = field, fields, tick
        self.tick += 1
        self._done, self._due, self._occurrences, self._acted = [], False, {}, Counter()
        self._scene, self._active = None, {}
        return tick

    def _summarize(self, field: MeanField, tick: Tick, group: str | None) -> MeanField:
        if self.guard is None:
            return self._updated(field, tick, group)
        with self.guard.summarizing(field, tick, group) as sources:
            after = self._updated(field, tick, group)
        return replace(after, sources=after.sources | sources)

    def _updated(self, field: MeanField, tick: Tick, group: str | None) -> MeanField:
        actions = tuple(self._spaces)
        seed = self._seed("", 0, "summary", group)
        try:
            with self._metered(self.summarizer), watching(self._watch):
                after = self.summarizer.update(field, tick, topic=self.topic, actions=actions, seed=seed)
        except (ReplyError, BackendUnavailable) as error:  # the old text stays, the shares are new
            if isinstance(error, BackendUnavailable):
                self.usage += Usage(failures=1)  # the summarizer itself counts its unreadable replies
            return field.counted(tick, labels_of(actions))
        if not isinstance(after, MeanField):
            raise TypeError(f"{type(self.summarizer).__name__}.update() must return a MeanField, got {after!r}")
        return after

    # --- Small things ------------------------------------------------------------------------------

    def _seed(self, key: str, occurrence: int, *purpose: str | None) -> int:
        return derive(self._entropy, self.name, self.tick, key, occurrence, *purpose)

    @contextmanager
    def _metered(self, part: Policy | Summarizer) -> Iterator[None]:
        before = part.usage
        try:
            yield
        finally:
            self.usage += part.usage - before

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._owner == threading.get_ident():
            raise ReentryError(
                f"The scheduler {self.name!r} is inside a tick; observe() and act() must not call step()"
            )
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    def _watch(self, what: str, done: int, total: int) -> None:
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled(
                f"The scheduler {self.name!r} was cancelled in tick {self.tick}; resume() allows it again"
            )


def _policy_of(agent: Agent, policies: Policies) -> Policy:
    if not isinstance(policies, Mapping):
        return policies
    for kind in type(agent).__mro__:
        if kind in policies:
            return policies[kind]
    known = ", ".join(kind.__name__ for kind in policies)
    raise ValueError(f"{who(agent)} has no policy; there are policies for {known}")


def _check_part(what: str, part: object, method: str) -> None:
    if isinstance(part, type) or not callable(getattr(part, method, None)) or not hasattr(part, "usage"):
        raise TypeError(f"{what} must be an object with {method}() and usage (see protocols.py), got {part!r}")
