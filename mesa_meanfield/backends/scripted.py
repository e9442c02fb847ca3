"""A backend without a model, deterministic, for tests and teaching."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.drawn import draw_json
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Reply, Request, Usage
from mesa_meanfield.seeds import derive, unit

_WORDS = [
    "well",
    "so",
    "this",
    "again",
    "maybe",
    "people",
    "here",
    "really",
    "think",
    "not",
    "sure",
    "about",
    "it",
    "now",
    "but",
    "who",
    "knows",
]


class ScriptedBackend:
    """Replies and probabilities from plain functions, or pseudo-random ones from the prompt and its seed.

    Args:
        reply: Request -> the text of the reply, or a whole `Reply`. Without it a choice is drawn by the
            request's seed, and a text is a few words drawn by it; where the request has a JSON schema
            it is an object that fits it.
        probability: Request and candidate -> its probability up to a factor, at least 0. Without it the
            prompt's hash decides, so that equal prompts have equal distributions.
        batch: How many requests make a sub-batch, between which progress is reported.
        name: Its name in records.
    """

    def __init__(
        self,
        reply: Callable[[Request], str | Reply] | None = None,
        probability: Callable[[Request, str], float] | None = None,
        *,
        batch: int = 1024,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.usage = Usage()
        self._reply = reply or _any_reply
        self._probability = probability or _any_probability
        self._batch = batch

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        start = time.perf_counter()
        replies = []
        for index, request in enumerate(requests):
            said = self._reply(request)
            replies.append(said if isinstance(said, Reply) else Reply(said))
            self._report("replies", index + 1, len(requests))
        self._count(requests, sum(_words(reply.text) for reply in replies), start)
        return replies

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates))."""
        start = time.perf_counter()
        scores = np.empty((len(requests), len(candidates)))
        for index, request in enumerate(requests):
            weights = [self._probability(request, candidate) for candidate in candidates]
            total = math.fsum(weights)
            scores[index] = [math.log(w / total) if w > 0 else -math.inf for w in weights]
            self._report("choices", index + 1, len(requests))
        self._count(requests, 0, start)
        return scores

    def _report(self, what: str, done: int, total: int) -> None:
        if done % self._batch == 0 or done == total:
            report(what, done, total)

    def _count(self, requests: Sequence[Request], written: int, start: float) -> None:
        asked = sum(_words(r.prefix) + _words(r.suffix) for r in requests) + written
        self.usage += Usage(len(requests), asked, asked, time.perf_counter() - start)


def _words(text: str) -> int:
    return text.count(" ") + 1 if text else 0


def _any_reply(request: Request) -> str:
    if request.choices:
        return request.choices[int(unit(request.seed, "choice") * len(request.choices))]
    if request.schema:
        return draw_json(request.schema, request.seed, _some_words)
    return _some_words(request.seed, request.sampling.max_tokens)


def _some_words(seed: int, most: int = 8) -> str:
    count = min(most, 4 + int(5 * unit(seed, "length")))
    return " ".join(_WORDS[int(unit(seed, f"word {i}") * len(_WORDS))] for i in range(count))


def _any_probability(request: Request, candidate: str) -> float:
    return 0.05 + unit(derive(request.prefix, request.suffix, candidate), "probability")
