"""Attending to one copy of what rows share is attending to it: same numbers, and nobody else notices."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from tiny_models import backend, model, one_thread, tokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mesa_meanfield.backends.local import shared
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.backends.local.rows import Runner
from mesa_meanfield.backends.local.shared import NAME, SharedCache, SharedLayer, attending
from mesa_meanfield.backends.local.trie import trie
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.", "I am a fisher by the sea.")
CROWD = [Request(TOWN, state, seed, Sampling(max_tokens=12)) for seed, state in enumerate(STATES)]
WORDS = ("share", "share it", "never in my life")
ROWS, SIZE, PREFIX = 5, 8, 7


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def case(heads, groups, length, own, dtype=torch.float32):
    """Random queries, keys and values, with a mask that hides some own keys: one row's all."""
    random = torch.Generator().manual_seed(heads * 100 + length)

    def numbers(rows, count, tokens):
        return torch.randn(rows, count, tokens, SIZE, generator=random).to(dtype)

    seen = torch.rand(ROWS, 1, length, own, generator=random) < 0.7
    seen[1] = False
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    beginning = numbers(1, groups, PREFIX), numbers(1, groups, PREFIX)
    return numbers(ROWS, heads, length), numbers(ROWS, groups, own), numbers(ROWS, groups, own), mask, beginning


def attended(query, key, value, mask, beginning, scaling=None, **others):
    layer = SimpleNamespace(layer_idx=0, num_key_value_groups=query.shape[1] // key.shape[1], training=False)
    with attending(SharedCache(layers=[SharedLayer(beginning)])):
        return ALL_ATTENTION_FUNCTIONS[NAME](layer, query, key, value, mask, scaling=scaling, **others)[0]


def plain(query, key, value, mask, beginning, scaling=SIZE**-0.5):
    """The same with a copy of the beginning for every row and every head, in double precision."""
    heads = query.shape[1] // key.shape[1]
    whole = [
        torch.cat([one.expand(ROWS, -1, -1, -1), own], dim=2).repeat_interleave(heads, dim=1).double()
        for one, own in zip(beginning, (key, value), strict=True)
    ]
    mask = torch.cat([mask.new_zeros(*mask.shape[:3], PREFIX), mask], dim=-1)
    shares = (query.double() @ whole[0].transpose(-1, -2) * scaling + mask).softmax(-1)
    return (shares @ whole[1]).transpose(1, 2)  # (B, T, H, D)


shapes = pytest.mark.parametrize(("heads", "groups", "length", "own"), [(4, 2, 3, 6), (4, 4, 1, 9), (6, 1, 5, 5)])


@shapes
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_attention_to_a_shared_beginning_is_attention_to_a_copy_of_it(heads, groups, length, own, scaling):
    given = case(heads, groups, length, own)
    expected = plain(*given) if scaling is None else plain(*given, scaling)
    assert attended(*given, scaling).double() == pytest.approx(expected, abs=1e-5)


@shapes
def test_in_half_precision_too(heads, groups, length, own):
    given = case(heads, groups, length, own, torch.bfloat16)
    found = attended(*given)
    assert found.dtype == torch.bfloat16
    assert found.double() == pytest.approx(plain(*given), abs=0.03)


@shapes
@pytest.mark.parametrize("most", [1, 150, 300])
def test_rows_one_part_after_the_other_give_the_same(heads, groups, length, own, most, monkeypatch):
    given = case(heads, groups, length, own)
    whole = attended(*given)
    calls, both = [], shared._both
    monkeypatch.setattr(shared, "_both", lambda query, *others: calls.append(len(query)) or both(query, *others))
    monkeypatch.setattr(shared, "_MOST_SCORES", most)
    assert attended(*given) == pytest.approx(whole, abs=1e-6)
    assert len(calls) > 1
    assert sum(calls) == ROWS
    assert max(calls) <= max(1, most // (heads * length * (PREFIX + own)))


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias", "sliding_window"])
def test_what_it_does_not_know_it_refuses(name):
    with pytest.raises(NotImplementedError, match="a way of its own"):
        attended(*case(4, 2, 3, 6), **{name: 3.0})
    attended(*case(4, 2, 3, 6), **{name: None})


def test_models_in_half_precision_share_too():
    """Rounding alone, which is large behind the first tokens of a vocabulary, is no reason not to."""
    assert Runner(model("llama").to(torch.bfloat16), pad=0)._shares


# --- Rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_looking_ahead_leaves_rows_as_they_are(attention):
    runner = Runner(model("llama", attn_implementation=attention), pad=0)
    assert runner._shares is (attention == "sdpa")
    tree = trie([(5, 6, 7), (5, 8, 9), (3, 3)])
    found = []
    for looks in (0, 1, 3):
        rows = runner.start(4)
        rows.extend([[9, 10, 11, 12]])
        rows = rows.shared().picked([0, 0, 0], 12)
        rows.extend([[13], [14, 15, 16], [17, 18]])
        ahead = [rows.ahead(tree) for _ in range(looks)]
        assert all(torch.equal(ahead[0], one) for one in ahead)
        before = rows.logits
        rows.step(torch.tensor([20, 21, 22]))
        found.append(torch.stack([before, rows.logits]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_can_be_taken_twice_and_in_any_order(attention):
    runner = Runner(model("llama", attn_implementation=attention), pad=0)
    rows = runner.start(4)
    rows.extend([[9, 10, 11, 12]])
    rows = rows.shared().picked([0, 0], 3)
    rows.extend([[13, 14, 15], [16]])
    order = [1, 0, 1, 1]
    taken, first = rows.picked(order, 1), rows.logits
    assert torch.equal(taken.logits, first[order])
    taken.step(torch.tensor([20, 20, 20, 21]))
    again = rows.picked([0, 1], 1)  # they are still there
    again.step(torch.tensor([20, 20]))
    assert taken.logits[:3] == pytest.approx(again.logits[[1, 0, 1]], abs=1e-5)
    assert (taken.logits[3] - taken.logits[2]).abs().max() > 0.1


# --- Others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_outside_a_backend_the_model_is_as_transformers_made_it(kind):
    theirs, ours, words = model(kind), model(kind), tokenizer(kind)
    own = LocalBackend(ours, words, name="ours")
    own.score(CROWD, WORDS)
    assert own._runner._shares
    assert NAME not in ours.config.to_json_string()  # so it can be saved and loaded elsewhere
    words.padding_side = "left"
    asked = words([f"{TOWN} {state}" for state in STATES], return_tensors="pt", padding=True)
    assert not asked["attention_mask"].all()
    with torch.inference_mode():
        for one in (asked, {"input_ids": asked["input_ids"]}):
            assert torch.equal(ours(**one).logits, theirs(**one).logits)
    for settings in ({"do_sample": False}, {"num_beams": 2, "do_sample": False}):
        assert torch.equal(*(m.generate(**asked, **settings, max_new_tokens=6) for m in (ours, theirs)))
    assert own.score(CROWD, WORDS) == pytest.approx(LocalBackend(theirs, words, name="").score(CROWD, WORDS))


def test_every_backend_around_one_model_shares():
    own = model("llama")
    first, second = (LocalBackend(own, tokenizer("llama"), name="llama", batch=batch) for batch in (3, 16))
    assert first._runner._shares
    assert second._runner._shares
    assert first.score(CROWD, WORDS) == pytest.approx(second.score(CROWD, WORDS), abs=1e-4)


def test_two_backends_in_two_threads_do_not_mix():
    kinds, meeting = ("llama", "qwen2"), threading.Barrier(2, timeout=20)
    alone = [backend(kind).score(CROWD, WORDS) for kind in kinds]
    together = [LocalBackend(model(kind), tokenizer(kind), name=kind, batch=16) for kind in kinds]
    found = [None, None]

    def wait(*_):
        meeting.wait()

    def ask(place):
        with one_thread():
            found[place] = together[place].score(CROWD, WORDS)

    for own in together:  # each waits for the other in the midst of its work
        own.model.model.layers[1].register_forward_pre_hook(wait)

    threads = [threading.Thread(target=ask, args=[place]) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
