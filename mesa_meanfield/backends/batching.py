"""One model for many threads: what several of them ask at the same time goes to it as one batch.

So replicas of an unchanged Mesa model, each stepped in its own thread, share the batches of one model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from itertools import accumulate, pairwise
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.merging import Merger, Part
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Scorer, Usage


@final
class BatchingBackend:
    """A backend for many threads, which merges what they ask at the same time into one batch.

    The wrapped backend is asked by one thread at a time and need not be thread-safe; ask it through this
    only. Every caller gets what it would get alone, up to what a batch's size changes. It is a `Scorer` or
    a `LikelihoodScorer` where the wrapped backend is one. Policies and summarizers count for themselves: one
    of each per model::

        batching = BatchingBackend(load_backend("embedded"))

        def simulate(seed):
            with batching.replica():
                town = Town(batching, rng=seed)  # with a policy and a summarizer of its own
                for _ in range(10):
                    town.step()
                return town

        with ThreadPoolExecutor(8) as pool:
            towns = list(pool.map(simulate, range(8)))

    Watchers hear of the common batch, each in its caller's own thread. One that raises takes only its own
    caller away; a batch that all have left stops between sub-batches. After an error of a merged batch each
    caller's requests are asked alone, so that only those who caused it suffer; `BackendUnavailable` and a spent
    budget go to all at once.

    Args:
        backend: The model.
        max_wait: Seconds that a free model waits, with something to do, for others to join. It starts at once
            when everyone registered by `replica` has asked. Where nobody is, every call waits that long, also
            in a program of one thread: whether others are still to come is not guessed.
        max_batch: How many requests are merged at most; one call with more goes whole.
        patience: Seconds that a free model waits where all who wait are registered and others who are have not asked
            yet; by default ``max_wait``. With much of it what goes into a batch depends on no clock, so that replicas
            made again come to the same, to the last digit; a replica that computes for long without asking holds up
            the others.
    """

    score: Callable[[Sequence[Request], Sequence[str]], npt.NDArray[np.float64]]
    """As `Scorer.score`; there only where the wrapped backend has it."""
    log_likelihood: Callable[[Sequence[Request], Sequence[str]], list[Likelihood]]
    """As `LikelihoodScorer.log_likelihood`; there only where the wrapped backend has it."""

    def __init__(
        self, backend: Backend, *, max_wait: float = 0.05, max_batch: int | None = None, patience: float | None = None
    ) -> None:
        if not 0 <= max_wait <= threading.TIMEOUT_MAX:
            raise ValueError(f"max_wait must be a number of seconds, at least 0, got {max_wait}")
        if max_batch is not None and max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, or None for no limit, got {max_batch}")
        self._backend = backend
        if isinstance(backend, Scorer):
            self._scorer = backend
            self.score = self._score  # no method of the class, so that isinstance(it, Scorer) says the truth
        if isinstance(backend, LikelihoodScorer):
            self._reader = backend
            self.log_likelihood = self._log_likelihood  # as above
        self._merger = Merger(self._answer, max_wait, max_wait if patience is None else patience, max_batch)
        self._spent: WeakKeyDictionary[threading.Thread, Usage] = WeakKeyDictionary()
        self._total = Usage()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The wrapped backend's name."""
        return self._backend.name

    @property
    def usage(self) -> Usage:
        """What the calling thread's own requests cost; nothing where it never asked.

        The cost of a merged batch is split in proportion to the number of requests; calls and tokens stay
        whole and add up. A caller that left a batch is charged when the batch is over.
        """
        with self._lock:
            return self._spent.get(threading.current_thread(), Usage())

    @property
    def total(self) -> Usage:
        """What the requests of all threads cost, also of those that are over."""
        with self._lock:
            return self._total

    def replica(self) -> AbstractContextManager[None]:
        """Register the calling thread, within a ``with`` block, as one that asks again and is waited for."""
        return self._merger.replica()

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order; raises what the wrapped backend raises."""
        replies: list[Reply] = self._merger.ask("replies", (), requests) if requests else []
        return replies

    def _score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        if not requests:
            return np.empty((0, len(candidates)))
        scores: npt.NDArray[np.float64] = self._merger.ask("choices", tuple(candidates), requests)
        return scores

    def _log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        if len(texts) != len(requests):  # in a merged batch the texts would go to others
            raise ValueError(f"Each request needs its own text, got {len(requests)} requests and {len(texts)} texts")
        if not requests:
            return []
        found: list[Likelihood] = self._merger.ask("texts", (), requests, tuple(texts))
        return found

    def _answer(self, batch: Sequence[Part]) -> list[Any]:  # Any: see Merger
        """Each part's answers, from one call; what it cost is charged whatever comes of it."""
        requests = [request for part in batch for request in part.requests]
        sizes = [len(part.requests) for part in batch]
        before = self._backend.usage
        answers: Any
        try:
            match batch[0].what:
                case "choices":
                    answers = self._scorer.score(requests, batch[0].candidates)
                case "texts":
                    answers = self._reader.log_likelihood(requests, [text for part in batch for text in part.texts])
                case _:
                    answers = self._backend.generate(requests)
        finally:
            spent = self._backend.usage - before
            with self._lock:
                self._total += spent
                for part, share in zip(batch, split(spent, sizes), strict=True):
                    self._spent[part.thread] = self._spent.get(part.thread, Usage()) + share
        if len(answers) != len(requests):
            raise ValueError(f"{self.name} gave {len(answers)} answers to {len(requests)} requests")
        return [answers[start:end] for start, end in pairwise(accumulate(sizes, initial=0))]


def split(spent: Usage, weights: Sequence[int]) -> list[Usage]:
    """Divide what was spent in proportion to positive weights; whole numbers stay whole, by largest remainder."""
    whole = sum(weights)
    columns = []
    for amount in (getattr(spent, one.name) for one in fields(Usage)):
        if isinstance(amount, float):
            columns.append([amount * weight / whole for weight in weights])
            continue
        column = [amount * weight // whole for weight in weights]
        largest = sorted(range(len(weights)), key=lambda i: -(amount * weights[i] % whole))
        for i in largest[: amount - sum(column)]:
            column[i] += 1
        columns.append(column)
    return [Usage(*row) for row in zip(*columns, strict=True)]
