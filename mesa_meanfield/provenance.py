"""The leak guard: what of a record a prompt was made from, and that nobody could not have known it.

A simulation goes on from the first part of a record, whose rest it must not know. The words of a prompt do
not tell, since the same words stand on both sides of the cut; so the guard goes by provenance. A `Ledger`
hands out a view of the record that notes what is read from it, a `LeakGuard` says which states, summaries and
prompts were made from that, and refuses those that were made from what came later.

What is read is taken to be used. Code that holds the plain record is not seen: give it `guarded(cascade)`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from mesa_meanfield.data import Action, Cascade, MeanField, Source, Tick
from mesa_meanfield.errors import LeakError
from mesa_meanfield.guarded import GuardedAction, GuardedCascade, GuardedTopic, behind, guard

CONTENT = ("parent", "time", "text", "labels", "popularity", "trace")
"""The fields of an action whose reading is noted. Its id and author are free, since who acts is known."""


class Ledger:
    """Hands out a view of a record, and notes what is read from it.

    Free to read are the topic's text, author and time, and which actions there are by whom; the `CONTENT` of
    actions, the veracity and the topic's label are noted.

    Args:
        record: The plain record.
    """

    def __init__(self, record: Cascade) -> None:
        self.record = record
        """The plain record, for what makes no prompt: playing the warm-up, comparing."""
        self.elsewhere: set[Source] = set()
        """What was read where no `LeakGuard` could tell what for: any later prompt may be made from it."""
        self.places: dict[Source, str] = {}
        """Where in the code each thing was read first."""
        self.view = self.guarded(record)
        """The record, guarded: a `Cascade` like any other."""

    @staticmethod
    def of(cascade: Cascade) -> Ledger:
        """The ledger behind a guarded record; a new one for any other cascade."""
        plain, known = behind(cascade) or (cascade, None)
        return known if isinstance(known, Ledger) and cascade is known.view else Ledger(plain)

    def guarded(self, cascade: Cascade, recorded: int | None = None) -> Cascade:
        """A guarded view.

        Args:
            cascade: The record, or a simulation of it.
            recorded: How many of the actions are those of the record, in a simulation: the others were made
                from prompts, and have of the record only their time. By default all are.
        """
        count = len(cascade.actions) if recorded is None else recorded
        actions = tuple(self._action(a, CONTENT if i < count else ("time",)) for i, a in enumerate(cascade.actions))
        topic = guard(GuardedTopic, cascade.topic, self, {"label": Source(None, "topic label")})
        noted = {"veracity": Source(None, "veracity")}
        return guard(GuardedCascade, cascade, self, noted, {"topic": topic, "actions": actions})

    def _action(self, action: Action, noted: Iterable[str]) -> Action:
        return guard(GuardedAction, action, self, {field: Source(action.id, field) for field in noted})

    def note(self, source: Source) -> None:
        """Note that something is about to be read.

        Raises:
            LeakError: It is wanted for a prompt, and must not be; so it stays unread.
        """
        self.places.setdefault(source, _place())
        part = _under_way.get()
        if part is None or part.guard.ledger is not self:
            self.elsewhere.add(source)
            return
        part.into.add(source)
        if part.guard.forbids(source):
            raise part.guard.error(part.what, source)


def guarded(cascade: Cascade) -> Cascade:
    """A view of a cascade that notes what is read from it, for code of one's own beside a `CascadeModel`.

    Give the model the same view, so that it knows what was read.
    """
    return Ledger.of(cascade).view


class LeakGuard:
    """Tells what each prompt was made from, and refuses what must not be in it; `MeanFieldScheduler` asks it.

    Args:
        ledger: What was read.
        allowed: The ids of the actions that prompts may be made from: the warm-up. Their ``popularity`` is
            that of the end of the record and never allowed, nor is what is said of the cascade as a whole.
    """

    def __init__(self, ledger: Ledger, allowed: Collection[str]) -> None:
        self.ledger = ledger
        self.allowed = frozenset(allowed)
        self._of_agents: dict[str, set[Source]] = {}  # all that each has ever read, since agents remember

    def forbids(self, source: Source) -> bool:
        """Whether no prompt may be made from it."""
        return source.action not in self.allowed or source.field == "popularity"

    def observe(
        self, observe: Callable[[], str | None], agent: str, tick: int
    ) -> tuple[str | None, frozenset[Source]]:
        """What an agent sees, and what of the record that was made from.

        Raises:
            LeakError: It must not be made from that.
        """
        read = self._of_agents.setdefault(agent, set())
        with self._reading(f"The state of agent {agent} at tick {tick} was made from", read):
            seen = observe()
        return seen, frozenset(read)

    def before_asking(self, tick: int, field: MeanField, groups: Mapping[str, MeanField]) -> MeanField:
        """See that a tick's prompts may be asked; their states were seen to by `observe`.

        Returns:
            The mean field, with all that was read elsewhere among its sources.

        Raises:
            LeakError: One of them was made from what it must not.
        """
        self._check(f"Any prompt of tick {tick} may be made from", self.ledger.elsewhere)
        self._check(f"The mean field at tick {tick} was made from", field.sources)
        for name, one in groups.items():
            self._check(f"The mean field of group {name!r} at tick {tick} was made from", one.sources)
        sources = field.sources | self.ledger.elsewhere
        return field if sources == field.sources else replace(field, sources=sources)

    @contextmanager
    def deciding(self, policy: str, tick: int) -> Iterator[None]:
        """While a policy decides: what it reads may be in its prompts, and in all later ones.

        Raises:
            LeakError: It read what it must not; nobody may act on what it decided.
        """
        with self._reading(f"The prompts of {policy} at tick {tick} were made from", self.ledger.elsewhere):
            yield

    @contextmanager
    def summarizing(self, field: MeanField, tick: Tick, group: str | None) -> Iterator[set[Source]]:
        """While a summarizer turns a tick into the next mean field: gives what that is made from.

        That is what the old field was made from, the recorded decisions and the states of the tick, and what
        is read meanwhile or was read elsewhere.

        Raises:
            LeakError: It must not be made from that.
        """
        of = "" if group is None else f" for group {group!r}"
        what = f"The summary of tick {tick.number}{of} was made from"
        sources = {*self.ledger.elsewhere, *field.sources, *_sources_of(tick)}
        self._check(what, sources)
        with self._reading(what, sources):
            yield sources
        self._check(what, self.ledger.elsewhere)  # what it read in other threads

    def error(self, what: str, source: Source) -> LeakError:
        """What to say of a leak."""
        if source.action is None:
            told = f"the {source.field} of the cascade, which nobody in it knows"
        elif source.action in self.allowed:
            told = f"the {source.field} of action {source.action}, which is that of the end of the record"
        else:
            told = f"the {source.field} of action {source.action}, which comes after the warm-up"
        place = self.ledger.places.get(source)
        return LeakError(f"{what} {told}" + (f" (read in {place})" if place else ""))

    @contextmanager
    def _reading(self, what: str, into: set[Source]) -> Iterator[None]:
        token = _under_way.set(_Part(self, what, into))
        try:
            yield
        finally:
            _under_way.reset(token)
        self._check(what, into)  # an error that was caught on its way is still told

    def _check(self, what: str, sources: Collection[Source]) -> None:
        wrong = [source for source in frozenset(sources) if self.forbids(source)]
        if wrong:
            raise self.error(what, min(wrong, key=lambda source: (source.action or "", source.field)))


@dataclass(frozen=True, slots=True)
class _Part:
    """What is under way in this thread: what is read now is read for it."""

    guard: LeakGuard
    what: str
    into: set[Source]


_under_way: ContextVar[_Part | None] = ContextVar("_under_way", default=None)


def _sources_of(tick: Tick) -> Iterator[Source]:
    for state, decision in zip(tick.states, tick.decisions, strict=True):
        yield from state.sources
        if decision.recorded:  # its agent stands for the action that was played
            yield from (Source(state.agent, f) for f in ("text", "labels", "parent") if getattr(decision, f))


_OURS = (__file__, guard.__code__.co_filename, "<string>")  # the last is that of what dataclasses generate


def _place() -> str:
    """File and line of the code that reads."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in _OURS:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
