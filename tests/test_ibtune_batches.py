"""Training asks with the tokens of inference, and computes what prompts share once without any change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from ibtune_worlds import CONTEXT, RECIPE, crowd, items, model
from tiny_models import END, KINDS, one_thread, prompt, tokenizer

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.data import MeanField
from mesa_meanfield.drafts import draft
from mesa_meanfield.ibtune.batches import Batcher, Chain
from mesa_meanfield.ibtune.objectives import asked_tokens, losses
from mesa_meanfield.ibtune.packing import Packer, tree_of
from mesa_meanfield.protocols import Request, Turn
from mesa_meanfield.summarizers import LLMSummarizer

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
kinds = pytest.mark.parametrize("kind", KINDS)
TEXTS = replace(RECIPE, texts=True)


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


def tokens(kind, text):
    return tuple(tokenizer(kind)(text, add_special_tokens=False)["input_ids"])


def requests(item):
    turns = [Turn(state) for state, _ in item.taught]
    drafts = draft(turns, item.space, item.prompts, item.field, topic=item.topic, groups={}, instructions="")
    return [Request(one.prompt.prefix, one.prompt.suffix) for one in drafts]


def packer(own, kind="llama", packing=True):
    words = tokenizer(kind)
    return Packer(own, pad=words.pad_token_id, ends=[words.eos_token_id], packing=packing)


# --- The same tokens -------------------------------------------------------------------------------


@kinds
def test_prompts_are_the_tokens_of_inference(kind):
    item = items([crowd()])[0]
    found = Batcher(tokenizer(kind)).policy(item)
    assert len(found) == len(item.taught)
    for question, request, (_, decision) in zip(found, requests(item), item.taught, strict=True):
        written = prompt(kind, request)
        for chain, word in zip(question.chains, item.space.choice.answers, strict=True):
            assert chain.ids == tokens(kind, written + word)
            assert chain.start == len(tokens(kind, written))
        assert question.labels[question.answer] == decision.labels["stance"]


def test_answers_follow_the_order_of_the_options():
    own = crowd(12, "c7")
    plain, permuted = (items([own], replace(RECIPE, permute_labels=on))[0] for on in (False, True))
    order = permuted.space.choice.options
    assert order != plain.space.choice.options
    found = Batcher(tokenizer("llama")).policy(permuted)
    for question, (_, decision) in zip(found, plain.taught, strict=True):
        assert question.answer == order.index(decision.labels["stance"])
        chain = question.chains[question.answer]
        assert tokenizer("llama").decode(chain.ids[chain.start :]) == decision.labels["stance"]


@kinds
def test_texts_are_the_tokens_of_inference_up_to_their_end(kind):
    item = items([crowd()], TEXTS)[0]
    texts = [one for one in Batcher(tokenizer(kind)).policy(item) if one.kind == "text"]
    for question, request, (state, decision) in zip(texts, requests(item), item.taught, strict=True):
        suffix = item.prompts.policy_suffix(item.space, state.text, chosen=decision.labels["stance"])
        written = prompt(kind, replace(request, suffix=suffix))
        (chain,) = question.chains
        assert chain.ids[: chain.start] == tokens(kind, written)
        assert tokenizer(kind).decode(chain.ids[chain.start :]) == decision.text
        assert chain.over


def test_a_text_longer_than_inference_writes_is_cut_and_has_no_end():
    recorded = crowd(4)
    actions = tuple(replace(a, text="wxyz " * 60) for a in recorded.actions)
    item = items([replace(recorded, actions=actions)], replace(TEXTS, warm_up=(0, 0)))[0]
    (chain,) = next(q for q in Batcher(tokenizer("llama")).policy(item) if q.kind == "text").chains
    assert len(chain.ids) - chain.start == item.space.text.sampling.max_tokens == chain.length
    assert not chain.over


@kinds
def test_the_summarizer_is_asked_as_at_inference(kind):
    item = items([crowd()])[1]
    summarizer = LLMSummarizer(LocalBackend(model(kind), tokenizer(kind), name="tiny"))
    request = summarizer.request(item.previous, item.last, topic=item.topic, actions=(item.space,), seed=5)
    assert Batcher(tokenizer(kind)).summary(item, summarizer, 5) == tokens(kind, prompt(kind, request))


def test_the_prior_knows_topic_and_instructions_only():
    item = items([crowd()])[1]
    alone = tokenizer("llama").decode(Batcher(tokenizer("llama")).alone(item))
    assert item.topic in alone
    for hidden in ("support", "%", "Remark", item.previous.text):
        assert hidden not in alone
    assert Batcher(tokenizer("llama")).alone(items([crowd(key="c2")])[2]) == Batcher(tokenizer("llama")).alone(item)


def test_questions_longer_than_the_context_are_left_out_and_counted():
    item = items([crowd()])[0]
    whole = Batcher(tokenizer("llama")).policy(item)
    longest = max(len(chain.ids) for question in whole for chain in question.chains)
    short = Batcher(tokenizer("llama"), context=longest - 1)
    assert short.policy(item) == [q for q in whole if len(q.chains[0].ids) < longest]
    assert short.skipped == sum(len(q.chains[0].ids) == longest for q in whole) > 0


# --- The same numbers ------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_labels_cost_what_the_backend_says_of_them(kind, temperature):
    item = items([crowd()])[0]
    item = replace(item, space=replace(item.space, temperature=temperature))
    own = model(kind)
    (found,) = losses(packer(own, kind), own, [Batcher(tokenizer(kind)).policy(item)])
    scores = LocalBackend(own, tokenizer(kind), name="tiny").score(requests(item), item.space.choice.answers)
    expected = [
        -np.log(one[decision.labels["stance"]])
        for one, (_, decision) in zip(item.space.distributions(scores), item.taught, strict=True)
    ]
    assert found.nats.tolist() == pytest.approx(expected, abs=1e-4)
    assert float(found.distortion(len(expected)).detach()) == pytest.approx(np.mean(expected), abs=1e-4)


def test_letters_are_scored_as_by_the_backend():
    item = items([crowd()])[0]
    item = replace(item, space=replace(item.space, letters=True))
    own = model()
    (found,) = losses(packer(own), own, [Batcher(tokenizer("llama")).policy(item)])
    scores = LocalBackend(own, tokenizer("llama"), name="tiny").score(requests(item), item.space.choice.answers)
    distributions = item.space.distributions(scores)
    expected = [-np.log(d[one.labels["stance"]]) for d, (_, one) in zip(distributions, item.taught, strict=True)]
    assert found.nats.tolist() == pytest.approx(expected, abs=1e-4)


@kinds
def test_texts_cost_what_the_backend_says_of_them(kind):
    item = items([crowd()], TEXTS)[0]
    own = model(kind)
    questions = [one for one in Batcher(tokenizer(kind)).policy(item) if one.kind == "text"]
    (found,) = losses(packer(own, kind), own, [questions])
    asked = [
        replace(
            request,
            suffix=item.prompts.policy_suffix(item.space, state.text, chosen=decision.labels["stance"]),
        )
        for request, (state, decision) in zip(requests(item), item.taught, strict=True)
    ]
    said = [decision.text for _, decision in item.taught]
    expected = LocalBackend(own, tokenizer(kind), name="tiny").log_likelihood(asked, said)
    assert found.nats.tolist() == pytest.approx([-one.nats for one in expected], abs=1e-3)
    assert [one.chains[0].length for one in questions] == [one.tokens for one in expected]


# --- Packing ---------------------------------------------------------------------------------------

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=8)


@given(sequences)
@settings(max_examples=200)
def test_a_tree_holds_every_sequence_and_every_beginning_once(found):
    tree = tree_of(found)
    assert len(tree.tokens) == len({one[:n] for one in found for n in range(1, len(one) + 1)})
    for one in found:
        path = tree.paths[one]
        assert tuple(tree.tokens[node] for node in path) == one
        assert [tree.depths[node] for node in path] == list(range(len(one)))
        seen = [node for node in range(path[-1] + 1) if path[-1] < tree.ends[node]]
        assert seen == path  # what the last token sees is its own sequence and nothing else


@kinds
@pytest.mark.parametrize("recipe", [RECIPE, TEXTS])
def test_packed_and_unpacked_have_equal_losses_and_gradients(kind, recipe):
    ticks = [Batcher(tokenizer(kind)).policy(item) for item in items([crowd()], recipe)[:2]]
    found = []
    for packing in (True, False):
        own = model(kind)
        own.train()
        one = packer(own, kind, packing)
        assert one.packs == packing
        total = sum(tick.nats.sum() for tick in losses(one, own, ticks))
        total.backward()
        found.append((one, float(total.detach()), {name: weight.grad for name, weight in own.named_parameters()}))
    (tree, loss, slopes), (rows, expected, others) = found
    assert loss == pytest.approx(expected, rel=1e-4)
    scale = max(float(slope.abs().max()) for slope in others.values())
    for name, slope in slopes.items():
        assert float((slope - others[name]).abs().max()) <= 1e-4 * scale, name
    assert rows.asked == tree.asked == sum(asked_tokens(q) for tick in ticks for q in tick)
    assert rows.computed > rows.asked  # a row for each word, whose first tokens none shares
    assert tree.computed < rows.computed / 2


@pytest.mark.parametrize(
    ("kind", "more", "packs"),
    [
        ("gpt2", {}, True),
        ("mistral", {"sliding_window": 8}, False),  # every prompt is longer than the window
        ("mamba", {}, False),
        ("falcon", {"alibi": True, "new_decoder_architecture": False}, False),
        ("opt", {"word_embed_proj_dim": 32, "ffn_dim": 64}, True),
    ],
)
def test_every_architecture_gives_the_same_as_one_row_at_a_time(kind, more, packs):
    base = {"head_dim": 8, "num_key_value_heads": 2} if kind == "mistral" else {}
    words = tokenizer("llama")
    config = transformers.AutoConfig.for_model(
        kind,
        **{
            "vocab_size": len(words),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.3,
        }
        | ({"n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "gpt2" else {})
        | ({"intermediate_size": 64} if kind == "mistral" else {})
        | base
        | more,
    )
    torch.manual_seed(7)
    own = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    questions = Batcher(words).policy(items([crowd(8)])[0])
    one = packer(own)
    (found,) = losses(one, own, [questions])
    expected = []
    for question in questions:
        logs = []
        for chain in question.chains:
            with torch.no_grad():
                logits = own(torch.tensor([chain.ids]), use_cache=False).logits[0, chain.start - 1 : -1]
            logs.append(logits.log_softmax(-1)[range(len(chain.ids) - chain.start), chain.ids[chain.start :]].sum())
        expected.append(-float(torch.stack(logs).log_softmax(-1)[question.answer]))
    assert found.nats.tolist() == pytest.approx(expected, abs=1e-3)
    assert (one.computed < one.asked) == packs


@pytest.mark.parametrize("packing", [True, False])
def test_large_crowds_are_computed_in_several_passes_without_any_change(monkeypatch, packing):
    own = model()
    questions = Batcher(tokenizer("llama")).policy(items([crowd(40)], replace(RECIPE, per_tick=20))[0])
    assert len(questions) == 20
    found = []
    for most in (10**6, 700):
        monkeypatch.setattr("mesa_meanfield.ibtune.packing._MOST", most)
        one = packer(own, packing=packing)
        nats = losses(one, own, [questions])[0].nats.detach()
        found.append((nats, one.computed))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-4)
    assert found[1][1] > found[0][1] or not packing


def test_twins_are_computed_once_and_count_twice():
    own = model()
    item = items([crowd()])[0]
    question = Batcher(tokenizer("llama")).policy(item)[0]
    one = packer(own)
    (found,) = losses(one, own, [[question, question]])
    assert found.nats[0] == found.nats[1]
    assert one.asked == 2 * asked_tokens(question)
    assert one.computed == asked_tokens(question)


def test_the_end_of_a_reply_is_any_token_that_ends_one():
    own, words = model(), tokenizer("llama")
    chain = Chain(tokens("llama", "I fish. share"), 3, over=True)
    ends = [words.eos_token_id, 17]
    found = Packer(own, pad=0, ends=ends).log_probabilities(own, [chain])
    with torch.no_grad():
        logs = own(torch.tensor([chain.ids])).logits[0].log_softmax(-1)
    said = sum(logs[i - 1, chain.ids[i]] for i in range(3, len(chain.ids)))
    assert float(found.detach()) == pytest.approx(float(said + logs[-1, ends].logsumexp(-1)), abs=1e-4)
    assert words.eos_token == END


def test_a_field_given_replaces_the_items_own():
    item = items([crowd()])[1]
    batcher = Batcher(tokenizer("llama"))
    assert batcher.policy(item, item.field) == batcher.policy(item)
    assert batcher.policy(item, MeanField("Another.")) != batcher.policy(item)
    assert batcher.policy(item, MeanField()) == batcher.policy(item.without_field())
