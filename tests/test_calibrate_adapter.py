"""``mesa-meanfield calibrate`` with an adapter: what is fitted can lie beside its weights."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

import peft
import torch
from ibtune_worlds import crowd, model, terse
from tiny_models import one_thread, tokenizer

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.ibtune.calibration import Calibration, read_calibrations, write_calibrations

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
OTHER = Calibration("mood", ("glad", "sad"), 1.5, 0.7, 0.6, 10)
OLD = Calibration("stance", ("support", "deny", "query", "comment"), 9.0, 3.0, 2.0, 10)


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a model, an adapter of it, prompts and data of two events."""
    folder = tmp_path_factory.mktemp("world")
    tiny = model()
    tiny.save_pretrained(folder / "model")
    tokenizer("llama").save_pretrained(folder / "model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        peft.get_peft_model(tiny, config).save_pretrained(folder / "adapter")
    terse(folder / "words")
    write_cascades(folder / "data.jsonl", [crowd(12, f"c{i}", f"e{i}") for i in range(2)])
    return folder


def calibrate(capsys, world, out, *options):
    usual = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    status = main(["calibrate", *map(str, [*usual, "--out", out, "--json", *options])])
    told, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(told)


def test_an_adapter_has_a_temperature_of_its_own(capsys, world, tmp_path):
    bare = calibrate(capsys, world, tmp_path / "bare")
    tuned = calibrate(capsys, world, tmp_path / "tuned", "--adapter", world / "adapter")
    assert bare["adapters"]["policy"] is None
    assert tuned["adapters"]["policy"]["name"] == str(world / "adapter")
    assert tuned["nll_before"] != pytest.approx(bare["nll_before"], abs=1e-3)
    assert tuned["adapter_file"] is None
    assert not (world / "adapter" / "calibration.json").exists()  # nobody asked for it


def test_beside_the_adapter_it_replaces_what_was_fitted_for_these_labels(capsys, world, tmp_path):
    write_calibrations(world / "adapter", [OLD, OTHER])
    told = calibrate(capsys, world, tmp_path / "run", "--adapter", world / "adapter", "--beside-adapter")
    (new,) = read_calibrations(tmp_path / "run")
    assert read_calibrations(world / "adapter") == [OTHER, new]
    assert new.temperature != OLD.temperature
    assert told["adapter_file"] == str(world / "adapter" / "calibration.json")
