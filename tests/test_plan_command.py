"""`mesa-meanfield plan`: the best of a plan file's candidates."""

from __future__ import annotations

import csv
import json

import pytest
from planned import DENIAL, MODEL, PLANNED, one_line, result, said, written
from test_report import Page


@pytest.fixture
def plan(tmp_path):
    return written(tmp_path, PLANNED)


def test_json_is_a_ranking_with_all_that_is_promised(capsys, plan, tmp_path):
    told = result(capsys, "plan", plan, "--out", tmp_path / "r", "--replicas", 8)
    assert [one["intervention"] for one in told["ranking"]] == ["denial", "half", "nothing"]
    assert all({"intervention", "objective", "ci", "tokens"} <= set(one) for one in told["ranking"])
    assert told["ranking"][0]["objective"] == pytest.approx(0.2)
    assert told["ranking"][-1]["objective"] == pytest.approx(0.5)
    assert (told["stopped"], told["maximise"], told["failed"]) == ("separated", False, 0)
    assert sum(one["tokens"] for one in told["ranking"]) == told["tokens"] > 0
    assert told["candidates"]["nothing"] == []
    assert told["candidates"]["half"][0]["reach"] == 0.5
    assert told["objective"] == "share of yes in the last tick"


def test_the_directory_holds_everything(capsys, plan, tmp_path):
    result(capsys, "plan", plan, "--out", tmp_path / "r")
    assert {file.name for file in (tmp_path / "r").iterdir() if file.suffix != ".parquet"} == {
        "config.json", "plan.toml", "prompts.json", "ranking.csv", "report.html", "result.json", "runs.csv"
    }  # fmt: skip
    with (tmp_path / "r" / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["intervention"] for row in rows] == ["denial", "half", "nothing"]
    assert [row["place"] for row in rows] == ["1", "2", "3"]


def test_the_table_and_the_reason_why_it_stopped_are_printed(capsys, plan, tmp_path):
    status, out, _ = said(capsys, "plan", plan, "--out", tmp_path / "r", "--replicas", 8)
    assert status == 0
    assert "Objective: share of yes in the last tick; less is better" in out
    assert "“denial” is the best (share of yes in the last tick 0.200" in out
    assert "Stopped (separated): denial is separated from the others" in out


def test_the_budget_ends_it_with_what_is_done_kept(capsys, plan, tmp_path):
    told = result(capsys, "plan", plan, "--out", tmp_path / "a", "--budget-tokens", 1)
    assert (told["stopped"], len(told["ranking"])) == ("budget", 3)
    assert (told["ranking"][0]["replicas"], told["ranking"][-1]["objective"]) == (1, None)
    plan.write_text(f"{PLANNED}\n[budget]\ntokens = 1\n", encoding="utf-8")
    again = result(capsys, "plan", plan, "--out", tmp_path / "b")
    assert again["ranking"] == told["ranking"]


def test_the_page_holds_ranking_candidates_and_examples(capsys, plan, tmp_path):
    result(capsys, "plan", plan, "--out", tmp_path / "r", "--replicas", 8, "--backend", "scripted")
    source = (tmp_path / "r" / "report.html").read_text("utf-8")
    page = Page(source)
    assert "Which of 3 interventions is best for the share of yes in the last tick?" in page.text
    assert (
        "From tick 2 on 50\N{NO-BREAK SPACE}% of the agents read an official statement by the mayor: “It is false.”"
        in page.text
    )
    assert "Nothing happens." in page.text
    assert "It stopped because" in page.text
    assert len(page.all("img")) == 2
    assert any(len(row) == 2 and "The topic:" in row[0] for row in page.rows)
    assert not {name for name, _ in page.elements} & {"script", "link", "iframe"}
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= there


def test_an_objective_of_ones_own_has_no_curve(capsys, tmp_path):
    table = 'kind = "function"\ncall = "small_town.py:silence"\n'
    text = PLANNED.replace('kind = "share_at"\nlabel = "yes"\n', table)
    plan = written(tmp_path, text)
    own = tmp_path / "small_town.py"
    own.write_text(own.read_text() + "\n\ndef silence(run): return run.share('no')\n")
    told = result(capsys, "plan", plan, "--out", tmp_path / "r", "--replicas", 3)
    assert told["objective"].endswith("small_town.silence")
    assert len(Page((tmp_path / "r" / "report.html").read_text("utf-8")).all("img")) == 1


def test_a_replay_stops_at_the_same_place_without_a_model(capsys, plan, tmp_path):
    asked = ["plan", plan, "--backend", "scripted", "--budget-tokens", 9000, "--jobs", 1]
    first = result(capsys, *asked, "--out", tmp_path / "r")
    again = result(capsys, *asked, "--out", tmp_path / "s", "--replay", tmp_path / "r")
    assert again["ranking"] == first["ranking"]
    assert again["stopped"] == first["stopped"]
    assert json.loads((tmp_path / "s" / "config.json").read_text())["model"] == "scripted"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{MODEL}\n[[intervention]]\n{DENIAL}", "there are no candidates: add tables [[candidates.NAME]]"),
        (f"{MODEL}\n[[candidates.a]]\n{DENIAL}", "the table [objective] is missing"),
        (PLANNED.replace('"yes"', '"yess"'), "[objective] (share_at): label: 'yess' is no label of this model; did"),
        (PLANNED.replace("at = 2", "at = 9"), "begins after the end of the run"),
        (PLANNED.replace("replicas = 4", "replicas = 0"), "replicas: Input should be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(capsys, tmp_path, text, told):
    assert told in one_line(capsys, tmp_path, "plan", written(tmp_path, text))


def test_a_budget_of_nothing_is_refused(capsys, plan, tmp_path):
    assert "budget_tokens must be at least 1" in one_line(capsys, tmp_path, "plan", plan, "--budget-tokens", 0)
