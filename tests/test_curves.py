import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import case, drawn, rule, spelt, steady

from mesa_meanfield.evaluation.cases import Guess
from mesa_meanfield.evaluation.curves import coverage, dtw, running_shares, windows


def test_running_shares_start_from_the_warm_up():
    real, foreseen = running_shares(case("ab", "aab"), steady([0.25, 0.75], 3))
    np.testing.assert_allclose(real[:, 0], [2 / 3, 3 / 4, 3 / 5])
    np.testing.assert_allclose(foreseen[:, 0], [1.25 / 3, 1.5 / 4, 1.75 / 5])
    np.testing.assert_allclose(real.sum(axis=1), 1)


def test_running_shares_are_of_the_replicas_mean():
    _, foreseen = running_shares(case("", "aa"), drawn("ab", "bb", "bb", "bb"))
    np.testing.assert_allclose(foreseen, [[0.25, 0.75], [0.125, 0.875]])


def test_slots_without_a_real_label_are_left_out_on_both_sides():
    real, foreseen = running_shares(case("", "a.b"), rule([1, 0], [0, 1], [1, 0]))
    np.testing.assert_allclose(real, [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(foreseen, [[1, 0], [1, 0]])


def test_failed_decisions_add_nothing_to_a_curve():
    _, foreseen = running_shares(case("ab", "aa"), drawn("a.", ".."))
    np.testing.assert_allclose(foreseen, [[2 / 3, 1 / 3], [2 / 3, 1 / 3]])
    real, foreseen = running_shares(case("", "aab"), drawn("..b"))
    np.testing.assert_allclose(real, [[2 / 3, 1 / 3]])  # nothing is known of the two before
    np.testing.assert_allclose(foreseen, [[0, 1]])


@pytest.mark.parametrize("n", [1, 7, 100])
def test_curves_a_constant_distance_apart_have_that_distance_whatever_their_length(n):
    # All a against .4 a: shares (1, 0) and (.4, .6), which lie .6 sqrt(2) apart.
    assert dtw(case("", "a" * n), steady([0.4, 0.6], n)) == pytest.approx(0.6 * math.sqrt(2))


def test_dtw_forgives_a_delay():
    real, late = running_shares(case("a", "abbb"), drawn("bbbb", exact=True))
    np.testing.assert_allclose(real[:, 0], [1, 2 / 3, 1 / 2, 2 / 5])
    np.testing.assert_allclose(late[:, 0], [1 / 2, 1 / 3, 1 / 4, 1 / 5])
    # The cheapest path: 1, 2/3 and 1/2 against 1/2, then 2/5 against 1/3, 1/4 and 1/5. Two labels double each square.
    squares = (1 / 2) ** 2 + (1 / 6) ** 2 + 0 + (1 / 15) ** 2 + (3 / 20) ** 2 + (1 / 5) ** 2
    assert dtw(case("a", "abbb"), drawn("bbbb", exact=True)) == pytest.approx(math.sqrt(2 * squares / 4))


def test_dtw_without_the_compiled_library_is_the_same(monkeypatch):
    from dtaidistance import dtw as library

    recorded, guess = case("ab", "aabbabbbaa"), steady([0.7, 0.3], 10)
    compiled = dtw(recorded, guess)
    monkeypatch.setattr(library, "dtw_cc", None)
    assert dtw(recorded, guess) == pytest.approx(compiled)


def test_dtw_of_failures_alone_is_unknown():
    assert dtw(case("", "ab"), drawn("..")) is None


@pytest.mark.parametrize(("n", "sizes"), [
    (1, [1]), (7, [7]), (8, [4, 4]), (11, [6, 5]), (19, [5, 5, 5, 4]), (20, [4] * 5), (300, [60] * 5)
])  # fmt: skip
def test_windows_are_equal_and_fewer_where_actions_are_few(n, sizes):
    found = windows(case("ab", "a" * n))
    assert [len(window) for window in found] == sizes
    assert np.concatenate(found).tolist() == list(range(n))


def test_windows_hold_labelled_slots_only():
    first, second = windows(case("", ".aaa.abbbb."))
    assert (first.tolist(), second.tolist()) == ([1, 2, 3, 5], [6, 7, 8, 9])
    assert windows(case("ab", "...")) == []


def test_the_range_of_replicas_covers_what_lies_between_and_its_ends():
    # One window, shares of a: 1/4 and 3/4 sampled. Real 1/4, 2/4 and 3/4 are covered, 0 and 1 are not.
    for roll_out, covered in (("bbbb", 0), ("abbb", 1), ("aabb", 1), ("aaab", 1), ("aaaa", 0)):
        found = coverage([case("", roll_out)], [drawn("abbb", "aaab")])
        assert (found.covered, found.of) == (covered, 1)
        assert found.nominal == pytest.approx(1 / 3)  # (2 - 1) / (2 + 1)


def test_ties_make_a_perfect_simulation_cover_more_than_nominal_as_is_expected_then():
    # Of 1/4, 1/4 and 3/4 the last alone lies outside of the band over the others; of 1/4, 2/4, 3/4 two do.
    for roll_out, expected in (("abbb", 2 / 3), ("aabb", 1 / 3), ("aaab", 2 / 3)):
        found = coverage([case("", roll_out)], [drawn("abbb", "aaab")])
        assert (found.nominal, found.expected) == (pytest.approx(1 / 3), pytest.approx(expected))
    assert coverage([case("", "aabb")], [drawn("aabb", "aabb")]).expected == 1
    assert coverage([case("", "aaaa")], [drawn("aabb", "aabb")]).expected == pytest.approx(2 / 3)


def test_more_than_two_labels_are_looked_at_one_by_one():
    # a: 1/2 in [1/4, 1/2]; b: 1/2 above 1/4; c: 0 in [1/4, 1/2] not.
    found = coverage([case("", "aabb", "abc")], [drawn("aabc", "abcc", labels="abc")])
    assert (found.covered, found.of) == (1, 3)


def test_sampled_labels_make_the_band_and_not_the_distributions():
    rows = np.full((2, 4, 2), 0.5)
    guess = Guess("sim", rows, np.stack([spelt("aaaa"), spelt("bbbb")]))
    assert coverage([case("", "aaab")], [guess]).covered == 1


def test_rivals_and_single_replicas_have_no_coverage():
    assert coverage([case("", "aabb")], [steady([0.5, 0.5], 4)]) is None
    assert coverage([case("", "aabb")], [drawn("aabb")]) is None
    assert coverage([case("", "aabb")], [None]) is None


def test_replicas_that_failed_in_a_window_are_not_of_its_band():
    # Window 1 has three replicas, window 2 two, window 3 one.
    guess = drawn("aaaaaaaaaaaa", "bbbbbbbb....", "bbbb........")
    found = coverage([case("", "ab" * 6)], [guess])
    assert (found.covered, found.of) == (2, 2)
    assert found.nominal == pytest.approx((2 / 4 + 1 / 3) / 2)


@pytest.mark.parametrize(("real", "among_19", "among_20"), [
    ("bbbbbbb", 1, 0), ("abbbbbb", 1, 1), ("aaaaaab", 1, 1), ("aaaaaaa", 1, 0)
])  # fmt: skip
def test_from_twenty_replicas_on_the_band_is_the_central_ninety_per_cent(real, among_19, among_20):
    # Shares 0, eighteen times 3/7, and 1. Rank .05 * 21 = 1.05 lies at .05 * 3/7, rank 19.95 at 1 - .05 * 4/7.
    replicas = ["bbbbbbb", *["aaabbbb"] * 18, "aaaaaaa"]
    fewer = coverage([case("", real)], [drawn(*replicas[:1], *replicas[2:])])
    assert (fewer.covered, fewer.nominal) == (among_19, 18 / 20)
    found = coverage([case("", real)], [drawn(*replicas)])
    assert (found.covered, found.nominal) == (among_20, 0.9)


@pytest.mark.parametrize("replicas", [4, 19, 20, 39])
def test_a_perfect_simulation_covers_the_nominal_share(replicas):
    # 60 cascades of 5 independent windows: a standard error of .03 at most; 400 actions a window hardly ever tie.
    rng = np.random.default_rng(3)
    cases, guesses = [], []
    for _ in range(60):
        p = rng.uniform(0.2, 0.8)
        labels = (rng.random((replicas + 1, 2000)) < p).astype(np.int64)
        cases.append(case("", "".join("ab"[i] for i in labels[0])))
        guesses.append(Guess("sim", np.eye(2)[labels[1:]], labels[1:], exact=False))
    found = coverage(cases, guesses)
    assert found.of == 300
    assert found.covered / found.of == pytest.approx(found.nominal, abs=0.09)
    assert found.nominal - 0.01 < found.expected < found.nominal + 0.04


@pytest.mark.parametrize("replicas", [3, 20])
def test_with_many_ties_a_perfect_simulation_covers_what_is_expected(replicas):
    # 200 cascades of 2 windows of 4 actions: a standard error of .025 at most.
    rng = np.random.default_rng(4)
    labels = (rng.random((200, replicas + 1, 8)) < 0.8).astype(np.int64)
    cases = [case("", "".join("ab"[i] for i in one[0])) for one in labels]
    found = coverage(cases, [Guess("sim", np.eye(2)[one[1:]], one[1:], exact=False) for one in labels])
    assert found.covered / found.of == pytest.approx(found.expected, abs=0.07)
    assert found.expected > found.nominal + 0.02


@settings(deadline=None, max_examples=30)
@given(st.text("ab", max_size=5), st.text("ab", min_size=1, max_size=30))
def test_a_perfect_guess_has_no_distance_and_is_covered(warm_up, roll_out):
    recorded, guess = case(warm_up, roll_out), drawn(roll_out, roll_out)
    assert dtw(recorded, guess) == 0
    found = coverage([recorded], [guess])
    assert found.covered == found.of
