"""A local model behind a call log: what is gone on with is the same bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import peft
import tiny_models
import torch
from logged import CANDIDATES, logged

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

CROWD = [
    Request("A rumour says that the bridge will be closed.", f"I am {'very ' * (i % 4)}old: {i}.", i, Sampling(8))
    for i in range(10)
]


@pytest.fixture(scope="module")
def _single():
    with tiny_models.one_thread():
        yield


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters") / "policy"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        peft.get_peft_model(tiny_models.model("llama"), config).save_pretrained(folder)
    return folder


def fresh():
    """A model of its own, as a new process has one."""
    return LocalBackend(tiny_models.model("llama"), tiny_models.tokenizer("llama"), name="tiny", batch=4)


def work(backend, adapter):
    """Two ticks: choices and texts by the policy's adapter, a summary and likelihoods by the bare model."""
    policy, said = backend.adapted(adapter), []
    for tick in range(2):
        crowd = [replace(one, suffix=f"{one.suffix} Day {tick}.") for one in CROWD]
        said.append(policy.score(crowd, CANDIDATES).tobytes())
        said += [reply.text for reply in policy.generate(crowd)]
        said += [reply.text for reply in backend.generate(crowd[:1])]
        said += [(one.nats.hex(), one.tokens) for one in backend.log_likelihood(crowd[:4], ["Oh."] * 4)]
    return said


@pytest.mark.parametrize("reports", [2, 7, 16])
def test_what_a_stopped_run_lacks_is_asked_as_if_it_had_not_been_stopped(tmp_path, adapter, reports):
    whole = work(logged(tmp_path / "whole", fresh(), unit=6), adapter)
    heard = iter(range(1000))

    def stop(*_):
        if next(heard) == reports:
            raise Cancelled("Enough.")

    with watching(stop), pytest.raises(Cancelled):
        work(logged(tmp_path / "log", fresh(), unit=6), adapter)
    resumed = logged(tmp_path / "log", fresh(), unit=6)
    assert work(resumed, adapter) == whole
    assert 0 < resumed.paid.calls < resumed.usage.calls
    replayed = logged(tmp_path / "log")
    assert work(replayed, adapter) == whole
    assert (replayed.usage, replayed.paid.calls) == (resumed.usage, 0)


def test_an_adapter_is_told_by_the_hash_of_its_weights(tmp_path, adapter):
    backend = logged(tmp_path / "log", fresh())
    assert backend.adapted(adapter).generate(CROWD) != backend.generate(CROWD)
    (known_as,) = backend._log.contents().adapters["policy"]
    weights = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert known_as.startswith(f"{weights}-")
