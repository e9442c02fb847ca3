"""Several LoRA adapters answer on one base model, each as if it were alone, and so does the base model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import peft
import torch
from safetensors.torch import load_file, save_file
from tiny_models import model, one_thread, tokenizer

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.local.adapters import put_on
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.errors import BackendError, ScoringUnsupported
from mesa_meanfield.protocols import Backend, Reply, Request, Sampling, Scorer, Usage

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
kinds = pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral with a window"])

WORDS = ("share", "share it", "never in my life")
TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.", "I am a fisher by the sea.")
CROWD = [Request(TOWN, state, seed, Sampling(max_tokens=8)) for seed, state in enumerate(STATES)]
NAMES = (None, "bold", "shy")
MIXED = [replace(request, adapter=name) for request in CROWD for name in NAMES]


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def tiny(kind):
    return model(kind.split()[0], **({"sliding_window": 24} if "window" in kind else {}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind and name -> the folder of an adapter with weights far from zero."""
    found = {}
    for number, kind in enumerate(("llama", "qwen2", "mistral with a window")):
        for seed, name in enumerate(("bold", "shy", "third")):
            found[kind, name] = tmp_path_factory.mktemp("adapters") / name
            targets = ["q_proj", "v_proj", "up_proj"] if seed else ["k_proj", "v_proj"]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(10 * number + seed)
                config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
                peft.get_peft_model(tiny(kind), config).save_pretrained(found[kind, name])
    return found


def local(kind, batch=16, own=None):
    return LocalBackend(own or tiny(kind), tokenizer("llama"), name="tiny", batch=batch)


def alone(kind, folders, name, batch=16):
    """A backend with nothing but this adapter, or none."""
    return local(kind, batch, put_on(tiny(kind), name, folders[kind, name]) if name else None)


def with_both(kind, folders, batch=16):
    base = local(kind, batch)
    return base, {None: base, **{name: base.adapted(folders[kind, name]) for name in NAMES[1:]}}


@kinds
def test_each_adapter_answers_as_if_it_were_alone(kind, folders):
    _, backends = with_both(kind, folders)
    found = []
    for name in (*NAMES, *NAMES[::-1]):  # in turns, so that each is switched on after another
        single = alone(kind, folders, name)
        found.append(backends[name].score(CROWD, WORDS))
        assert found[-1] == pytest.approx(single.score(CROWD, WORDS), abs=1e-4)
        assert backends[name].generate(CROWD) == single.generate(CROWD)
    assert all(np.abs(found[a] - found[b]).min() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))


@kinds
@pytest.mark.parametrize("batch", [1, 5, 16])  # 16 takes all of the twelve, with three answers to each
def test_one_call_for_all_is_as_one_for_each(kind, folders, batch):
    base, backends = with_both(kind, folders, batch)
    scores, replies = base.score(MIXED, WORDS), base.generate(MIXED)
    assert (base.phases["decode"].steps < 8) == (batch == 16 and "window" not in kind)  # all beside each other
    for place, name in enumerate(NAMES):
        assert scores[place::3] == pytest.approx(backends[name].score(CROWD, WORDS), abs=1e-4)
        assert replies[place::3] == backends[name].generate(CROWD)


def test_a_model_that_has_an_adapter_answers_with_it_where_none_is_named(folders):
    kind = "llama"
    third = alone(kind, folders, "third")
    base = local(kind, own=put_on(tiny(kind), "default", folders[kind, "third"]))
    for name in NAMES[1:]:
        base.adapted(folders[kind, name])
    scores, replies = base.score(MIXED, WORDS), base.generate(MIXED)
    for place, single in enumerate([third, *(alone(kind, folders, name) for name in NAMES[1:])]):
        expected = single.score(CROWD, WORDS)
        assert scores[place::3] == pytest.approx(expected, abs=1e-4)
        assert replies[place::3] == single.generate(CROWD)
        own = [replace(request, adapter=NAMES[place]) for request in CROWD]
        assert base.score(own, WORDS) == pytest.approx(expected, abs=1e-4)


@kinds
def test_what_one_adapter_made_of_a_prefix_is_not_used_by_another(kind, folders):
    _, backends = with_both(kind, folders, batch=4)
    expected = {name: alone(kind, folders, name, batch=4).score(CROWD, WORDS) for name in NAMES}
    for name in (None, "bold", None, "shy", "bold", None):
        assert backends[name].score(CROWD, WORDS) == pytest.approx(expected[name], abs=1e-4)


def test_twins_of_two_adapters_are_no_twins(folders):
    base, _ = with_both("llama", folders)
    twins = [replace(CROWD[0], adapter=name) for name in (*NAMES, *NAMES)]
    scores = base.score(twins, WORDS)
    assert np.array_equal(scores[:3], scores[3:])
    assert len(np.unique(scores.round(3), axis=0)) == 3


def test_no_more_than_once_is_computed_what_an_adapter_shares(folders):
    base, backends = with_both("llama", folders, batch=4)
    backends["bold"].score(CROWD, WORDS)
    once = base.usage.tokens_computed
    backends["shy"].score(CROWD, WORDS)
    assert base.usage.tokens_computed == 2 * once
    backends["bold"].score(CROWD, WORDS)
    assert 2 * once < base.usage.tokens_computed < 3 * once  # its prefix was still there


# --- What is refused -------------------------------------------------------------------------------


def refused(call, *given):
    with pytest.raises(BackendError) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("count", [0, 2])
def test_an_unknown_adapter_is_told_with_those_there_are(count, folders):
    base, _ = with_both("llama", folders) if count else (local("llama"), None)
    asked = [CROWD[0], replace(CROWD[1], adapter="loud")]
    expected = f"There is no adapter 'loud' on this model (there are: {'bold, shy' if count else 'none'})"
    assert refused(base.generate, asked) == refused(base.score, asked, WORDS) == expected


def test_a_name_is_given_once(folders):
    base, backends = with_both("llama", folders)
    expected = backends["bold"].score(CROWD, WORDS)
    said = refused(base.adapted, folders["llama", "shy"], "bold")
    assert said == "There is an adapter 'bold' on this model already; take another name"
    assert backends["bold"].score(CROWD, WORDS) == pytest.approx(expected, abs=1e-6)
    assert base.adapted(folders["llama", "shy"], "timid").name == "tiny+timid"


def spoilt(folder, how, target):
    """A copy of an adapter that cannot be used."""
    folder = Path(shutil.copytree(folder, target / "spoilt"))
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = load_file(weights)
    match how:
        case "no config":
            config.unlink()
        case "no weights":
            weights.unlink()
        case "half of it":
            save_file(dict(list(tensors.items())[::2]), weights)
        case "other shapes":
            save_file({name: torch.cat([one, one]) for name, one in tensors.items()}, weights)
        case "other modules":
            config.write_text(config.read_text().replace("_proj", "_layer"))
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:100])
    return folder


SPOILT = ("no config", "no weights", "half of it", "other shapes", "other modules", "truncated")


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_adapter_changes_nothing(how, others, folders, tmp_path):
    base, backends = with_both("llama", folders) if others else (local("llama"), {})
    backends[None] = base
    before = {name: own.score(CROWD, WORDS) for name, own in backends.items()}
    folder = spoilt(folders["llama", "third"], how, tmp_path)
    assert str(folder) in refused(base.adapted, folder, "third")
    for name, own in backends.items():
        assert own.score(CROWD, WORDS) == pytest.approx(before[name], abs=1e-6)
    assert "There is no adapter 'third'" in refused(base.generate, [replace(CROWD[0], adapter="third")])
    backends["third"] = base.adapted(folders["llama", "third"], "third")  # the whole one can still be loaded
    before["third"] = alone("llama", folders, "third").score(CROWD, WORDS)
    for name, own in backends.items():
        assert own.score(CROWD, WORDS) == pytest.approx(before[name], abs=1e-4)


# --- One adapter as a backend ----------------------------------------------------------------------


def test_an_adapter_is_a_backend_and_a_scorer_of_its_own_name(folders):
    _, backends = with_both("llama", folders)
    bold = backends["bold"]
    assert isinstance(bold, AdaptedBackend)
    assert isinstance(bold, Backend)
    assert isinstance(bold, Scorer)
    assert bold.name == "tiny+bold"
    assert bold.generate([]) == []


def test_the_usage_of_all_adapters_is_that_of_their_model(folders):
    base, backends = with_both("llama", folders)
    bold, shy = backends["bold"], backends["shy"]
    bold.score(CROWD, WORDS)
    shy.generate(CROWD)
    bold.generate(CROWD[:1])
    both = bold.usage + shy.usage
    assert both.seconds == pytest.approx(base.usage.seconds)
    assert replace(both, seconds=0) == replace(base.usage, seconds=0)
    assert (bold.usage.calls, shy.usage.calls) == (len(CROWD) + 1, len(CROWD))
    own = base.usage
    base.score(CROWD, WORDS)
    assert base.usage != own
    assert bold.usage + shy.usage == both


def test_any_backend_can_be_asked_by_an_adapters_name():
    class Named:
        name, usage = "named", Usage()

        def generate(self, requests):
            return [Reply(str(request.adapter)) for request in requests]

    own = AdaptedBackend(Named(), "bold")
    assert [reply.text for reply in own.generate([CROWD[0], replace(CROWD[1], adapter="shy")])] == ["bold", "bold"]
    with pytest.raises(ScoringUnsupported, match="named gives no log-probabilities"):
        own.score(CROWD, WORDS)
    assert AdaptedBackend(ScriptedBackend(), "bold").score(CROWD, WORDS).shape == (4, 3)
