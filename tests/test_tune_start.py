"""A training that begins with a policy that was trained before, and one under several kinds of mean fields."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from ibtune_worlds import crowd, terse
from safetensors.torch import load_file
from test_ibtune_tune import FAST, SMALL, trained

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli.tuning import add_arguments, prepare
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.ibtune.config import Lora
from mesa_meanfield.ibtune.lora import weights_of

pytestmark = pytest.mark.torch
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return terse(tmp_path_factory.mktemp("words") / "terse")


@pytest.fixture(scope="module")
def policy(words, tmp_path_factory):
    settings = replace(SMALL, stages=("policy",))
    return trained(words, tmp_path_factory.mktemp("policy"), settings).adapters["policy"]


def test_a_policy_decides_as_it_is_while_the_summarizer_learns(words, policy, tmp_path):
    settings = replace(SMALL, stages=("summarizer",), optimisation=replace(FAST, steps=2))
    found = trained(words, tmp_path / "with", settings, start={"policy": policy})
    saved, now = load_file(policy / WEIGHTS), weights_of(found.model, "policy")
    assert list(found.adapters) == ["summarizer"]
    assert all((now[key] == saved[key]).all() for key in saved)
    bare = trained(words, tmp_path / "without", settings)
    assert found.before["distortion"] != bare.before["distortion"]  # it was the tuned one that was asked


def test_a_stage_of_its_own_goes_on_with_it(words, policy, tmp_path):
    settings = replace(SMALL, stages=("policy",), optimisation=replace(FAST, steps=1, learning_rate=1e-9))
    found = trained(words, tmp_path, settings, start={"policy": policy})
    saved, now = load_file(policy / WEIGHTS), load_file(found.adapters["policy"] / WEIGHTS)
    assert all((now[key] - saved[key]).abs().max() < 1e-3 for key in saved)
    assert any(saved[key].abs().max() > 0 for key in saved if "lora_B" in key)  # new adapters begin with zeros


@pytest.mark.parametrize("place", ["shape", "nothing"])
def test_an_adapter_that_cannot_be_begun_with_is_told(place, words, policy, tmp_path):
    settings = replace(SMALL, stages=("policy",), lora=Lora(rank=3))
    start = {"policy": policy if place == "shape" else tmp_path / "nothing"}
    with pytest.raises(BackendError, match="another shape" if place == "shape" else "no adapter can be read"):
        trained(words, tmp_path / "run", settings, start=start)


def job(tmp_path, *arguments):
    file = tmp_path / "crowds.jsonl"
    write_cascades(file, [crowd(9, f"c{i}", f"e{i}") for i in range(12)])
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return prepare(parser.parse_args(["--data", str(file), *arguments]))


def test_each_cascade_has_one_of_the_summarizers(tmp_path):
    found, _, _ = job(tmp_path, "--summarizer", "tally,none").sides(["tally", "none"], None)
    kinds: dict[str, set[bool]] = {}
    for item in found:
        if item.last is not None:
            kinds.setdefault(item.cascade, set()).add(bool(item.field.text))
    assert all(len(one) == 1 for one in kinds.values())
    assert {kind for one in kinds.values() for kind in one} == {True, False}


def test_the_kind_is_a_matter_of_the_cascade_alone(tmp_path):
    whole = job(tmp_path, "--summarizer", "tally,none")
    fewer = replace(whole, train=whole.train[5:])

    def kind(of):
        return {i.cascade: bool(i.field.text) for i in of.sides(["tally", "none"], None)[0] if i.last is not None}

    assert kind(fewer).items() <= kind(whole).items()


def test_an_unknown_summarizer_and_a_missing_policy_are_told(tmp_path):
    with pytest.raises(DataError, match="no 'talley'"):
        job(tmp_path, "--summarizer", "tally,talley")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors is missing"):
        job(tmp_path, "--policy-adapter", str(tmp_path))
