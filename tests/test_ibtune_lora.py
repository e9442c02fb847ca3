"""Adapters are trained, saved and loaded; the base model stays as it is."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

import numpy as np
import peft
import torch
import transformers
from ibtune_worlds import model
from safetensors.torch import load_file, save_file
from tiny_models import KINDS, one_thread, tokenizer

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.config import Lora
from mesa_meanfield.ibtune.lora import put_back, save_adapter, shrink, target_modules, weights_of, with_adapters
from mesa_meanfield.protocols import Request

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
CROWD = [Request("You live by the sea.", f"I am a {who}.") for who in ("baker", "fisher", "teacher")]
WORDS = ("share", "doubt", "never")


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


def shaken(model, name, seed=0, part="", scale=0.3):
    """Give an adapter, or a part of it, weights that change what the model says."""
    generator = torch.Generator().manual_seed(seed)
    weights = {k: w for k, w in weights_of(model, name).items() if part in k}
    put_back(model, name, {k: torch.randn(w.shape, generator=generator) * scale for k, w in weights.items()})
    return model


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("llama", ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        ("gpt_neox", ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]),
        ("gpt2", ["c_attn", "c_fc", "c_proj"]),
        ("mamba", ["dt_proj", "in_proj", "x_proj"]),
    ],
)
def test_all_linear_layers_of_the_blocks_are_found_and_the_head_is_not(kind, expected):
    own = (
        model(kind)
        if kind in KINDS
        else transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(
                kind, vocab_size=64, hidden_size=32, n_embd=32, n_layer=2, n_head=4, num_hidden_layers=2
            )
        )
    )
    targets, others = target_modules(own)
    assert targets == expected
    assert others == []
    adapted = with_adapters(own, ["policy"], Lora(), 0)
    layers = [name for name, module in adapted.named_modules() if hasattr(module, "lora_A")]
    assert len(layers) == 2 * len(expected) if kind != "gpt2" else len(layers) == 8
    assert not any("head" in name or "embed" in name for name in layers)


def test_projections_around_the_blocks_stay_as_they_are():
    config = transformers.AutoConfig.for_model(
        "opt", vocab_size=64, hidden_size=32, word_embed_proj_dim=16, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    adapted = with_adapters(transformers.AutoModelForCausalLM.from_config(config), ["policy"], Lora(), 0)
    assert not any("project_" in name and "lora" in name for name, _ in adapted.named_modules())


def test_a_model_without_linear_blocks_is_told():
    with pytest.raises(BackendError, match="no blocks"):
        with_adapters(torch.nn.Sequential(torch.nn.Embedding(3, 3)), ["policy"], Lora(), 0)


def test_new_adapters_change_nothing_and_follow_their_seed():
    request = torch.tensor([[3, 5, 7]])
    own = model()
    before = own(request).logits
    found = [with_adapters(model(), ["policy", "summarizer"], Lora(), seed) for seed in (0, 0, 1)]
    assert torch.equal(found[0](request).logits, before)
    a, b, c = (weights_of(one, "policy") for one in found)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)
    other = weights_of(found[0], "summarizer")
    assert not all(torch.equal(a[key], other[key]) for key in a)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_answers_in_the_local_backend_and_in_plain_peft(kind, tmp_path):
    trained = with_adapters(model(kind), ["policy", "summarizer"], Lora(rank=2), 0)
    backends = {}
    base = LocalBackend(model(kind), tokenizer(kind), name="tiny")
    for seed, name in enumerate(("policy", "summarizer")):
        shaken(trained, name, seed)
        folder = save_adapter(trained, name, tmp_path / name, card="# Card\n")
        assert {file.name for file in folder.iterdir()} == {
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
        }
        assert (folder / "README.md").read_text() == "# Card\n"
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
        backends[name] = base.adapted(folder)
    plain = base.score(CROWD, WORDS)
    request = torch.tensor([[3, 5, 7]])
    for name, backend in backends.items():
        trained.set_adapter(name)
        with torch.no_grad():
            expected = trained.eval()(request).logits
            single = peft.PeftModel.from_pretrained(model(kind), str(tmp_path / name))
            assert torch.allclose(single.eval()(request).logits, expected, atol=1e-5)
        assert abs(backend.score(CROWD, WORDS) - plain).max() > 1e-2
    assert base.score(CROWD, WORDS) == pytest.approx(plain, abs=1e-5)


def test_saving_again_replaces_the_folder(tmp_path):
    trained = with_adapters(model(), ["policy"], Lora(rank=2), 0)
    save_adapter(trained, "policy", tmp_path / "policy")
    (tmp_path / "policy" / "old").touch()
    shaken(trained, "policy")
    folder = save_adapter(trained, "policy", tmp_path / "policy")
    assert not (folder / "old").exists()
    saved = load_file(folder / "adapter_model.safetensors")
    for key, weight in weights_of(trained, "policy").items():
        assert torch.equal(saved[key].float(), weight)
    assert [one.name for one in tmp_path.iterdir()] == ["policy"]
    again = save_adapter(trained, "policy", tmp_path / "named", base="some/model")
    assert json.loads((again / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/model"


def test_an_adapter_is_saved_in_16_bits_and_the_model_goes_on_with_what_was_saved(tmp_path):
    trained = shaken(with_adapters(model(), ["policy", "summarizer"], Lora(rank=2), 0), "policy")
    before, other = weights_of(trained, "policy"), weights_of(trained, "summarizer")
    file = save_adapter(trained, "policy", tmp_path / "policy") / "adapter_model.safetensors"
    assert (tmp_path / "policy" / "README.md").stat().st_mode == file.stat().st_mode  # readable to others
    saved, after = load_file(file), weights_of(trained, "policy")
    assert saved.keys() == before.keys() == after.keys()
    for key, weight in before.items():
        assert (saved[key].dtype, after[key].dtype) == (torch.float16, torch.float32)
        assert torch.equal(saved[key].float(), after[key])
        assert torch.allclose(after[key], weight, rtol=2**-11, atol=0)  # half a step of fp16
    assert any(not torch.equal(after[key], weight) for key, weight in before.items())
    assert all(torch.equal(weight, other[key]) for key, weight in weights_of(trained, "summarizer").items())
    loaded = LocalBackend(model(), tokenizer("llama"), name="tiny").adapted(tmp_path / "policy")
    trained.set_adapter("policy")
    here = LocalBackend(trained.eval(), tokenizer("llama"), name="tiny")
    assert loaded.score(CROWD, WORDS) == pytest.approx(here.score(CROWD, WORDS), abs=1e-5)


def test_weights_that_16_bits_cannot_hold_stay_as_they_are(tmp_path):
    weights = {"small": torch.tensor([0.1]), "large": torch.tensor([0.1, 1e6])}
    save_file(weights, tmp_path / "adapter_model.safetensors")
    for _ in range(2):  # a second time changes nothing
        shrunk = shrink(tmp_path)
        assert torch.equal(shrunk["large"], weights["large"])
        assert torch.equal(shrunk["small"], weights["small"].half())
        saved = load_file(tmp_path / "adapter_model.safetensors")
        assert all(torch.equal(saved[name], weight) for name, weight in shrunk.items())
    assert [file.name for file in tmp_path.iterdir()] == ["adapter_model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_adapter_is_computed_in_32_bits_on_models_of_any(dtype, tmp_path):
    trained = shaken(with_adapters(model(), ["policy"], Lora(rank=2), 0), "policy")
    save_adapter(trained, "policy", tmp_path / "policy")
    base = LocalBackend(model().to(dtype), tokenizer("llama"), name="tiny")
    adapted = base.adapted(tmp_path / "policy")
    kept = {name: weight for name, weight in base.model.named_parameters() if "lora_" in name}
    assert {weight.dtype for weight in kept.values()} == {torch.float32}
    assert np.isfinite(adapted.score(CROWD, WORDS)).all()


@pytest.mark.model
def test_16_bits_hardly_move_the_labels_of_the_embedded_model(embedded_model, tmp_path):
    def scores(backend):
        return backend.score(CROWD[:2], ("A", "B", "C", "D"))

    base = load_backend("embedded", device="cpu")
    plain, own = scores(base), load_backend("embedded", device="cpu")
    trained = shaken(with_adapters(own.model, ["policy"], Lora(), 0), "policy", part="lora_B", scale=0.05)
    whole = scores(LocalBackend(trained.eval(), base.tokenizer, name="32 bits"))
    halved = scores(base.adapted(save_adapter(trained, "policy", tmp_path / "policy")))
    assert abs(whole - plain).max() > 0.1
    assert abs(halved - whole).max() < 1e-2
