"""Adapters on the last blocks only: nothing is computed backwards below them."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch")

import torch
import transformers
from ibtune_worlds import model
from tiny_models import KINDS, one_thread, tokenizer

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.config import Lora
from mesa_meanfield.ibtune.lora import (
    blocks_of,
    compute_again_instead_of_keeping,
    put_back,
    save_adapter,
    weights_of,
    with_adapters,
)
from mesa_meanfield.protocols import Request

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
BLOCKS = 3
LAST = Lora(rank=2, layers=1)
IDS = torch.tensor([[3, 5, 7]])


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


def fresh(kind):
    """A model of three blocks."""
    if kind in KINDS:
        return model(kind, num_hidden_layers=BLOCKS)
    settings = {"vocab_size": 400, "n_embd": 32, "n_layer": BLOCKS, "n_head": 4, "hidden_size": 32}
    settings |= {"num_hidden_layers": BLOCKS, "num_local_experts": 2, "intermediate_size": 32}
    return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **settings))


ATTENTIVE = (*KINDS, "gpt2", "mixtral")


@pytest.mark.parametrize(
    ("kind", "checkpointing"),
    [*((kind, False) for kind in (*ATTENTIVE, "mamba")), *((kind, True) for kind in ATTENTIVE)],
)
def test_only_the_last_blocks_are_adapted_and_learn(kind, checkpointing):
    own = fresh(kind)
    adapted = with_adapters(own, ["policy", "summarizer"], LAST, 0).train()
    layers = [name for name, module in adapted.named_modules() if hasattr(module, "lora_A")]
    assert layers
    assert {re.search(r"\.(\d+)\.", name)[1] for name in layers} == {str(BLOCKS - 1)}
    if checkpointing:
        compute_again_instead_of_keeping(own)
    (blocks,) = (found for _, found in blocks_of(own))
    reached = {}
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda _, x, number=number: reached.update({number: x[0].requires_grad}))
    adapted.set_adapter("policy")
    adapted(IDS, use_cache=False).logits.logsumexp(-1).sum().backward()
    # What the last block is given needs no gradient, so that backward ends there.
    assert reached == dict.fromkeys(range(BLOCKS), False)
    moved = {name for name, weight in adapted.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved
    assert all(f".{BLOCKS - 1}." in name and "lora_B.policy" in name for name in moved)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_such_an_adapter_is_saved_and_loaded_as_any_other(kind, tmp_path):
    trained = with_adapters(fresh(kind), ["policy"], LAST, 0)
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(w.shape, generator=generator) * 0.3 for k, w in weights_of(trained, "policy").items()}
    put_back(trained, "policy", weights)
    folder = save_adapter(trained, "policy", tmp_path / "policy")
    asked, words = [Request("You live by the sea.", "I am a baker.")], ["share", "doubt"]
    now = LocalBackend(trained.eval(), tokenizer(kind), name="now").score(asked, words)
    base = LocalBackend(fresh(kind), tokenizer(kind), name="tiny")
    plain = base.score(asked, words)
    assert base.adapted(folder).score(asked, words) == pytest.approx(now, abs=1e-3)
    assert abs(now - plain).max() > 1e-2


def test_all_blocks_are_adapted_by_default_and_no_more_than_there_are():
    every = with_adapters(fresh("llama"), ["policy"], Lora(rank=2), 0)
    three = with_adapters(fresh("llama"), ["policy"], Lora(rank=2, layers=BLOCKS), 0)
    assert weights_of(every, "policy").keys() == weights_of(three, "policy").keys()
    with pytest.raises(BackendError, match="has 3 blocks; there are no last 4"):
        with_adapters(fresh("llama"), ["policy"], Lora(layers=4), 0)
