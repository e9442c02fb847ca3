"""What a chat server is asked, once for all who ask the same, and what is left away where it refuses."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from mesa_meanfield.protocols import Request

Body = dict[str, Any]  # Any: JSON

REFUSED = (400, 422)
"""What a server says to a body that it does not take."""
LISTED = (1000, 20, 5)
"""How many top tokens servers list at most: llama.cpp any number, most others 20, some 5."""
USUAL = LISTED[1]
"""How many are asked for where the labels are found among them."""
_GUIDES = ("response_format", "structured_outputs", "guided_choice", "regex", "grammar")
_OPTIONAL = frozenset(
    ("top_k", "min_p", "repetition_penalty", "repeat_penalty", "seed", "stop", "n", "logprobs", "top_logprobs")
).union(_GUIDES)


# --- Requests -> questions -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked at once: one request, or several that differ in their seeds alone."""

    requests: tuple[Request, ...]
    askers: tuple[Sequence[int], ...]
    """Of each of them, the places in the batch that get its answer: one, or those of twins."""

    @property
    def size(self) -> int:
        """How many places wait for it."""
        return sum(map(len, self.askers))

    def first(self, count: int) -> Self:
        """The question of the first requests alone."""
        return replace(self, requests=self.requests[:count], askers=self.askers[:count])

    def singly(self, start: int) -> list[Self]:
        """From a place on, each request as a question of its own."""
        rest = zip(self.requests[start:], self.askers[start:], strict=True)
        return [replace(self, requests=(request,), askers=(askers,)) for request, askers in rest]


def text_questions(requests: Iterable[Request], samples: int) -> list[Question]:
    """Wholly equal requests are asked once, and up to so many that differ in their seeds alone together."""
    twins: dict[Request, list[int]] = defaultdict(list)
    for place, request in enumerate(requests):
        twins[request].append(place)
    alike: dict[object, list[Request]] = defaultdict(list)
    for request in twins:
        alike[request if samples == 1 else replace(request, seed=0)].append(request)
    chunks = [group[at : at + samples] for group in alike.values() for at in range(0, len(group), samples)]
    return _by_prefix([Question(tuple(chunk), tuple(twins[one] for one in chunk)) for chunk in chunks])


def score_questions(requests: Sequence[Request]) -> list[Question]:
    """A score depends on its prompt alone, so each prompt is asked once."""
    twins: dict[tuple[str | None, str, str], list[int]] = defaultdict(list)
    for place, request in enumerate(requests):
        twins[request.adapter, request.prefix, request.suffix].append(place)
    return _by_prefix([Question((requests[places[0]],), (places,)) for places in twins.values()])


def _by_prefix(questions: list[Question]) -> list[Question]:
    """All of one prefix together, so that the server's cache still holds it; else in order of arrival."""
    arrived: dict[tuple[str | None, str], int] = {}
    order = [arrived.setdefault((q.requests[0].adapter, q.requests[0].prefix), len(arrived)) for q in questions]
    return [question for _, question in sorted(zip(order, questions, strict=True), key=lambda pair: pair[0])]


# --- Questions -> bodies ---------------------------------------------------------------------------


def text_body(question: Question, model: str) -> Body:
    """Ask for texts."""
    request = question.requests[0]
    sampling = request.sampling
    body = _chat(request, model) | {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        # Also said where nothing is cut off, since servers have defaults of their own (llama.cpp: 40 and 0.05).
        "top_k": sampling.top_k or -1,  # "all" is 0 or -1 to vLLM and llama.cpp, only -1 to SGLang
        "min_p": 0.0,
        # Of several, that of the first: where only one text comes, it is the one that it would be alone.
        "seed": request.seed & 0x7FFFFFFF,  # some servers take 32 bits with a sign
    }
    if sampling.repetition_penalty != 1:
        # The second name is llama.cpp's.
        body |= dict.fromkeys(("repetition_penalty", "repeat_penalty"), sampling.repetition_penalty)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if len(question.requests) > 1:
        body["n"] = len(question.requests)
    if request.schema is not None:
        body["response_format"] = _response_format(request.schema)
    elif request.choices is not None:
        body |= _guides(request.choices)
    return body


def score_body(question: Question, model: str, listed: int) -> Body:
    """Ask for the probabilities of the first token."""
    # Everything at 1: the model's own distribution, whatever the server's defaults are.
    asked = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": listed}
    return _chat(question.requests[0], model) | asked


def _chat(request: Request, model: str) -> Body:
    system = [{"role": "system", "content": request.prefix}] if request.prefix else []
    messages = [*system, {"role": "user", "content": request.suffix}]
    return {"model": request.adapter or model, "messages": messages}  # vLLM serves adapters as models


@lru_cache(maxsize=64)
def _response_format(schema: str) -> Body:
    whole = json.loads(schema)
    shape = {"name": "reply", "schema": whole, "strict": _is_closed(whole)}
    return {"type": "json_schema", "json_schema": shape}


def _is_closed(part: object) -> bool:
    """Whether every object in a schema has all its properties and no others: else OpenAI refuses to be strict."""
    if isinstance(part, list):
        return all(map(_is_closed, part))
    if not isinstance(part, dict):
        return True
    if part.get("type") == "object" and not (
        part.get("additionalProperties") is False and set(part.get("properties", ())) == set(part.get("required", ()))
    ):
        return False
    return all(map(_is_closed, part.values()))


@lru_cache(maxsize=64)
def _guides(choices: tuple[str, ...]) -> Body:
    """One of the choices and nothing else: the same said to several servers, each of which ignores the others'."""
    escaped = [re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", choice) for choice in choices]
    return {
        "structured_outputs": {"choice": list(choices)},  # vLLM
        "guided_choice": list(choices),  # vLLM before 0.12
        "regex": f"({'|'.join(escaped)})",  # SGLang
        "grammar": "root ::= "
        + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices),  # llama.cpp
    }


# --- Refusals --------------------------------------------------------------------------------------


def lighter(sent: Body, said: str) -> Body | None:
    """The body without what a refusal is about, or None where it is about nothing that may be left away.

    Args:
        sent: What was refused.
        said: The server's words.
    """
    named = {key for key in _OPTIONAL & sent.keys() if re.search(rf"\b{key}\b", said)}
    if not named:
        # Too many samples or tokens, a schema that cannot be compiled: servers have words of their own for these.
        named = sent.keys() & {"n"} or sent.keys() & set(_GUIDES)
    if sent.get("top_logprobs", 0) > USUAL or (named and "top_logprobs" in sent):
        fewer = [count for count in LISTED if count < sent["top_logprobs"]]
        return sent | {"top_logprobs": fewer[0]} if fewer else None
    return {key: value for key, value in sent.items() if key not in named} if named else None
