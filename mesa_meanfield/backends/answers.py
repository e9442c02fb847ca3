"""How a chat server's answers are read: texts, log-probabilities of labels, and what was spent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mesa_meanfield.errors import ScoringUnsupported
from mesa_meanfield.protocols import Reply, Request

_Beginning = tuple[bytes, float, list[int]]  # a token, its log-probability, and the candidates that it begins


class Tokens(NamedTuple):
    """What one answer cost, as the server counts it; 0 where it does not say."""

    prompt: int
    written: int
    """Of all samples together."""
    cached: int
    """Tokens of the prompt that were not computed again."""


class LabelScores(NamedTuple):
    """How probable labels are as a reply's first word."""

    logs: list[float]
    """Log-probabilities in nats, one per label."""
    whole: bool
    """Whether each is that of the label's whole word, none that of its beginning."""


def at(body: Any, *path: str | int) -> Any:  # Any: whatever JSON a server sends
    """What stands at a path in JSON; None where the path ends before."""
    for step in path:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def tokens(body: Any) -> Tokens:  # Any: JSON
    """What an answer cost."""
    details = ("prompt_tokens",), ("completion_tokens",), ("prompt_tokens_details", "cached_tokens")
    found = [at(body, "usage", *path) for path in details]
    return Tokens(*(count if isinstance(count, int) and count > 0 else 0 for count in found))


def samples(body: Any) -> int:  # Any: JSON
    """How many replies an answer holds."""
    choices = at(body, "choices")
    return len(choices) if isinstance(choices, list) else 0


def read_reply(body: Any, place: int, request: Request) -> Reply:  # Any: JSON
    """One of an answer's texts; where there is none, the reply's failure says why, in the server's words."""
    choice = at(body, "choices", place)
    text, ended = at(choice, "message", "content"), at(choice, "finish_reason")
    refusal = at(choice, "message", "refusal") or (ended if ended == "content_filter" else None)
    if refusal:
        return Reply(failure=f"the model refused: {refusal}")
    if not isinstance(text, str):
        return Reply(failure=f"no text in the reply {json.dumps(body)}")
    # Cut here as well, for servers that do not take stop strings or leave them standing.
    ends = [end for stop in request.sampling.stop if stop and (end := text.find(stop)) >= 0]
    return Reply(text[: min(ends)]) if ends else Reply(text, finished=ended != "length")


def label_scores(top: Any, candidates: Sequence[str]) -> LabelScores:  # Any: JSON
    """Log P that a reply's first token begins each candidate and no other.

    Of the tokens that begin a candidate only the longest count: a label that is one token is hardly ever
    written in pieces, while "d" and "re" begin much else besides "doubt" and "report". A token of one
    letter never stands for more ("I" is not "ignore"). A blank before the token does not count. Capitals
    do, unless a candidate is found with other ones only: since a written reply is read in the same way.

    Args:
        top: The most probable tokens as a server lists them: ``token``, ``logprob``, perhaps ``bytes``.
        candidates: The labels' words.

    Raises:
        ScoringUnsupported: A token begins several candidates, or a candidate begins with none of the tokens.
    """
    listed = [(_token(entry), at(entry, "logprob")) for entry in (top if isinstance(top, list) else [])]
    known = [(token, log) for token, log in listed if token and isinstance(log, int | float) and not math.isnan(log)]
    words = [candidate.encode() for candidate in candidates]
    begins = [(token, log, [i for i, word in enumerate(words) if word.startswith(token)]) for token, log in known]
    found = [_longest(begins, place, words) for place in range(len(words))]
    if not all(found):
        # All with their own capitals or all with any: the two would not compare fairly.
        folded = [candidate.casefold() for candidate in candidates]
        begins = [(token, log, places or _folded(token, folded)) for token, log, places in begins]
        found = [_longest(begins, place, words) for place in range(len(words))]
    if not all(found):
        missing = ", ".join(candidate for candidate, tokens in zip(candidates, found, strict=True) if not tokens)
        raise ScoringUnsupported(f"none of the {len(listed)} most probable tokens begins {missing}")
    for candidate, tokens in zip(candidates, found, strict=True):
        for token, _, places in tokens:
            said = token.decode(errors="replace")
            if len(places) > 1 and said.casefold() != candidate.casefold():
                raise ScoringUnsupported(f"the token {said!r} begins several of {', '.join(candidates)}")
    logs = [min(0.0, float(np.logaddexp.reduce([log for _, log, _ in tokens]))) for tokens in found]
    whole = all(tokens[0][0] == word for tokens, word in zip(found, words, strict=True))
    return LabelScores(logs, whole)


def _longest(begins: Sequence[_Beginning], place: int, words: Sequence[bytes]) -> list[_Beginning]:
    """Of the tokens that begin one word the longest, blanks around them left aside."""
    own = [one for one in begins if place in one[2] and (len(one[0]) > 1 or len(words[place]) == 1)]
    longest = max((len(token) for token, _, _ in own), default=0)
    return [one for one in own if len(one[0]) == longest]


def _folded(token: bytes, folded: Sequence[str]) -> list[int]:
    text = token.decode(errors="replace").casefold()
    return [i for i, word in enumerate(folded) if word.startswith(text)]


def _token(entry: object) -> bytes:
    """A token's text without leading blanks, as bytes, since a token may end inside a Chinese character."""
    given, text = at(entry, "bytes"), at(entry, "token")
    if isinstance(given, list) and all(isinstance(b, int) and 0 <= b < 256 for b in given):
        return bytes(given).lstrip()
    return str(text or "").encode(errors="replace").lstrip()
