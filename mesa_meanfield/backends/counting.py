"""A backend that asks nobody and counts what it would have cost, for dry runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.asked import Asked, choices_asked, replies_asked, texts_asked
from mesa_meanfield.backends.budget import BYTES_PER_TOKEN, TEMPLATE_TOKENS, prompt_tokens, tokens_of
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.protocols import Likelihood, Reply, Request, Usage

HOW = (
    f"prompts at {BYTES_PER_TOKEN} UTF-8 bytes a token and {TEMPLATE_TOKENS} tokens for the chat template, replies "
    "at their full length; made-up replies stand for the model's, none is unreadable, and what would come out of the "
    "run's own call log is counted once"
)
"""How a dry run comes to its figures, for those who read them."""


@final
class CountingBackend:
    """Stands for a model whose questions are to be counted: it makes up what a model would answer.

    Its replies are words without sense, as long as they may be, and its choices are those of a `ScriptedBackend`:
    later prompts, which hold them, are about as long as they would be, and what depends on the crowd's course is
    that of another course. A question that would come out of the run's call log is not counted.

    Args:
        name: The name of the model that it stands for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.usage = Usage()
        """The calls, and the tokens of prompts and replies together."""
        self.reply_tokens = 0
        """How many of the tokens are replies."""
        self._made_up = ScriptedBackend()
        self._known: set[bytes] = set()

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        new = {one.key: i for i, one in enumerate(replies_asked(self.name, {}, requests)) if self._is_new(one)}
        asked = [requests[i] for i in new.values()]
        self._count(asked, sum(one.sampling.max_tokens for one in asked))
        self._known |= new.keys()
        return [
            _lengthened(reply, one) for reply, one in zip(self._made_up.generate(requests), requests, strict=True)
        ]

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates))."""
        asked = choices_asked(self.name, {}, requests, tuple(candidates))
        new = [request for one, request in zip(asked, requests, strict=True) if self._is_new(one)]
        self._count(new, len(new))  # twins in one call are asked as twins
        self._known |= {one.key for one in asked}
        return self._made_up.score(requests, candidates)

    def log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        """The likelihoods of a model that holds each byte for equally likely."""
        asked = texts_asked(self.name, {}, requests, texts)
        new = [(r, text) for one, r, text in zip(asked, requests, texts, strict=True) if self._is_new(one)]
        self._count([request for request, _ in new], 0)
        self.usage += Usage(tokens_asked=sum(tokens_of(text) for _, text in new))
        self._known |= {one.key for one in asked}
        return [Likelihood(-1.0 - tokens_of(text), 1 + tokens_of(text)) for text in texts]

    def adapted(self, folder: str | Path, name: str = "") -> AdaptedBackend:
        """The same with the name of an adapter, which is not looked at."""
        return AdaptedBackend(self, name or Path(folder).name)

    def _is_new(self, one: Asked) -> bool:
        return one.key not in self._known

    def _count(self, requests: Sequence[Request], written: int) -> None:
        self.reply_tokens += written
        self.usage += Usage(len(requests), sum(map(prompt_tokens, requests)) + written)


def _lengthened(reply: Reply, request: Request) -> Reply:
    """A free text as long as it may be; a choice and an object stay as they are."""
    if request.choices or request.schema or not reply.text:
        return reply
    size = request.sampling.max_tokens * BYTES_PER_TOKEN
    return Reply((f"{reply.text} " * (size // len(reply.text) + 1))[:size].rstrip())
