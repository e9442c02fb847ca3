"""Runs whose policy and summarizer have adapters and a temperature: replayed when model and adapters are gone."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from ibtune_worlds import crowd, model, terse

from mesa_meanfield.appendix import describe
from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.backends.log import fingerprint
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.cli.rerun import first_different_rollout
from mesa_meanfield.store import first_difference

pytestmark = pytest.mark.torch


@pytest.fixture
def world(tmp_path):
    """A folder with data, short prompts, a tiny model, two adapters, and a temperature beside the policy's."""
    pytest.importorskip("torch")
    import peft
    import torch
    from tiny_models import one_thread, tokenizer

    terse(tmp_path / "words")
    write_cascades(tmp_path / "data.jsonl", [crowd(12, "c0", "e0")])
    model().save_pretrained(tmp_path / "model")
    tokenizer("llama").save_pretrained(tmp_path / "model")
    with torch.random.fork_rng(devices=[]):
        for seed, name in enumerate(("policy", "summarizer")):
            torch.manual_seed(seed)
            config = peft.LoraConfig(r=4, target_modules=["k_proj", "v_proj"], init_lora_weights=False)
            peft.get_peft_model(model(), config).save_pretrained(tmp_path / name)
    fitted = {"dimension": "stance", "labels": ["support", "deny", "query", "comment"], "temperature": 2.0}
    fitted |= {"nll_before": 2.0, "nll_after": 1.4, "decisions": 9}
    (tmp_path / "policy" / "calibration.json").write_text(json.dumps([fitted]))
    with one_thread():
        yield tmp_path


def given(world, out):
    parts = ["--data", world / "data.jsonl", "--prompts", world / "words", "--backend", f"hf:{world / 'model'}"]
    parts += ["--adapter", world / "policy", "--summarizer-adapter", world / "summarizer", "--no-texts", "--out", out]
    return [*map(str, parts)]


def forget(world):
    """The model, its adapters and their temperature are gone."""
    for name in ("model", "policy", "summarizer"):
        shutil.rmtree(world / name)


def test_a_run_is_replayed_and_described_without_them(world):
    assert main(["run", *given(world, world / "run")]) == 0
    hashes = {name: fingerprint(world / name) for name in ("policy", "summarizer")}
    weights = hashlib.sha256((world / "model" / "model.safetensors").read_bytes()).hexdigest()
    adapter = hashlib.sha256((world / "policy" / "adapter_model.safetensors").read_bytes()).hexdigest()
    forget(world)
    assert main(["run", "--replay", str(world / "run"), "--out", str(world / "again")]) == 0
    assert first_difference(world / "run", world / "again") is None
    configs = [json.loads((world / name / "config.json").read_text()) for name in ("run", "again")]
    assert configs[0]["adapters"] == configs[1]["adapters"]
    told = describe(world / "run").as_dict()["8. Language models"]
    assert told["weights"]["sha256"] == {"model.safetensors": weights}
    assert told["adapters"]["policy"]["sha256"] == adapter
    assert told["adapters"]["calibration"]["temperature"] == 2.0
    known = {name: of for name, of in told.items() if name.startswith("adapters in the call log")}
    assert list(known.values()) == [{name: [one] for name, one in hashes.items()}]


def test_an_evaluation_is_replayed_without_them(world):
    assert main(["evaluate", *given(world, world / "card"), "--summarizers", "llm", "--min-actions", "5"]) == 0
    hashes = {(fingerprint(world / name),) for name in ("policy", "summarizer")}
    assert set(CallLog(world / "card" / CALLS, writable=False).contents().adapters.values()) == hashes
    forget(world)
    assert main(["evaluate", "--replay", str(world / "card"), "--out", str(world / "again")]) == 0
    assert first_different_rollout(world / "card", world / "again") is None


def test_a_run_is_not_gone_on_with_by_another_adapter(world, capsys):
    assert main(["run", *given(world, world / "run"), "--max-calls", "6"]) == 1
    shutil.copy(world / "summarizer" / "adapter_model.safetensors", world / "policy")
    capsys.readouterr()
    assert main(["run", "--resume", str(world / "run")]) == 2
    assert "its adapters have changed since" in capsys.readouterr().err
    assert main(["run", *given(world, world / "other"), "--adapter", str(world / "words")]) == 2
    assert "adapter_model.safetensors: No such file or directory" in capsys.readouterr().err
