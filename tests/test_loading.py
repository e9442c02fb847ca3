"""A spec string loads the model that it names, or one line says why not and what to do."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import peft
import torch
from safetensors.torch import load_file, save_file
from tiny_models import backend, model, one_thread, tokenizer, write_gguf

from mesa_meanfield.backends.load import is_server, load_backend, split_dtype
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

WORDS = ("share", "doubt it")
CROWD = [Request("You live by the sea.", state, 1, Sampling(max_tokens=8)) for state in ("I am a baker.", "I fish.")]


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model("llama").save_pretrained(folder)
    tokenizer("llama").save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    """A copy of the saved model that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "spoilt"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "stubborn"
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model("llama"), config).save_pretrained(folder, save_embedding_layers=False)
    return folder


def refusal(spec, **options):
    """Why a spec is refused: one line."""
    with pytest.raises(BackendError) as caught:
        load_backend(spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


# --- What loads ------------------------------------------------------------------------------------


def test_a_saved_folder_answers_like_the_model_in_memory(saved):
    loaded = load_backend(f"hf:{saved}", batch=4)
    assert loaded.score(CROWD, WORDS) == pytest.approx(backend("llama", 4).score(CROWD, WORDS), abs=1e-4)
    assert loaded.generate(CROWD) == backend("llama", 4).generate(CROWD)
    assert loaded.name == f"hf:{saved}"
    assert not loaded.model.training


def test_a_relative_folder_needs_no_dot(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert load_backend(f"hf:{saved.name}").generate(CROWD) == backend("llama").generate(CROWD)


def test_a_gguf_file_answers_like_the_model_it_was_written_from(tmp_path):
    loaded = load_backend(str(write_gguf(tmp_path / "tiny.gguf")))
    assert loaded.score(CROWD, WORDS) == pytest.approx(backend("qwen2").score(CROWD, WORDS), abs=1e-5)
    assert loaded.generate(CROWD) == backend("qwen2").generate(CROWD)
    assert loaded.name == "tiny.gguf"


def test_an_adapter_changes_the_scores_and_no_file_of_the_base_model(saved, adapter):
    before = digests(saved)
    plain, adapted = load_backend(f"hf:{saved}"), load_backend(f"hf:{saved}", adapter=adapter)
    assert adapted.name == f"hf:{saved}+stubborn"
    assert (np.abs(adapted.score(CROWD, WORDS) - plain.score(CROWD, WORDS)) > 0.01).all()
    assert plain.score(CROWD, WORDS) == pytest.approx(backend("llama").score(CROWD, WORDS), abs=1e-4)
    with adapted.model.disable_adapter():
        bare = LocalBackend(adapted.model, adapted.tokenizer, name="bare")
        assert bare.score(CROWD, WORDS) == pytest.approx(plain.score(CROWD, WORDS), abs=1e-4)
    assert digests(saved) == before


@pytest.mark.parametrize(("word", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_dtype_behind_the_spec_is_what_is_computed_in_and_part_of_the_name(saved, word, dtype):
    plain, loaded = load_backend(f"hf:{saved}"), load_backend(f"hf:{saved}@{word}")
    assert loaded.model.dtype == dtype
    assert loaded.name == f"hf:{saved}@{word}"
    rough = loaded.score(CROWD, WORDS)
    assert (rough != plain.score(CROWD, WORDS)).all()
    assert rough == pytest.approx(plain.score(CROWD, WORDS), abs=0.5)


def test_the_usual_dtype_may_be_said_and_changes_nothing(saved):
    loaded = load_backend(f"hf:{saved}@fp32")
    assert loaded.model.dtype == torch.float32
    assert loaded.name == f"hf:{saved}"


def test_a_gguf_file_takes_a_dtype_too(tmp_path):
    loaded = load_backend(f"{write_gguf(tmp_path / 'tiny.gguf')}@bf16")
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.name == "tiny.gguf@bf16"


def test_the_word_behind_a_server_is_its_models_name():
    assert is_server("http://localhost:8000/v1#some@bf16")
    assert is_server("user:secret@host")
    assert not any(
        is_server(spec) for spec in ("embedded@bf16", "embedded@int8", "hf:some/model@fp16", "tiny.gguf@fp32")
    )
    assert split_dtype("embedded@int8") == ("embedded@int8", None)
    assert split_dtype("@bf16") == ("@bf16", None)


# --- What is refused -------------------------------------------------------------------------------


def test_pickled_weights_are_refused_unopened(copied, tmp_path):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    assert "safetensors" in refusal(f"hf:{copied}")
    assert not (tmp_path / "opened").exists()


def test_a_pickled_adapter_is_refused_unopened(saved, adapter, tmp_path):
    folder = Path(shutil.copytree(adapter, tmp_path / "pickled"))
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    assert "adapter_model.safetensors is missing" in refusal(f"hf:{saved}", adapter=folder)
    assert not (tmp_path / "opened").exists()


def test_code_that_comes_with_a_model_is_never_run(copied, tmp_path):
    config = (copied / "config.json").read_text()
    auto = '"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}, "model_type": "own", '
    (copied / "config.json").write_text("{" + auto + config.lstrip("{ \n").replace('"model_type": "llama",', ""))
    (copied / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert str(copied) in refusal(f"hf:{copied}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hf:./nowhere", ["./nowhere", "no such folder", "name on the hub"]),
        ("nowhere.gguf", ["nowhere.gguf", "no such GGUF file"]),
        ("notes.gguf", ["notes.gguf", "no GGUF file"]),
        ("gpt-9", ["'gpt-9'", "expected", "hf:", ".gguf", "http://", "scripted"]),
        ("", ["''", "expected"]),
        ("embedded@int8", ["'embedded@int8'", "@bf16"]),
    ],
)
def test_a_spec_that_names_nothing_is_refused_by_name(spec, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.gguf").write_text("These are my notes.")
    assert all(part in refusal(spec) for part in said)


@pytest.mark.parametrize("spec", ["scripted", "http://localhost:1/v1"])
def test_an_adapter_needs_a_local_model(spec, adapter):
    assert "local model" in refusal(spec, adapter=adapter)


def test_an_adapter_that_is_not_there_is_refused_by_name(saved, tmp_path):
    message = refusal(f"hf:{saved}", adapter=tmp_path / "nothing")
    assert str(tmp_path / "nothing") in message
    assert "adapter_config.json" in message


def test_an_adapter_for_another_architecture_is_refused(saved, adapter, tmp_path):
    folder = Path(shutil.copytree(adapter, tmp_path / "other"))
    config = (folder / "adapter_config.json").read_text()
    (folder / "adapter_config.json").write_text(config.replace("q_proj", "query").replace("v_proj", "value"))
    assert str(folder) in refusal(f"hf:{saved}", adapter=folder)


@pytest.mark.parametrize(("spec", "batch"), [("scripted", 0), ("embedded", -1)])
def test_a_batch_holds_at_least_one(spec, batch):
    with pytest.raises(ValueError, match="at least 1"):
        load_backend(spec, batch=batch)


def in_a_process_of_its_own(spec, before="", **environment):
    code = f"""{before}
from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.errors import BackendError
try:
    load_backend({spec!r})
except BackendError as error:
    print(error)"""
    return subprocess.check_output([sys.executable, "-c", code], text=True, env={**os.environ, **environment})


def test_an_unknown_name_on_the_hub_is_refused_by_name(tmp_path):
    said = in_a_process_of_its_own("hf:nobody/does-not-exist", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert said.count("\n") == 1
    assert "hf:nobody/does-not-exist" in said
    assert "connect" in said


@pytest.mark.parametrize("spec", ["embedded", "hf:somebody/something", "model.gguf"])
@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_without_the_local_extra_its_name_is_told(spec, library):
    said = in_a_process_of_its_own(spec, before=f"import sys; sys.modules[{library!r}] = None")
    assert said == f"Backend {spec!r} needs torch and transformers: pip install 'mesa-meanfield[local]'\n"


# --- What is spoilt --------------------------------------------------------------------------------


def test_a_model_without_all_its_weights_is_refused(copied):
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    assert "up_proj" in refusal(f"hf:{copied}")


def test_an_adapter_without_all_its_weights_is_refused(saved, adapter, tmp_path):
    folder = Path(shutil.copytree(adapter, tmp_path / "half"))
    weights = load_file(folder / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, folder / "adapter_model.safetensors")
    assert str(folder) in refusal(f"hf:{saved}", adapter=folder)


@pytest.mark.parametrize("rest", [0, 7, 2000])
def test_a_truncated_download_is_refused(copied, rest):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:rest])
    assert str(copied) in refusal(f"hf:{copied}")


@pytest.mark.parametrize("rest", [4, 24, 500, -1000])
def test_a_truncated_gguf_file_is_refused(tmp_path, rest):
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:rest])
    assert "tiny.gguf" in refusal(str(file))


def test_a_device_that_is_not_there_is_refused(saved):
    assert "abacus" in refusal(f"hf:{saved}", device="abacus")
