"""What if: changes of what a crowd is asked, as plain values in a list.

Each is a function from the `Scene` of a tick to another one, and so acts through prompts and the mean field
alone; any function like that is an intervention, too. They are applied in the order of their list, each to what
the ones before it left. Before its tick one changes nothing, neither a prompt nor a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast

from mesa_meanfield.activation import agent_key
from mesa_meanfield.choosers import Who, check_who, chosen
from mesa_meanfield.data import Decision, MeanField, Notice, State
from mesa_meanfield.plain import Plain, told
from mesa_meanfield.protocols import Intervention, Policy, Scene
from mesa_meanfield.provenance import LeakGuard
from mesa_meanfield.rules import RulePolicy


@dataclass(frozen=True, slots=True, repr=False)
class _Timed(Plain):
    at: int
    """The first tick in which it acts; ticks count from 0, those of a warm-up included."""

    who_is: ClassVar[str] = "who"  # the field that says whom it concerns

    def __post_init__(self) -> None:
        until = getattr(self, "until", None)
        if not _whole(self.at) or self.at < 0:
            raise ValueError(f"{told(self)}: at must be a tick, a whole number from 0 on")
        if until is not None and (not _whole(until) or until <= self.at):
            raise ValueError(f"{told(self)}: until must be a tick after {self.at}, the first one without it")
        if hasattr(self, self.who_is):
            check_who(self, self.who_is, getattr(self, self.who_is))

    def _acts(self, scene: Scene) -> bool:
        until = getattr(self, "until", None)
        return self.at <= scene.tick and (until is None or scene.tick < until)


@dataclass(frozen=True, slots=True, repr=False)
class Announce(_Timed):
    """A public statement stands in the prompts after the mean field, from a tick on.

    The summarizer does not see it, as it is nothing that the population did: what people make of it, it does.
    Two statements of one source with the same reach reach the same agents.
    """

    text: str
    """What is said."""
    source: str
    """Who says it."""
    reach: Who = 1.0
    """Who sees it: a share, or a function that chooses agents."""
    until: int | None = None
    """The first tick in which it is shown no more; None for always."""
    channel: Literal["official", "media"] = "official"
    """Whether it is shown as an official statement or as a media report."""

    who_is: ClassVar[str] = "reach"

    def __post_init__(self) -> None:
        _Timed.__post_init__(self)
        if not self.text.strip() or not self.source.strip():
            raise ValueError(f"{told(self)}: text and source must not be empty")
        if self.channel not in ("official", "media"):
            raise ValueError(f"{told(self)}: channel must be 'official' or 'media'")

    def __call__(self, scene: Scene) -> Scene:
        """The statement among the notices of those whom it reaches."""
        if not self._acts(scene):
            return scene
        notice = Notice(self.source, self.text, self.channel)
        reached = chosen(self, self.reach, scene, f"reach of {self.source}")
        return _changed(scene, reached, lambda state: replace(state, notices=(*state.notices, notice)))


@dataclass(frozen=True, slots=True, repr=False)
class Inject(_Timed):
    """Accounts outside the population post something in one tick.

    They are heard as agents are, in the tick that is summarized and in the shares, but are none: nobody asks
    them. In the tick they come after the agents and are marked ``injected``, so that effects can be told of
    the agents alone.
    """

    text: str
    """What is posted; may be empty where there are labels, as in a bare repost."""
    account: str
    """Who posts it; the key of no agent."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Dimension -> the post's label; without one it is heard and counts in no share."""
    copies: int = 1
    """How many accounts post it; of several, the names have their number behind them."""
    group: str | None = None
    """The group in whose mean field it is heard, beside the global one."""

    def __post_init__(self) -> None:
        _Timed.__post_init__(self)
        if not self.account or not (self.text.strip() or self.labels):
            raise ValueError(f"{told(self)}: an account, and a text or labels are needed")
        if not _whole(self.copies) or self.copies < 1:
            raise ValueError(f"{told(self)}: copies must be at least 1")

    def __call__(self, scene: Scene) -> Scene:
        """The posts beside those of the scene."""
        if scene.tick != self.at:
            return scene
        _check_labels(self, (self.labels,), scene)
        accounts = [self.account] if self.copies == 1 else [f"{self.account} {i + 1}" for i in range(self.copies)]
        said = Decision(text=self.text, labels=self.labels)
        return replace(scene, posts=(*scene.posts, *((State(key, "", self.group), said) for key in accounts)))


@dataclass(frozen=True, slots=True, repr=False)
class Replace(_Timed):
    """A script decides for the chosen agents, from a tick on."""

    script: Policy | Decision | Sequence[Decision | None] = field(hash=False)
    """Who decides, for example a `RulePolicy` or a language model with other instructions; or what each of them
    does in every tick; or that tick by tick, None for nothing, after whose end they decide for themselves again."""
    who: Who = 1.0
    """Whose decisions: a share, or a function that chooses agents."""
    until: int | None = None
    """The first tick in which they decide for themselves again; None for never."""

    def __post_init__(self) -> None:
        _Timed.__post_init__(self)
        if callable(getattr(self.script, "decide", None)) and hasattr(self.script, "usage"):
            return
        if isinstance(self.script, Sequence):
            object.__setattr__(self, "script", tuple(self.script))
        if not all(one is None or isinstance(one, Decision) for one in self._decisions()) or not self._decisions():
            raise ValueError(f"{told(self)}: script must be a policy, a Decision, or a sequence of them, one a tick")

    def __call__(self, scene: Scene) -> Scene:
        """The script in the place of the policies."""
        if not self._acts(scene):
            return scene
        script = self.script
        if isinstance(script, tuple | Decision):
            decisions, which = self._decisions(), scene.tick - self.at
            _check_labels(self, (one.labels for one in decisions if one is not None), scene)
            if isinstance(script, tuple) and which >= len(script):
                return scene
            script = RulePolicy(_always(decisions[which if isinstance(script, tuple) else 0]))
        there = {turn.state.agent for turn in scene.turns}
        mine = dict.fromkeys(sorted(chosen(self, self.who, scene, "Replace") & there), cast(Policy, script))
        return replace(scene, scripts={**scene.scripts, **mine}) if mine else scene

    def _decisions(self) -> tuple[Any, ...]:  # Any: checked to be decisions when it is made
        return self.script if isinstance(self.script, tuple) else (self.script,)


@dataclass(frozen=True, slots=True, repr=False)
class Mute(_Timed):
    """The chosen agents neither act nor are heard, from a tick on; what they did before stays."""

    who: Who = 1.0
    """Whose voices: a share, or a function that chooses agents."""
    until: int | None = None
    """The first tick in which they are back; None for never."""

    def __call__(self, scene: Scene) -> Scene:
        """The scene without their turns."""
        if not self._acts(scene):
            return scene
        gone = chosen(self, self.who, scene, "Mute")
        turns = tuple(turn for turn in scene.turns if turn.state.agent not in gone)
        return scene if len(turns) == len(scene.turns) else replace(scene, turns=turns)


@dataclass(frozen=True, slots=True, repr=False)
class Persuade(_Timed):
    """The states of the chosen agents change, from a tick on, in what they are asked with."""

    change: str | Callable[[str], str]
    """A text that comes as a new line behind the state, or a function from the state's text to another."""
    who: Who = 1.0
    """Whose states: a share, or a function that chooses agents."""
    until: int | None = None
    """The first tick in which they are as before; None for never."""

    def __post_init__(self) -> None:
        _Timed.__post_init__(self)
        if not callable(self.change) and (not isinstance(self.change, str) or not self.change.strip()):
            raise ValueError(f"{told(self)}: change must be a text, or a function from a state's text to another")

    def __call__(self, scene: Scene) -> Scene:
        """The scene with the states changed."""
        if not self._acts(scene):
            return scene
        return _changed(scene, chosen(self, self.who, scene, "Persuade"), self._changed)

    def _changed(self, state: State) -> State:
        text = self.change(state.text) if callable(self.change) else f"{state.text}\n{self.change}"
        if not isinstance(text, str):
            raise TypeError(f"{told(self)}: change must give a str, got {text!r} for agent {state.agent}")
        return replace(state, text=text)


# --- Applying them ---------------------------------------------------------------------------------


def intervene(
    interventions: Iterable[Intervention], scene: Scene, guard: LeakGuard | None = None
) -> tuple[Scene, tuple[str, ...]]:
    """Apply interventions to a scene, one after the other.

    Args:
        interventions: In the order in which they act.
        scene: What is about to be asked.
        guard: Refuses what they must not read.

    Returns:
        What is to be asked, its posts marked as ``injected``; and those that changed anything, each as `told`.

    Raises:
        TypeError: One of them is no intervention, or its scene is none.
        ValueError: One of them cannot be applied.
        LeakError: One of them read what nobody can know.
    """
    active = []
    for one in interventions:
        name = told(one)
        if not callable(one) or isinstance(one, type):
            raise TypeError(f"{name} is no intervention: it must be a function from a Scene to a Scene")
        with nullcontext() if guard is None else guard.deciding(f"the intervention {name}", scene.tick):
            after = one(scene)
        if not isinstance(after, Scene) or not isinstance(after.field, MeanField):
            raise TypeError(f"The intervention {name} must return a Scene, got {after!r} at tick {scene.tick}")
        if after is not scene and after != scene:
            active.append(name)
            _check_posts(name, after)
        scene = after
    posts = tuple((state, replace(decision, injected=True)) for state, decision in scene.posts)
    return replace(scene, posts=posts) if posts else scene, tuple(active)


def listed(interventions: Sequence[Intervention]) -> list[Intervention]:
    """Several interventions as a list.

    Raises:
        TypeError: It is one by itself.
    """
    if callable(interventions):
        raise TypeError(f"interventions must be a list: write [{told(interventions)}]")
    return list(interventions)


def check_ticks(interventions: Iterable[Intervention], ticks: int) -> None:
    """See that each of them begins within a run of so many ticks.

    Raises:
        ValueError: One begins after its end, and so would never act.
    """
    for one in interventions:
        at = getattr(one, "at", 0)
        if _whole(at) and at >= ticks:
            raise ValueError(f"{told(one)} begins after the end of the run, whose last tick is {ticks - 1}")


def _changed(scene: Scene, keys: Collection[str], change: Callable[[State], State]) -> Scene:
    """The scene with the states of some agents changed."""
    if not any(turn.state.agent in keys for turn in scene.turns):
        return scene
    turns = (replace(t, state=change(t.state)) if t.state.agent in keys else t for t in scene.turns)
    return replace(scene, turns=tuple(turns))


def _always(said: Decision | None) -> Callable[[object, MeanField], Decision | None]:
    return lambda agent, mean_field: said


def _check_labels(whose: object, labels: Iterable[Mapping[str, str]], scene: Scene) -> None:
    for dimension, label in (pair for one in labels for pair in one.items()):
        known = scene.labels.get(dimension)
        if known is not None and label not in known:
            raise ValueError(f"{told(whose)}: {label!r} is not one of {', '.join(known)}")


def _check_posts(name: str, scene: Scene) -> None:
    if not scene.posts:
        return
    keys = {agent_key(agent) for agent in scene.population}
    for state, _ in scene.posts:
        if state.agent in keys:
            raise ValueError(f"{name}: the account {state.agent!r} is an agent of the model; give it another name")


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
