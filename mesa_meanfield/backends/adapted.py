"""One of a backend's LoRA adapters as a backend of its own: policy and summarizer share one base model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.errors import ScoringUnsupported
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Scorer, Usage


@final
class AdaptedBackend:
    """Asks a backend with one of its adapters; several of these can share the backend.

    Args:
        backend: A backend whose requests can name an adapter: a local one, or one that merges its batches.
        adapter: The adapter's name there.
    """

    log_likelihood: Callable[[Sequence[Request], Sequence[str]], list[Likelihood]]
    """As `LikelihoodScorer.log_likelihood`; there only where the backend has it."""

    def __init__(self, backend: Backend, adapter: str) -> None:
        self.adapter = adapter
        self.usage = Usage()
        """What this adapter's questions cost."""
        self._backend = backend
        if isinstance(backend, LikelihoodScorer):
            self._reader = backend
            self.log_likelihood = self._log_likelihood  # no method of the class: isinstance says the truth

    @property
    def name(self) -> str:
        """The backend and the adapter, for records."""
        return f"{self._backend.name}+{self.adapter}"

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        with self._counted():
            return self._backend.generate(self._named(requests))

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)).

        Raises:
            ScoringUnsupported: The backend gives none.
        """
        if not isinstance(self._backend, Scorer):
            raise ScoringUnsupported(f"{self._backend.name} gives no log-probabilities; ask it for replies instead")
        with self._counted():
            return self._backend.score(self._named(requests), candidates)

    def _log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        with self._counted():
            return self._reader.log_likelihood(self._named(requests), texts)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        before = self._backend.usage
        try:
            yield
        finally:
            self.usage += self._backend.usage - before

    def _named(self, requests: Sequence[Request]) -> list[Request]:
        return [replace(request, adapter=self.adapter) for request in requests]
