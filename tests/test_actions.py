import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.actions import Choice, ChoiceThenText, FreeText, labels_of
from mesa_meanfield.data import Decision
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import ActionSpace, Request

STANCE = Choice(("support", "deny"), dimension="stance")
ZH = Choice(("support", "deny", "oppose"), words={"support": "支持", "deny": "否认", "oppose": "不支持"})


@pytest.mark.parametrize("options", [(), ("only",), ("a", "a"), ("a", ""), ("a", " b"), ("a", "b\n")])
def test_a_choice_needs_two_different_clean_labels(options):
    with pytest.raises(ValueError, match=r"at least two|blank"):
        Choice(options)


def test_a_choice_needs_different_words_for_its_labels():
    with pytest.raises(ValueError, match="all different"):
        Choice(("a", "b"), words={"a": "b"})


@pytest.mark.parametrize("known", ["words", "meanings"])
def test_a_word_or_meaning_of_an_unknown_label_is_named(known):
    with pytest.raises(ValueError, match=rf"{known} names \['maybe'\]"):
        Choice(("yes", "no"), **{known: {"maybe": "perhaps"}})


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_the_temperature_must_be_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature"):
        Choice(("yes", "no"), temperature=temperature)


def test_log_probabilities_become_shares_among_the_labels():
    # .2 and .1 of everything the model may say are 2/3 and 1/3 of what is of use.
    found = STANCE.distribution(np.log([0.2, 0.1]))
    assert found == pytest.approx({"support": 2 / 3, "deny": 1 / 3})


def test_temperature_flattens_or_sharpens():
    scores = np.log([0.8, 0.2])
    flat = Choice(("a", "b"), temperature=2).distribution(scores)
    sharp = Choice(("a", "b"), temperature=0.5).distribution(scores)
    assert flat["a"] == pytest.approx(2 / 3)  # sqrt(.8) : sqrt(.2) = 2 : 1
    assert sharp["a"] == pytest.approx(16 / 17)  # .64 : .04


def test_an_impossible_label_has_no_share_and_is_never_drawn():
    found = STANCE.distribution(np.array([-math.inf, -900.0]))
    assert found == {"support": 0.0, "deny": 1.0}
    assert {STANCE.sample(found, seed) for seed in range(200)} == {"deny"}


@pytest.mark.parametrize("scores", [[-math.inf, -math.inf], [math.nan, -1.0], [math.nan, math.nan], [math.inf, 0.0]])
def test_scores_that_are_no_probabilities_are_a_reply_error(scores):
    with pytest.raises(ReplyError, match="support, deny"):
        STANCE.distribution(np.array(scores))


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 0), min_size=2, max_size=6), st.floats(0.1, 10))
def test_a_distribution_sums_to_one_in_the_order_of_the_labels(scores, temperature):
    choice = Choice(tuple(f"label {i}" for i in range(len(scores))), temperature=temperature)
    found = choice.distribution(np.array(scores))
    assert tuple(found) == choice.options
    assert sum(found.values()) == pytest.approx(1)
    assert max(found.values()) == found[f"label {int(np.argmax(scores))}"]


@settings(deadline=None)
@given(st.data(), st.integers(2, 12), st.integers(0, 40), st.sampled_from([1.0, 0.7]))
def test_a_row_has_the_same_distribution_to_the_last_bit_alone_and_in_a_batch(data, labels, rows, temperature):
    choice = Choice(tuple(f"label {i}" for i in range(labels)), temperature=temperature)
    numbers = st.floats(-1e4, 0) | st.sampled_from([-math.inf, math.nan])
    batch = [data.draw(st.lists(numbers, min_size=labels, max_size=labels)) for _ in range(rows)]
    found = choice.distributions(np.array(batch, dtype=float).reshape(rows, labels))
    for row, together in zip(batch, found, strict=True):
        try:
            assert choice.distribution(np.array(row)) == together
        except ReplyError:
            assert together is None


def test_labels_are_drawn_by_their_shares_and_not_by_the_largest():
    n, shares = 4000, {"a": 0.6, "b": 0.3, "c": 0.1}
    drawn = Counter(Choice(("a", "b", "c")).sample(shares, seed) for seed in range(n))
    for label, p in shares.items():
        assert abs(drawn[label] - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_the_same_seed_draws_the_same_label():
    shares = {"support": 0.5, "deny": 0.5}
    assert [STANCE.sample(shares, s) for s in range(50)] == [STANCE.sample(shares, s) for s in range(50)]


def test_scripted_scores_are_what_the_choice_needs():
    backend = ScriptedBackend(probability=lambda request, word: {"support": 3, "deny": 1}[word])
    scores = backend.score([Request("p", "s")], STANCE.options)
    assert STANCE.distribution(scores[0]) == pytest.approx({"support": 0.75, "deny": 0.25})


@pytest.mark.parametrize(
    "reply",
    ["support", " Support.", "SUPPORT!", '"support"', "“support”", "**Support**", "`support`", "support, of course"],
)
def test_a_reply_is_read_whatever_its_case_and_marks(reply):
    assert STANCE.read(reply) == "support"


@pytest.mark.parametrize("reply", ["supportive", "supported", "maybe", "", "I support it", "sup"])
def test_a_reply_that_names_no_label_is_told_with_what_was_expected(reply):
    with pytest.raises(ReplyError, match="is not one of support, deny; use FreeText"):
        STANCE.read(reply)


def test_the_longer_of_two_words_is_read():
    choice = Choice(("support", "supportive", "support it"))
    assert choice.read("Supportive!") == "supportive"
    assert choice.read("support it") == "support it"
    assert choice.read("support, fully") == "support"


@pytest.mark.parametrize(
    ("reply", "label"), [("支持", "support"), ("“不支持”。", "oppose"), ("否认，这是假的", "deny")]
)
def test_chinese_words_need_no_blank_after_them(reply, label):
    assert ZH.read(reply) == label


def test_a_label_is_not_read_where_another_word_stands_for_it():
    with pytest.raises(ReplyError, match="支持, 否认, 不支持"):
        ZH.read("support")


def test_a_longer_word_with_an_accent_is_another_word():
    with pytest.raises(ReplyError):
        Choice(("yes", "no")).read("noël")
    with pytest.raises(ReplyError):
        Choice(("für", "gegen")).read("fürchterlich")


@settings(deadline=None)
@example(["Yes!", "No!"], False)
@example(["yes", "Yes"], False)
@example(["B", "A"], True)
@given(
    st.lists(st.text(min_size=1, max_size=8).filter(str.isprintable), min_size=2, max_size=5, unique=True),
    st.booleans(),
)
def test_every_answer_is_read_as_its_own_label(words, letters):
    options = tuple(f"label {i}" for i in range(len(words)))
    try:
        choice = Choice(options, words=dict(zip(options, words, strict=True)), letters=letters)
    except ValueError:
        reject()
    for label in choice.options:
        assert choice.read(choice.answer(label)) == label


def test_letters_stand_for_the_labels_in_their_order():
    choice = Choice(("support", "deny", "query"), letters=True)
    assert choice.answers == ("A", "B", "C")
    assert STANCE.answers == ("support", "deny")
    for reply in ("B", "b", "B.", "(B)", "B: deny", "deny"):
        assert choice.read(reply) == "deny"
    for reply in ("D", "Because", ""):
        with pytest.raises(ReplyError, match="is not one of A, B, C"):
            choice.read(reply)


def test_there_are_only_so_many_letters():
    labels = tuple(f"label {i}" for i in range(27))
    assert Choice(labels[:26], letters=True).answer("label 25") == "Z"
    with pytest.raises(ValueError, match="26 letters for 27 labels"):
        Choice(labels, letters=True)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("  A walrus!  ", "A walrus!"),
        ('"A walrus!"', "A walrus!"),
        ("“海象！”", "海象！"),
        ("「海象！」", "海象！"),
        ("It said 'no'", "It said 'no'"),
        ('"Blue" is not "green"', '"Blue" is not "green"'),
        ("'", "'"),
    ],
)
def test_a_text_is_read_without_the_quotes_around_it(reply, said):
    assert FreeText().read(reply) == Decision(said)


@pytest.mark.parametrize("reply", ["", " \n", '""', '" "', "“”"])
def test_an_empty_text_is_a_reply_error(reply):
    with pytest.raises(ReplyError, match="empty"):
        FreeText().read(reply)


def test_label_of_gives_a_text_its_label():
    space = FreeText(label_of=lambda text: "ask" if "?" in text else "tell", options=("ask", "tell"), dimension="act")
    assert space.read("Is it?") == Decision("Is it?", labels={"act": "ask"})
    assert space.labels == {"act": ("ask", "tell")}


def test_a_label_outside_the_options_is_told():
    with pytest.raises(ReplyError, match="label_of gave 'shout', which is not one of ask, tell"):
        FreeText(label_of=lambda text: "shout", options=("ask", "tell")).read("HEY")


def test_choice_then_text_takes_its_labels_from_the_choice_alone():
    assert ChoiceThenText(STANCE).labels == {"stance": ("support", "deny")}
    with pytest.raises(ValueError, match="leave label_of away"):
        ChoiceThenText(STANCE, FreeText(label_of=str))


def test_silent_labels_must_be_labels_of_the_choice():
    assert ChoiceThenText(STANCE, silent=("deny",)).silent == ("deny",)
    with pytest.raises(ValueError, match=r"silent names \['shrug'\]"):
        ChoiceThenText(STANCE, silent=("shrug",))


def test_labels_of_several_spaces_are_merged_without_repeats():
    spaces = [
        STANCE,
        ChoiceThenText(Choice(("deny", "query"), dimension="stance")),
        Choice(("yes", "no")),
        FreeText(),
    ]
    assert labels_of(spaces) == {"stance": ("support", "deny", "query"), "action": ("yes", "no")}


def test_every_space_is_an_action_space():
    for space in (STANCE, FreeText(), ChoiceThenText(STANCE)):
        assert isinstance(space, ActionSpace)
    assert (STANCE.choice, STANCE.text, FreeText().choice) == (STANCE, None, None)


@pytest.mark.parametrize(
    "reply", ["A person like me would never believe this", "A股大跌，我不信", "C'mon, really?", "AB"]
)
def test_a_letter_that_begins_a_sentence_is_no_answer(reply):
    with pytest.raises(ReplyError):
        Choice(("comment", "query", "deny"), letters=True).read(reply)


@pytest.mark.parametrize("reply", ["B", "b.", "B) query", "B: I ask", "(B)", "query", "Query!"])
def test_a_letter_alone_or_before_a_mark_is_an_answer(reply):
    assert Choice(("comment", "query", "deny"), letters=True).read(reply) == "query"
