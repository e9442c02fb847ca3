"""The Python and the plan files of docs/experiments.md run, and its commands have the options that it names."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from mesa_meanfield.cli import main
from mesa_meanfield.cli.planfile import INTERVENTIONS, OBJECTIVES, read_plan_file
from mesa_meanfield.cli.plantables import CascadeTable
from mesa_meanfield.experiments.comparison import Comparison

PAGE = (Path(__file__).parents[1] / "docs" / "experiments.md").read_text(encoding="utf-8")
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PLANS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def known():
    found: dict[str, object] = {"__name__": "page"}
    exec(PYTHON, found)
    return found


def test_the_python_runs(known):
    assert isinstance(known["comparison"], Comparison)
    assert known["comparison"].fork_at == 2
    assert known["effect"].replicas == 6
    assert known["ranking"].best in ("nothing", "now", "late")
    assert [one.label for one in known["forecast"]] == ["share", "doubt", "ignore"]


@pytest.mark.parametrize("text", PLANS)
def test_the_plan_files_are_read(tmp_path, text):
    (tmp_path / "p.toml").write_text(text, encoding="utf-8")
    assert read_plan_file(tmp_path / "p.toml").interventions


def test_the_first_plan_runs(capsys, tmp_path):
    (tmp_path / "p.toml").write_text(PLANS[0], encoding="utf-8")
    asked = [str(tmp_path / "p.toml"), "--backend", "scripted", "--replicas", "2", "--json", "--out"]
    for command in ("compare", "plan"):
        assert main([command, *asked, str(tmp_path / command)]) == 0
        assert "report.html" in capsys.readouterr().out


def test_the_second_plan_runs_with_the_pages_own_model(capsys, tmp_path):
    street = PYTHON[: PYTHON.index("shared = ")].replace(
        "def __init__(self, seed, backend):", "def __init__(self, seed, backend, houses):"
    )
    (tmp_path / "street.py").write_text(street, encoding="utf-8")
    (tmp_path / "p.toml").write_text(PLANS[1], encoding="utf-8")
    asked = [str(tmp_path / "p.toml"), "--backend", "scripted", "--replicas", "2", "--out", str(tmp_path / "r")]
    assert main(["compare", *asked]) == 0
    assert "doubt" in capsys.readouterr().out


def test_the_tables_name_every_field():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    for name, kind in INTERVENTIONS.items():
        assert {one.name for one in fields(kind)} <= set(re.findall(r"`(\w+)`", rows[name]))
    assert {one.name for one in fields(OBJECTIVES["share_at"])} <= set(re.findall(r"`(\w+)`", rows["share_at"]))
    assert set(rows) == {*INTERVENTIONS, *OBJECTIVES, "function"}


def test_every_option_of_a_cascade_is_named():
    told = PAGE.partition("A cascade's `[model]` has")[2].partition("A model of your own")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(CascadeTable.model_fields)


@pytest.mark.parametrize("command", ["compare", "plan"])
def test_every_option_of_the_page_is_one(capsys, command):
    lines = [line for line in PAGE.splitlines() if re.match(rf"\s{{4,}}mesa-meanfield {command}\b", line)]
    asked = {option for line in lines for option in re.findall(r"(?<=\s)--[a-z-]+", line)}
    assert asked
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert asked - set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) == set()


def test_the_plan_files_are_toml_by_themselves():
    assert [set(tomllib.loads(text)) for text in PLANS][1] == {"ticks", "model", "intervention"}
