"""The same agent in two arms, side by side: what it was asked and what it did. Chosen by a rule, not by eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from mesa_meanfield.data import Decision, State
from mesa_meanfield.experiments.witness import Moment


@dataclass(frozen=True)
class Line:
    """One line of what an agent was asked."""

    text: str
    own: bool
    """Whether it stands in this arm alone."""


@dataclass(frozen=True)
class Side:
    """What an agent was asked and did in one arm."""

    asked: tuple[Line, ...]
    label: str
    probabilities: tuple[tuple[str, float], ...]
    """Each label's, as the model gave them; empty where it did not."""
    text: str


@dataclass(frozen=True)
class Example:
    """One agent in both arms."""

    why: str
    """Why it was chosen."""
    tick: int
    agent: str
    change: float
    """The total variation distance between its two distributions; 0 or 1 where there are none."""
    whole: bool
    """Whether what was asked is the prompts themselves; else the parts that they are made from."""
    first: Side
    second: Side


def examples(first: Sequence[Moment], second: Sequence[Moment], since: int, dimension: str) -> tuple[Example, ...]:
    """The agents whose decisions the arms move most, middlingly and least.

    Args:
        first: The ticks of one arm.
        second: Those of the other, of the same replica.
        since: The first tick in which they may differ.
        dimension: Whose labels are shown.
    """
    found = sorted(_pairs(first, second, since), key=lambda one: (-one.change, one.tick))
    if not found:
        return ()
    places = {0: "most", (len(found) - 1) // 2: "in the middle", len(found) - 1: "least"}
    if len(found) < 3:
        places = dict.fromkeys(range(len(found)), "one of all there are")
    return tuple(_example(found[place], why, dimension) for place, why in sorted(places.items()))


@dataclass(frozen=True)
class _Pair:
    first: tuple[Moment, State, Decision]
    second: tuple[Moment, State, Decision]
    change: float

    @property
    def tick(self) -> int:
        return self.first[0].tick.number


def _pairs(first: Sequence[Moment], second: Sequence[Moment], since: int) -> Iterator[_Pair]:
    other = {moment.tick.number: moment for moment in second}
    for moment in first:
        twin = other.get(moment.tick.number)
        if twin is None or moment.tick.number < since:
            continue
        there = {state.agent: (twin, state, decision) for state, decision in twin.tick.valid}
        for state, decision in moment.tick.valid:
            pair = there.get(state.agent)
            if pair is not None and not (decision.injected or decision.recorded):
                yield _Pair((moment, state, decision), pair, _change(decision, pair[2]))


def _change(a: Decision, b: Decision) -> float:
    if a.distribution is not None and b.distribution is not None:
        labels = {**a.distribution, **b.distribution}
        return sum(abs(a.distribution.get(one, 0.0) - b.distribution.get(one, 0.0)) for one in labels) / 2
    return float((a.labels, a.text) != (b.labels, b.text))


def _example(pair: _Pair, why: str, dimension: str) -> Example:
    both = (pair.first, pair.second)
    prompts = [moment.prompt(state, decision) for moment, state, decision in both]
    known = [prompt.splitlines() for prompt in prompts if prompt is not None]
    whole = len(known) == len(both)
    lines = known if whole else [_parts(moment, state) for moment, state, _ in both]  # like beside like
    first, second = (
        _side(one[2], asked, dimension) for one, asked in zip(both, _marked(lines[0], lines[1]), strict=True)
    )
    return Example(why, pair.tick, pair.first[1].agent, pair.change, whole, first, second)


def _side(decision: Decision, asked: tuple[Line, ...], dimension: str) -> Side:
    label = decision.labels.get(dimension) or next(iter(decision.labels.values()), "")
    known: Mapping[str, float] = decision.distribution or {}
    return Side(asked, label, tuple(known.items()), decision.text)


def _parts(moment: Moment, state: State) -> list[str]:
    notices = [f"{notice.source}: {notice.text}" for notice in state.notices]
    return [*moment.field.text.splitlines(), *notices, *state.text.splitlines()]


def _marked(first: Sequence[str], second: Sequence[str]) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The lines of both, those marked that the other has not in the same place."""
    same = [
        block for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks() if block.size
    ]
    common = [{place + i for a, b, size in same for i in range(size) for place in [(a, b)[side]]} for side in (0, 1)]
    sides = [
        tuple(Line(text, i not in shared and bool(text.strip())) for i, text in enumerate(lines))
        for lines, shared in zip((first, second), common, strict=True)
    ]
    return sides[0], sides[1]
