"""Whatever a model attends to, a crowd's scores and texts are those of its prompts one by one, without a cache."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from tiny_models import brute_force, model, one_thread, prompt, tokenizer, write_alone

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

SHARING = {
    "llama": {},
    "llama with one key head": {"num_key_value_heads": 1},
    "llama with all key heads": {"num_key_value_heads": 4},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "mistral": {"sliding_window": None},
    "gpt_neox": {},
    "phi": {},
    "opt": {"do_layer_norm_before": True},
    "mixtral": {"num_local_experts": 4},
}
"""Models whose rows attend to one copy of what they share."""
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {f"linear_{what}_heads": 2 for what in ("num_key", "num_value")} | {
    f"linear_{what}_head_dim": 8 for what in ("key", "value")
}
SQUEEZED = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12}
FULL = {"layer_types": ["full_attention"] * 2}
OTHERS = {
    "llama without sdpa": {"attn_implementation": "eager"},
    "mistral with a window": {"sliding_window": 16},
    "qwen2 with one window": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "gemma2 with windows": {"sliding_window": 16},
    "gemma2 with soft caps": FULL,
    "gpt_oss with sinks": {"num_local_experts": 4, "num_experts_per_tok": 2, **FULL},
    "deepseek_v3 with squeezed keys": {**SQUEEZED, "num_key_value_heads": 4},
    "mpt with biases for positions": {},
    "qwen3_next with a recurrence": {**EXPERTS, **LINEAR, "layer_types": ["linear_attention", "full_attention"]},
    "lfm2 with convolutions": {"layer_types": ["conv", "full_attention"]},
}
"""Models whose attention is not, or not only, that of all tokens to all before."""

SHORT = Sampling(max_tokens=6)
TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
HILL = "You live on a hill by the sea. What do you do?"
STATES = ("I am a baker.", "I fish.", "I am a teacher, and I heard it at the market in the morning.", "I am a baker.")
CROWD = [Request(prefix, state, seed, SHORT) for prefix in (TOWN, HILL) for seed, state in enumerate(STATES)]
CROWD += [Request("You live by the sea.", "Say share.", 9, SHORT), Request("", "Say doubt.", 9, SHORT)]
ALL_DIFFERENT = [Request(f"{TOWN[:40]}{n} times", "the " * n, n, SHORT) for n in (1, 12, 5)]
WORDS = ("share", "doubt", "share it", "never in", "never in my life", "never at the sea")


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def built(name):
    kind = name.split()[0]
    return kind, model(kind, **(SHARING | OTHERS)[name])


def test_the_words_begin_alike_and_one_is_the_beginning_of_another():
    ids = [tuple(tokenizer("llama")(word, add_special_tokens=False)["input_ids"]) for word in WORDS]
    *_, shorter, longer, other = ids
    assert longer[: len(shorter)] == shorter
    assert 1 < sum(a == b for a, b in zip(longer, other, strict=False)) < len(shorter)
    assert sorted(map(len, ids))[:3] == [1, 1, 2]


@pytest.mark.parametrize("requests", [CROWD, ALL_DIFFERENT], ids=["several towns", "one town each"])
@pytest.mark.parametrize("name", [*SHARING, *OTHERS])
def test_scores_are_those_of_single_prompts(name, requests):
    kind, own = built(name)
    alone = brute_force(own, kind, requests, WORDS)
    assert len(np.unique(alone.round(3), axis=0)) >= len(requests) - 2
    for batch in (1, 2, 3, 16):
        backend = LocalBackend(own, tokenizer(kind), name=name, batch=batch)
        assert backend._runner._shares is (name in SHARING)
        assert backend.score(requests, WORDS) == pytest.approx(alone, abs=1e-4)
        assert backend.score(requests[::-1], WORDS[::-1])[::-1, ::-1] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("name", [*SHARING, *OTHERS])
def test_texts_are_those_of_single_prompts(name):
    kind, own = built(name)
    requests = [*CROWD, *ALL_DIFFERENT]
    alone = [write_alone(own, kind, request) for request in requests]
    assert len({reply.text for reply in alone}) > len(requests) / 2
    for batch in (1, 2, 3, 16):
        assert LocalBackend(own, tokenizer(kind), name=name, batch=batch).generate(requests) == alone


@pytest.mark.parametrize("name", SHARING)
def test_a_second_question_to_the_same_crowd_is_answered_alike(name):
    kind, own = built(name)
    backend = LocalBackend(own, tokenizer(kind), name=name, batch=16)
    town = [request for request in CROWD if request.prefix == TOWN]
    for again in (town, [replace(request, suffix=f"{request.suffix} Well?") for request in town]):
        assert backend.score(again, WORDS) == pytest.approx(brute_force(own, kind, again, WORDS), abs=1e-4)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_a_window_counts_no_padding_between_a_prefix_and_its_suffix(kind):
    own, long, short = model(kind, sliding_window=72), "the rumour " * 17, "I fish."
    requests = [Request(prefix, f"{n} {suffix}") for prefix, suffix in ((long, short), (short, long)) for n in "12"]
    lengths = [len(tokenizer(kind)(prompt(kind, request))["input_ids"]) for request in requests]
    assert max(lengths) + 16 <= 72 < max(lengths) + 30  # inside the window, but not with the others' padding
    backend = LocalBackend(own, tokenizer(kind), name=kind, batch=16)
    assert backend.score(requests, WORDS) == pytest.approx(brute_force(own, kind, requests, WORDS), abs=1e-4)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_candidates_beside_each_other_do_not_overrun_a_window(kind):
    own, many = model(kind, sliding_window=64), [f"{a} {b} me" for a in "bcdfghk" for b in "xyz"]
    requests = [Request(TOWN[:20], state) for state in STATES]
    backend = LocalBackend(own, tokenizer(kind), name=kind, batch=16)
    assert backend.score(requests, many) == pytest.approx(brute_force(own, kind, requests, many), abs=1e-4)
