"""``describe``: what is known of a run, under the headings of ODD; nothing is invented, and no secret is shown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from worlds import cascade

import mesa_meanfield
from mesa_meanfield import write_cascades
from mesa_meanfield.appendix import describe
from mesa_meanfield.backends.calls import CALLS
from mesa_meanfield.cli import main

HEADINGS = [
    "1. Purpose and patterns",
    "2. Entities, state variables, and scales",
    "3. Process overview and scheduling",
    "4. Design concepts",
    "5. Initialization",
    "6. Input data",
    "7. Submodels",
    "8. Language models",
    "9. Prompts",
    "10. Interventions",
    "11. Failures, cost, and time",
    "12. Reproduction",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run, an evaluation, and the data of both."""
    folder = tmp_path_factory.mktemp("world")
    write_cascades(folder / "data.jsonl", [cascade(20, key="c1")])
    given = ["--backend", "scripted", "--data", str(folder / "data.jsonl"), "--seed", "7"]
    assert main(["run", *given, "--out", str(folder / "run")]) == 0
    assert main(["evaluate", *given, "--summarizers", "tally,none", "--out", str(folder / "card")]) == 0
    return folder


def config(folder: Path, **values) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_a_run_is_described_by_what_its_files_say(world):
    told = describe(world / "run").as_dict()
    assert list(told) == HEADINGS
    data = hashlib.sha256((world / "data.jsonl").read_bytes()).hexdigest()
    assert told["6. Input data"]["SHA-256 of the data"] == data
    assert told["6. Input data"]["cascade"] == "c1"
    assert told["2. Entities, state variables, and scales"]["agents"].endswith("6 were played, 14 simulated.")
    assert told["2. Entities, state variables, and scales"]["ticks"] == "6, the first 2 of them played"
    assert told["5. Initialization"]["seed"] == 7
    assert told["8. Language models"]["models (as asked for: name)"] == {"scripted": "scripted"}
    assert told["8. Language models"]["adapters"] == dict.fromkeys(("policy", "summarizer", "calibration"), "none")
    result = json.loads((world / "run" / "result.json").read_text())
    costs = told["11. Failures, cost, and time"]
    assert (
        costs["cost in the call log"]["calls"]
        == result["usage"]["calls"]
        == costs["cost of the simulations"]["calls"]
    )
    assert (costs["failed decisions"], costs["failed summaries"]) == (0, 0)
    assert told["12. Reproduction"]["version of mesa_meanfield"] == mesa_meanfield.__version__
    assert told["12. Reproduction"]["again, without the model"].endswith(f"run --replay {world / 'run'}")


def test_its_prompts_are_there_with_their_hashes(world):
    prompts = describe(world / "run").as_dict()["9. Prompts"]
    shipped = Path(mesa_meanfield.__file__).parent / "templates" / "en" / "policy_suffix.j2"
    assert prompts["templates (SHA-256)"]["en/policy_suffix.j2"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert prompts["Template en/policy_suffix.j2"] == shipped.read_text(encoding="utf-8")
    example = next(text for name, text in prompts.items() if name.startswith("Example 2, a question for a choice"))
    assert "A walrus sits in the canal." in example
    assert example.endswith("Answer with one word: comment, query, deny, support.")


def test_an_evaluation_is_described_too(world):
    told = describe(world / "card").as_dict()
    assert list(told) == HEADINGS
    assert told["5. Initialization"]["replicas"] == 3
    assert told["11. Failures, cost, and time"]["roll-outs"] == 2 * 3
    assert set(told["7. Submodels"]["summarizer"]) == {"tally", "none"}


def test_what_is_unknown_is_not_recorded_and_nothing_is_invented(tmp_path):
    page = describe(config(tmp_path / "run", seed=3)).markdown()
    for line in (
        "- **question:** not recorded",
        "- **what was done:** not recorded",
        "- **entities:** not recorded",
        "- **seed:** 3",
        "- **interventions:** not recorded",
        "- **git revision:** not recorded",
        "- **example of a prompt:** not recorded",
    ):
        assert line in page
    for never in ("Readers", "mean field:", "MF-LLM", "tick is", "replay tmp"):
        assert never not in page


def test_an_experiment_is_described_with_its_interventions_and_its_plan(tmp_path):
    folder = config(tmp_path / "run", asked={"command": "compare"}, plan="plan.toml", cascade="c1", seed=0, ticks=8)
    (folder / "plan.toml").write_text('question = "What if?"\n```\n')
    said = {"kind": "Announce", "at": 3, "text": "It is false.", "source": "the police"}
    (folder / "result.json").write_text(json.dumps({"interventions": [said], "fork_at": 3, "failed": 1}))
    description = describe(folder)
    told = description.as_dict()
    assert told["10. Interventions"] == {"interventions": [said], "fork at": 3}
    assert told["11. Failures, cost, and time"]["failed runs"] == 1
    assert (
        "- **interventions:** (kind: Announce; at: 3; text: It is false.; source: the police)"
        in description.markdown()
    )
    assert '````text\nquestion = "What if?"\n```\n\n````' in description.markdown()  # a longer fence than its own
    own = config(tmp_path / "own", asked={"command": "compare"}, factory="town:make")
    assert "Readers" not in describe(own).markdown()


def test_an_unfinished_run_is_described_as_such(tmp_path):
    config(tmp_path / "run.partial", command="run")
    for name in ("run", "run.partial"):
        assert describe(tmp_path / name).as_dict()["12. Reproduction"]["state"] == "unfinished"


def test_no_password_of_an_address_is_shown(tmp_path):
    folder = config(tmp_path / "run", backend="http://me:SECRET@host/v1#m", models={"https://me:SECRET@host/v1": "x"})
    (folder / "plan.toml").write_text('backend = "http://me:SECRET@host/v1"')
    page = describe(folder).markdown()
    assert "SECRET" not in page
    assert "http://host/v1#m" in page


def test_the_command_prints_a_page_or_json_or_writes_a_file(capsys, world, tmp_path):
    assert main(["describe", str(world / "run")]) == 0
    page = capsys.readouterr().out
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == HEADINGS
    assert main(["describe", str(world / "run"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == HEADINGS
    assert main(["describe", str(world / "run"), "--out", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page
    assert main(["describe", str(world / "run"), "--out", str(tmp_path / "page.md")]) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "", "config.json: cannot be read"),
        ("result.json", "[]", "result.json: is no JSON object"),
        (CALLS, "no database at all " * 100, "file is not a database"),
        ("decisions.jsonl", "{}\n", "its decisions or mean fields cannot be read"),
    ],
)
def test_a_damaged_directory_is_told_in_one_line(capsys, tmp_path, name, content, said):
    folder = config(tmp_path / "run", seed=3)
    (folder / "fields.jsonl").write_text("")
    (folder / name).write_text(content)
    assert main(["describe", str(folder)]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_is_no_run_is_told(capsys, tmp_path):
    assert main(["describe", str(tmp_path)]) == 2
    assert "no run is there" in capsys.readouterr().err
