"""Replies that follow a JSON schema by construction: at every step only the tokens that may come."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import numpy.typing as npt

from mesa_meanfield.errors import BackendError
from mesa_meanfield.seeds import noise

_UNKNOWN = ("uniqueItems", "propertyNames")  # to the grammar; who reads the reply checks them
_NAMED = ("properties", "$defs", "patternProperties")  # the keys in these are the modeler's own
_LONGEST = 512  # tokens of the shortest reply to a schema that is still sensible
_WALKS = 9


class Grammars:
    """The schemas that one tokenizer's replies can follow.

    Args:
        tokenizer: A fast tokenizer of transformers.
        vocabulary: How many tokens the model's logits have.
        ends: The tokens that end a reply.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Collection[int]) -> None:  # Any: transformers' own
        self._tokenizer = tokenizer
        self._ends = sorted(ends)
        self._vocabulary = vocabulary
        self.guide = functools.lru_cache(maxsize=64)(self._guide)
        """Schema -> a guide at its beginning, to be copied for every reply."""

    @functools.cached_property
    def _words(self) -> llguidance.LLTokenizer:
        try:
            return llguidance.hf.from_tokenizer(self._tokenizer, eos_token=self._ends)
        except ValueError as error:
            raise BackendError(f"Schema actions need a fast tokenizer with an end-of-text token: {error}") from error

    def _guide(self, schema: str) -> Guide:
        known = json.dumps(_without_unknown(json.loads(schema)))
        grammar = llguidance.LLMatcher.grammar_from_json_schema(known, defaults={"whitespace_flexible": False})
        matcher = llguidance.LLMatcher(self._words, grammar, log_level=0)
        if matcher.is_error():
            raise _refused(matcher)
        marks = {mark: self._words.tokenize_str(mark) for mark in '"}],'}
        closing = {mark: ids[0] for mark, ids in marks.items() if len(ids) == 1}
        guide = Guide(matcher, self._tokenizer, closing, self._vocabulary)
        return guide.measured()


class Guide:
    """What one reply may go on with.

    When its tokens run out, a reply is brought to an end: strings and lists end as soon as the schema
    lets them, optional fields are left out, and what the schema still needs is the model's own choice.
    """

    def __init__(
        self, matcher: llguidance.LLMatcher, tokenizer: Any, closing: dict[str, int], vocabulary: int
    ) -> None:
        self.reserve = 0
        """About how many tokens an end takes that begins with nothing."""
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._closing = closing
        self._vocabulary = vocabulary
        self.cut = False
        """Whether the reply was brought to its end by leaving something out."""
        self._written: list[int] = []

    def copy(self) -> Guide:
        """The same state once more."""
        again = Guide(self._matcher.deep_copy(), self._tokenizer, self._closing, self._vocabulary)
        again.reserve, again._written = self.reserve, list(self._written)
        return again

    def measured(self) -> Guide:
        """Itself, with its reserve known: how long a reply is that ends as soon as it can.

        Its tokens are drawn blindly, several times: always the same one may never come to an end, as the
        zeros of a number above 0.
        """
        lengths = []
        for seed in range(_WALKS):
            short, draws = self.copy(), noise(seed, _LONGEST)
            while not short.over and len(short._written) < _LONGEST:
                tokens = np.flatnonzero(short.allowed())
                short.advance(short.closed(int(tokens[int(draws[len(short._written)] * len(tokens))])))
            lengths.append(len(short._written))
        self.reserve = sorted(lengths)[_WALKS // 2] + 4
        return self

    @property
    def over(self) -> bool:
        """Whether the reply is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def advance(self, token: int) -> None:
        """Take the next token."""
        self._written.append(token)
        if not self._matcher.consume_token(token):
            raise _refused(self._matcher)

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, shape (V,)."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        found = np.unpackbits(bits, bitorder="little")[: self._vocabulary]
        allowed = np.zeros(self._vocabulary, dtype=np.bool_)
        allowed[: len(found)] = found
        return allowed

    def closed(self, token: int) -> int:
        """What comes instead of a token to bring the reply to its end: a closing mark, if one may come already."""
        inside = _inside_string(self._tokenizer.decode(self._written))
        for mark in '"' if inside else "}],":
            closing = self._closing.get(mark)
            if closing is not None and self._matcher.validate_tokens([closing]):
                self.cut = self.cut or not self._tokenizer.decode([token]).startswith(mark)
                return closing
        return token


def _refused(matcher: llguidance.LLMatcher) -> BackendError:
    said = " ".join(matcher.get_error().split())
    return BackendError(f"The schema cannot be followed: {said[:200]}; use simpler fields")


def _without_unknown(schema: Any) -> Any:  # Any: JSON
    """The schema without the keywords that no grammar can follow."""
    if isinstance(schema, list):
        return [_without_unknown(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = {}
    for key, value in schema.items():
        if key in _NAMED:
            known[key] = {name: _without_unknown(one) for name, one in value.items()}
        elif key not in _UNKNOWN:
            known[key] = _without_unknown(value)
    return known


def _inside_string(text: str) -> bool:
    """Whether JSON breaks off inside a string."""
    inside, escaped = False, False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = inside
        elif character == '"':
            inside = not inside
    return inside
