"""A reply to a request with a schema fits the schema, however few its tokens and whoever else is asked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from forms_to_fill import FORMS, Chinese, Order, Plain, Stock, Tree, Vote
from tiny_models import model, one_thread, prompt, tokenizer

from mesa_meanfield import Schema
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)

WILD = Sampling(temperature=3.0, top_k=0, top_p=1.0)
TOWN = "You live in a small town by the sea."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.", "I am a fisher by the sea.")
ENDLESS = 400
VALUE = {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/Pair"}]}
PAIRS = {
    "$defs": {"Pair": {"type": "object", "properties": {"a": VALUE, "b": VALUE}, "required": ["a", "b"]}},
    "$ref": "#/$defs/Pair",
}


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def backend(batch=16, **settings):
    own = model("llama", max_position_embeddings=2048, **settings)
    return LocalBackend(own, tokenizer("llama"), name="tiny", batch=batch)


def crowd(form, max_tokens=50, seeds=range(4), sampling=WILD):
    how, schema = replace(sampling, max_tokens=max_tokens), form and Schema(form).schema
    return [Request(TOWN, STATES[seed % 4], seed, how, schema=schema) for seed in seeds]


def fits(form, reply):
    return (
        reply.failure is None
        and isinstance(Schema(form).read(reply.text).value, form)
        and form.model_validate_json(reply.text, strict=True)
    )


@pytest.mark.parametrize("form", [Vote, Stock], ids=lambda form: form.__name__)
def test_replies_fit_with_any_number_of_tokens(form):
    requests = [one for limit in range(1, 61) for one in crowd(form, limit, seeds=[limit])]
    replies = backend().generate(requests)
    assert all(fits(form, reply) for reply in replies)
    assert len({reply.text for reply in replies}) > 15


@forms
def test_every_kind_of_field_is_filled_in(form):
    for limit in (1, 20, 60):
        assert all(fits(form, reply) for reply in backend().generate(crowd(form, limit, range(6))))


@forms
def test_what_is_finished_is_what_more_tokens_would_have_given(form):
    own, cut = backend(), 0
    whole = own.generate(crowd(form, ENDLESS))
    for limit in (1, 10, 60, 120):
        for reply, longer in zip(own.generate(crowd(form, limit)), whole, strict=True):
            assert reply.finished == (reply.text == longer.text)
            cut += not reply.finished
    assert cut


def test_a_reply_that_ends_by_itself_is_finished():
    (reply,) = backend().generate(crowd(Order, ENDLESS, seeds=[1]))
    assert reply.finished
    assert fits(Order, reply)


# --- Who else is asked -----------------------------------------------------------------------------


def test_a_reply_does_not_depend_on_who_else_is_asked():
    requests = [*crowd(Vote), *crowd(Chinese), *crowd(None), *crowd(Vote, 20), *crowd(None, 20)]
    requests = [requests[n] for n in (3, 9, 16, 0, 12, 8, 1, 17, 5, 10, 2, 4, 19, 6, 7, 11, 13, 14, 15, 18)]
    alone = [backend().generate([request])[0] for request in requests]
    for batch in (1, 3, 16):
        assert backend(batch).generate(requests) == alone
    assert backend(attn_implementation="eager").generate(requests) == alone
    assert len({reply.text for reply in alone}) > 10
    for request, reply in zip(requests, alone, strict=True):
        form = {Schema(one).schema: one for one in (Vote, Chinese)}.get(request.schema)
        assert form is None or fits(form, reply)


def test_the_seed_decides():
    requests = crowd(Plain, seeds=[0, 4, 8, 12] * 2)  # the same state, by four seeds, twice
    texts = [reply.text for reply in backend().generate(requests)]
    assert texts[:4] == texts[4:] == [reply.text for reply in backend().generate(requests[:4])]
    assert len(set(texts)) == 4


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(top_k=1),
        Sampling(temperature=0.01),
        replace(WILD, repetition_penalty=1e6),
        replace(WILD, stop=("a", '"')),
    ],
    ids=str,
)
def test_any_sampling_gives_what_fits(sampling):
    assert all(fits(Vote, reply) for reply in backend().generate(crowd(Vote, sampling=sampling)))


def test_the_model_chooses_among_what_fits():
    own, words = model("llama"), tokenizer("llama")
    own.lm_head.bias = torch.nn.Parameter(torch.zeros(len(words)))
    with torch.no_grad():
        own.lm_head.bias[words("7")["input_ids"]] = 100.0
    (reply,) = LocalBackend(own, words, name="sevens").generate(crowd(Order, seeds=[1]))
    assert json.loads(reply.text)["amount"] == 7


# --- What cannot be ---------------------------------------------------------------------------------


def test_an_impossible_schema_is_one_clear_error():
    wrong = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}},
        "required": ["a"],
    }
    requests = [*crowd(Vote), replace(crowd(Vote)[0], schema=json.dumps(wrong))]
    with pytest.raises(BackendError, match=r"^The schema cannot be followed: .* 'a' is unsatisfiable") as caught:
        backend().generate(requests)
    assert "\n" not in str(caught.value)


def test_a_reply_that_never_ends_fails_alone():
    own, words = backend().model, tokenizer("llama")
    own.lm_head.bias = torch.nn.Parameter(torch.zeros(len(words)))
    with torch.no_grad():
        own.lm_head.bias[words("{")["input_ids"]] = 1e9  # pairs of pairs of pairs
    endless = replace(crowd(None, 10)[0], schema=json.dumps(PAIRS))
    failed, reply = LocalBackend(own, words, name="endless").generate([endless, crowd(Vote)[1]])
    assert failed.failure.startswith('The reply did not come to the end of its schema: \'{"a":{')
    assert len(failed.failure) < 200
    assert fits(Vote, reply)


def test_a_schema_inside_itself_is_followed():
    replies = backend().generate([replace(request, schema=json.dumps(PAIRS)) for request in crowd(None, 60)])
    assert all(set(json.loads(reply.text)) == {"a", "b"} for reply in replies)
    assert all(fits(Tree, reply) for reply in backend().generate(crowd(Tree, 60)))


def test_prompt_and_whole_reply_must_fit_into_the_context():
    own = LocalBackend(model("llama", max_position_embeddings=160), tokenizer("llama"), name="short")
    replies = own.generate([*crowd(Order, 10), *crowd(Order, 150)])
    assert all(fits(Order, reply) for reply in replies[:4])
    assert all("the model takes 160 with the reply" in reply.failure for reply in replies[4:])


def test_every_token_of_a_reply_is_counted_once():
    own = backend()
    requests = crowd(Order)
    replies = own.generate(requests)
    read = sum(len(tokenizer("llama")(prompt("llama", request))["input_ids"]) for request in requests)
    assert own.usage.tokens_asked - read == own._decoder.written
    assert own.phases["decode"].tokens == own._decoder.written - len(replies)
    assert own._decoder.written >= sum(len(tokenizer("llama")(reply.text)["input_ids"]) for reply in replies)
