"""The loop: adapters move and the base model does not, the loss falls, a killed training goes on the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from accelerate import Accelerator
from ibtune_worlds import RECIPE, crowd, items, model, numbers, terse
from tiny_models import one_thread, tokenizer

from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.ibtune.config import Bottleneck, Lora, Optimisation, Settings
from mesa_meanfield.ibtune.tune import tune

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
FAST = Optimisation(learning_rate=5e-3, batch=4, accumulation=2, steps=6)
SMALL = Settings(
    stages=("policy", "summarizer", "sft"),
    lora=Lora(rank=2, dropout=0.1),
    optimisation=FAST,
    bottleneck=Bottleneck(max_tokens=3),
    every=3,
    patience=None,
)


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return terse(tmp_path_factory.mktemp("words") / "terse")


class Killed(Exception):
    """Stands for a kill at any moment."""


def trained(words, folder, settings=SMALL, own=None, **more):
    train = items([crowd(12), crowd(9, "c2", "e2")], prompts=words)
    held = items([crowd(9, "c3", "e3")], prompts=words)
    return tune(
        own or model(), tokenizer("llama"), train, held, settings, folder, accelerator=Accelerator(cpu=True), **more
    )


def rows(folder):
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


def timeless(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


@pytest.fixture(scope="module")
def done(words, tmp_path_factory):
    """One whole training: its folder, its result, the model before and after."""
    folder = tmp_path_factory.mktemp("done")
    own = model()
    before = {name: weight.detach().clone() for name, weight in own.named_parameters()}
    result = trained(words, folder, own=own)
    return folder, result, own, before


def test_base_weights_stay_and_adapters_move(done):
    _, result, own, before = done
    after = {name.replace(".base_layer", ""): weight for name, weight in own.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    moved = {name: weight for name, weight in after.items() if "lora_B" in name}
    for stage in SMALL.stages:
        assert all(weight.any() for name, weight in moved.items() if f".{stage}." in name)
    assert set(result.adapters) == set(SMALL.stages)
    assert all((folder / "adapter_model.safetensors").is_file() for folder in result.adapters.values())


def test_curves_have_a_line_for_every_step_and_every_look(done):
    folder, result, _, _ = done
    found = rows(folder)
    assert [row["step"] for row in found if row["split"] == "train"] == list(range(1, 19))
    assert [row["step"] for row in found if row["split"] == "held out"] == [0, 3, 6, 6, 9, 12, 12, 15, 18]
    assert result.steps == 18
    for row in found:
        assert {"step", "stage", "nll", "rate", "distortion", "tokens", "seconds"} <= set(row)
        assert (row["rate"] is not None) == (row["stage"] == "summarizer")
    assert found[-1]["tokens"] == result.tokens["computed"] < result.tokens["asked"]


def test_figures_before_and_after_are_of_the_held_out_ticks(done):
    _, result, _, _ = done
    assert [stage["stage"] for stage in result.stages] == list(SMALL.stages)
    policy = result.stages[0]
    assert policy["after"]["nll"] < policy["before"]["nll"]
    assert result.before["nll"] == policy["before"]["nll"]
    assert result.before["rate"] == pytest.approx(result.stages[1]["before"]["rate"])
    assert result.before["kl"] is result.after["kl"] is None


def test_figures_after_are_those_of_the_best_look(done):
    folder, result, _, _ = done
    for stage in result.stages:
        looks = [row for row in rows(folder) if row["stage"] == stage["stage"] and row["split"] == "held out"]
        first, *others = looks
        best = min(others, key=lambda row: row["objective"])
        for name in ("nll", "distortion", "rate"):
            assert stage["before"][name] == first[name]
            assert stage["after"][name] == best[name]


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(done, words, tmp_path):
    folder, _, _, _ = done
    trained(words, tmp_path / "again")
    assert timeless(tmp_path / "again") == timeless(folder)
    trained(words, tmp_path / "other", replace(SMALL, seed=1))
    assert timeless(tmp_path / "other") != timeless(folder)


@pytest.mark.parametrize(("kill", "minutes"), [(1, 0), (5, 0), (8, 5), (11, 0), (17, 0)])
def test_a_killed_training_goes_on_to_the_same_curve(done, words, tmp_path, kill, minutes):
    folder, result, _, _ = done
    settings = replace(SMALL, checkpoint_minutes=minutes)

    def strike(row, _):
        if row["step"] == kill and row["split"] == "train":
            raise Killed

    with pytest.raises(Killed):
        trained(words, tmp_path, settings, on_step=strike)
    with (tmp_path / "curves.jsonl").open("a") as lines:
        lines.write('{"step": 99, "st')  # half a line, as a kill may leave it
    again = trained(words, tmp_path, settings, resume=True)
    assert timeless(tmp_path) == timeless(folder)
    assert again.before == result.before
    assert again.after == result.after
    for name, place in again.adapters.items():
        weights = (place / "adapter_model.safetensors").read_bytes()
        assert weights == (result.adapters[name] / "adapter_model.safetensors").read_bytes()


def test_other_settings_do_not_go_on_with_a_checkpoint(done, words):
    folder, _, _, _ = done
    with pytest.raises(DataError, match="other settings"):
        trained(words, folder, replace(SMALL, text_weight=0.5), resume=True)


def test_parts_of_a_step_change_nothing(words, tmp_path):
    settings = replace(SMALL, stages=("policy",), lora=Lora(rank=2, dropout=0.0))
    for parts in (1, 4, None):
        how = replace(settings, optimisation=replace(FAST, accumulation=parts))
        trained(words, tmp_path / str(parts), how)
    one, four, each = (list(numbers(rows(tmp_path / str(parts)), "nll")) for parts in (1, 4, None))
    assert one == pytest.approx(four, abs=1e-5)
    assert four == each  # one tick per part, of four


def test_parts_are_one_per_tick_unless_told():
    assert Optimisation().parts_of(5) == 5
    assert Optimisation().parts_of(5, processes=2) == 5
    assert Optimisation(accumulation=2).parts_of(8, processes=3) == 6


def test_sft_and_policy_see_the_same_ticks_in_as_many_steps(words, tmp_path):
    for stage in ("policy", "sft"):
        trained(words, tmp_path / stage, replace(SMALL, stages=(stage,), seed=3))
    found = [rows(tmp_path / stage) for stage in ("policy", "sft")]
    assert len(found[0]) == len(found[1])
    assert found[0][0]["nll"] != found[1][0]["nll"]  # without a field the prompts are others


def test_texts_are_learned_beside_labels(words, tmp_path):
    learned = items([crowd(12)], replace(RECIPE, texts=True), words)
    settings = replace(SMALL, stages=("policy",), optimisation=replace(FAST, steps=12, learning_rate=2e-2))
    own = Accelerator(cpu=True)
    result = tune(model(), tokenizer("llama"), learned, learned[:1], settings, tmp_path, accelerator=own)
    assert result.after["nll_per_token"] < result.before["nll_per_token"] - 0.5
    assert result.after["nll"] > result.after["nll_per_token"] > 0


def test_gradient_checkpointing_changes_nothing(words, tmp_path):
    for on in (False, True):
        trained(words, tmp_path / str(on), replace(SMALL, optimisation=replace(FAST, checkpointing=on, steps=3)))
    off, on = (list(numbers(rows(tmp_path / str(on)), "nll")) for on in (False, True))
    assert on == pytest.approx(off, abs=1e-4)


def test_a_stage_ends_early_and_keeps_its_best_weights(words, tmp_path):
    wild = replace(FAST, learning_rate=3.0, steps=40, schedule="constant", clip=1e9)
    settings = replace(SMALL, stages=("policy",), optimisation=wild, every=1, patience=2)
    result = trained(words, tmp_path, settings)
    assert result.steps < 40
    looks = [row["objective"] for row in rows(tmp_path) if row["split"] == "held out"][1:]
    assert len(looks) - 1 - int(np.argmin(looks)) == 2
    assert result.after["distortion"] == pytest.approx(min(looks), abs=1e-5)


def test_a_second_policy_stage_gets_fields_by_the_tuned_summarizer(words, tmp_path):
    asked = []

    def renewed(model, name):
        asked.append((name, sorted(model.peft_config)))
        found = items([crowd(12)], prompts=words)
        return found, found[:1], None

    settings = replace(SMALL, stages=("policy", "summarizer", "policy"))
    result = trained(words, tmp_path, settings, renewed=renewed)
    assert asked == [("summarizer", ["policy", "summarizer"])]
    assert sorted(result.adapters) == ["policy", "summarizer"]
    assert len(result.stages) == 3


@pytest.mark.parametrize(
    ("parts", "advice"), [(2, "take --accumulation 4, or --checkpointing"), (None, "take --checkpointing, or fewer")]
)
def test_running_out_of_memory_is_one_line_with_advice(words, tmp_path, monkeypatch, parts, advice):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr("mesa_meanfield.ibtune.stages.losses", full)
    settings = replace(SMALL, every=100, stages=("policy",), optimisation=replace(FAST, accumulation=parts))
    with pytest.raises(BackendError, match=f"Stage policy: out of memory on cpu; {advice}") as caught:
        trained(words, tmp_path, settings)
    assert "\n" not in str(caught.value)


def test_a_summarizer_needs_ticks_with_one_before(words, tmp_path):
    first = items([crowd(4)], replace(RECIPE, warm_up=(0, 0)), words)
    settings = replace(SMALL, stages=("summarizer",))
    with pytest.raises(DataError, match="longer cascades"):
        tune(model(), tokenizer("llama"), first, [], settings, tmp_path, accelerator=Accelerator(cpu=True))


@pytest.mark.parametrize(
    "change",
    [
        {"stages": ()},
        {"stages": ("dance",)},
        {"every": 0},
        {"patience": 0},
        {"text_weight": -1},
        {"checkpoint_minutes": -1},
        {"seed": -1},
    ],
)
def test_settings_are_checked(change):
    with pytest.raises(ValueError, match=next(iter(change)).removesuffix("s")):
        Settings(**change)


@pytest.mark.parametrize(("kind", "change"), [
    (Lora, {"rank": 0}), (Lora, {"alpha": 0}), (Lora, {"dropout": 1}), (Lora, {"layers": 0}),
    (Optimisation, {"learning_rate": 0}), (Optimisation, {"batch": 0}), (Optimisation, {"accumulation": 0}),
    (Optimisation, {"epochs": 0}), (Optimisation, {"steps": 0}), (Optimisation, {"clip": 0}),
    (Optimisation, {"rise": 1}), (Optimisation, {"weight_decay": -1}), (Optimisation, {"schedule": "zigzag"}),
    (Bottleneck, {"samples": 3}), (Bottleneck, {"beta": 0}), (Bottleneck, {"predictive": -1}),
    (Bottleneck, {"max_tokens": 0}), (Bottleneck, {"temperature": 0}),
])  # fmt: skip
def test_parts_of_the_settings_are_checked(kind, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        kind(**change)


def test_learning_rates_by_hand():
    how = Optimisation(learning_rate=1.0, rise=0.2, schedule="linear")
    assert [how.rate_at(step, 10) for step in (0, 1, 2, 6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.5])
    assert replace(how, schedule="constant").rate_at(9, 10) == 1
    cosine = replace(how, schedule="cosine")
    assert [cosine.rate_at(step, 10) for step in (2, 6)] == pytest.approx([1, 0.5])
    assert cosine.rate_at(9, 10) < how.rate_at(9, 10)
