import pytest
from worlds import STANCES, action, cascade

from mesa_meanfield.actions import Choice, ChoiceThenText
from mesa_meanfield.cascades.dimensions import (
    BEHAVIOUR,
    counts_of,
    dimension_of,
    label_of,
    labels_of_dimension,
    space_of,
)
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Sampling


@pytest.mark.parametrize(
    "text", ["", "  \n", "转发微博", "转发微博。", " 轉發微博 ", "轉發微博。", "Repost", "Repost Weibo."]
)
def test_a_default_text_is_a_bare_repost(text):
    assert label_of(action(text=text, label=None), BEHAVIOUR) == "share"


@pytest.mark.parametrize("text", ["转发微博，太好笑了", "哈哈", "Repost this, all of you", "!", "。！"])
def test_words_of_ones_own_are_a_comment(text):
    assert label_of(action(text=text, label=None), BEHAVIOUR) == "comment"


def test_a_recorded_label_goes_before_the_rule():
    assert label_of(action(text="", label="comment", dimension=BEHAVIOUR), BEHAVIOUR) == "comment"
    assert label_of(action(label="deny"), "stance") == "deny"


def test_the_rule_is_for_behaviour_only():
    assert label_of(action(label=None), "stance") is None
    assert label_of(action(label="deny"), BEHAVIOUR) == "comment"


def test_a_failed_decision_has_no_label_in_any_dimension():
    failed = action(text="", failure="unreadable")
    assert (label_of(failed, "stance"), label_of(failed, BEHAVIOUR)) == (None, None)
    assert label_of(action(text="", simulated=True), BEHAVIOUR) == "share"


def test_counts_leave_out_what_has_no_label():
    actions = [action(label="deny"), action(label="deny", failure="unreadable"), action(label=None)]
    assert counts_of(actions, "stance", ("support", "deny")) == {"support": 0, "deny": 1}


def test_the_dimension_is_that_of_the_labels_else_behaviour():
    assert dimension_of(cascade(3)) == "stance"
    assert dimension_of(cascade(3, [None])) == BEHAVIOUR
    moods = [action("a1", dimension="mood"), action("a2"), action("a3", dimension="mood")]
    assert dimension_of(cascade(actions=moods)) == "mood"


def test_known_labels_come_first_then_those_of_the_data_whatever_their_order_there():
    data = [cascade(2, ["zeal"]), cascade(4, ["deny", "awe"])]
    found = labels_of_dimension("stance", data)
    assert set(found[:4]) == set(STANCES)
    assert found[4:] == ("awe", "zeal")
    assert labels_of_dimension("stance", data[::-1]) == found
    assert set(labels_of_dimension(BEHAVIOUR, [])) == {"share", "comment"}


def test_labels_of_an_unknown_dimension_are_those_of_the_data():
    moods = cascade(4, ["calm", "angry"], dimension="mood")
    assert labels_of_dimension("mood", [moods]) == ("angry", "calm")


@pytest.mark.parametrize("labels", [[None], ["calm"]])
def test_a_dimension_with_fewer_than_two_labels_cannot_be_compared(labels):
    with pytest.raises(DataError, match=r"'mood' has [01] labels? in this data; nothing to compare"):
        labels_of_dimension("mood", [cascade(3, labels, dimension="mood")])


def test_a_space_speaks_the_language_of_the_cascade_and_keeps_the_labels():
    english, chinese = (space_of("stance", STANCES, language) for language in ("en", "zh"))
    assert english.choice.options == chinese.choice.options == STANCES
    assert [chinese.choice.word(label) for label in STANCES] == ["支持", "否认", "质疑", "评论"]
    assert [english.choice.word(label) for label in STANCES] == list(STANCES)
    for space in (english, chinese):
        assert isinstance(space, ChoiceThenText)
        assert set(space.choice.meanings) == set(STANCES)
        assert space.choice.question
        assert space.silent == ()
    assert english.choice.question != chinese.choice.question


def test_a_bare_repost_is_silent():
    for language in ("en", "zh"):
        assert space_of(BEHAVIOUR, ("share", "comment"), language).silent == ("share",)


def test_without_texts_the_space_is_the_choice_alone():
    assert isinstance(space_of("stance", STANCES, "en", texts=False), Choice)
    sampling = Sampling(max_tokens=9)
    assert space_of("stance", STANCES, "en", sampling=sampling).text.sampling == sampling


def test_labels_without_known_words_stand_for_themselves():
    space = space_of("mood", ("calm", "angry"), "zh")
    assert [space.choice.word(label) for label in space.choice.options] == ["calm", "angry"]
    mixed = space_of("stance", (*STANCES, "awe"), "zh")
    assert mixed.choice.word("awe") == "awe"
    assert mixed.choice.word("deny") == "否认"


def test_another_language_is_spoken_to_in_english():
    assert space_of("stance", STANCES, "fr") == space_of("stance", STANCES, "en")
