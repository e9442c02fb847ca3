"""Record and replay: a backend that keeps every call, and asks nothing that it has an answer to.

To go on with a run that was killed is to make it again from its start with its log: what is there is not asked,
and what is missing is asked in the very units of an uninterrupted run. A replay is the same without a model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends import coding
from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.asked import choices_asked, plain, replies_asked, texts_asked
from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.calls import CALLS, CallLog, Given
from mesa_meanfield.backends.units import Units
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Scorer, Usage

_FILES = ("adapter_model.safetensors", "adapter_config.json")


@final
class LoggedBackend:
    """A backend that keeps every call in a log, and answers from there what is known; without a model it replays.

    A call is cut into units before the log is looked at; what is missing of a unit is asked at once and committed
    at once. So a run that was killed and is made again with its log has the same results, bit for bit on the same
    machine, as one that was not. Where several threads or runs share a log, who comes first is a matter of time,
    and an answer can differ as far as the model's answers depend on the batch.

    It is a `Scorer` or a `LikelihoodScorer` where the wrapped backend is one; in a replay, where the recorded one
    was. Probabilities are kept by prompt and candidates, without a seed, so that twins share them. Failures are
    answers, too: a reply's ``failure``, NaN and `ScoringUnsupported` stay as they are (`CallLog.forget_failures`
    makes the last ones asked again). `BackendUnavailable` is kept for replays; else the same is asked again.

    It asks the model from one thread at a time. For many threads wrap it::

        with closing(CallLog("calls.sqlite")) as log:
            batching = BatchingBackend(LoggedBackend(load_backend("embedded"), log))

    Args:
        backend: The model; None to replay what is in the log.
        log: Where all questions and answers are. It is the caller's to close.
        cache: A log that runs share. Good answers are taken from there before the model is asked, and copied to
            ``log``, which so is whole by itself; what the model answers goes there, too. Models are known by
            their names there: one that was changed under its old name needs a new file.
        name: In a replay: which model's answers, where the log has several.
        adapters: The hashes of adapters, by the names that requests have for them. Those loaded by ``adapted``
            are known, and a replay finds them in the log.
        unit: How many requests are asked and committed at once at most. So many a kill can lose.

    Raises:
        DataError: The log cannot be used; or there is no such model in it to replay. So raises any call when the
            log cannot be written, and a replay when a question is not there.
    """

    score: Callable[[Sequence[Request], Sequence[str]], npt.NDArray[np.float64]]
    """As `Scorer.score`; there only where the model has it."""
    log_likelihood: Callable[[Sequence[Request], Sequence[str]], list[Likelihood]]
    """As `LikelihoodScorer.log_likelihood`; there only where the model has it."""
    adapted: Callable[..., AdaptedBackend]
    """As `LocalBackend.adapted`; there only where the model has it. A replay loads nothing."""

    def __init__(
        self,
        backend: Backend | None,
        log: CallLog,
        *,
        cache: CallLog | None = None,
        name: str | None = None,
        adapters: Mapping[str, str] | None = None,
        unit: int = 1024,
    ) -> None:
        if unit < 1:
            raise ValueError(f"unit must be at least 1, got {unit}")
        if isinstance(backend, BatchingBackend):  # whose usage is that of each thread
            raise TypeError("The log goes inside: BatchingBackend(LoggedBackend(backend, log))")
        if backend is not None and name is not None:
            raise ValueError("name says whom to replay; a backend has its own")
        self._backend = backend
        self._log = log
        self._units = Units(backend, log, cache, unit)
        self._adapters: dict[str, str] = {}
        if backend is None:
            self.name, scores, reads = _recorded(log, name)
            self._adapters |= {known: hashes[0] for known, hashes in log.adapters().items() if len(hashes) == 1}
        else:
            self.name = plain(backend.name)
            scores, reads = isinstance(backend, Scorer), isinstance(backend, LikelihoodScorer)
            for one in (log, cache):
                if one is not None:
                    one.know_model(self.name, scores=scores, reads=reads)
        for adapter, known_as in (adapters or {}).items():
            self._know(adapter, known_as)
        if scores:
            self.score = self._score  # no methods of the class, so that isinstance(it, Scorer) says the truth
        if reads:
            self.log_likelihood = self._log_likelihood
        if backend is None or hasattr(backend, "adapted"):
            self.adapted = self._adapted

    @property
    def usage(self) -> Usage:
        """What was asked through this has cost, each unit once, whenever it was paid.

        So it is the same for a run, for one that was killed and gone on with, and for a replay. What came out of
        the shared cache cost nothing.
        """
        return self._units.usage

    @property
    def paid(self) -> Usage:
        """What the model was asked for through this: what a replay makes up for, and a budget looks at."""
        return self._units.paid

    @property
    def hits(self) -> int:
        """How many requests were answered without asking the model."""
        return self._units.hits

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order. Wholly equal requests are asked once."""

        def ask(places: Sequence[int]) -> list[Given]:
            assert self._backend is not None
            return coding.replies_given(self._backend.generate([requests[i] for i in places]))

        asked = replies_asked(self.name, self._adapters, requests)
        return coding.replies(self._units.answers(asked, requests, ask))

    def _score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        def ask(places: Sequence[int]) -> list[Given]:
            assert isinstance(self._backend, Scorer)
            return coding.scores_given(self._backend.score([requests[i] for i in places], candidates))

        asked = choices_asked(self.name, self._adapters, requests, tuple(candidates))
        return coding.scores(self._units.answers(asked, requests, ask), len(candidates))

    def _log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        if len(texts) != len(requests):
            raise ValueError(f"Each request needs its own text, got {len(requests)} requests and {len(texts)} texts")

        def ask(places: Sequence[int]) -> list[Given]:
            assert isinstance(self._backend, LikelihoodScorer)
            some = [requests[i] for i in places]
            return coding.likelihoods_given(self._backend.log_likelihood(some, [texts[i] for i in places]))

        asked = texts_asked(self.name, self._adapters, requests, texts)
        return coding.likelihoods(self._units.answers(asked, requests, ask))

    def _adapted(self, folder: str | Path, name: str = "") -> AdaptedBackend:
        name = name or Path(folder).name
        if self._backend is not None:
            load: Any = self._backend.adapted  # type: ignore[attr-defined]  # looked for in __init__
            load(folder, name)
            self._know(name, fingerprint(folder))
        return AdaptedBackend(self, name)

    def _know(self, adapter: str, known_as: str) -> None:
        self._adapters[adapter] = known_as
        if self._backend is not None:
            self._log.know_adapter(plain(adapter), known_as)


def replayed(path: str | Path, name: str | None = None) -> LoggedBackend:
    """What was recorded, as a backend without a model, for any number of processes at once.

    Args:
        path: A run directory, or a call log.
        name: Which model's answers, where there are several.

    Raises:
        DataError: There is no such log, or no such model in it.
    """
    file = Path(path) / CALLS if Path(path).is_dir() else path
    return LoggedBackend(None, CallLog(file, writable=False), name=name)


def fingerprint(folder: str | Path) -> str:
    """What a LoRA adapter is known by: the SHA-256 of its weights, and the beginning of that of its settings.

    Raises:
        DataError: The folder lacks one of the two files.
    """
    try:
        weights, settings = (hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in _FILES)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; an adapter's folder has it") from None
    return f"{weights}-{settings[:16]}"


def _recorded(log: CallLog, name: str | None) -> tuple[str, bool, bool]:
    """The model to replay, and what it can do."""
    models = log.models()
    known = ", ".join(models) or "none"
    if name is None and len(models) != 1:
        raise DataError(f"{log.path}: name the model to replay; there are {known}")
    chosen = next(iter(models)) if name is None else name
    if chosen not in models:
        raise DataError(f"{log.path}: nothing was asked of {chosen}; the recorded models are {known}")
    return chosen, *models[chosen]
