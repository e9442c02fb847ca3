"""The local backend writes one text per request, each by its own seed and as if it were alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from tiny_models import CONTEXT, END, KINDS, backend, logits, model, one_thread, prompt, tokenizer

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.protocols import Reply, Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
kinds = pytest.mark.parametrize("kind", KINDS)

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.", "I am a fisher by the sea.")
SHORT = Sampling(max_tokens=12)
CROWD = [Request(TOWN, state, seed, SHORT) for seed, state in enumerate(STATES)]
NEVER = -1e9


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def leaning(kind="llama", batch=16, **toward):
    """A backend whose model says some tokens more often, END among them where it is named ``end``."""
    own, words = model(kind), tokenizer(kind)
    bias = torch.zeros(len(words))
    for word, by in toward.items():
        (token,) = [words.eos_token_id] if word == "end" else words(word, add_special_tokens=False)["input_ids"]
        bias[token] = by
    own.lm_head.bias = torch.nn.Parameter(bias)
    return LocalBackend(own, words, name="leaning", batch=batch)


def prompt_tokens(kind, requests):
    return [len(tokenizer(kind)(prompt(kind, r), add_special_tokens=False)["input_ids"]) for r in requests]


@kinds
def test_a_text_does_not_depend_on_who_else_is_asked(kind):
    alone = [backend(kind).generate([request])[0] for request in CROWD]
    others = [replace(r, prefix="You live by the sea.", seed=r.seed + 50) for r in CROWD]
    assert backend(kind).generate(CROWD) == alone
    assert backend(kind).generate([*others, *CROWD])[len(others) :] == alone
    assert backend(kind).generate(CROWD[::-1]) == alone[::-1]
    for batch in (1, 3, 4):
        assert backend(kind, batch).generate(CROWD) == alone
    assert len({reply.text for reply in alone}) == len(CROWD)


@kinds
def test_equal_requests_get_equal_texts_and_other_seeds_others(kind):
    requests = [replace(CROWD[0], seed=seed) for seed in (*range(8), *range(8))]
    texts = [reply.text for reply in backend(kind).generate(requests)]
    assert texts[:8] == texts[8:]
    assert len(set(texts)) == 8


def test_each_request_keeps_its_own_sampling():
    mixed = [replace(r, sampling=replace(SHORT, max_tokens=n)) for r, n in zip(CROWD, (3, 12, 3, 7), strict=True)]
    assert backend("llama").generate(mixed) == [backend("llama").generate([request])[0] for request in mixed]


# --- Where a text ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 5])
def test_no_more_than_max_tokens_are_written(limit):
    endless = leaning(end=NEVER)
    (reply,) = endless.generate([replace(CROWD[0], sampling=Sampling(max_tokens=limit))])
    (before,) = prompt_tokens("llama", CROWD[:1])
    assert not reply.finished
    assert endless.usage.tokens_asked == before + limit
    assert endless.usage.tokens_computed == before + limit - 1  # nothing comes behind the last one


def test_the_end_token_ends_a_text_and_is_no_part_of_it():
    (reply,) = leaning(end=1e9).generate(CROWD[:1])
    assert reply == Reply("", finished=True)
    replies = leaning(end=6.0).generate(CROWD)
    assert all(reply.finished and END not in reply.text for reply in replies)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_rows_that_end_leave_the_batch_and_disturb_nobody(kind):
    requests = [replace(r, seed=r.seed + n, sampling=Sampling(max_tokens=60)) for n in range(0, 40, 4) for r in CROWD]
    crowded, rows = leaning(kind, end=5.0), []
    crowded.model.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    replies = crowded.generate(requests)
    assert rows[-1] < 4
    assert replies == [leaning(kind, end=5.0).generate([request])[0] for request in requests]
    assert all(reply.finished for reply in replies)
    assert len({len(reply.text) for reply in replies}) > 5
    # Every written token was computed once.
    silent = leaning(kind, end=1e9)
    silent.generate(requests)
    written = crowded.usage.tokens_asked - silent.usage.tokens_asked
    assert crowded.usage.tokens_computed - silent.usage.tokens_computed == written > 0


def test_every_end_token_of_the_generation_config_ends_a_text():
    two_ends = leaning(share=1e9)
    assert not two_ends.generate(CROWD[:1])[0].finished
    own = two_ends.model
    own.generation_config.eos_token_id = [own.config.eos_token_id, *tokenizer("llama")("share")["input_ids"]]
    assert LocalBackend(own, tokenizer("llama"), name="two ends").generate(CROWD[:1]) == [Reply("", finished=True)]


@kinds
def test_a_stop_string_cuts_the_text_before_it(kind):
    (whole,) = backend(kind).generate(CROWD[:1])
    letters = [letter for letter in whole.text[2:] if letter.isascii() and letter.isalpha()]
    early, late = letters[0], letters[-1]
    for stop in ((early,), (late, early), ("never said", early)):
        (cut,) = backend(kind).generate([replace(CROWD[0], sampling=replace(SHORT, stop=stop))])
        assert cut == Reply(whole.text[: min(whole.text.find(s) for s in stop if s in whole.text)], finished=True)
    (same,) = backend(kind).generate([replace(CROWD[0], sampling=replace(SHORT, stop=("never said",)))])
    assert same == whole


def test_a_stop_string_may_span_several_tokens():
    words = leaning(share=1e9)
    (reply,) = words.generate([replace(CROWD[0], sampling=replace(SHORT, stop=("esha",)))])
    assert reply == Reply("shar", finished=True)


# --- Which tokens are written ----------------------------------------------------------------------


@kinds
def test_top_k_of_one_is_greedy_whatever_the_seed(kind):
    greedy = Sampling(max_tokens=8, top_k=1)
    own = backend(kind)
    ids = own.tokenizer(prompt(kind, CROWD[1]), add_special_tokens=False)["input_ids"]
    start = len(ids)
    for _ in range(8):
        ids.append(int(logits(own.model, ids)[-1].argmax()))
    assert own.tokenizer.eos_token_id not in ids[start:]
    replies = own.generate([replace(CROWD[1], seed=seed, sampling=greedy) for seed in range(3)])
    assert {reply.text for reply in replies} == {
        own.tokenizer.decode(ids[start:]).rstrip("\N{REPLACEMENT CHARACTER}")
    }


def test_a_repetition_penalty_lets_no_word_come_twice():
    words = leaning(share=30.0, doubt=20.0)
    plain, penalised = (
        words.generate([replace(CROWD[0], sampling=Sampling(max_tokens=6, repetition_penalty=penalty))])[0].text
        for penalty in (1.0, 1e9)
    )
    assert plain == "share" * 6
    assert penalised.startswith("sharedoubt")
    assert (penalised.count("share"), penalised.count("doubt")) == (1, 1)


# --- What does not fit -----------------------------------------------------------------------------


@kinds
def test_a_prompt_beyond_the_context_fails_alone_and_says_why(kind):
    *others, reply = backend(kind).generate([*CROWD, Request(TOWN, "the rumour " * CONTEXT, 0, SHORT)])
    assert others == backend(kind).generate(CROWD)
    assert reply.text == ""
    assert str(CONTEXT) in reply.failure
    assert "\n" not in reply.failure


def test_prompt_and_reply_must_fit_together():
    room = CONTEXT - prompt_tokens("llama", CROWD[:1])[0]
    fits, too_long = leaning(end=NEVER).generate(
        [replace(CROWD[0], sampling=Sampling(max_tokens=n)) for n in (room, room + 1)]
    )
    assert fits.failure is None
    assert not fits.finished
    assert too_long.failure is not None


def test_a_text_that_ran_out_of_tokens_does_not_end_in_half_a_character():
    requests = [replace(CROWD[0], seed=seed, sampling=Sampling(max_tokens=6, temperature=5.0)) for seed in range(60)]
    replies = backend("llama").generate(requests)
    cut = [reply.text for reply in replies if not reply.finished]
    assert any("\N{REPLACEMENT CHARACTER}" in text for text in cut)  # single bytes of characters do come up
    assert not any(text.endswith("\N{REPLACEMENT CHARACTER}") for text in cut)
