"""Quick roll-outs beside a training: what `evaluate` would measure, and no change in what is learned."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")

import tiny_models
import torch
from accelerate import Accelerator
from ibtune_worlds import RECIPE, crowd, folder_of, items, model, terse
from tiny_models import one_thread, tokenizer

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.cli import main
from mesa_meanfield.cli.quick import QuickRollOuts, Tuned
from mesa_meanfield.ibtune.config import Bottleneck, Lora, Optimisation, Settings
from mesa_meanfield.ibtune.lora import put_back, weights_of, with_adapters
from mesa_meanfield.ibtune.tune import tune
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Request, Sampling
from mesa_meanfield.summarizers import LLMSummarizer, TallySummarizer

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
SMALL = Settings(
    stages=("policy", "summarizer"),
    lora=Lora(rank=2, dropout=0.1),
    optimisation=Optimisation(learning_rate=5e-3, batch=4, steps=4),
    bottleneck=Bottleneck(max_tokens=3),
    every=2,
    patience=None,
)
ALL = slice(None)


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return terse(tmp_path_factory.mktemp("words") / "terse")


class Counted:
    """Stands for roll-outs; leaves another adapter on, as they may."""

    def __init__(self):
        self.asked = []

    def __call__(self, model, stage, share, *, reported):
        self.asked.append((stage, share, reported))
        assert not model.training
        model.set_adapter("summarizer", inference_mode=True)
        return [0.25, 0.75]


class Killed(Exception):
    """Stands for a kill."""


def trained(words, folder, settings=SMALL, **more):
    train = items([crowd(12), crowd(9, "c2", "e2")], prompts=words)
    held = items([crowd(9, "c3", "e3")], prompts=words)
    own = Accelerator(cpu=True)
    return tune(model(), tokenizer("llama"), train, held, settings, folder, accelerator=own, **more)


def rows(folder, *without):
    found = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("seconds", *without)} for row in found]


# --- Beside a training -----------------------------------------------------------------------------


def test_each_look_rolls_out_once_and_learns_the_same(words, tmp_path):
    counted = Counted()
    result = trained(words, tmp_path / "with", roll_outs=counted)
    without = trained(words, tmp_path / "without")
    # Before the stage and after 2 and 4 steps; what comes after the stage is one of these.
    assert counted.asked == [(stage, slice(0, None, 1), False) for stage in SMALL.stages for _ in range(3)]
    assert [row.get("kl") for row in rows(tmp_path / "with") if row["split"] == "held out"] == [0.5] * 6
    assert rows(tmp_path / "with", "kl") == rows(tmp_path / "without", "kl")
    for name, folder in result.adapters.items():
        weights = (folder / "adapter_model.safetensors").read_bytes()
        assert weights == (without.adapters[name] / "adapter_model.safetensors").read_bytes()
    assert result.before["kl"] == result.after["kl"] == result.stages[1]["before"]["kl"] == 0.5
    assert without.after["kl"] is None


def test_reported_ticks_have_roll_outs_of_their_own(words, tmp_path):
    counted = Counted()
    reported = items([crowd(9, "c4", "e4")], prompts=words)
    trained(words, tmp_path, roll_outs=counted, reported=reported)
    assert [asked[2] for asked in counted.asked] == [True, False, False, True] * 2


def test_a_resumed_training_looks_at_nothing_twice(words, tmp_path):
    first, second = Counted(), Counted()

    def strike(row, _):
        if row["stage"] == "summarizer" and row["split"] == "train":
            raise Killed

    with pytest.raises(Killed):
        trained(words, tmp_path / "cut", roll_outs=first, on_step=strike)
    again = trained(words, tmp_path / "cut", roll_outs=second, resume=True)
    whole = trained(words, tmp_path / "whole", roll_outs=Counted())
    assert [stage for stage, *_ in first.asked] == ["policy"] * 3 + ["summarizer"]
    assert [stage for stage, *_ in second.asked] == ["summarizer"] * 2
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert again.stages == whole.stages


# --- What is rolled out -----------------------------------------------------------------------------


def adapted(*names):
    """A model with adapters, and its backend from before."""
    own = model()
    base = LocalBackend(own, tokenizer("llama"), name="tiny")
    return with_adapters(own, names, Lora(rank=2), 0).eval(), base


def shaken(model, name):
    """Give an adapter weights that change what the model says."""
    generator = torch.Generator().manual_seed(1)
    weights = {k: torch.randn(w.shape, generator=generator) * 0.3 for k, w in weights_of(model, name).items()}
    put_back(model, name, weights)


def quick(base, prompts, cascades, *, llm=False, count=9):
    def summarizers(backend):
        short = Sampling(max_tokens=4)
        return {"en": LLMSummarizer(backend, prompts=prompts, sampling=short) if llm else TallySummarizer(prompts)}

    return QuickRollOuts(RECIPE, {"en": prompts}, summarizers, base, cascades, [], count)


CROWDS = [crowd(n, f"c{n}", f"e{n % 3}") for n in (6, 9, 12, 15, 18)]


@pytest.mark.parametrize(("llm", "moved"), [(False, "policy"), (True, "summarizer")])
def test_the_adapters_decide_and_summarise_as_they_are_now(words, llm, moved):
    own, base = adapted("policy", "summarizer")
    roll_outs = quick(base, words, CROWDS[1:3], llm=llm)
    before = roll_outs(own, "policy", ALL, reported=False)
    assert roll_outs(own, "summarizer", ALL, reported=False) == before
    shaken(own, moved)
    after = roll_outs(own, "policy", ALL, reported=False)
    assert all(abs(a - b) > 1e-3 for a, b in zip(after, before, strict=True))


def test_a_tally_needs_no_summarizer(words):
    own, base = adapted("policy", "summarizer")
    roll_outs = quick(base, words, CROWDS[1:2])
    before = roll_outs(own, "policy", ALL, reported=False)
    shaken(own, "summarizer")
    assert roll_outs(own, "policy", ALL, reported=False) == before


def test_without_an_adapter_the_bare_model_answers(words):
    asked = [Request("sum", "I fish.", seed=1, sampling=Sampling(max_tokens=5))]
    own, base = adapted("policy")
    shaken(own, "policy")
    with own.disable_adapter():
        expected = base.score(asked, ["share", "doubt"]), base.generate(asked)
    bare, tuned = Tuned(own, base, None), Tuned(own, base, "policy")
    assert tuned.score(asked, ["share", "doubt"]) != pytest.approx(expected[0], abs=1e-2)
    assert bare.score(asked, ["share", "doubt"]) == pytest.approx(expected[0], abs=1e-6)
    assert bare.generate(asked) == expected[1]
    assert (bare.name, tuned.name) == ("tiny", "tiny+policy")


def test_a_few_cascades_of_eight_actions_are_drawn_by_the_seed_and_shared(words):
    own, base = adapted("policy")
    every = quick(base, words, CROWDS)(own, "policy", ALL, reported=False)
    assert len(every) == 4  # one is too small
    two = quick(base, words, CROWDS, count=2)
    found = two(own, "policy", ALL, reported=False)
    assert len(found) == 2
    assert found == quick(base, words, CROWDS, count=2)(own, "policy", ALL, reported=False)
    halves = [two(own, "policy", slice(index, None, 2), reported=False) for index in (0, 1)]
    assert [*halves[0], *halves[1]] == found
    assert two(own, "policy", ALL, reported=True) == []


def test_a_roll_out_without_a_usable_decision_counts_nowhere_and_is_told_once(capsys):
    own = tiny_models.model("llama")  # whose context is shorter than any shipped prompt
    base = LocalBackend(own, tokenizer("llama"), name="tiny")
    own = with_adapters(own, ["policy"], Lora(rank=2), 0).eval()
    roll_outs = quick(base, Prompts("en"), CROWDS[1:2])
    assert roll_outs(own, "policy", ALL, reported=False) == []
    assert roll_outs(own, "policy", ALL, reported=False) == []
    assert capsys.readouterr().err.count("c9 is left out") == 1


# --- The command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("world"))


def command(capsys, world, *options):
    usual = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    name, *rest = options
    status = main([name, *map(str, [*usual, *rest, "--json"])])
    output = capsys.readouterr()
    assert status == 0, output.err
    return json.loads(output.out), output.err


def test_the_kl_is_that_of_evaluate(capsys, world, tmp_path):
    options = ["--held-out", "e1", "--steps", 2, "--batch", 2, "--rank", 2, "--learning-rate", 0.01, "--every", 1]
    told, err = command(
        capsys, world, "tune", *options, "--roll-outs", 5, "--stages", "policy,sft", "--out", tmp_path / "run"
    )
    plain = {}
    for name, folder in told["adapters"].items():
        plain[name] = shutil.copytree(folder, tmp_path / name)
        (plain[name] / "calibration.json").unlink()  # quick roll-outs are at temperature 1
    kl = {}
    for name, adapter in {"bare": "none", **plain}.items():
        evaluated = ["--summarizers", "tally,none", "--adapter", adapter, "--min-actions", 8, "--replicas", 1]
        out = tmp_path / f"card-{name}"
        command(capsys, world, "evaluate", *evaluated, "--no-texts", "--out", out)
        for line in (out / "per_cascade.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["cascade"] in ("c1", "c4"):  # of e1
                kl.setdefault((name, row["name"]), []).append(row["kl"])
    mean = {key: sum(values) / 2 for key, values in kl.items()}
    policy, sft = told["stages"]
    assert policy["before"]["kl"] == pytest.approx(mean["bare", "tally"], abs=1e-5)
    assert sft["before"]["kl"] == pytest.approx(mean["bare", "none"], abs=1e-5)
    assert policy["after"]["kl"] == pytest.approx(mean["policy", "tally"], abs=5e-3)  # saved in 16 bits
    assert sft["after"]["kl"] == pytest.approx(mean["sft", "none"], abs=5e-3)
    assert policy["after"]["kl"] != pytest.approx(policy["before"]["kl"], abs=2e-2)
    assert told["held_out"]["before"]["kl"] == policy["before"]["kl"]
    assert "kl 0." in err or "kl 1." in err
    looks = rows(tmp_path / "run")
    assert all((row.get("kl") is not None) == (row["split"] == "held out") for row in looks)
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
