"""One of a backend's LoRA adapters as a backend of its own: policy and summarizer share one base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.errors import ScoringUnsupported
from mesa_meanfield.protocols import Backend, Reply, Request, Scorer, Usage


@final
class AdaptedBackend:
    """Asks a backend with one of its adapters; several of these can share the backend.

    Args:
        backend: A backend whose requests can name an adapter: a local one, or one that merges its batches.
        adapter: The adapter's name there.
    """

    def __init__(self, backend: Backend, adapter: str) -> None:
        self.adapter = adapter
        self.usage = Usage()
        """What this adapter's questions cost."""
        self._backend = backend

    @property
    def name(self) -> str:
        """The backend and the adapter, for records."""
        return f"{self._backend.name}+{self.adapter}"

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        before = self._backend.usage
        try:
            return self._backend.generate(self._named(requests))
        finally:
            self.usage += self._backend.usage - before

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)).

        Raises:
            ScoringUnsupported: The backend gives none.
        """
        if not isinstance(self._backend, Scorer):
            raise ScoringUnsupported(f"{self._backend.name} gives no log-probabilities; ask it for replies instead")
        before = self._backend.usage
        try:
            return self._backend.score(self._named(requests), candidates)
        finally:
            self.usage += self._backend.usage - before

    def _named(self, requests: Sequence[Request]) -> list[Request]:
        return [replace(request, adapter=self.adapter) for request in requests]
