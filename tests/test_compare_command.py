"""`mesa-meanfield compare`: a plan file's intervention against its paired counterfactual."""

from __future__ import annotations

import csv
import json
import math
import sqlite3

import pytest
from planned import COMPARED, DENIAL, MODEL, PLANNED, one_line, result, said, written
from test_figures import HOSTILE
from test_report import Page
from worlds import cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.cli import compare as command

CASCADE = """replicas = 2
[model]
data = "data.jsonl"
id = "c1"
summarizer = "tally"
backend = "scripted"
"""


@pytest.fixture
def plan(tmp_path):
    return written(tmp_path, COMPARED)


@pytest.fixture
def cascades(tmp_path):
    write_cascades(tmp_path / "data.jsonl", [cascade(20, key="c1"), cascade(12, key="c2")])
    return tmp_path


def test_json_is_one_object_with_all_that_is_promised(capsys, plan, tmp_path):
    told = result(capsys, "compare", plan, "--out", tmp_path / "r", "--label", "yes")
    assert list(told)[:6] == ["label", "effect", "ci", "effect_unpaired_ci", "variance_ratio", "replicas"]
    assert (told["label"], told["replicas"], told["fork_at"], told["failed"], told["failures"]) == ("yes", 4, 2, 0, 0)
    assert told["effect"] == pytest.approx(-0.3)
    assert told["report"] == str(tmp_path / "r" / "report.html")
    assert [(one["label"], one["tick"]) for one in told["effects"]] == [
        ("yes", None), ("no", None), ("yes", 3), ("no", 3)
    ]  # fmt: skip
    assert told["interventions"][0]["kind"] == "Announce"
    assert told["tokens"] == told["usage"]["tokens_asked"] > 0


def test_the_directory_holds_everything(capsys, plan, tmp_path):
    result(capsys, "compare", plan, "--out", tmp_path / "r", "--backend", "scripted")
    out = tmp_path / "r"
    assert {file.name for file in out.iterdir() if file.suffix != ".parquet"} == {
        "calls.sqlite", "config.json", "effect.png", "effects.csv", "plan.toml", "prompts.json", "report.html",
        "result.json", "runs.csv",
    }  # fmt: skip
    assert (out / "plan.toml").read_bytes() == plan.read_bytes()
    config = json.loads((out / "config.json").read_text())
    assert config["asked"]["plan_sha256"]
    assert (config["replicas"], config["seed"], config["ticks"], config["model"]) == (4, 3, 4, "scripted")
    assert "No language model was asked" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    with (out / "effects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["tick"]) for row in rows] == [(x, str(t)) for x in ("yes", "no") for t in range(4)]
    assert (out / "effect.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_tells_effects_intervals_and_cost(capsys, plan, tmp_path):
    status, out, _ = said(capsys, "compare", plan, "--out", tmp_path / "r")
    assert status == 0
    for told in ("without", "paired", "unpaired", "variance", "−30.0", "tick 3, the last one", "tokens asked"):
        assert told in out
    assert "4 pairs of replicas, 0 runs failed, 0 decisions failed" in out


def test_without_a_label_the_largest_effect_comes_first_and_the_page_says_so(capsys, cascades, tmp_path):
    plan = tmp_path / "p.toml"
    plan.write_text(f"{CASCADE}[[intervention]]\n{DENIAL}", encoding="utf-8")
    told = result(capsys, "compare", plan, "--out", tmp_path / "r")
    size = {one["label"]: abs(one["effect"]) for one in told["effects"] if one["tick"] is None}
    assert told["label"] == max(size, key=size.get)
    page = Page((tmp_path / "r" / "report.html").read_text("utf-8"))
    assert "Nobody asked for a label" in page.text


def test_a_cascade_plays_its_record_first(capsys, cascades, tmp_path):
    plan = tmp_path / "p.toml"
    plan.write_text(f'label = "deny"\n{CASCADE}[[intervention]]\n{DENIAL}who_is = 1', encoding="utf-8")
    assert "'who_is' is no field" in one_line(capsys, tmp_path, "compare", plan)
    plan.write_text(f'label = "deny"\n{CASCADE}[[intervention]]\n{DENIAL}', encoding="utf-8")
    told = result(capsys, "compare", plan, "--out", tmp_path / "r")
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert (config["cascade"], config["dimension"], config["ticks"]) == ("c1", "stance", 6)
    assert (told["label"], told["fork_at"]) == ("deny", 2)
    text = Page((tmp_path / "r" / "report.html").read_text("utf-8")).text
    assert "14 readers in 4 ticks after 2 played ones" in text
    assert "From tick 2 on everyone reads an official statement by the mayor: “It is false.”" in text
    assert "A walrus sits in the canal." in text


def test_the_most_influential_readers_are_those_with_most_followers_still_to_come(capsys, cascades, tmp_path):
    plan = tmp_path / "p.toml"
    chosen = '[[intervention]]\nkind = "mute"\nat = 2\nwho = "most_influential:14"'
    plan.write_text(f'label = "deny"\n{CASCADE}{chosen}', encoding="utf-8")
    told = result(capsys, "compare", plan, "--out", tmp_path / "r")
    assert told["effect"] is None  # all 14 are mute, and none of the warm-up was taken instead
    assert "Nobody decided" in (tmp_path / "r" / "report.html").read_text("utf-8")


def test_a_control_of_its_own_is_what_is_compared_with(capsys, plan, tmp_path):
    plan.write_text(f"{COMPARED}[[control]]\n{DENIAL}", encoding="utf-8")
    told = result(capsys, "compare", plan, "--out", tmp_path / "r", "--label", "yes")
    assert (told["effect"], told["ci"]) == (0, [0, 0])


def test_one_candidate_is_picked_by_its_name(capsys, plan, tmp_path):
    written(tmp_path, PLANNED, plan.name)
    assert "say which one by --candidate: nothing, denial, half" in one_line(capsys, tmp_path, "compare", plan)
    assert "'halve' is no candidate; did you mean 'half'?" in one_line(
        capsys, tmp_path, "compare", plan, "--candidate", "halve"
    )
    told = result(capsys, "compare", plan, "--candidate", "half", "--out", tmp_path / "r")
    assert told["label"] == "yes"
    assert -0.3 < told["effect"] < 0
    assert "What would “half” change?" in (tmp_path / "r" / "report.html").read_text("utf-8")


def test_arguments_take_the_place_of_the_plan_files(capsys, plan, tmp_path):
    told = result(capsys, "compare", plan, "--out", tmp_path / "r", "--replicas", 2, "--seed", 9)
    assert told["replicas"] == 2
    assert json.loads((tmp_path / "r" / "config.json").read_text())["seed"] == 9
    assert "compare" in (tmp_path / "r" / "report.html").read_text("utf-8")


def test_a_run_that_fails_is_left_out_and_told(capsys, plan, tmp_path):
    plan.write_text(COMPARED.replace('town.py:town"', 'town.py:town"\nparameters = {fails = 4}'), encoding="utf-8")
    status, out, err = said(capsys, "compare", plan, "--out", tmp_path / "r")
    assert status == 0
    assert "note: 1 of 4 pairs of replicas are left out" in err
    assert "3 pairs of replicas, 2 runs failed" in out
    assert "no town today" in Page((tmp_path / "r" / "report.html").read_text("utf-8")).text


# --- Replay and resume -------------------------------------------------------------------------------


def figures(out):
    return {name: (out / name).read_bytes() for name in ("effects.csv", "runs.csv")}


def test_a_replay_gives_the_same_figures_without_a_model(capsys, plan, tmp_path):
    result(capsys, "compare", plan, "--out", tmp_path / "r", "--backend", "scripted")
    result(capsys, "compare", plan, "--out", tmp_path / "s", "--backend", "scripted", "--replay", tmp_path / "r")
    assert figures(tmp_path / "r") == figures(tmp_path / "s")
    assert not (tmp_path / "s" / "calls.sqlite").exists()
    again = ["compare", plan, "--backend", "scripted", "--replay", tmp_path / "r"]
    assert "was begun with another seed" in one_line(capsys, tmp_path, *again, "--seed", 4)


def test_a_replay_of_a_call_that_is_not_there_fails_loudly(capsys, plan, tmp_path):
    asked = ["compare", plan, "--backend", "scripted"]
    result(capsys, *asked, "--out", tmp_path / "r")
    with sqlite3.connect(tmp_path / "r" / "calls.sqlite") as log:
        log.execute("DELETE FROM calls WHERE key = (SELECT MAX(key) FROM calls)")
    log.close()
    assert "only what was recorded can be replayed" in one_line(capsys, tmp_path, *asked, "--replay", tmp_path / "r")


def test_a_dry_run_tells_the_cost_and_writes_nothing(capsys, plan, tmp_path):
    before = {one.name for one in tmp_path.iterdir()} | {"__pycache__"}
    told = result(capsys, "compare", plan, "--backend", "embedded", "--dry-run")
    assert told["dry_run"] is True
    assert told["calls"] > 0
    assert {one.name for one in tmp_path.iterdir()} <= before


def test_a_spent_budget_leaves_what_can_be_gone_on_with(capsys, plan, tmp_path):
    asked = ["compare", plan, "--backend", "scripted"]
    status, _, err = said(capsys, *asked, "--out", tmp_path / "r", "--max-calls", 60, "--jobs", 1)
    assert status == 1
    assert "--resume" in err
    result(capsys, *asked, "--resume", tmp_path / "r")
    result(capsys, *asked, "--out", tmp_path / "whole")
    assert figures(tmp_path / "r") == figures(tmp_path / "whole")


def test_the_rest_is_made_so_many_at_a_time_as_the_beginning(capsys, plan, tmp_path, monkeypatch):
    asked, workers, real = ["compare", plan, "--backend", "scripted"], [], command.compared

    def spied(*given, **named):
        workers.append(named["workers"])
        return real(*given, **named)

    monkeypatch.setattr(command, "compared", spied)
    for out in ("r", "s"):
        said(capsys, *asked, "--out", tmp_path / out, "--max-calls", 60, "--jobs", 3)
    result(capsys, *asked, "--resume", tmp_path / "r")
    result(capsys, *asked, "--resume", tmp_path / "s", "--jobs", 2)
    assert workers == [3, 3, 3, 2]


def test_what_broke_off_is_gone_on_with_and_comes_to_the_same(capsys, plan, tmp_path, monkeypatch):
    asked = ["compare", plan, "--backend", "scripted"]
    result(capsys, *asked, "--out", tmp_path / "whole")

    def full(*given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(command, "save_effect", full)
        status, _, err = said(capsys, *asked, "--out", tmp_path / "r")
    assert status == 1
    assert "No space left on device" in err
    assert f"go on by: mesa-meanfield compare {plan} --resume {tmp_path / 'r'}" in err
    assert not (tmp_path / "r").exists()
    status, _, err = said(capsys, *asked, "--seed", 5, "--resume", tmp_path / "r")
    assert (status, "was begun with another seed" in err) == (2, True)
    told = result(capsys, *asked, "--resume", tmp_path / "r.partial")
    assert told["run_dir"] == str(tmp_path / "r")
    assert figures(tmp_path / "r") == figures(tmp_path / "whole")
    assert not (tmp_path / "r.partial").exists()


# --- The page ----------------------------------------------------------------------------------------


def test_the_page_needs_no_other_file_and_no_script(capsys, plan, tmp_path):
    result(capsys, "compare", plan, "--out", tmp_path / "r", "--backend", "scripted", "--label", "yes")
    source = (tmp_path / "r" / "report.html").read_text("utf-8")
    page = Page(source)
    assert not {name for name, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert "http" not in source.replace("image/svg+xml", "")
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= there
    assert all(len(image["alt"]) > 20 for image in page.all("img"))


def test_the_page_shows_the_same_agent_in_both_arms(capsys, plan, tmp_path):
    result(capsys, "compare", plan, "--out", tmp_path / "r", "--label", "yes")
    page = Page((tmp_path / "r" / "report.html").read_text("utf-8"))
    own = [attributes for name, attributes in page.elements if name == "p" and attributes.get("class") == "own"]
    assert own
    asked = next(row for row in page.rows if len(row) == 2 and "The topic:" in row[0])
    assert "An official statement by the mayor:\nIt is false." in asked[0]
    assert "mayor" not in asked[1]
    assert "Shall we?" in asked[1]
    assert "20.0 %" in page.text
    assert "50.0 %" in page.text


@pytest.mark.parametrize("hostile", [one for one in HOSTILE if one.isprintable()])
def test_every_text_of_a_plan_is_escaped(capsys, plan, tmp_path, hostile):
    quoted = json.dumps(hostile)
    text = COMPARED.replace('"It is false."', quoted).replace('"the mayor"', quoted)
    plan.write_text(f"question = {quoted}\n{text}", encoding="utf-8")
    result(capsys, "compare", plan, "--out", tmp_path / "r", "--replicas", 1, "--label", "yes")
    page = Page((tmp_path / "r" / "report.html").read_text("utf-8"))
    assert "".join(hostile.split()) in "".join(page.text.split())
    assert "script" not in {name for name, _ in page.elements}


def test_one_pair_has_no_interval_and_the_page_says_so(capsys, plan, tmp_path):
    told = result(capsys, "compare", plan, "--out", tmp_path / "r", "--replicas", 1, "--label", "yes")
    assert told["ci"] == [None, None]
    assert math.isclose(told["effect"], -0.3)
    assert "no interval" in Page((tmp_path / "r" / "report.html").read_text("utf-8")).text


# --- What is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MODEL, "there is nothing to compare: add a table [[intervention]]"),
        (COMPARED.replace("ticks = 4\n", ""), "ticks is missing"),
        (COMPARED.replace("at = 2", "at = 4"), "begins after the end of the run, whose last tick is 3"),
        (f"fork_at = 7\n{COMPARED}", "fork_at must be one of the 4 ticks"),
        (f"fork_at = 3\n{COMPARED}", "before the fork at 3"),
        (f'label = "yess"\n{COMPARED}', "'yess' is no label of this model; did you mean 'yes'?"),
        (COMPARED.replace("small_town", "big_town"), "[model]: factory: big_town.py cannot be imported"),
        (COMPARED.replace("py:town", "py:village"), "small_town.py has no 'village'; there are"),
        (COMPARED.replace("town\"", "town\"\nparameters = {houses = 3}"), "the model cannot be made: TypeError"),
        (COMPARED.replace("town\"", "town\"\ncrowd = 'mob'"), "the model cannot be made: ValueError"),
        (f'{MODEL}\n[[intervention]]\nkind = "inject"\nat = 1\ntext = ""\naccount = "bot"\n'
         'labels = {action = "ye"}', "number 1 (inject): labels: 'ye' is no label of action; did you mean 'yes'?"),
        (f'{MODEL}\n[[intervention]]\nkind = "replace"\nat = 1\nscript = {{labels = {{mood = "no"}}}}',
         "(replace): labels: 'mood' is no dimension of this model; there are action"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_leaves_nothing(capsys, tmp_path, text, told):
    assert told in one_line(capsys, tmp_path, "compare", written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CASCADE.replace("data.jsonl", "gone.jsonl"), "gone.jsonl: cannot be read"),
        (CASCADE.replace("c1", "c9"), "there is no cascade 'c9'"),
        (f"ticks = 99\n{CASCADE}", "ticks is 99, but there are 6"),
        (CASCADE.replace("scripted", 'scripted"\nadapter = "nowhere'), "nowhere"),
        (CASCADE.replace("scripted", "nonsense"), "Unknown backend 'nonsense'"),
        (f'{CASCADE}dimension = "mood"\n', "mood"),
        (f'{CASCADE}prompts = "nowhere"\n', "nowhere"),
    ],
)
def test_a_cascade_that_cannot_be_is_one_line(capsys, cascades, tmp_path, text, told):
    plan = tmp_path / "p.toml"
    plan.write_text(f"{text}[[intervention]]\n{DENIAL}", encoding="utf-8")
    assert told in one_line(capsys, tmp_path, "compare", plan)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--replicas", 0], "--replicas must be at least 1"),
        (["--jobs", 0], "--jobs must be at least 1"),
        (["--label", "maybe"], "--label: 'maybe' is no label of this model; there are yes, no"),
        (["--dry-run"], "[model] has no backend, so that nothing is recorded, counted or replayed"),
        (["--replay", "nowhere"], "nowhere/config.json: cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, plan, tmp_path, arguments, told):
    assert told in one_line(capsys, tmp_path, "compare", plan, *arguments)


def test_nothing_is_overwritten(capsys, plan, tmp_path):
    (tmp_path / "r").mkdir()
    status, _, err = said(capsys, "compare", plan, "--out", tmp_path / "r")
    assert (status, "is there already" in err) == (2, True)
