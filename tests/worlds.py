"""The smallest worlds that tests share. Every text is invented."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mesa_meanfield.data import Action, Cascade, Decision, Profile, State, Tick, Topic, Trace

START = datetime(2025, 3, 1, 8, 0, tzinfo=UTC)
STANCES = ("support", "deny", "query", "comment")


def action(
    key: str = "a1",
    label: str | None = "support",
    text: str = "Hm, well.",
    *,
    dimension: str = "stance",
    author: str = "u1",
    parent: str | None = None,
    after: float = 0,
    distribution: dict[str, float] | None = None,
    failure: str | None = None,
    simulated: bool = False,
) -> Action:
    """One action, ``after`` seconds from the start; a distribution or a failure makes it a simulated one."""
    traced = simulated or distribution is not None or failure is not None
    return Action(
        id=key,
        parent=parent,
        time=START + timedelta(seconds=after),
        author=Profile(author),
        text=text,
        labels={} if label is None else {dimension: label},
        trace=Trace(tick=0, state="", distribution=distribution, failure=failure) if traced else None,
    )


def cascade(
    n: int = 10,
    labels: Sequence[str | None] = STANCES,
    *,
    key: str = "c1",
    language: str = "en",
    topic: str = "A walrus sits in the canal.",
    dimension: str = "stance",
    actions: Sequence[Action] | None = None,
) -> Cascade:
    """A cascade of n actions a1, a2, ... by u1, u2, ..., a second apart, their labels taken in turn."""
    if actions is None:
        actions = [
            action(
                f"a{i + 1}",
                labels[i % len(labels)],
                f"Remark {i + 1}.",
                dimension=dimension,
                author=f"u{i + 1}",
                after=i,
            )
            for i in range(n)
        ]
    return Cascade(
        id=key,
        dataset="invented",
        event=None,
        domain="news",
        language=language,
        veracity=None,
        topic=Topic(Profile("op"), topic, START),
        actions=tuple(actions),
    )


def tick(*decisions: Decision | str, number: int = 0, dimension: str = "stance", first: int = 1) -> Tick:
    """A tick of agents a1, a2, ... (from ``first``), each with its decision; a string is a label."""
    return Tick(
        number,
        tuple(State(f"a{first + i}", f"You are reader {first + i}.") for i in range(len(decisions))),
        tuple(Decision(labels={dimension: d}) if isinstance(d, str) else d for d in decisions),
    )
