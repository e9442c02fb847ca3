"""examples/intervention: its two commands run as its README says, and its plan is what the README tells."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from planned import result
from test_report import Page

from mesa_meanfield.cli.planfile import read_plan_file

ROOT = Path(__file__).parents[1]
HERE = ROOT / "examples" / "intervention"
README = (HERE / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    mesa-meanfield (.*)$", README, re.MULTILINE)]


def made(capsys, tmp_path, monkeypatch, command):
    """The command without a model and with few replicas, as anyone runs it from the root of a checkout."""
    monkeypatch.chdir(ROOT)
    return result(capsys, *command, "--backend", "scripted", "--replicas", 2, "--out", tmp_path / "r")


def test_the_readme_has_the_two_commands():
    assert [command[0] for command in COMMANDS] == ["plan", "compare"]


def test_the_readmes_table_is_the_plan():
    plan = read_plan_file(HERE / "plan.toml")
    candidates, _, results = README.partition("Two commands.")
    rows = re.findall(r"^\| `(.*?)` \| .*? \| (.*?) \|", candidates, re.MULTILINE)
    assert [name for name, _ in rows] == list(plan.candidates)
    assert set(re.findall(r"^\| `(.*?)` \|", results, re.MULTILINE)) == set(plan.candidates)
    for name, when in rows:
        at = [part.values["at"] for part in plan.candidates[name]]
        assert [int(tick) for tick in re.findall(r"tick (\d+)", when)] == at


def test_the_plan_ranks_all_candidates(capsys, tmp_path, monkeypatch):
    told = made(capsys, tmp_path, monkeypatch, COMMANDS[0])
    assert {one["intervention"] for one in told["ranking"]} == set(read_plan_file(HERE / "plan.toml").candidates)
    text = Page((tmp_path / "r" / "report.html").read_text("utf-8")).text
    assert "Which correction of the blue-water rumour" in text
    assert "a media report by the Pellmere Gazette" in text


def test_the_comparison_begins_with_the_simulated_part(capsys, tmp_path, monkeypatch):
    told = made(capsys, tmp_path, monkeypatch, COMMANDS[1])
    assert (told["label"], told["fork_at"], told["replicas"]) == ("support", 3, 2)
    config = json.loads((tmp_path / "r" / "config.json").read_text(encoding="utf-8"))
    assert (config["cascade"], config["ticks"]) == ("syn-health-water-en", 10)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(link):
    assert (HERE / link).exists()
