"""The benchmark of the three ways to see the others, on a model that answers by chance."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from argparse import Namespace
from math import log
from pathlib import Path

import pytest
from towns import STORY

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.cli.planparts import Functions
from mesa_meanfield_models.town import SEE, Town, read_scenario, tables

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "seeing"
README = (ROOT / "models" / "town" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules by name."""
    sys.path.insert(0, str(SCRIPTS))
    import seeing
    import seeing_picture
    import seeing_runs
    import seeing_tables

    found = {one.__name__: one for one in (seeing, seeing_runs, seeing_tables, seeing_picture)}
    yield found
    sys.path.remove(str(SCRIPTS))
    for name in found:
        del sys.modules[name]


def test_one_command_writes_runs_tables_and_a_picture(bench, tmp_path, capsys):
    (tmp_path / "bridge.toml").write_text(STORY, encoding="utf-8")
    story = str(tmp_path / "bridge.toml")
    out = tmp_path / "out"
    asked = ["--out", str(out), "--backend", "scripted", "--stories", story, "--citizens", "11", "--ticks", "2"]
    assert bench["seeing"].main(asked) == 0
    table = capsys.readouterr().out
    assert (out / "table.md").read_text(encoding="utf-8") == table
    assert (out / "shares.png").read_bytes().startswith(b"\x89PNG")
    runs = json.loads((out / "results.json").read_text(encoding="utf-8"))["runs"]
    assert [(one["see"], one["seed"]) for one in runs] == [(see, seed) for seed in (0, 1) for see in SEE]
    assert all(one["decisions"] == one["calls"] == one["asked"]["questions"] == 22 for one in runs)
    assert [one["asked"]["prefixes"] for one in runs[:3]] == [2, 3, 2]  # communities of 6 and 5 in the second tick
    first = [one["shares"][0] for one in runs[:3]]
    assert first[0] == first[1] == first[2]  # before anybody saw anything
    assert [row.count("|") for row in table.splitlines() if row.startswith("| the")] == [10] * 3 + [7] * 3
    assert bench["seeing"].main([*asked, "--again"]) == 0
    assert capsys.readouterr().out == table


def test_a_run_is_measured_by_exact_distributions_of_the_language_models_people(bench, tmp_path):
    (tmp_path / "bridge.toml").write_text(STORY.replace("share = 0.0", "share = 0.5"), encoding="utf-8")
    likely = ScriptedBackend(probability=lambda request, letter: 3.0 if letter == "A" else 1.0)
    given = Namespace(summarizer="tally", citizens=8, network="communities", shown=5, texts=False, ticks=3)
    one = bench["seeing_runs"].run(str(tmp_path / "bridge.toml"), "global", 1, likely, given)
    assert one.shares == [pytest.approx({"good": 0.75, "bad": 0.25})] * 3
    assert one.decisions == 4 * 3
    assert one.communities[0].keys() <= {"North", "South"}


def test_distances_leave_the_first_tick_out_and_compare_communities_in_pairs(bench):
    even, odd = {"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75}
    away = bench["seeing_tables"].over_ticks([odd, even, even], [even, even, odd])
    assert away == pytest.approx((0.5 * log(2) + 0.5 * log(2 / 3)) / 2)
    assert bench["seeing_tables"].apart([even, odd, even]) == pytest.approx(0.25 * 2 / 3)
    assert bench["seeing_tables"].apart([even]) == 0


def test_what_cannot_be_measured_is_one_line(bench, tmp_path, capsys):
    asked = ["--out", str(tmp_path), "--backend", "scripted"]
    assert bench["seeing"].main([*asked, "--replicas", "1"]) == 2
    assert bench["seeing"].main([*asked, "--stories", "helth"]) == 2
    assert bench["seeing"].main([*asked, "--ticks", "9"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["seeing"] * 3
    assert "did you mean 'health'" in said[1]
    assert "'health' ends after 8 ticks" in said[2]


@pytest.mark.model
def test_neighbours_posts_cost_more_computed_tokens_than_a_mean_field(bench, capsys, embedded_model):
    import seeing_cost

    assert seeing_cost.main(["--citizens", "15", "--ticks", "2"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    computed = {cells[0]: int(cells[6]) for cells in rows}
    _, exact, _, _, _, two, five, _ = computed.values()
    assert exact < two < five
    del sys.modules["seeing_cost"]


# --- The readme of the town ------------------------------------------------------------------------------


def test_the_readmes_python_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert "spray, all" in capsys.readouterr().out


def test_the_readmes_story_is_one(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(re.findall(r"```toml\n(title.*?)```", README, re.DOTALL)[0], encoding="utf-8")
    town = Town(read_scenario(file), citizens=9)
    while town.running:
        town.step()
    assert town.crowd.tick == 6


def test_the_readmes_plan_makes_towns(tmp_path):
    model = tomllib.loads(re.findall(r"```toml\n(\[model\].*?)```", README, re.DOTALL)[0])["model"]
    make = Functions(tmp_path).find(model["factory"], "the readme")
    town = make(3, **model["parameters"], backend="scripted")
    assert (town.story.name, town.see, len(town.agents)) == ("health", "community", 40)


@pytest.mark.parametrize(
    "table", ["Whole", "DecisionTable", "RulesTable", "NamesTable", "ValueTable", "CommunityTable"]
)
def test_the_readme_names_every_field_of_a_story(table):
    left = [name for name in getattr(tables, table).model_fields if name not in README.partition("of your own")[2]]
    assert left == []


def test_the_readme_names_every_happening_with_its_fields():
    for name, (_, table) in tables.TIMELINE.items():
        (row,) = [line for line in README.splitlines() if f'`kind = "{name}"`' in line]
        assert [field for field in table.model_fields if f"`{field}" not in row] == []
