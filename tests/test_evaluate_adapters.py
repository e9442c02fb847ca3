"""``evaluate``: policy and summarizer each answer with an adapter of their own, at temperatures that were fitted."""

from __future__ import annotations

import json

import pytest
from ibtune_worlds import crowd, model, terse

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.cli.simulations import Models, Simulation
from mesa_meanfield.ibtune import shipped

LABELS = ["support", "deny", "query", "comment"]


@pytest.fixture
def world(tmp_path):
    """A folder with prompts and data of two events. Summaries follow from the topic alone."""
    terse(tmp_path / "words")
    (tmp_path / "words" / "summary_suffix.j2").write_text("so far:", encoding="utf-8")
    write_cascades(tmp_path / "data.jsonl", [crowd(16, f"c{i}", f"e{i}") for i in range(2)])
    return tmp_path


def evaluate(capsys, world, out, *options, backend="scripted"):
    """What each cascade's roll-out came to: its last mean field, and its first distribution."""
    usual = ["--data", world / "data.jsonl", "--prompts", world / "words", "--backend", backend, "--no-texts"]
    usual += ["--replicas", 1, "--out", world / out]
    status = main(["evaluate", *map(str, [*usual, *options])])
    _, err = capsys.readouterr()
    if status:
        return err
    found = {}
    for line in (world / out / "rollouts.jsonl").read_text().splitlines():
        rolled = json.loads(line)
        found[rolled["cascade"]] = rolled["field"], rolled["actions"][0]["trace"]["distribution"]
    return found


def calibration(folder, temperature):
    folder.mkdir(parents=True, exist_ok=True)
    flat = {"dimension": "stance", "labels": LABELS, "temperature": temperature}
    flat |= {"nll_before": 2.0, "nll_after": 1.4, "decisions": 9}
    (folder / "calibration.json").write_text(json.dumps([flat]))
    return folder


def spread(found, cascade):
    shares = found[cascade][1].values()
    return max(shares) - min(shares)


@pytest.mark.parametrize("name", ["", "calibration.json"])
def test_a_bare_model_decides_at_the_temperature_of_its_event(capsys, world, name):
    calibration(world / "fitted" / "e0", 1.0)
    calibration(world / "fitted" / "e1", 1e6)
    given = ["--summarizers", "tally", "--calibration", world / "fitted" / "{event}" / name]
    found = evaluate(capsys, world, "card", *given)
    assert spread(found, "c1") < 1e-4 < 0.01 < spread(found, "c0")
    plain = evaluate(capsys, world, "plain", "--summarizers", "tally")
    assert found["c0"] == plain["c0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--calibration", "nowhere"], "nowhere"),
        (["--summarizer-adapter", "somewhere", "--summarizers", "tally"], "llm alone, which is not among"),
        (["--summarizer-adapter", "somewhere", "--summarizers", "llm"], "An adapter needs a local model"),
        (["--summary-tokens", "0"], "--summary-tokens must be at least 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(capsys, world, options, said):
    err = evaluate(capsys, world, "card", *options)
    assert said in err.splitlines()[-1]
    assert not list(world.glob("card*"))


def test_shipped_adapters_are_found_by_their_name(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    for kind in ("policy", "summarizer"):
        (tmp_path / kind).mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (tmp_path / kind / name).touch()
    one = Simulation("one", "llm", "embedded", "shipped", summarizer_adapter="shipped")
    assert one.policy_at("e0") == one.calibration_at("e0") == str(tmp_path / "policy")
    assert one.summarizer_at("e0") == str(tmp_path / "summarizer")


@pytest.fixture
def adapters(world):
    """The folders of two adapters with weights far from zero; beside the first lies a temperature."""
    pytest.importorskip("torch")
    import peft
    import torch
    from tiny_models import one_thread, tokenizer

    model().save_pretrained(world / "model")
    tokenizer("llama").save_pretrained(world / "model")
    with torch.random.fork_rng(devices=[]):
        for seed, name in enumerate(("policy", "summarizer")):
            torch.manual_seed(seed)
            config = peft.LoraConfig(r=4, target_modules=["k_proj", "v_proj", "up_proj"], init_lora_weights=False)
            peft.get_peft_model(model(), config).save_pretrained(world / name)
    with one_thread():
        yield world / "policy", world / "summarizer"


@pytest.mark.torch
def test_summaries_come_from_the_summarizers_adapter_and_decisions_from_the_policys(capsys, world, adapters):
    policy, summarizer = adapters
    found = {}
    for decides, writes in ((0, 0), (1, 0), (0, 1), (1, 1)):
        given = ["--summarizers", "llm", "--summary-tokens", 6]
        given += ["--adapter", policy] if decides else []
        given += ["--summarizer-adapter", summarizer] if writes else []
        backend = f"hf:{world / 'model'}"
        found[decides, writes] = evaluate(capsys, world, f"card{decides}{writes}", *given, backend=backend)["c0"]
    fields = {which: field for which, (field, _) in found.items()}
    assert fields[0, 0] == fields[1, 0]  # the policy's adapter writes nothing
    assert fields[0, 1] == fields[1, 1] != fields[0, 0]
    shares = [tuple(distribution.values()) for _, distribution in found.values()]
    assert len({tuple(round(share, 4) for share in one) for one in shares}) == 4


@pytest.mark.torch
def test_the_temperature_beside_the_policys_adapter_holds_unless_another_is_named(world, adapters):
    policy, summarizer = map(str, adapters)
    calibration(adapters[0], 2.0)
    calibration(adapters[1], 5.0)
    other = str(calibration(world / "other", 3.0))
    spec = f"hf:{world / 'model'}"
    ways = {
        "beside": Simulation("beside", "llm", spec, policy, summarizer_adapter=summarizer),
        "named": Simulation("named", "llm", spec, policy, summarizer_adapter=summarizer, calibration=other),
        "off": Simulation("off", "llm", spec, policy, calibration="none"),
        "bare": Simulation("bare", "llm", spec, summarizer_adapter=summarizer),
    }
    models = Models(ways.values(), ["e0"], batch=None)
    found = {name: [one.temperature for one in models.calibrations(way, "e0")] for name, way in ways.items()}
    assert found == {"beside": [2.0], "named": [3.0], "off": [], "bare": []}
    assert models.policy(ways["bare"], "e0") is models.shared(ways["bare"])


@pytest.mark.torch
def test_summaries_are_as_long_as_is_asked_for(capsys, world, adapters):
    found = {}
    for tokens in (1, 12):
        given = ["--summarizers", "llm", "--summary-tokens", tokens]
        found[tokens] = evaluate(capsys, world, f"card{tokens}", *given, backend=f"hf:{world / 'model'}")["c0"][0]
    assert len(found[1]) < len(found[12])
