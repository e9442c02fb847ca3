"""A backend that somebody stands beside: each call is seen before it is asked, and may be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.asked import Kind
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Scorer, Usage


@dataclass(frozen=True, slots=True)
class Call:
    """What a backend is about to be asked."""

    kind: Kind
    requests: Sequence[Request]
    candidates: Sequence[str] = ()
    """Of a choice."""
    texts: Sequence[str] = ()
    """Those whose likelihood is asked for, one per request."""


Around = Callable[[Call, Backend], AbstractContextManager[object]]
"""What is entered before a call and left after it; what it raises before the call keeps it from being asked."""


@final
class WatchedBackend:
    """A backend whose calls each happen inside a context of somebody's own.

    It is a `Scorer` or a `LikelihoodScorer` where the wrapped backend is one.

    Args:
        backend: The model.
        around: Makes the context of a call.
    """

    score: Callable[[Sequence[Request], Sequence[str]], npt.NDArray[np.float64]]
    """As `Scorer.score`; there only where the model has it."""
    log_likelihood: Callable[[Sequence[Request], Sequence[str]], list[Likelihood]]
    """As `LikelihoodScorer.log_likelihood`; there only where the model has it."""
    adapted: Callable[..., AdaptedBackend]
    """As `LocalBackend.adapted`; there only where the model has it."""

    def __init__(self, backend: Backend, around: Around) -> None:
        self._backend = backend
        self._around = around
        if isinstance(backend, Scorer):
            self._scorer = backend
            self.score = self._score  # no method of the class, so that isinstance(it, Scorer) says the truth
        if isinstance(backend, LikelihoodScorer):
            self._reader = backend
            self.log_likelihood = self._log_likelihood  # as above
        if hasattr(backend, "adapted"):
            self._load: Any = backend.adapted  # of a local model, a log, or another one of these
            self.adapted = self._adapted

    @property
    def name(self) -> str:
        """The wrapped backend's name."""
        return self._backend.name

    @property
    def usage(self) -> Usage:
        """What the wrapped backend spent."""
        return self._backend.usage

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        with self._around(Call("reply", requests), self._backend):
            return self._backend.generate(requests)

    def _score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        with self._around(Call("choice", requests, candidates), self._backend):
            return self._scorer.score(requests, candidates)

    def _log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        with self._around(Call("text", requests, texts=texts), self._backend):
            return self._reader.log_likelihood(requests, texts)

    def _adapted(self, folder: str | Path, name: str = "") -> AdaptedBackend:
        return AdaptedBackend(self, self._load(folder, name).adapter)
