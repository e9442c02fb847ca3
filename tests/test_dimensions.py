"""The annotated dimensions beside the data's own, and which labels stand on a line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import action, cascade

from mesa_meanfield.cascades.dimensions import (
    annotated_dimensions,
    dimension_of,
    is_bare,
    known_labels,
    label_of,
    labels_of_dimension,
    positions_of,
    space_of,
)
from mesa_meanfield.cascades.known import ANNOTATED, BEHAVIOUR, KNOWN

DIMENSIONS = {
    "rumour": {"spread", "counter"},
    "sentiment": {"angry", "calm", "happy", "sad", "fear", "surprise"},
    "attitude": {"positive", "negative", "neutral"},
    "stance": {"support", "oppose", "neutral"},
    "belief": {"believe", "doubt"},
    "subjectivity": {"subjective", "objective"},
    "intent": {"question", "promotion", "opinion"},
}


def test_seven_dimensions_are_asked_and_behaviour_is_known_by_rule():
    assert {name: set(known_labels(f"{ANNOTATED}{name}")) for name in annotated_dimensions()} == DIMENSIONS
    assert set(known_labels(BEHAVIOUR)) == {"comment", "share"}


@pytest.mark.parametrize(("dimension", "language"), KNOWN)
def test_every_dimension_has_the_same_labels_in_each_language_each_with_a_word_and_a_meaning(dimension, language):
    known = KNOWN[dimension, language]
    assert tuple(known.options) == known_labels(dimension)
    assert known.question
    words, meanings = zip(*known.options.values(), strict=True)
    assert all(meanings)
    assert len(set(words)) == len(set(meanings)) == len(words)
    assert all(any("一" <= c <= "鿿" for c in said) == (language == "zh") for said in (*words, *meanings))


@pytest.mark.parametrize("name", DIMENSIONS)
def test_agents_can_decide_an_annotated_dimension(name):
    dimension = f"{ANNOTATED}{name}"
    english, chinese = (space_of(dimension, known_labels(dimension), language) for language in ("en", "zh"))
    assert english.labels == chinese.labels == {dimension: known_labels(dimension)}
    assert english.choice.question != chinese.choice.question
    assert set(chinese.choice.words) == set(chinese.choice.meanings) == DIMENSIONS[name]


def test_an_annotators_labels_are_not_the_datas_own():
    (remark,) = cascade(1).actions
    labelled = replace(remark, labels={"annotated.belief": "doubt", "annotated.stance": "oppose", "stance": "deny"})
    assert dimension_of(cascade(actions=[labelled])) == "stance"
    bare = replace(remark, labels={"annotated.belief": "doubt"})
    assert dimension_of(cascade(actions=[bare])) == BEHAVIOUR
    assert label_of(bare, "annotated.belief") == "doubt"
    assert labels_of_dimension("annotated.belief", []) == known_labels("annotated.belief")


@pytest.mark.parametrize("name", ["attitude", "stance", "belief"])
def test_ordered_labels_stand_on_a_line(name):
    positions = positions_of(f"{ANNOTATED}{name}")
    assert set(positions) == DIMENSIONS[name]
    assert len(set(positions.values())) == len(positions)


def test_the_neutral_label_stands_in_the_middle():
    assert positions_of("annotated.attitude") == {"negative": -1, "neutral": 0, "positive": 1}
    assert positions_of("annotated.stance") == {"oppose": -1, "neutral": 0, "support": 1}


@pytest.mark.parametrize(
    "dimension", ["stance", BEHAVIOUR, "mood", "annotated.sentiment", "annotated.intent", "annotated.mood"]
)
def test_labels_without_an_order_have_no_positions(dimension):
    assert positions_of(dimension) is None


def test_a_text_without_a_word_of_ones_own_is_bare():
    assert is_bare(" 转发微博。")
    assert not is_bare("转发微博，哈哈")
    assert label_of(action(text=" 转发微博。", label=None), BEHAVIOUR) == "share"
