"""A given text is as probable as its tokens one by one, each behind all before it, and then the reply's end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import peft
import torch
from test_embedded import CHINESE, STORY, or_skip
from test_local_architectures import OTHERS, SHARING, built
from test_local_memory import ERRORS, narrow
from tiny_models import (
    CONTEXT,
    END,
    HEADER,
    KINDS,
    START,
    log_probability,
    logits,
    model,
    one_thread,
    prompt,
    tokenizer,
)
from tiny_models import backend as tiny

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.local import embedded, likelihood
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError, Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Likelihood, LikelihoodScorer, Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
kinds = pytest.mark.parametrize("kind", KINDS)

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
HILL = "You live on a hill."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.", "I am a baker.")
CROWD = [Request(TOWN, state, seed) for seed, state in enumerate(STATES)]
CROWD += [Request(HILL, state) for state in STATES[:2]] + [Request("", "Say doubt.")]
TEXTS = (
    "share",
    "I heard it at the market in the morning, and I doubt it.",
    "",
    "No!",
    "绝对不行",
    "the sea " * 9,
    "a",
)
TOO_LONG = Request(TOWN, "the rumour " * CONTEXT)


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


@pytest.fixture(params=["at once", "one token at a time", "until the first ends"])
def _slices(request, monkeypatch):
    """However the texts are cut."""
    if request.param == "one token at a time":
        monkeypatch.setattr(likelihood, "_MOST_LOGITS", 1)
    if request.param == "until the first ends":
        monkeypatch.setattr(likelihood, "_WORTH_A_RUN", {"cpu": 1})


def ids(kind, text):
    return tokenizer(kind)(text, add_special_tokens=False)["input_ids"]


def brute_force(own, kind, requests, texts):
    """Every prompt with its text alone, and the end behind it."""
    words, pairs = tokenizer(kind), zip(requests, texts, strict=True)
    return [
        Likelihood(log_probability(own, words, prompt(kind, r), text + END), len(ids(kind, text + END)))
        for r, text in pairs
    ]


def same(found, expected):
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.nats for one in found] == pytest.approx([one.nats for one in expected], abs=1e-4)


def tokens_of(requests, texts):
    """As many as there are where nothing is shared."""
    return sum(len(ids("llama", prompt("llama", r) + text)) for r, text in zip(requests, texts, strict=True))


# --- What it says ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize("name", [*SHARING, *OTHERS])
def test_likelihoods_are_those_of_single_prompts_without_a_cache(name):
    kind, own = built(name)
    alone = brute_force(own, kind, CROWD, TEXTS)
    assert len({round(one.nats, 2) for one in alone}) == len(CROWD)
    for batch in (1, 2, 3, 16):
        backend = LocalBackend(own, tokenizer(kind), name=name, batch=batch)
        same(backend.log_likelihood(CROWD, TEXTS), alone)
        same(backend.log_likelihood(CROWD[::-1], TEXTS[::-1])[::-1], alone)


@settings(deadline=None, max_examples=40)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(CROWD), st.text("abc sea.不", max_size=30) | st.sampled_from(TEXTS)), min_size=1
    ),
    batch=st.integers(1, 9),
    most=st.sampled_from([1, 3_000, 1 << 26]),
    worth=st.integers(1, 200),
)
def test_who_else_is_asked_and_how_it_is_cut_changes_nothing(asked, batch, most, worth):
    requests, texts = zip(*asked, strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "_MOST_LOGITS", most)
        patch.setattr(likelihood, "_WORTH_A_RUN", {"cpu": worth})
        found = tiny("llama", batch).log_likelihood(requests, texts)
    same(found, brute_force(tiny("llama").model, "llama", requests, texts))


def test_a_text_is_read_as_the_model_writes_it_whatever_the_sampling_says():
    (written,) = tiny("llama").generate([replace(CROWD[0], sampling=Sampling(max_tokens=9, top_k=1))])
    (plain,) = tiny("llama").log_likelihood(CROWD[:1], [written.text])
    cold = replace(CROWD[0], seed=8, sampling=Sampling(max_tokens=1, temperature=0.01, top_k=1), choices=("a", "b"))
    assert tiny("llama").log_likelihood([cold], [written.text]) == [plain]
    assert plain.nats < 0


@kinds
def test_one_token_with_its_end_and_the_end_alone_by_hand(kind):
    own, before = tiny(kind).model, ids(kind, prompt(kind, CROWD[0]))
    (share,), end = ids(kind, "share"), tokenizer(kind).eos_token_id
    first, second = logits(own, [*before, share])[[len(before) - 1, len(before)]].log_softmax(-1)
    found = tiny(kind).log_likelihood([CROWD[0]] * 2, ["share", ""])
    same(found, [Likelihood(float(first[share] + second[end]), 2), Likelihood(float(first[end]), 1)])


def test_any_token_that_ends_a_reply_may_end_the_text():
    own, (other,) = model("llama"), ids("llama", "doubt")
    own.generation_config.eos_token_id = [own.config.eos_token_id, other]
    before = ids("llama", prompt("llama", CROWD[0]) + "share")
    told = logits(own, before).log_softmax(-1)
    expected = told[-2, before[-1]] + torch.logaddexp(told[-1, own.config.eos_token_id], told[-1, other])
    found = LocalBackend(own, tokenizer("llama"), name="two ends").log_likelihood(CROWD[:1], ["share"])
    same(found, [Likelihood(float(expected), 2)])


def test_a_model_that_knows_no_end_tells_of_the_text_alone():
    endless = tiny("llama")
    endless._ends = set()
    found = endless.log_likelihood(CROWD, TEXTS)
    words, pairs = tokenizer("llama"), zip(CROWD, TEXTS, strict=True)
    nats = [log_probability(endless.model, words, prompt("llama", r), text) if text else 0.0 for r, text in pairs]
    same(found, [Likelihood(n, len(ids("llama", text))) for n, text in zip(nats, TEXTS, strict=True)])


@kinds
@pytest.mark.parametrize("token", [START, END, HEADER])
def test_special_tokens_inside_a_text_are_words(kind, token):
    attack = f"share{token} it"
    assert tokenizer(kind).convert_tokens_to_ids(token) in ids(kind, attack)
    (found,) = tiny(kind).log_likelihood(CROWD[:1], [attack])
    (as_words,) = tiny(kind).log_likelihood(CROWD[:1], [f"share{token[0]} {token[1:]} it"])
    assert found == as_words
    assert found.tokens > len(ids(kind, attack)) + 1


# --- What does not fit -----------------------------------------------------------------------------


@kinds
def test_a_prompt_beyond_the_context_is_not_known_and_disturbs_nobody(kind):
    own = tiny(kind)
    *others, found, far = own.log_likelihood([*CROWD, TOO_LONG, CROWD[0]], [*TEXTS, "a", "sea " * CONTEXT])
    same(others, tiny(kind).log_likelihood(CROWD, TEXTS))
    assert [(math.isnan(one.nats), one.tokens) for one in (found, far)] == [(True, 0)] * 2


def test_a_text_that_just_fits_is_read():
    room = CONTEXT - len(ids("llama", prompt("llama", CROWD[0])))
    fits, too_long = (text for n in (room, room + 1) for text in [" the" * n])
    assert len(ids("llama", fits)) == room
    found = tiny("llama").log_likelihood([CROWD[0]] * 2, [fits, too_long])
    same(found[:1], brute_force(tiny("llama").model, "llama", CROWD[:1], [fits]))
    assert found[1].tokens == 0


def test_nothing_that_fits_is_no_work():
    own = tiny("llama")
    (found,) = own.log_likelihood([TOO_LONG], ["a"])
    assert math.isnan(found.nats)
    assert (own.usage.calls, own.usage.tokens_asked, own.usage.tokens_computed) == (1, 0, 0)


@kinds
def test_nothing_asked_is_nothing_answered(kind):
    own, heard = tiny(kind), []
    with watching(lambda *said: heard.append(said)):
        assert own.log_likelihood([], []) == []
    assert heard == []
    assert own.usage.calls == 0


@pytest.mark.parametrize("texts", [[], ["a"], ["a"] * 8])
def test_each_request_has_one_text(texts):
    with pytest.raises(ValueError, match=f"got 7 requests and {len(texts)} texts"):
        tiny("llama").log_likelihood(CROWD, texts)


# --- What it costs ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_slices")
def test_prompts_are_computed_once_and_texts_without_their_padding():
    own, scored = tiny("llama"), tiny("llama")
    own.log_likelihood(CROWD, TEXTS)
    scored.score(CROWD, ("share",))
    letters = sum(len(ids("llama", text)) for text in TEXTS)
    assert own.usage.tokens_computed == scored.usage.tokens_computed + letters
    assert own.usage.tokens_asked == scored.usage.tokens_asked + letters
    assert (own.usage.calls, own.usage.seconds > 0) == (len(CROWD), True)


def test_several_texts_behind_one_prompt_compute_it_once_and_equal_ones_are_one():
    own, (share,) = tiny("llama"), ids("llama", "share")
    found = own.log_likelihood([CROWD[0]] * 4, ["share", "No!", "share", ""])
    assert found[0] == found[2]
    before, after = len(ids("llama", prompt("llama", CROWD[0]))), len([share, *ids("llama", "No!")])
    assert own.usage.tokens_computed == before + after
    assert own.usage.tokens_asked == 4 * before + after + 1
    assert own.usage.calls == 4


def test_a_crowd_that_was_asked_for_labels_has_its_prefix_still():
    own, once, town = tiny("llama"), tiny("llama"), CROWD[:3]
    once.log_likelihood(town, TEXTS[:3])
    own.score(town, ("share",))
    asked = own.usage.tokens_computed
    own.log_likelihood(town, TEXTS[:3])
    assert own.usage.tokens_computed - asked < once.usage.tokens_computed - len(ids("llama", TOWN))


@pytest.mark.parametrize("most", [1, 5, 12, 100])
def test_no_more_logits_are_made_at_once_than_allowed_and_one_per_prompt(most, monkeypatch):
    own, made = model("llama"), []
    monkeypatch.setattr(likelihood, "_MOST_LOGITS", most * own.config.vocab_size)
    backend = LocalBackend(own, tokenizer("llama"), name="counted", batch=4)
    own.lm_head.register_forward_hook(lambda _, __, out: made.append(out.shape[0] * out.shape[1]))
    backend.log_likelihood(CROWD, TEXTS)
    assert max(made) <= max(most, 4)
    longest = max(len(ids("llama", text)) for text in TEXTS)
    assert len(made) >= longest * 4 / max(most, 4)


def test_rows_leave_when_their_text_is_over(monkeypatch):
    monkeypatch.setattr(likelihood, "_WORTH_A_RUN", {"cpu": 1})
    own, rows = model("llama"), []
    backend = LocalBackend(own, tokenizer("llama"), name="counted")
    own.register_forward_pre_hook(lambda _, __, given: rows.append(tuple(given["input_ids"].shape)), with_kwargs=True)
    lengths = [3, 5, 5, 9]
    backend.log_likelihood(CROWD[:4], [" the" * n for n in lengths])
    assert rows[-3:] == [(4, 3), (3, 2), (1, 4)]


def test_progress_is_told_between_sub_batches():
    heard = []
    with watching(lambda *said: heard.append(said)):
        tiny("llama", 2).log_likelihood(CROWD[:5], TEXTS[:5])
    assert heard == [("texts", 2, 5), ("texts", 4, 5), ("texts", 5, 5)]


def test_a_cancelled_call_stops_between_sub_batches_and_can_be_made_again():
    stopped = tiny("llama", 2)

    def cancel(what, done, total):
        raise Cancelled("enough")

    with pytest.raises(Cancelled), watching(cancel):
        stopped.log_likelihood(CROWD, TEXTS)
    assert 0 < stopped.usage.tokens_computed < tokens_of(CROWD, TEXTS)
    same(stopped.log_likelihood(CROWD, TEXTS), brute_force(stopped.model, "llama", CROWD, TEXTS))


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_what_memory_cannot_take_is_halved(error, rows):
    backend, tried = narrow(rows, error)
    same(backend.log_likelihood(CROWD, TEXTS), brute_force(tiny("llama").model, "llama", CROWD, TEXTS))
    assert max(tried) > rows
    nothing, _ = narrow(0, error)
    with pytest.raises(BackendError, match=r"^narrow: out of memory with one request"):
        nothing.log_likelihood(CROWD, TEXTS)


# --- Who it is -------------------------------------------------------------------------------------


def test_each_adapter_reads_as_if_it_were_alone(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = peft.LoraConfig(r=4, target_modules=["k_proj", "v_proj"], init_lora_weights=False)
        peft.get_peft_model(model("llama"), config).save_pretrained(tmp_path)
    alone = LocalBackend(
        peft.PeftModel.from_pretrained(model("llama"), tmp_path).eval(), tokenizer("llama"), name="a"
    )
    base = LocalBackend(model("llama"), tokenizer("llama"), name="tiny")
    plain, bold = base.log_likelihood(CROWD, TEXTS), base.adapted(tmp_path, "bold")
    assert isinstance(base, LikelihoodScorer)
    assert isinstance(bold, AdaptedBackend)
    assert isinstance(bold, LikelihoodScorer)
    same(bold.log_likelihood(CROWD, TEXTS), alone.log_likelihood(CROWD, TEXTS))
    assert bold.usage.calls == len(CROWD)
    mixed = base.log_likelihood([*CROWD, *(replace(r, adapter="bold") for r in CROWD)], [*TEXTS, *TEXTS])
    same(mixed, [*plain, *alone.log_likelihood(CROWD, TEXTS)])
    assert (
        np.abs([a.nats - b.nats for a, b in zip(mixed[: len(CROWD)], mixed[len(CROWD) :], strict=True)]).min() > 1e-3
    )


@pytest.mark.model
def test_the_embedded_model_reads_texts_as_by_brute_force():
    or_skip(embedded.fetch)
    own = load_backend("embedded", device="cpu")
    requests = [*STORY, *CHINESE, STORY[0]]
    texts = ("This is a hoax.", "", "I crossed it this morning 😀 & it's fine…", "转发微博", "真的吗？", "lol " * 20)

    def alone(request, text):
        roles = [{"role": "system", "content": request.prefix}, {"role": "user", "content": request.suffix}]
        before = own.tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=True)
        whole = text + own.tokenizer.eos_token
        return Likelihood(
            log_probability(own.model, own.tokenizer, before, whole), len(own.tokenizer(whole)["input_ids"])
        )

    same(own.log_likelihood(requests, texts), [alone(r, text) for r, text in zip(requests, texts, strict=True)])
