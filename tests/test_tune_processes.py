"""Several processes train together, started as users start them: the loss of one, whole or sharded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from ibtune_worlds import folder_of
from safetensors.torch import load_file
from tiny_models import one_thread

from mesa_meanfield.cli import main
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune import loop
from mesa_meanfield.ibtune.processes import Processes

pytestmark = pytest.mark.torch
TRAINING = ["--stages", "policy,summarizer", "--summarizer", "llm", "--summary-tokens", "3", "--held-out", "e1"]
TRAINING += ["--steps", "3", "--batch", "3", "--rank", "2", "--learning-rate", "0.01", "--dropout", "0.1"]
TRAINING += ["--every", "3", "--roll-outs", "2", "--checkpoint-minutes", "0"]
SHARDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("world"))


def arguments(world, out):
    data = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    return list(map(str, ["tune", *data, *TRAINING, "--out", out]))


def launched(world, out, processes, *options, **environment):
    """`accelerate launch` of the command; with ``--cpu`` it would start one process, whatever it is told."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--dynamo_backend", "no"]
    launcher += ["--mixed_precision", "no", "--num_processes", str(processes), "--main_process_port", "0"]
    launcher += ["--multi_gpu"] if processes > 1 else ["--cpu"]
    done = subprocess.run(
        [*launcher, "-m", "mesa_meanfield.cli", *arguments(world, out), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment},
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def rows(folder):
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    """The run directory of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    launched(world, out, 1)
    return out


def same(one, other):
    """Whether two run directories tell of the same training."""
    first, second = rows(one), rows(other)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"seconds"}:
            assert b[name] == (pytest.approx(a[name], abs=1e-3) if isinstance(a[name], float) else a[name])
    for name in ("policy", "summarizer"):
        weights = [load_file(out / "adapters" / name / "adapter_model.safetensors") for out in (one, other)]
        for key, weight in weights[0].items():
            assert torch.allclose(weight, weights[1][key], atol=2e-3)
    fitted = [json.loads((out / "adapters" / "policy" / "calibration.json").read_text()) for out in (one, other)]
    assert fitted[0][0]["temperature"] == pytest.approx(fitted[1][0]["temperature"], rel=1e-2)


def test_two_processes_give_the_loss_of_one(world, alone, tmp_path):
    done = launched(world, tmp_path / "run", 2)
    same(alone, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["runs_on"]["processes"] == 2
    assert done.stdout.count("6 steps") == 1  # only one tells
    assert done.stderr.count("Tune: 6/6") == 1


def test_a_sharded_base_model_gives_the_loss_of_a_whole_one(world, alone, tmp_path):
    launched(world, tmp_path / "run", 2, **SHARDED)
    same(alone, tmp_path / "run")


def test_what_one_process_began_others_go_on_with_sharded(world, alone, tmp_path, monkeypatch):
    step, calls = loop.Loop._step, []

    def struck(self, *given):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        step(self, *given)

    monkeypatch.setattr(loop.Loop, "_step", struck)
    with one_thread():
        assert main(arguments(world, tmp_path / "run")) == 1
    launched(world, tmp_path / "run", 2, "--resume", **SHARDED)
    same(alone, tmp_path / "run")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: false"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "fsdp_cpu_ram_efficient_loading: false"),
    ],
)
def test_sharding_that_cannot_be_is_refused_in_one_line(monkeypatch, environment, said):
    for name, value in {**SHARDED, **environment}.items():
        monkeypatch.setenv(name, value)
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(accelerator.state, "num_processes", 2, raising=False)
    with pytest.raises(BackendError, match=said):
        Processes(accelerator)


def test_deepspeed_is_refused_in_one_line(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(accelerator.state, "distributed_type", DistributedType.DEEPSPEED, raising=False)
    with pytest.raises(BackendError, match=r"DeepSpeed; configure accelerate for plain processes or FSDP 2"):
        Processes(accelerator)
