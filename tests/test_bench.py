"""`mesa-meanfield bench` says how fast a backend is, and how near to the machine's limit."""

from __future__ import annotations

import json

import pytest
from fake_server import FakeServer

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.backends.local.peaks import Facts, Peaks, Spent, least_seconds, phases_told
from mesa_meanfield.bench import KINDS, Sizes, counter, task
from mesa_meanfield.cli import main
from mesa_meanfield.machine import machine

SMALL = ("--agents", "5", "--collapsed-agents", "12", "--archetypes", "3", "--repeats", "2")
PROMISED = "text_per_s choice_per_s collapsed_agents_per_s overhead_us_per_agent tokens baselines machine"


def bench(capsys, *arguments):
    status = main(["bench", "--backend", "scripted", *SMALL, *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_json_is_one_object_with_all_that_is_promised(capsys, tmp_path):
    status, out, _ = bench(capsys, "--json", "--out", tmp_path / "bench.json")
    assert (status, out.count("\n")) == (0, 1)
    result = json.loads(out)
    assert set(PROMISED.split()) <= set(result)
    assert set(result["tokens"]) == {"asked", "computed", "saved"}
    assert result["baselines"] == {}
    assert {kind: (run["decisions"], len(run["seconds"])) for kind, run in result["runs"].items()} == {
        "text": (5, 2),
        "choice": (5, 2),
        "collapsed": (12, 2),
    }
    assert all(run["low"] <= run["per_s"] <= run["high"] for run in result["runs"].values())
    assert result["runs"]["choice"]["prompt"] == {"shared": 190, "own": 40}
    assert result["peak"] is None
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_the_table_has_every_kind_and_the_machine(capsys):
    status, out, err = bench(capsys)
    assert status == 0
    assert all(kind in out for kind in KINDS)
    assert f"{machine()['cores']} cores" in out
    assert "Where the time went" not in out
    assert "8/8 scheduler overhead" in err


def test_no_collapsed_crowd_is_no_figure(capsys):
    result = json.loads(bench(capsys, "--collapsed-agents", 0, "--json")[1])
    assert result["collapsed_agents_per_s"] is None
    assert set(result["runs"]) == {"text", "choice"}


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_have_the_wanted_lengths_and_are_new_in_each_task(kind):
    def asked(number):
        seen = []
        backend = ScriptedBackend(lambda r: seen.append(r) or "x", lambda r, candidate: seen.append(r) or 1.0)
        task(kind, sizes, counter(backend), number).town(backend, 0).step()
        return {(request.prefix, request.suffix) for request in seen}

    sizes = Sizes(agents=6, shared=150, own=45, new=8, crowd=9, archetypes=4)
    first, second = asked(0), asked(1)
    assert len(first) == (4 if kind == "collapsed" else 6)
    assert {len(prefix.split()) for prefix, _ in first} == {150}
    assert {len(suffix.split()) for _, suffix in first} == {45}
    assert not first & second


def test_prompts_are_never_shorter_than_the_templates():
    work = task("text", Sizes(shared=1, own=1), counter(ScriptedBackend()), 0)
    assert work.shared > 20
    assert work.own > 10


def test_failed_decisions_are_told(capsys):
    words, refuse = ("share", "reply", "ignore"), lambda body: 400 if body["max_tokens"] > 2 else None
    with FakeServer(words=words, status_of=refuse) as server:
        assert main(["bench", "--backend", f"{server.url}#tiny", *SMALL, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["runs"]["text"]["failures"] == 10
    assert "note: 10 of 10 text decisions failed" in err


FACTS = Facts(body=100, head=50, width=4, kv=8)
PEAKS = Peaks(flops=1000.0, bytes=500.0)


@pytest.mark.parametrize(
    ("phase", "spent", "seconds"),
    [
        ("prefill", Spent(tokens=20, steps=1), 2 * 100 * 20 / 1000),  # arithmetic: 4 s, weights: 400 / 500 s
        ("prefix", Spent(tokens=1, steps=3), 3 * 100 * 4 / 500),  # weights: 2.4 s, arithmetic: .2 s
        ("decode", Spent(tokens=2, steps=2), (2 * 150 * 4 + 8 * (2 * 10 + 2 * 5)) / 500),  # 2.88 s, arithmetic: .6 s
        ("decode", Spent(tokens=20, steps=2), 2 * 150 * 20 / 1000),  # arithmetic: 6 s, memory: 4.32 s
    ],
)
def test_the_least_time_is_that_of_arithmetic_or_of_memory_whichever_is_longer(phase, spent, seconds):
    assert least_seconds(phase, spent, FACTS, PEAKS, shared=10, own=5) == pytest.approx(seconds)


def test_phases_tell_their_share_of_the_time_and_of_the_peak():
    phases = {"prefill": Spent(8.0, 20, 1), "sampling": Spent(1.0, 0, 4), "decode": Spent()}
    told = phases_told(phases, 10.0, FACTS, PEAKS, shared=10, own=5)
    assert told["prefill"] == {
        "seconds": 8.0, "tokens": 20, "steps": 1, "share_of_time": 0.8, "share_of_peak": 0.5,
    }  # fmt: skip
    assert told["sampling"]["share_of_peak"] is None
    assert told["decode"]["share_of_peak"] is None
    assert told["other"] == {"seconds": 1.0, "share_of_time": 0.1}


BAD = {
    "agents": (["--agents", "0"], "must be at least 1"),
    "archetypes": (["--archetypes", "0"], "must be at least 1"),
    "new tokens": (["--new-tokens", "-1"], "must be at least 1"),
    "crowd": (["--collapsed-agents", "-1"], "must be at least 1"),
    "batch": (["--batch", "0"], "batch must be at least 1"),
    "repeats": (["--repeats", "0"], "repeats must be at least 1"),
    "seed": (["--seed", "-1"], "seed at least 0"),
    "backend": (["--backend", "gpt"], "Unknown backend 'gpt'"),
    "folder": (["--out", "nowhere/b.json"], "there is no such folder"),
    "file": (["--out", "HERE"], "is there already"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, case):
    arguments, message = BAD[case]
    (tmp_path / "here").touch()
    status, out, err = bench(capsys, *(tmp_path / "here" if a == "HERE" else a for a in arguments))
    said = [line for line in err.splitlines() if not line.startswith("Backend: ")]
    assert (status, out, len(said)) == (2, "", 1)
    assert said[0].startswith("mesa-meanfield bench: ")
    assert message in said[0]


@pytest.mark.torch
def test_a_local_model_tells_its_phases_and_how_near_the_peak_they_come(capsys, tmp_path):
    pytest.importorskip("torch")
    from tiny_models import model, one_thread, tokenizer

    tiny = model("llama")
    tiny.config.max_position_embeddings = 2048  # the shipped prompts take more than the other tests' models do
    tiny.save_pretrained(tmp_path)
    tokenizer("llama").save_pretrained(tmp_path)
    with one_thread():
        status = main(
            ["bench", "--backend", f"hf:{tmp_path}", *SMALL, "--repeats", "1", "--new-tokens", "4", "--json"]
        )
    result = json.loads(capsys.readouterr()[0])
    assert status == 0
    assert result["tokens"]["saved"] > 0
    assert result["peak"]["dtype"] == "float32"
    for kind, run in result["runs"].items():
        phases = run["phases"]
        assert sum(phase["seconds"] for phase in phases.values()) == pytest.approx(sum(run["seconds"]))
        assert phases["prefill"]["tokens"] > 0
        assert phases["prefill"]["share_of_peak"] > 0
        assert (phases["decode"]["steps"] > 0) == (kind == "text")


@pytest.mark.torch
def test_a_model_weighs_what_its_parameters_do():
    pytest.importorskip("torch")
    from tiny_models import model, tokenizer

    from mesa_meanfield.backends.local.peaks import facts_of

    vocabulary, width, inner = len(tokenizer("llama")), 32, 64
    layer = width * (4 * 8) * 2 + 2 * width * (2 * 8) + 3 * width * inner + 2 * width
    facts = facts_of(model("llama"))
    assert facts == Facts(body=2 * layer + width, head=vocabulary * width, width=4, kv=2 * 2 * 2 * 8 * 4)
    assert facts_of(model("llama", tie_word_embeddings=True)) == facts
