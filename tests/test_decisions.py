import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import case, drawn, rule, steady
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from mesa_meanfield.evaluation.cases import Guess
from mesa_meanfield.evaluation.decisions import calibration_error, confusion, decided, f1, reliability, surprisals

FAIR = steady([0.5, 0.5], 4)


def test_the_confusion_counts_each_decision_with_its_probabilities():
    found = confusion([case("", "aab")], [rule([0.9, 0.1], [0.5, 0.5], [0.2, 0.8])])
    np.testing.assert_allclose(found, [[1.4, 0.6], [0.2, 0.8]])


def test_replicas_share_the_weight_of_their_decision():
    # The first slot was foreseen by one of two replicas, the second by the one that did not fail.
    found = confusion([case("", "ab")], [drawn("ab", "b.")])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0, 1]])


def test_decisions_without_label_or_prediction_do_not_count():
    found = confusion([case("", "a.b"), case("", "a")], [drawn("ab."), None])
    np.testing.assert_allclose(found, [[1, 0], [0, 0]])


def test_f1_has_its_value():
    # a: 2 * 1.4 / (2 + 1.6), b: 2 * .8 / (1 + 1.4); micro: (1.4 + .8) / 3
    macro, micro = f1(np.array([[1.4, 0.6], [0.2, 0.8]]))
    assert macro == pytest.approx((2.8 / 3.6 + 1.6 / 2.4) / 2)
    assert micro == pytest.approx(2.2 / 3)


def test_f1_of_drawn_labels_is_the_usual_one():
    real, guessed = "aabbccabca", "abbbcacacc"
    found = decided([case("", real, "abc")], [drawn(guessed, labels="abc")])
    assert found.f1_macro == pytest.approx(f1_score(list(real), list(guessed), average="macro"))
    assert found.f1_micro == pytest.approx(f1_score(list(real), list(guessed), average="micro"))


def test_labels_that_never_occur_are_not_in_the_mean_but_cost_recall():
    # a: 2 * 1 / (2 + 1), b: 1; c occurs nowhere.
    found = decided([case("", "aab", "abc")], [drawn("acb", labels="abc")])
    assert found.f1_macro == pytest.approx((2 / 3 + 1) / 2)
    assert found.f1_micro == pytest.approx(2 / 3)


def test_surprisals_are_in_nats_for_each_slot_and_replica():
    assert surprisals(case("", "ab"), rule([0.25, 0.75], [1, 0])).tolist() == [pytest.approx(math.log(4)), math.inf]
    assert surprisals(case("", "a.b"), drawn("aab", ".bb", exact=True)).tolist() == [0, 0, 0]


def test_the_likelihood_is_the_mean_over_all_actions_of_all_cascades():
    cases, guesses = [case("", "a"), case("", "bbb")], [rule([0.5, 0.5]), steady([0.75, 0.25], 3)]
    assert decided(cases, guesses).nll == pytest.approx((math.log(2) + 3 * math.log(4)) / 4)


def test_the_likelihood_of_replicas_is_that_of_each_under_its_own_field():
    rows = np.array([[[0.9, 0.1]], [[0.1, 0.9]]])
    guess = Guess("sim", rows, np.array([[0], [1]]))
    assert decided([case("", "a")], [guess]).nll == pytest.approx(-(math.log(0.9) + math.log(0.1)) / 2)


def test_a_guess_without_probabilities_has_neither_likelihood_nor_calibration():
    cases = [case("", "ab"), case("", "ab")]
    for guesses in ([drawn("ab"), drawn("ab")], [drawn("ab", exact=True), drawn("ab")], [None, None]):
        found = decided(cases, guesses)
        assert (found.nll, found.calibration_error, found.reliability) == (None, None, ())
    assert found.f1_macro is found.f1_micro is None


def test_where_nothing_can_be_compared_nothing_is_known():
    found = decided([case("", "a.")], [drawn(".b", exact=True)])
    assert (found.f1_macro, found.f1_micro, found.nll, found.calibration_error) == (None,) * 4
    assert found.reliability == ()


def test_a_fair_coin_is_perfectly_calibrated_and_knows_nothing():
    found = decided([case("", "abab")], [FAIR])
    assert found.calibration_error == 0
    assert found.nll == pytest.approx(math.log(2))
    assert found.f1_macro == found.f1_micro == 0.5
    (bin_,) = found.reliability
    assert (bin_.low, bin_.high, bin_.predicted, bin_.observed, bin_.size) == (0.4, 0.5, 0.5, 0.5, 8)


def test_the_bins_say_what_was_predicted_and_what_was_seen():
    # .8 of a in four slots, a in two of them: labels of .8 were real half the time, those of .2 as well.
    low, high = reliability([case("", "aabb")], [steady([0.8, 0.2], 4)])
    assert (low.predicted, low.observed, low.size) == (pytest.approx(0.2), 0.5, 4)
    assert (high.predicted, high.observed, high.size) == (pytest.approx(0.8), 0.5, 4)
    assert calibration_error((low, high)) == pytest.approx(0.3)


def test_the_calibration_error_weighs_bins_by_their_size():
    # .95: 3 of 4 real, .05: 1 of 4; .5: 1 of 2 labels. (4 * .2 + 4 * .2 + 2 * 0) / 10
    rows = rule(*[[0.95, 0.05]] * 4, [0.5, 0.5])
    assert decided([case("", "aaaba")], [rows]).calibration_error == pytest.approx(0.16)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("ab")), min_size=1, max_size=40))
def test_the_bins_are_those_of_scikit_learn(decisions):
    guess = rule(*[[p, 1 - p] for p, _ in decisions])
    real = "".join(label for _, label in decisions)
    found = reliability([case("", real)], [guess])
    truth = np.array([[label == "a", label == "b"] for label in real]).ravel()
    observed, predicted = calibration_curve(truth, guess.rows.ravel(), n_bins=10)
    np.testing.assert_allclose([one.observed for one in found], observed)
    np.testing.assert_allclose([one.predicted for one in found], predicted)
    assert sum(one.size for one in found) == 2 * len(decisions)
    assert all(one.low <= one.predicted + 1e-9 and one.predicted <= one.high + 1e-9 for one in found)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("abc", min_size=1, max_size=10), min_size=1, max_size=4))
def test_a_perfect_guess_is_perfect(roll_outs):
    cases = [case("", letters, "abc") for letters in roll_outs]
    found = decided(cases, [drawn(letters, labels="abc", exact=True) for letters in roll_outs])
    assert (found.f1_macro, found.f1_micro, found.nll, found.calibration_error) == (1, 1, 0, 0)
    assert math.copysign(1, found.nll) == 1


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(4)))
def test_the_order_of_cascades_changes_nothing(order):
    cases = [case("", letters) for letters in ("aab", "b", "abba", "aaaa")]
    guesses = [steady([0.7, 0.3], 3), None, drawn("abab", "a.b.", exact=True), steady([0.01, 0.99], 4)]
    first, second = decided(cases, guesses), decided([cases[i] for i in order], [guesses[i] for i in order])
    for name in ("f1_macro", "f1_micro", "nll", "calibration_error"):
        assert getattr(first, name) == pytest.approx(getattr(second, name))
