from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import case, drawn, rule, steady

from mesa_meanfield.evaluation.cases import Guess
from mesa_meanfield.evaluation.forecasts import MARGIN, forecast, turning_points
from mesa_meanfield.evaluation.scorecard import Hits

A, B, EVEN = "a" * 8, "b" * 8, "ab" * 4
UP, STILL, DOWN = [0.9, 0.1], [0.5, 0.5], [0.1, 0.9]


def in_windows(*rows, size=8):
    """A rule with one row per window."""
    return rule(*[row for row in rows for _ in range(size)])


def counts(hits, of, false_alarms=0):
    return Hits(hits=hits, of=of, false_alarms=false_alarms)


def direction(recorded, guess):
    return forecast([recorded], [guess]).direction


def turns(recorded, guess):
    return forecast([recorded], [guess]).turning_points


def test_the_error_of_each_window_is_its_total_variation():
    # Real shares of a: 1, 0, 1/2; foreseen .9, .5 and .5. The fourth window of nobody is null, and so is the fifth.
    found = forecast([case("", "aaaabbbbabab")], [in_windows(UP, STILL, STILL, size=4)])
    assert found.error_by_horizon == (pytest.approx(0.1), 0.5, 0, None, None)


def test_the_error_is_the_mean_over_the_cascades_that_have_the_window():
    cases = case("", "aaaabbbb", key="c1"), case("", "aaaa", key="c2"), case("", "bbbb", key="c3")
    found = forecast(cases, [steady(STILL, 8), steady(UP, 4), None])
    assert found.error_by_horizon[:2] == (pytest.approx((0.5 + 0.1) / 2), 0.5)


def test_failures_are_in_no_error():
    found = forecast([case("", "aaaabbbb")], [drawn("a.b.....", "a.b.....")])
    assert found.error_by_horizon[:2] == (0.5, None)


@pytest.mark.parametrize(("guess", "expected"), [
    (UP, counts(5, 5)), (STILL, counts(0, 5)), (DOWN, counts(0, 5, 5)),
    ([0.5 + MARGIN, 0.5 - MARGIN], counts(0, 5)), ([0.51 + MARGIN, 0.49 - MARGIN], counts(5, 5)),
])  # fmt: skip
def test_a_direction_is_hit_on_its_side_of_the_warm_up(guess, expected):
    assert direction(case(EVEN * 3, A * 5), steady(guess, 40)) == expected


def test_only_moves_larger_than_chance_have_a_direction():
    # Fisher's exact test of 4 of 8 against 8 of 8 gives 2 C(8, 4) / C(16, 4) = .077, against 12 of 12
    # C(8, 4) / C(20, 4) = .014, for no outcome on the other side is as rare.
    assert direction(case(EVEN, A * 5), steady(UP, 40)) == counts(0, 0)
    assert direction(case(EVEN, "a" * 60), steady(UP, 60)) == counts(5, 5)
    assert direction(case(EVEN * 3, EVEN * 5), steady(UP, 40)) == counts(0, 0)


def test_without_a_labelled_warm_up_there_is_no_direction():
    for warm_up in ("", "...."):
        assert direction(case(warm_up, B * 5), steady(DOWN, 40)) == counts(0, 0)


@settings(deadline=None, max_examples=40)
@given(st.text("abc", min_size=1, max_size=20), st.text("abc", min_size=1, max_size=60))
def test_whoever_repeats_the_warm_up_never_moves_smoothed_or_not(warm_up, roll_out):
    recorded = case(warm_up, roll_out, "abc")
    counted = recorded.warm_up_counts
    for shares in (counted / counted.sum(), (counted + 0.5) / (counted + 0.5).sum()):
        found = forecast([recorded], [steady(shares, len(roll_out))])
        assert found.direction.hits == found.direction.false_alarms == 0
        assert found.turning_points.hits == found.turning_points.false_alarms == 0


def test_each_of_more_than_two_labels_has_its_direction_and_two_have_one():
    # From all a to all b: a falls, b rises, c stays where it is.
    assert direction(case("a" * 8, B, "abc"), steady([0, 1, 0], 8)) == counts(4, 4)
    assert direction(case("a" * 8, B), steady([0, 1], 8)) == counts(2, 2)


def test_windows_in_which_every_decision_failed_are_left_out():
    assert direction(case("a" * 8, B), drawn("bbbb....", exact=True)) == counts(1, 1)
    assert turns(case("", A + B + A), drawn(A + "." * 8 + A, exact=True)) == counts(0, 0)


def test_a_reversal_is_hit_in_its_window_or_a_neighbouring_one():
    recorded = case(B, B + A + A + B + B)  # rises into window 2, falls after window 3: the peak is the first of them
    assert turns(recorded, in_windows(DOWN, UP, UP, DOWN, DOWN)) == counts(1, 1)
    assert turns(recorded, in_windows(UP, DOWN, DOWN, DOWN, DOWN)) == counts(1, 1)
    assert turns(recorded, in_windows(DOWN, DOWN, UP, DOWN, DOWN)) == counts(1, 1)
    assert turns(recorded, in_windows(DOWN, DOWN, DOWN, UP, DOWN)) == counts(0, 1, 1)
    assert turns(recorded, steady(DOWN, 40)) == counts(0, 1)


def test_a_peak_is_no_trough():
    recorded = case("", B + A + A + B + B)
    assert turns(recorded, in_windows(UP, DOWN, UP, UP, UP)) == counts(0, 1, 1)


def test_turns_that_nobody_made_are_false_alarms():
    recorded = case(EVEN, EVEN * 5)
    assert turns(recorded, in_windows(UP, DOWN, UP, DOWN, UP)) == counts(0, 0, 4)
    slight = [0.5 + MARGIN * 0.9, 0.5 - MARGIN * 0.9]
    assert turns(recorded, in_windows(slight, STILL, slight, STILL, slight)) == counts(0, 0)


def test_turns_of_drawn_labels_have_to_be_larger_than_chance():
    recorded, wavering = case("", "abab" * 3), "aaab" + "abbb" + "aaab"
    assert turns(recorded, drawn(wavering, exact=True)) == counts(0, 0, 1)
    assert turns(recorded, drawn(wavering)) == counts(0, 0)
    # Ten replicas that agree are no chance any more.
    assert turns(recorded, drawn(*[wavering] * 10)) == counts(0, 0, 1)


def test_one_turn_is_not_counted_for_two():
    recorded = case(B, A + B + A + B + B)  # peaks at 1 and 3, a trough at 2
    found = turns(recorded, in_windows(STILL, UP, DOWN, DOWN, DOWN))  # one peak, at 2
    assert found == counts(1, 3)


def test_a_reversal_within_chance_is_none():
    recorded = case("abab", "aaab" + "abbb" + "aaab" + "abab" + "abab")
    assert turns(recorded, in_windows(UP, DOWN, UP, DOWN, UP, size=4)).of == 0


def by_more_than(margin, values):
    def change(i, j):
        return int(values[j] - values[i] > margin) - int(values[j] - values[i] < -margin)

    return turning_points(np.array(values), change)


@pytest.mark.parametrize(("values", "expected"), [
    ([], []), ([1], []), ([0, 1, 2], []), ([0, 2, 0], [(1, 1)]), ([2, 0, 2], [(1, -1)]),
    ([0, 2, 2, 0], [(1, 1)]),  # a pause on top
    ([0, 2, 2.4, 2, 0], [(2, 1)]),  # its highest point turns
    ([0, 0.8, 0, 2, 1.5, 2, 0.5], [(3, 1)]),  # wavering by less than a change is no turn
    ([0, 0.6, 1.2, 0.6, 0], [(2, 1)]),  # slowly up and slowly down
    ([0, 2, 0, 2, 0], [(1, 1), (2, -1), (3, 1)]),
    ([2, 0, 0.5, 0], []),
])  # fmt: skip
def test_a_curve_turns_where_it_changed_before_and_after(values, expected):
    assert by_more_than(1, values) == expected


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.5))
def test_peaks_and_troughs_alternate_and_lie_inside(values, margin):
    found = by_more_than(margin, values)
    assert all(first[1] == -second[1] for first, second in pairwise(found))
    assert all(0 < place < len(values) - 1 for place, _ in found)
    mirrored = by_more_than(margin, [-value for value in values])
    assert mirrored == [(place, -kind) for place, kind in found]


@settings(deadline=None, max_examples=30)
@given(st.text("abc", max_size=15), st.text("abc", min_size=1, max_size=60))
def test_a_perfect_guess_foresees_all(warm_up, roll_out):
    recorded = case(warm_up, roll_out, "abc")
    rows = np.eye(3)[recorded.roll_out][None]
    found = forecast([recorded], [Guess("oracle", rows, np.empty((0, len(roll_out)), dtype=np.int64))])
    assert {error for error in found.error_by_horizon if error is not None} == {0}
    assert found.turning_points.hits == found.turning_points.of
    assert found.direction.false_alarms == 0
