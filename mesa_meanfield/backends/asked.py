"""What a model was asked, as the call log knows it: a hash of all that the answer depends on.

Prompts are not kept, only hashes of them; what else belongs to a question is kept beside its hash, so that it
can be said in what a question differs from those that were asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from mesa_meanfield.prompts import prompt_hash
from mesa_meanfield.protocols import Request, Sampling

Kind = Literal["reply", "choice", "text"]
"""What was asked for: a reply, the probabilities of candidates, or the likelihood of a given text."""

_SHOWN = 60  # characters of a value in a message
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*@")


class Asked(NamedTuple):
    """One question, without its prompt."""

    key: bytes
    """The hash of all the rest, the prompt included."""
    kind: Kind
    model: str
    adapter: str | None
    """The hash of the adapter's files, or its name where that is all that is known of it."""
    settings: str
    """How a reply is sampled, or which candidates there are, as JSON."""
    prompt: str
    """The prompt's hash, as decisions have it."""
    seed: int | None
    """Of a reply; probabilities have none, so that twins share them."""

    def unlike(self, other: Asked) -> list[str]:
        """In what another question differs from this one, a few words for each."""
        if self.kind != other.kind:
            return [f"kind {other.kind} instead of {self.kind}"]
        mine, yours = self._told(), other._told()
        return [f"{name} {yours[name]} instead of {mine[name]}" for name in mine if mine[name] != yours[name]]

    def _told(self) -> dict[str, str]:
        own = {"model": self.model, "adapter": self.adapter, "seed": self.seed, **json.loads(self.settings)}
        return {name: str(value)[:_SHOWN] for name, value in own.items()}


def replies_asked(model: str, adapters: dict[str, str], requests: Iterable[Request]) -> list[Asked]:
    """Requests for replies.

    Args:
        model: The model's name, as `plain` gives it.
        adapters: The names of adapters -> their hashes.
        requests: What is asked.
    """
    return [
        _asked("reply", model, adapters, one, _sampled(one.sampling, one.choices, one.schema), one.seed)
        for one in requests
    ]


def choices_asked(
    model: str, adapters: dict[str, str], requests: Iterable[Request], candidates: tuple[str, ...]
) -> list[Asked]:
    """Requests for the probabilities of candidates: of a request its prompt and adapter alone count."""
    settings = json.dumps({"candidates": candidates})
    return [_asked("choice", model, adapters, one, settings) for one in requests]


def texts_asked(
    model: str, adapters: dict[str, str], requests: Iterable[Request], texts: Iterable[str]
) -> list[Asked]:
    """Requests for the likelihood of given texts: of a request its prompt and adapter alone count."""
    pairs = zip(requests, texts, strict=True)
    return [_asked("text", model, adapters, one, "{}", text=text) for one, text in pairs]


def plain(name: str) -> str:
    """A model's or adapter's name as it may be kept: without the user and password of an address."""
    return _CREDENTIALS.sub("", name).encode(errors="backslashreplace").decode()


def _asked(
    kind: Kind,
    model: str,
    adapters: dict[str, str],
    request: Request,
    settings: str,
    seed: int | None = None,
    text: str | None = None,
) -> Asked:
    adapter = None if request.adapter is None else adapters.get(request.adapter) or plain(request.adapter)
    seed = None if seed is None else int(seed)
    whole = json.dumps([kind, model, adapter, request.prefix, request.suffix, settings, seed, text])
    key = hashlib.blake2b(whole.encode(), digest_size=16).digest()
    return Asked(key, kind, model, adapter, settings, prompt_hash(request.prefix, request.suffix), seed)


@lru_cache(maxsize=256)
def _sampled(sampling: Sampling, choices: tuple[str, ...] | None, schema: str | None) -> str:
    # Numbers are brought to one type each: 1 and 1.0 are the same temperature, but not the same JSON.
    settings = {
        "max_tokens": int(sampling.max_tokens),
        "temperature": float(sampling.temperature),
        "top_k": int(sampling.top_k),
        "top_p": float(sampling.top_p),
        "repetition_penalty": float(sampling.repetition_penalty),
        "stop": list(sampling.stop),
        "choices": choices,
        "schema": schema,
    }
    return json.dumps(settings)
