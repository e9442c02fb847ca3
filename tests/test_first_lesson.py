"""What a policy can learn to read from, and whether it reads."""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from pathlib import Path

import pytest
from ibtune_worlds import crowd

from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades

FOLDER = Path(__file__).parents[1] / "benchmarks" / "fidelity"


def script(name):
    found = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def stances(cascade):
    return Counter(action.labels["stance"] for action in cascade.actions)


def test_urns_differ_from_each_other_and_their_labels_follow_their_own_shares(tmp_path):
    assert script("urns").main(["--out", str(tmp_path / "urns.jsonl"), "--cascades", "30", "--actions", "40"]) == 0
    urns = read_cascades(tmp_path / "urns.jsonl")
    assert len(urns) == 30
    shares = [stances(one)["comment"] / 40 for one in urns]
    assert min(shares) < 0.1
    assert max(shares) > 0.5


def test_recorded_cascades_stand_beside_copies_with_other_labels(tmp_path):
    recorded = [crowd(30, "c1", "e1"), crowd(30, "c2", "e2")]
    write_cascades(tmp_path / "recorded.jsonl", recorded)
    asked = [
        "--like",
        tmp_path / "recorded.jsonl",
        "--times",
        3,
        "--not-like",
        "e2",
        "--out",
        tmp_path / "mixed.jsonl",
    ]
    assert script("urns").main(list(map(str, asked))) == 0
    mixed = read_cascades(tmp_path / "mixed.jsonl")
    assert mixed[:2] == recorded
    copies = mixed[2:]
    assert [one.event for one in copies] == ["e1"] * 3  # nothing of what is held out
    assert all(one.topic == recorded[0].topic for one in copies)
    assert all(not action.text for one in copies for action in one.actions)
    assert len({action.id for one in mixed for action in one.actions}) == 5 * 30
    assert len({tuple(a.labels["stance"] for a in one.actions) for one in [recorded[0], *copies]}) == 4


@pytest.mark.parametrize("reads", [True, False])
def test_a_policy_that_says_the_shares_is_seen_to_read(tmp_path, capsys, monkeypatch, reads):
    reading = script("reading")
    write_cascades(tmp_path / "all.jsonl", [crowd(40, f"c{n}", f"e{n % 2}") for n in range(4)])

    def share(request, answer):
        shown = request.prefix.split("Of every 20: ")[1].splitlines()[0].split()
        return shown.count(answer) + 1 if reads else 1

    monkeypatch.setattr(reading, "load_backend", lambda spec: ScriptedBackend(probability=share))
    assert reading.main(["--data", str(tmp_path / "all.jsonl"), "--event", "e1", "--ticks", "8"]) == 0
    out = capsys.readouterr().out
    correlation, slope = (float(cell) for cell in re.search(r"query +│ +(\S+) +│ +(\S+)", out).groups())
    if reads:
        assert correlation > 0.9
        assert slope > 0.5
    else:
        assert (correlation, slope) == (0, 0)
        assert f"decisions: {math.log(4):.3f}" in out
