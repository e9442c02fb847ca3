"""Where threads meet: what several of them ask at the same time is answered as one batch.

The batch runs in a worker, a thread that lives as long as it is needed: were it one of the callers, its
cancel or Ctrl-C would hit the others.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, final

from mesa_meanfield.errors import BackendUnavailable, Cancelled, ReentryError
from mesa_meanfield.progress import report, watching
from mesa_meanfield.protocols import Request

_GLANCE = 0.2  # seconds between two looks whether a waiting caller was cancelled
_LINGER = 1.0  # seconds that the worker stays while all replicas are busy elsewhere


@dataclass(eq=False, slots=True)
class Part:
    """What one thread asks in one call."""

    what: str
    """What reports call it."""
    candidates: tuple[str, ...]
    """Of a score."""
    requests: tuple[Request, ...]
    texts: tuple[str, ...] = ()
    """Of a likelihood, one per request."""
    thread: threading.Thread = field(default_factory=threading.current_thread)
    said: SimpleQueue[Any] = field(default_factory=SimpleQueue)  # Any: reports, then the answers or an error
    """From the worker to the caller."""
    left: bool = False
    """Whether the caller waits no longer."""
    passed: int = 0
    """How many batches of another kind went before it."""
    content: tuple[tuple[str, ...], ...] = ()
    """What is asked, to sort by: threads come in any order, and no batch should depend on that."""

    def __post_init__(self) -> None:
        asked = ((one.adapter or "", one.prefix, one.suffix, str(one.seed)) for one in self.requests)
        self.content = (*asked, self.texts)

    def fits(self, other: Part) -> bool:
        """Whether one call can ask both."""
        return (self.what, self.candidates) == (other.what, other.candidates)


@final
class Merger:
    """Gathers the parts of several threads into batches and brings each its own answers.

    Args:
        answer: A batch of parts that fit each other -> the answers of each; called by one thread at a time.
        max_wait: Seconds that a batch waits for others, unless all who are registered have asked.
        patience: Seconds that it waits for those who are registered while nobody else is waiting.
        max_batch: How many requests are merged at most, or None.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Part]], Sequence[Any]],  # Any: lists of replies, arrays of scores, or likelihoods
        max_wait: float,
        patience: float,
        max_batch: int | None,
    ) -> None:
        self._ask_model = answer
        self._max_wait = max_wait
        self._patience = patience
        self._max_batch = max_batch
        self._queue: list[Part] = []
        self._replicas: Counter[threading.Thread] = Counter()
        self._broken = 0.0  # until then, by the monotonic clock, those are still waited for who were cancelled
        self._worker: threading.Thread | None = None
        self._changed = threading.Condition()  # guards these four; only the worker waits for it

    @contextmanager
    def replica(self) -> Iterator[None]:
        """Register the calling thread as one that asks again and is waited for.

        Who was cancelled is waited for as long as others are: they are about to be cancelled, too, and until they
        hear of it no batch should go without it.
        """
        thread = threading.current_thread()
        with self._changed:
            if not self._replicas:
                self._broken = 0.0
            self._replicas[thread] += 1
        try:
            yield
        except (Cancelled, KeyboardInterrupt):
            with self._changed:
                self._broken = time.monotonic() + self._patience
            raise
        finally:
            with self._changed:
                self._replicas[thread] -= 1
                self._replicas = +self._replicas  # only what is above zero
                self._changed.notify()

    # --- In a caller's thread ----------------------------------------------------------------------

    def ask(
        self, what: str, candidates: tuple[str, ...], requests: Sequence[Request], texts: tuple[str, ...] = ()
    ) -> Any:  # Any: see answer
        """Queue up, pass on what is heard of the batch, and return this caller's part of its answers."""
        if threading.current_thread() is self._worker:
            raise ReentryError("The backend inside a BatchingBackend asked it in turn, and would wait for ever")
        part = Part(what, candidates, tuple(requests), texts)
        said: Any = _Report(what, 0, len(requests))
        try:
            with self._changed:
                self._queue.append(part)
                if self._worker is None or not self._worker.is_alive():
                    # In an empty context, lest it inherits the watcher of whoever happened to come first.
                    self._worker = threading.Thread(target=Context().run, args=(self._work,), name="meanfield-merger")
                    self._worker.start()
                self._changed.notify()
            while isinstance(said, _Report):
                report(*said)  # and again at every glance: a cancel need not wait for the batch
                with suppress(Empty):
                    said = part.said.get(timeout=_GLANCE)
            if isinstance(said, BaseException):
                raise said
            return said
        finally:
            said = None  # an error holds this frame, which must not hold the error
            with self._changed:
                part.left = True
                if part in self._queue:
                    self._queue.remove(part)
                    self._changed.notify()

    # --- In the worker -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or not self._replicas, _LINGER)
                if not self._queue:
                    self._worker = None
                    return
                # From now on, not from when they came: those served just now can join those who queued meanwhile.
                # Else the replicas would fall apart into two halves that take turns.
                if not self._changed.wait_for(self._is_time, self._max_wait):
                    # Whoever is not registered may ask for one who is, in a thread of its own.
                    self._changed.wait_for(
                        lambda: self._is_time() or self._strangers, self._patience - self._max_wait
                    )
                batch, _ = self._gathered()
                self._queue = [part for part in self._queue if part not in batch]
                for part in self._queue:
                    part.passed += 1
            if batch:  # unless all have left
                self._answer(batch)

    def _is_time(self) -> bool:
        """Whether no more may join, or everyone registered waits, or all who waited have left."""
        waiting = {part.thread for part in self._queue}
        complete = bool(self._replicas) and self._replicas.keys() <= waiting and time.monotonic() >= self._broken
        return complete or not waiting or self._gathered()[1]

    @property
    def _strangers(self) -> bool:
        """Whether anybody waits who is not registered, or nobody is."""
        return not self._replicas or any(part.thread not in self._replicas for part in self._queue)

    def _gathered(self) -> tuple[list[Part], bool]:
        """What is to be asked next, in its order, and whether no more may join it.

        Of several kinds that which was passed over most often, else the first by name; of several parts likewise.
        """
        batch: list[Part] = []
        size = 0
        for part in sorted(self._queue, key=lambda part: (-part.passed, part.what, part.candidates, part.content)):
            if not batch or part.fits(batch[0]):
                size += len(part.requests)
                if batch and self._max_batch is not None and size > self._max_batch:
                    return batch, True
                batch.append(part)
        return batch, self._max_batch is not None and size >= self._max_batch

    def _answer(self, batch: Sequence[Part]) -> None:
        """Have a batch answered and tell its callers; after an error that one may have caused, each alone."""

        def pass_on(what: str, done: int, total: int) -> None:
            if all(part.left for part in batch):
                raise Cancelled("Everyone who asked for this batch has left")
            for part in batch:
                part.said.put(_Report(what, done, total))

        alone = False
        try:
            with watching(pass_on):
                answers = self._ask_model(batch)
        except BaseException as error:  # of any kind: nobody else would tell those who wait
            alone = len(batch) > 1 and not isinstance(error, BackendUnavailable | Cancelled)
            for part in () if alone else batch:
                part.said.put(error if len(batch) == 1 else _copied(error))
        else:
            for part, own in zip(batch, answers, strict=True):
                part.said.put(own)
        for part in batch if alone else ():
            if not part.left:
                self._answer([part])


class _Report(NamedTuple):
    what: str
    done: int
    total: int


def _copied(error: BaseException) -> BaseException:
    """An error of one caller's own: one that many threads raise would gather all their tracebacks."""
    try:
        own = copy.copy(error)
    except Exception:  # some cannot be made anew from their arguments
        return error
    own.__cause__ = error
    return own
