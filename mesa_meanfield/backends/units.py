"""How a call is answered from the log, and in which units the model is asked for the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextvars import Context, copy_context
from typing import TypeVar, final

from mesa_meanfield.backends.asked import Asked, Kind
from mesa_meanfield.backends.calls import CallLog, Given, Kept, Outcome
from mesa_meanfield.errors import BackendUnavailable, DataError, ScoringUnsupported
from mesa_meanfield.progress import report, watching
from mesa_meanfield.protocols import Backend, Request, Usage

_Result = TypeVar("_Result")
Ask = Callable[[Sequence[int]], Sequence[Given]]
"""Places in a call -> what the model answers there."""

_REPORTED: dict[Kind, str] = {"reply": "replies", "choice": "choices", "text": "texts"}
_SHOWN = 60  # characters of a question in a message


@final
class Units:
    """Answers calls unit by unit.

    A unit is a slice of the call, cut before the log is looked at. What is missing of it is asked at once and
    committed at once. So what the model is asked depends on the call and on what whole units the log has, and is
    the same for a run that was killed and is made again.

    Args:
        backend: The model; None where all must be in the log.
        log: Where everything goes.
        cache: A log that runs share, or None.
        size: Requests per unit.
    """

    def __init__(self, backend: Backend | None, log: CallLog, cache: CallLog | None, size: int) -> None:
        self.usage = Usage()
        """What was asked cost, each unit of the log once, whenever it was paid."""
        self.paid = Usage()
        """What the model was asked for."""
        self.hits = 0
        """How many requests were answered without asking the model."""
        self._backend = backend
        self._log = log
        self._cache = cache
        self._size = size
        self._counted = bytearray()  # for each unit of the log, whether its cost is in the usage
        self._counting = threading.Lock()
        self._asking = threading.Lock()

    def answers(self, asked: Sequence[Asked], requests: Sequence[Request], ask: Ask) -> list[bytes]:
        """What is known of each question, or answered now.

        Args:
            asked: The questions of a call, all of one kind.
            requests: The requests that they are.
            ask: Asks the model for some of them.

        Raises:
            DataError: There is no model and no answer, or the log cannot be used.
            ScoringUnsupported: Now, or when it was recorded.
            BackendUnavailable: Now, or when it was recorded.
        """
        answers: list[bytes] = []
        for start in range(0, len(asked), self._size):
            places = range(start, min(start + self._size, len(asked)))
            kept = self._log.find(asked[i].key for i in places)
            missing = [i for i in places if self._lacks(kept.get(asked[i].key))]
            self._count({one.unit for one in kept.values()}, hits=len(places) - len(missing))
            if missing and self._backend is None:
                raise self._unknown(asked[missing[0]], requests[missing[0]])
            if missing:
                kept |= self._fetched(asked, missing, ask)
            answers += [_answer(kept[asked[i].key]) for i in places]
            report(_REPORTED[asked[start].kind], places.stop, len(asked))
        return answers

    def _lacks(self, one: Kept | None) -> bool:
        if one is None:
            return True
        gone = one.outcome is Outcome.UNAVAILABLE and one.unit > self._log.settled
        return gone and self._backend is not None

    def _fetched(self, asked: Sequence[Asked], missing: Sequence[int], ask: Ask) -> dict[bytes, Kept]:
        """What was missing of a unit, from the shared cache and the model; it is in the log then."""
        shared: dict[bytes, Kept] = {}
        if self._cache is not None:
            found = self._cache.find(asked[i].key for i in missing).items()
            shared = {key: one for key, one in found if one.outcome is Outcome.ANSWER}
        given = {asked[i]: Given(*shared[asked[i].key][:2]) for i in missing if asked[i].key in shared}
        open_ = [i for i in missing if asked[i].key not in shared]
        if open_ and asked[open_[0]].kind == "reply":
            # Replicas ask the same with the same seeds. The twins of a choice are left to the model, which
            # computes them once, and counts all.
            first: dict[bytes, int] = {}
            for i in open_:
                first.setdefault(asked[i].key, i)
            open_ = list(first.values())
        spent = Usage()
        if open_:
            new, spent = self._asked_now(asked, open_, ask)
            given |= new
        unit, kept = self._log.add(list(given.items()), spent)
        self._count({unit}, hits=len(missing) - len(open_))
        if open_ and self._cache is not None:
            good = [pair for pair in new.items() if pair[1].outcome is Outcome.ANSWER]
            if good:
                self._cache.add(good, spent)
        return kept

    def _asked_now(self, asked: Sequence[Asked], places: Sequence[int], ask: Ask) -> tuple[dict[Asked, Given], Usage]:
        """What the model answers, and what that costs."""
        assert self._backend is not None
        given: Sequence[Given]
        with self._asking:
            before = self._backend.usage
            try:
                given = _counting_on(lambda: ask(places), places[-1] + 1 - len(places), len(asked))
            except (ScoringUnsupported, BackendUnavailable) as error:
                outcome = Outcome.UNAVAILABLE if isinstance(error, BackendUnavailable) else Outcome.UNSUPPORTED
                given = [Given(outcome, str(error).encode(errors="backslashreplace"))] * len(places)
            except BaseException:  # nothing is kept, but paid it is
                self._spend(self._backend.usage - before, kept=False)
                raise
            spent = self._backend.usage - before
        self._spend(spent, kept=True)
        if len(given) != len(places):
            raise ValueError(f"{self._backend.name} gave {len(given)} answers to {len(places)} requests")
        new: dict[Asked, Given] = {}
        for i, one in zip(places, given, strict=True):
            new.setdefault(asked[i], one)
        return new, spent

    def _unknown(self, one: Asked, request: Request) -> DataError:
        like = self._log.like(one)
        told = " ".join(request.suffix.split())[:_SHOWN]
        what = f"no {one.kind} of {one.model} to the prompt {one.prompt} ({told!r})"
        why = "no call has this prompt"
        if like is not None:
            why = f"a call with this prompt has {', '.join(one.unlike(like)) or 'another text'}"
        return DataError(f"{self._log.path}: {what} is there: {why}; only what was recorded can be replayed")

    def _spend(self, spent: Usage, *, kept: bool) -> None:
        with self._counting:
            self.paid += spent
            if not kept:  # else it is counted as its unit's cost
                self.usage += spent

    def _count(self, units: Collection[int], *, hits: int) -> None:
        with self._counting:
            self.hits += hits
            self._counted.extend(bytes(max(0, max(units, default=0) + 1 - len(self._counted))))
            if new := [unit for unit in units if not self._counted[unit]]:
                self.usage += self._log.cost(new)
                for unit in new:
                    self._counted[unit] = True


def _answer(one: Kept) -> bytes:
    if one.outcome is Outcome.UNSUPPORTED:
        raise ScoringUnsupported(one.answer.decode())
    if one.outcome is Outcome.UNAVAILABLE:
        raise BackendUnavailable(one.answer.decode())
    return one.answer


def _counting_on(ask: Callable[[], _Result], done: int, total: int) -> _Result:
    """Ask, and pass its reports on as those of the whole call."""
    outside = copy_context()

    def pass_on(what: str, part: int, _of: int) -> None:
        outside.run(report, what, done + part, total)

    def inside() -> _Result:
        with watching(pass_on):
            return ask()

    return Context().run(inside)  # an empty one, since the outer watcher would hear everything twice
