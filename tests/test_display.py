"""What values show in a notebook and in a terminal."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from arms import denial, run_of, town
from cards import card, entry, pair, rival, scorecard, unknown
from worlds import action, cascade, tick

from mesa_meanfield import (
    Decision,
    LLMPolicy,
    MeanField,
    ScriptedBackend,
    ShareAt,
    TallySummarizer,
    compare,
    plan,
    run_replicas,
)
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.data import Cascade
from mesa_meanfield.display import HUES, Shown, bars, legible, percent, shares_line
from mesa_meanfield.evaluation.report.drawing import COLOURS
from mesa_meanfield.evaluation.scorecard import Card
from mesa_meanfield.experiments.comparison import Comparison
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.runs import Ensemble
from mesa_meanfield.provenance import Ledger
from mesa_meanfield_models.cascade.model import CascadeModel

ORDER = ("comment", "query", "deny", "support")  # of stance, in every report


def shown(value: Shown) -> str:
    """What a notebook shows, seen to be well formed and to need nothing from elsewhere."""
    made = value._repr_html_()
    ElementTree.fromstring(made)
    assert not re.search(r"<script|<link|@import|url\(|https?://|\son\w+=", made)
    return made


def rows(made: str) -> list[list[str]]:
    """The texts of every table's cells, row by row; pictures have none."""
    tree = ElementTree.fromstring(made)
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def colours(made: str) -> list[str]:
    return re.findall(r"background:(#\w+)", made)


@pytest.mark.parametrize("kind", [MeanField, Cascade, Card, Comparison, Plan, Ensemble])
def test_who_shows_a_value_is_there(kind):
    module, _, name = kind._shown_by.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_nothing_that_shows_values_is_loaded_before_it_shows_any():
    code = (
        "import sys, mesa_meanfield.data as data, mesa_meanfield.evaluation.scorecard; before = set(sys.modules);"
        "data.MeanField()._repr_html_(); print(*sorted(m for m in before | set(sys.modules) if 'notebook' in m)); "
        "print('mesa_meanfield.notebook' in before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["mesa_meanfield.notebook", "False"]


# --- Mean fields -------------------------------------------------------------------------------------


def test_a_mean_field_shows_its_text_and_both_shares():
    field = (
        MeanField().counted(tick("deny", "deny", "query", "deny")).counted(tick("query", "query", "query", "deny"))
    )
    made = shown(replace(field, text="Most doubt it."))
    assert "Most doubt it." in made
    assert "8 decisions" in made
    assert rows(made)[1:] == [["deny", "", "50.0%", "", "25.0%"], ["query", "", "50.0%", "", "75.0%"]]
    assert colours(made) == [HUES[0], HUES[0], HUES[1], HUES[1]]


def test_a_mean_field_of_numbers_shows_their_mean_and_median():
    field = MeanField().counted(tick(*(Decision(value=value) for value in (1, 2, 6))))
    assert "3 numbers so far, mean 3; latest tick: mean 3, median 2" in shown(field)


def test_an_empty_mean_field_shows_that_nothing_was_decided():
    assert "0 decisions" in shown(MeanField())
    assert repr(MeanField()) == "<MeanField of 0 decisions>"


def test_a_mean_field_is_one_line_in_a_terminal_whatever_it_carries():
    field = replace(
        MeanField().counted(tick("deny", "deny", "query")), text="Long. \n" * 50, carried=("an action",) * 999
    )
    assert repr(field).startswith("<MeanField of 3 decisions; stance: deny 66.7%, query 33.3%; 'Long. Long.")
    assert len(repr(field)) < 160
    assert "\n" not in repr(field)


def test_a_tick_is_one_line_in_a_terminal():
    assert repr(tick("deny", Decision(failure="no answer"), number=4)) == "<Tick 4: 2 decisions, 1 failed>"


# --- Cascades ----------------------------------------------------------------------------------------


def test_a_cascade_shows_its_topic_its_shares_and_its_first_actions():
    made = shown(cascade(8))
    assert "A walrus sits in the canal." in made
    assert rows(made)[1:5] == [[label, "", "25.0%"] for label in ORDER]
    assert rows(made)[5:] == [[f"u{i}", ("support", "deny", "query", "comment", "support")[i - 1], f"Remark {i}."]
                              for i in range(1, 6)]  # fmt: skip


def test_a_label_has_the_colour_of_the_reports_also_where_others_are_missing():
    made = shown(cascade(4, labels=("support",)))
    of = {row[0]: colour for row, colour in zip(rows(made)[1:5], colours(made), strict=True)}
    assert of == dict(zip(ORDER, COLOURS, strict=False))
    assert COLOURS[:7] == HUES


def test_actions_without_labels_are_shown_by_what_they_do():
    actions = [action("a1", None, ""), action("a2", None, "Hm.", after=1), action("a3", None, "", after=2)]
    assert rows(shown(cascade(actions=actions)))[1:3] == [["comment", "", "33.3%"], ["share", "", "66.7%"]]


def test_a_simulated_cascade_says_so_and_failures_count_in_no_share():
    actions = [
        action("a1", "deny"),
        action("a2", "query", after=1),
        action("a3", "deny", after=2, simulated=True),
        action("a4", None, after=3, failure="no answer"),
    ]
    made = shown(cascade(actions=actions))
    assert "2 simulated · 1 failed" in made
    assert "The line stands before action 3, the first simulated one." in made
    assert ["deny", "", "66.7%"] in rows(made)


def test_whatever_somebody_wrote_is_escaped():
    evil = "<script>alert(1)</script> & \x00 \u202eabc"
    one = cascade(2, labels=("<b>x</b>", "y"), topic=evil, key="<i>", dimension="<u>")
    made = shown(one)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \ufffd \ufffdabc" in made
    assert "&lt;b&gt;x&lt;/b&gt;" in made
    assert "<b>x</b>" not in made
    assert "Cascade &lt;i&gt;" in made
    assert "&lt;script&gt;" in shown(MeanField(text=evil, counts={"<u>": {"<b>": 1}}, size=1))


def test_a_cascade_is_one_line_in_a_terminal():
    one = cascade(1000, topic="Word. " * 1000)
    assert repr(one).startswith("<Cascade 'c1' (news, en): 1,000 actions on 'Word. Word.")
    assert len(repr(one)) < 140
    assert "1 action on" in repr(cascade(1))


def test_a_cascade_without_actions_is_shown():
    assert "0 actions" in shown(cascade(0))


def test_looking_at_a_guarded_cascade_tells_the_crowd_nothing():
    record = cascade(12)
    ledger = Ledger.of(record)
    policy = LLMPolicy(ScriptedBackend(), space_of("stance", ORDER, "en", texts=False))
    model = CascadeModel(ledger.view, policy=policy, summarizer=TallySummarizer(), dimension="stance")
    while model.running:
        for seen in (model.cascade, model.simulated):
            assert "Guarded" in shown(seen)
            assert "12 actions" in repr(model.cascade)
        model.step()
    assert ledger.elsewhere == set()
    assert "Guarded" not in shown(model.simulated)


# --- Scorecards --------------------------------------------------------------------------------------


def test_a_scorecard_shows_its_verdict_and_the_best_first():
    made = shown(scorecard(entry("tally", 0.3), entry("llm", 0.2), rival("prior", 0.1), paired=()))
    assert [row[0] for row in rows(made)[1:]] == ["llm", "tally", "prior"]
    assert rows(made)[1][2:4] == ["0.200", "0.150 to 0.250"]
    assert "the rival prior has the lowest KL on stance, 0.100 nats" in made
    assert re.findall(r'fill="(#\w+)"', made) == [HUES[1], HUES[0], "#888888"]  # by their place on the card


def test_what_is_unknown_is_a_dash_and_no_picture():
    made = shown(card(unknown("broken"), rival()))
    assert rows(made)[1][:4] == ["broken", "–", "–", "–"]
    assert made.count("<circle") == 1


def test_differences_beyond_chance_are_shown_on_demand():
    pairs = (pair("llm", "tally", -0.1, (-0.2, -0.05), "llm"), pair("llm", "prior", 0.1, (-0.1, 0.3)))
    made = shown(card(entry("llm", 0.2), entry("tally", 0.3), rival(), paired=pairs))
    assert "1 paired difference beyond chance" in made
    assert rows(made)[-1] == ["llm − tally", "kl", "−0.100", "−0.200 to −0.050", "llm"]


def test_a_scorecard_is_one_line_in_a_terminal():
    one = scorecard(entry("llm", 0.2), rival("prior", 0.1))
    line = "<Scorecard on stance: 4 cascades, 2 entries, lowest KL 0.100 of prior, noise floor 0.050>"
    assert (repr(one), str(one)) == (line, line)


# --- Experiments -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison():
    return compare(town(20), [denial(1)], replicas=4, ticks=3)


def test_a_comparison_shows_the_effect_on_every_label(comparison):
    made = shown(comparison)
    # By construction: 50 % say yes before the denial and 20 % after it, exactly expected.
    assert re.search("The intervention (lowers the share of yes|raises the share of no) by 30.0 points", made)
    assert [[row[0], *row[2:6]] for row in rows(made)[1:]] == [
        ["yes", "50.0", "20.0", "−30.0", "−30.0 to −30.0"],
        ["no", "50.0", "80.0", "+30.0", "+30.0 to +30.0"],
    ]
    assert "4 pairs · 3 ticks · fork at tick 1" in made


def test_experiments_are_one_line_in_a_terminal(comparison):
    assert repr(comparison) == "<Comparison of 4 pairs of runs over 3 ticks, fork at tick 1, 0 failed>"
    assert repr(comparison.ensemble) == "<Ensemble of 8 runs of control, treatment over 3 ticks, 0 failed>"
    assert repr(comparison.ensemble.runs[0]) == "<RunResult control 0 of seed 0: 3 ticks>"


def test_replicas_show_the_mean_of_each_share():
    made = shown(Ensemble((run_of([2, 4]), run_of([6, None])), (), 2))
    assert rows(made)[1:] == [["yes", "", "45.0%"], ["no", "", "55.0%"]]  # (30 % + 60 %) / 2
    assert "action" in shown(run_replicas(town(3), 2, 2, seed=0))


def test_a_plan_shows_its_ranking():
    made = plan(town(9), {"nothing": [], "denial": [denial(0)]}, ShareAt("no"), replicas=5, ticks=2)
    assert rows(shown(made))[1][:3] == ["1", "denial", "0.800"]
    assert "denial, nothing" in repr(made)


# --- The parts ---------------------------------------------------------------------------------------


def test_more_labels_than_colours_are_grey_and_more_than_a_dozen_are_counted():
    made = str(bars({"d": {f"l{i}": 1 / 15 for i in range(15)}}))
    assert colours(made) == [*HUES, *["#888888"] * 5]
    assert "and 3 labels more" in made


def test_shares_on_a_line_name_the_largest():
    told = shares_line({"a": {"w": 0.1, "x": 0.4, "y": 0.2, "z": 0.15, "v": 0.15}, "b": {}})
    assert told == "a: x 40.0%, y 20.0%, z 15.0%, v 15.0%, …"
    assert percent(1 / 3) == "33.3%"


def test_long_texts_are_cut():
    assert legible("x" * 300, 10) == "x" * 9 + "…"
