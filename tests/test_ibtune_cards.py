"""What an adapter's card says of its figures, data and licences."""

from __future__ import annotations

import pytest

from mesa_meanfield.ibtune.cards import card
from mesa_meanfield.ibtune.config import Settings

STAGES = [{"stage": "policy", "before": {"nll": 1.5}, "after": {"nll": 0.75}}]


def written(name="policy", base="some/model", data=None, **more):
    return card(name, base, Settings(), {"files": {"x.jsonl": "abc"}} | (data or {}), STAGES, **more)


def test_figures_of_ones_own_stand_in_a_table_behind_those_of_the_ticks():
    rows = [("roll-out", "KL", "95 %"), ("untuned", "0.820", "[0.7, 0.9]"), ("tuned", "0.160", "[0.1, 0.2]")]
    text = written(figures=rows)
    head = "| roll-out | KL | 95 % |\n|---|---:|---:|\n"
    expected = f"{head}| untuned | 0.820 | [0.7, 0.9] |\n| tuned | 0.160 | [0.1, 0.2] |\n"
    assert text.index("| policy | after | 0.7500 |") < text.index(expected) < text.index("## Data")


def test_a_table_without_rows_is_a_table_still():
    text = card("policy", "some/model", Settings(), {}, [])
    assert "| stage |  | NLL per action | NLL per token | distortion | rate |\n|---|---|---|---|---|---|\n" in text


def test_licences_are_told_where_they_are_known():
    text = written(base="SmolLM2-135M-Instruct", data={"datasets": ["rumoureval2017", "mine"]}, licence="Apache-2.0")
    assert text.startswith('---\nlibrary_name: peft\nbase_model: "SmolLM2-135M-Instruct"\nlicense: apache-2.0\n---\n')
    for line in (
        "- This adapter: Apache-2.0.",
        "- Base model, SmolLM2-135M-Instruct: Apache-2.0.",
        "- Data, rumoureval2017: SemEval-2017 task 8",
        "- Data, mine: its own licence; see there.",
    ):
        assert f"\n{line}" in text
    plain = written()
    assert "license:" not in plain
    assert "This adapter:" not in plain
    assert "- Base model, some/model: its own licence; see there." in plain


@pytest.mark.parametrize(
    ("name", "option"), [("policy", "--adapter"), ("sft", "--adapter"), ("summarizer", "--summarizer-adapter")]
)
def test_a_card_says_how_to_load_its_adapter_and_what_it_is_for(name, option):
    text = written(name)
    assert f"`{option} FOLDER`" in text
    assert "## Intended use" in text
    assert "## Limits" in text
