"""Recorded cascades -> one item per tick: what the crowd saw, and what it did next.

The mean fields are teacher-forced: a summarizer runs over the recorded ticks. States, ticks and mean
fields are those that the cascade model would show.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mesa_meanfield.actions import labels_of
from mesa_meanfield.cascades.dimensions import label_of, space_of
from mesa_meanfield.cascades.personas import persona
from mesa_meanfield.data import Action, Cascade, Decision, MeanField, State, Tick, cut, event_of
from mesa_meanfield.errors import BackendUnavailable, DataError, ReplyError
from mesa_meanfield.progress import report
from mesa_meanfield.prompts import LANGUAGES, Prompts
from mesa_meanfield.protocols import ActionSpace, Summarizer
from mesa_meanfield.seeds import derive, unit
from mesa_meanfield.summarizers import LLMSummarizer


@dataclass(frozen=True)
class Item:
    """One tick of a recorded cascade."""

    cascade: str
    event: str
    """What splits go by: the cascade's event, else its own id."""
    topic: str
    space: ActionSpace
    """What could be decided."""
    prompts: Prompts
    """The wording, in the cascade's language."""
    tick: Tick
    """Who acts next, and what each of them did."""
    field: MeanField
    """What they saw of each other: the mean field before the tick."""
    last: Tick | None = None
    """The tick before, None for the first one."""
    previous: MeanField = dataclasses.field(default_factory=MeanField)
    """The mean field before that one: with ``last`` all that a summarizer knows."""

    @property
    def taught(self) -> list[tuple[State, Decision]]:
        """Those of the tick from whom there is something to learn: a label, where labels are decided."""
        choice = self.space.choice
        return [(s, d) for s, d in self.tick.valid if choice is None or choice.dimension in d.labels]

    def without_field(self) -> Item:
        """The same tick where nobody sees anything of the others."""
        return replace(self, field=replace(self.field, text="", tells_shares=False))


@dataclass(frozen=True)
class Recipe:
    """How cascades become items."""

    dimension: str
    """Whose labels are decided."""
    labels: tuple[str, ...]
    """All of them."""
    texts: bool = False
    """Whether a text goes with the label."""
    warm_up: tuple[float, float] = (0.0, 0.3)
    """The share of a cascade's actions that is only watched: drawn for each cascade between these two."""
    per_tick: int | None = None
    """Actions per tick; None for the rule of `cut`."""
    seed: int = 0
    permute_labels: bool = False
    """Whether the options stand in an order of each cascade's own, drawn by the seed, so that what is learned is
    to read them and not which letter is frequent."""

    def __post_init__(self) -> None:
        low, high = self.warm_up
        if not 0 <= low <= high < 1:
            raise ValueError(f"warm_up must be two shares from 0 to below 1, the smaller first, got {self.warm_up}")
        if self.per_tick is not None and self.per_tick < 1:
            raise ValueError(f"per_tick must be at least 1, got {self.per_tick}")

    def share(self, cascade: Cascade) -> float:
        """The share of a cascade that is only watched."""
        low, high = self.warm_up
        return low + (high - low) * unit(self._seed(cascade), "warm-up")

    def options(self, cascade: Cascade) -> tuple[str, ...]:
        """The labels in the order in which a cascade's prompts show them."""
        if not self.permute_labels:
            return self.labels
        return tuple(sorted(self.labels, key=lambda label: unit(self._seed(cascade), f"place of {label}")))

    def _seed(self, cascade: Cascade) -> int:
        return derive(self.seed, cascade.dataset, cascade.id)


def items_of(
    cascades: Iterable[Cascade],
    recipe: Recipe,
    summarizer: Mapping[str, Summarizer],
    prompts: Mapping[str, Prompts] | None = None,
) -> list[Item]:
    """The items of many cascades, in their order.

    Args:
        cascades: Recorded or simulated.
        recipe: How they are cut.
        summarizer: Language -> who writes the mean fields.
        prompts: Language -> the wording; what is missing there is the shipped one.

    Raises:
        DataError: There is nothing to learn from: no action after the warm-up has a label.
        BackendError: The summarizer's model cannot be asked.
    """
    own = dict(prompts or {})
    walks: list[tuple[str, _Walk]] = []
    for cascade in cascades:
        language = language_of(cascade)
        words = own.setdefault(language, Prompts(language))
        space = space_of(recipe.dimension, recipe.options(cascade), language, texts=recipe.texts)
        walks.append((language, _walk(cascade, recipe, space, words)))
    found = [item for items in _together(walks, summarizer) for item in items]
    if not found:
        raise DataError(f"No action after the warm-up has a label of {recipe.dimension!r}; nothing to learn from")
    return found


def language_of(cascade: Cascade) -> str:
    """The language of a cascade's prompts."""
    return cascade.language if cascade.language in LANGUAGES else "en"


def split(cascades: Iterable[Cascade], held_out: Collection[str]) -> tuple[list[Cascade], list[Cascade]]:
    """The cascades of other events, and those of the held-out ones.

    Raises:
        DataError: There is no such event, or nothing is left.
    """
    sides: tuple[list[Cascade], list[Cascade]] = ([], [])
    for cascade in cascades:
        sides[event_of(cascade) in held_out].append(cascade)
    if missing := set(held_out) - {event_of(cascade) for cascade in sides[1]}:
        known = sorted({event_of(cascade) for cascade in sides[0]})
        some = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise DataError(f"There is no event {min(missing)!r} to hold out; there are {some}")
    if not sides[0]:
        raise DataError("All events are held out; nothing is left to train on")
    return sides


@dataclass(frozen=True)
class _Asked:
    """One summary that is wanted."""

    field: MeanField
    tick: Tick
    topic: str
    space: ActionSpace
    seed: int

    def by(self, summarizer: Summarizer) -> MeanField:
        """As the scheduler asks for it: after a failure the old text stays, and the shares are new."""
        try:
            return summarizer.update(self.field, self.tick, topic=self.topic, actions=(self.space,), seed=self.seed)
        except (ReplyError, BackendUnavailable):
            return self.field.counted(self.tick, labels_of((self.space,)))


_Walk = Generator[_Asked, MeanField, list[Item]]


def _walk(cascade: Cascade, recipe: Recipe, space: ActionSpace, prompts: Prompts) -> _Walk:
    """The items of one cascade, from its first tick to its last; asks for each mean field on the way."""
    parts = cut(cascade, recipe.share(cascade), recipe.per_tick)
    ticks = (*parts.warm_up, *parts.roll_out)
    topic = html.unescape(cascade.topic.text)
    seen: set[str] = set()
    field, previous, last = MeanField(), MeanField(), None
    found = []
    for number, actions in enumerate(ticks):
        played = number < len(parts.warm_up)
        tick = _tick(number, actions, cascade.language, seen, recipe.dimension, None if played else space)
        item = Item(cascade.id, event_of(cascade), topic, space, prompts, tick, field, last, previous)
        if not played and item.taught:
            found.append(item)
        previous, last = field, tick
        if number + 1 < len(ticks):
            seed = derive(recipe.seed, cascade.dataset, cascade.id, number, "summary")
            field = yield _Asked(field, tick, topic, space, seed)
    return found


def _together(walks: Sequence[tuple[str, _Walk]], summarizer: Mapping[str, Summarizer]) -> list[list[Item]]:
    """All walks tick by tick, so that a model writes the summaries of many cascades in one batch."""
    found: list[list[Item]] = [[] for _ in walks]
    answers: dict[int, MeanField | None] = dict.fromkeys(range(len(walks)))
    while answers:
        asked: dict[str, dict[int, _Asked]] = {}
        for number, answer in answers.items():
            language, walk = walks[number]
            try:
                wanted = next(walk) if answer is None else walk.send(answer)
                asked.setdefault(language, {})[number] = wanted
            except StopIteration as over:
                found[number] = over.value
        answers = {}
        for language, those in asked.items():
            answers.update(zip(those, _answer(list(those.values()), summarizer[language]), strict=True))
        report("cascades", len(walks) - len(answers), len(walks))
    return found


def _answer(asked: Sequence[_Asked], summarizer: Summarizer) -> list[MeanField]:
    if not isinstance(summarizer, LLMSummarizer):
        return [one.by(summarizer) for one in asked]
    requests = [
        summarizer.request(one.field, one.tick, topic=one.topic, actions=(one.space,), seed=one.seed) for one in asked
    ]
    found = []
    for one, reply in zip(asked, summarizer.backend.generate(requests), strict=True):
        text = " ".join(reply.text.split())
        if reply.failure is not None or not text or not one.tick.valid:
            found.append(one.by(summarizer))  # which asks again
        else:
            found.append(summarizer.field(one.field.counted(one.tick, labels_of((one.space,))), text))
    return found


def _tick(
    number: int, actions: Sequence[Action], language: str, seen: set[str], dimension: str, space: ActionSpace | None
) -> Tick:
    """A tick as recorded or, with a space, as agents would have decided it who did the same."""
    states, decisions = [], []
    for action in actions:
        again = action.author.key in seen
        seen.add(action.author.key)
        states.append(State(action.id, persona(action.author, language, again=again)))
        decisions.append(_decision(action, dimension, space))
    return Tick(number, tuple(states), tuple(decisions))


def _decision(action: Action, dimension: str, space: ActionSpace | None) -> Decision:
    label = label_of(action, dimension)
    labels = {} if label is None else {dimension: label}
    failure = action.trace.failure if action.trace else None
    if space is None:
        return Decision(text=action.text, labels=labels, parent=action.parent, recorded=True)
    silent = space.text is None or label in getattr(space, "silent", ())
    text = "" if silent else html.unescape(action.text).strip()  # what an agent is to write holds no &amp;
    return Decision(text=text, labels=labels, failure=failure, recorded=True)
