"""Whatever tokens a model prefers, a reply that follows a schema's guide fits the schema, and can be ended."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import transformers
from forms_to_fill import FORMS, Bag, Numbers, Order, Strings, Vote
from tiny_models import tokenizer

from mesa_meanfield import Schema
from mesa_meanfield.backends.local.grammar import Grammars
from mesa_meanfield.errors import BackendError

pytestmark = pytest.mark.torch
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)

WORDS = tokenizer("llama")
GRAMMARS = Grammars(WORDS, len(WORDS), {WORDS.eos_token_id})


def guide(form):
    return GRAMMARS.guide(Schema(form).schema).copy()


def drawn(own, seed, free, most=700):
    """A reply of tokens drawn blindly: some freely, then those that bring it to its end."""
    random, ids = np.random.default_rng(seed), []
    while not own.over:
        assert len(ids) < free + most
        token = int(random.choice(np.flatnonzero(own.allowed())))
        ids.append(token if len(ids) < free else own.closed(token))
        own.advance(ids[-1])
    return WORDS.decode(ids), len(ids)


@forms
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1 << 32), st.integers(0, 80))
def test_a_reply_can_be_ended_at_any_token_and_fits(form, seed, free):
    text, length = drawn(guide(form), seed, free)
    assert isinstance(Schema(form).read(text).value, form)
    assert form.model_validate_json(text, strict=True)
    assert length < max(free, 1) + 2 * guide(form).reserve + 64  # as many as the backend has room for


@forms
def test_a_reply_may_be_of_any_length(form):
    ended, free = ([drawn(guide(form), seed, free=n)[1] for seed in range(20)] for n in (0, 200))
    assert sum(free) > sum(ended)
    assert len(set(free)) > 3


@forms
def test_the_reserve_is_about_what_an_end_takes(form):
    lengths = [drawn(guide(form), seed, free=0)[1] for seed in range(20)]
    assert np.quantile(lengths, 0.2) <= guide(form).reserve <= np.quantile(lengths, 0.8) + 4


def test_a_number_that_must_be_above_0_comes_to_an_end():
    assert guide(Numbers).reserve < 60


def test_copies_do_not_follow_each_other():
    first = guide(Vote)
    first.advance(int(np.flatnonzero(first.allowed())[0]))
    second, other = first.copy(), first.copy()
    drawn(second, 1, free=20)
    assert second.over
    assert not first.over
    assert drawn(first, 2, free=20) == drawn(other, 2, free=20)


def test_only_what_the_model_would_have_gone_on_with_is_cut():
    def after(text, drawn, form=Vote):
        own = guide(form)
        for token in WORDS(text)["input_ids"]:
            own.advance(token)
        (token,) = WORDS(drawn)["input_ids"]
        return WORDS.decode([own.closed(token)]), own.cut

    assert after('{"reason":"I', "s") == ('"', True)
    assert after('{"reason":"I', '"') == ('"', False)
    assert after('{"reason":"I\\', "n") == ('"', True)  # an escaped one, and then the end
    assert after('{"reason":', '"') == ('"', False)
    assert after('{"reason":"","stance":"', "d") == ("d", False)
    assert after('{"reason":"","stance":"deny","certainty":1', "0") == ("}", True)
    assert after('{"reason":"","stance":"deny","certainty":1', ",") == ("}", True)
    assert after('{"reason":"","stance":"deny","certainty":1', "}") == ("}", False)
    assert after('{"numbers":[1', ",", Bag) == ("]", True)
    assert after('{"least":"ab', "c", Strings) == ("c", False)  # still too short


@pytest.mark.parametrize(
    "field",
    [
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "array", "items": {}, "minItems": 3, "maxItems": 1},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "string", "pattern": "^(?=a)b$"},
        {"type": "string", "format": "nonsense"},
        {"not": {"type": "string"}},
        {"$ref": "#/$defs/Nobody"},
        {"$ref": "#"},  # in itself, for ever
        {"type": "letter"},
    ],
    ids=str,
)
def test_a_schema_that_no_reply_can_follow_is_told_on_one_line(field):
    schema = {"type": "object", "properties": {"a": field}, "required": ["a"], "additionalProperties": False}
    with pytest.raises(BackendError, match=r"^The schema cannot be followed: .*; use simpler fields$") as caught:
        GRAMMARS.guide(json.dumps(schema))
    assert len(str(caught.value)) < 300


def test_a_slow_tokenizer_is_told():
    with pytest.raises(BackendError, match=r"^Schema actions need a fast tokenizer"):
        Grammars(transformers.ByT5Tokenizer(), 384, {1}).guide(Schema(Order).schema)


def test_logits_may_be_of_more_tokens_than_there_are():
    wide = Grammars(WORDS, len(WORDS) + 11, {WORDS.eos_token_id}).guide(Schema(Order).schema)
    assert wide.allowed().shape == (len(WORDS) + 11,)
    assert np.array_equal(wide.allowed()[: len(WORDS)], guide(Order).allowed())
    assert not wide.allowed()[len(WORDS) :].any()
