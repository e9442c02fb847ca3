import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from mesa_meanfield.evaluation.intervals import FEWEST, mean_interval, paired

SKEWED = [0.01, 0.02, 0.02, 0.05, 0.07, 0.1, 0.12, 0.3, 0.45, 1.4]
NOTHING = (None, None)


def test_an_interval_depends_on_its_seed_and_nothing_else():
    assert mean_interval(SKEWED, seed=3) == mean_interval(SKEWED, seed=3)
    assert mean_interval(SKEWED, seed=3) != mean_interval(SKEWED, seed=4)


def test_a_large_symmetric_sample_gets_the_interval_of_student():
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    reach = t.ppf(0.975, 399) * values.std(ddof=1) / math.sqrt(400)
    low, high = mean_interval(values.tolist(), seed=0)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.01)


def test_a_small_sample_is_given_no_less_width_than_by_student_on_average():
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(30, 6))
    widths = [high - low for low, high in (mean_interval(one.tolist(), seed=0) for one in samples)]
    student = 2 * t.ppf(0.975, 5) * samples.std(axis=1, ddof=1) / math.sqrt(6)
    assert np.mean(widths) == pytest.approx(student.mean(), rel=0.2)


def test_skewed_values_get_a_skewed_interval():
    low, high = mean_interval(SKEWED, seed=0)
    assert high - np.mean(SKEWED) > 1.5 * (np.mean(SKEWED) - low)


@given(
    st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=FEWEST, max_size=12),
    st.sampled_from([0.5, 4.0]),  # exact in floating point: other factors break ties between resampled means
)
def test_an_interval_lies_among_the_values_and_scales_with_them(values, factor):
    low, high = mean_interval(values, seed=0)
    slack = 1e-12 * max(map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert mean_interval([factor * value for value in values], seed=0) == (factor * low, factor * high)


@pytest.mark.parametrize(
    "values", [[], [1.0] * (FEWEST - 1), [*SKEWED, math.inf], [*SKEWED, math.nan], [*SKEWED, -math.inf]]
)
def test_too_few_values_or_one_that_is_not_finite_have_no_interval(values):
    assert mean_interval(values, seed=0) == NOTHING


def test_values_that_are_all_equal_give_that_value_twice():
    assert mean_interval([0.3] * 7, seed=0) == (0.3, 0.3)
    assert mean_interval([0.3] * 7, seed=0, clusters=list("abcdefg")) == (0.3, 0.3)


@pytest.mark.parametrize("values", [[1, 1, 1, 1, 1 + 1e-15], [0, 0, 0, 0, 0, 1e-300], [0, 0, 0, 0, 5.0]])
def test_values_that_hardly_differ_have_an_interval_without_a_warning(values):
    low, high = mean_interval(values, seed=0)
    assert min(values) <= low < high <= max(values)


def test_where_bca_is_not_defined_the_percentiles_are_taken():
    # Every event has the same mean, so that no resample of events differs.
    values, events = [1.0, 2.0] * 5, list("aabbccddee")
    assert mean_interval(values, seed=0, clusters=events) == (1.5, 1.5)


def test_events_of_one_cascade_each_are_as_if_cascades_were_resampled():
    assert mean_interval(SKEWED, seed=0, clusters=list("abcdefghij")) == mean_interval(SKEWED, seed=0)


def test_cascades_that_repeat_their_event_say_no_more_than_the_events():
    once = [0.125, 0.25, 0.375, 0.5, 0.75, 1.0]  # exact sums, and so the same ties
    events = [str(event) for event in range(6)]
    assert mean_interval(once * 16, seed=0, clusters=events * 16) == pytest.approx(mean_interval(once, seed=0))
    low, high = mean_interval(once * 16, seed=0)
    assert high - low < 0.3 * np.subtract(*reversed(mean_interval(once, seed=0)))


def test_a_large_event_weighs_by_its_cascades():
    values, events = [0.0] * 40 + [1.0, 0.9, 1.1, 1.0], ["large"] * 40 + list("abcd")
    low, high = mean_interval(values, seed=0, clusters=events)
    assert low <= np.mean(values) <= high
    assert low < 0.05  # all draws but few are of the large event or weighed down by it


def test_too_few_events_have_no_interval_however_many_cascades_they_have():
    assert mean_interval(SKEWED * 4, seed=0, clusters=list("abcd") * 10) == NOTHING
    assert mean_interval(SKEWED * 4, seed=0, clusters=list("abcde") * 8) != NOTHING


def test_clusters_of_another_length_are_refused():
    with pytest.raises(ValueError, match="one event for each of the 10 values, got 2"):
        mean_interval(SKEWED, seed=0, clusters=["a", "b"])


def test_the_intervals_of_many_samples_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(7)
    ends = [mean_interval(rng.exponential(size=20).tolist(), seed=seed) for seed in range(150)]
    # 141 of 150 would be .94; three standard deviations below it are 132.
    assert sum(low <= 1 <= high for low, high in ends) >= 132


# --- Pairs ------------------------------------------------------------------------------------------


def test_a_pair_is_the_interval_of_its_differences():
    other = [value - 0.1 * i for i, value in enumerate(SKEWED)]
    difference, interval = paired(SKEWED, other, seed=5)
    assert difference == pytest.approx(0.45)
    assert interval == pytest.approx(mean_interval([0.1 * i for i in range(10)], seed=5))


def test_a_pair_is_surer_than_its_two_entries():
    other = [1.1 * value + 0.01 for value in SKEWED]
    _, (low, high) = paired(SKEWED, other, seed=0)
    assert low < high < 0
    assert mean_interval(SKEWED, seed=0)[1] > mean_interval(other, seed=0)[0]


def test_a_pair_turns_its_sign_with_its_order():
    other = list(reversed(SKEWED))
    forth, (low, high) = paired(SKEWED, [2 * value for value in other], seed=0)
    back, (other_low, other_high) = paired([2 * value for value in other], SKEWED, seed=0)
    assert back == pytest.approx(-forth)
    assert (-other_high, -other_low) == pytest.approx((low, high), abs=0.05)


def test_cascades_where_one_of_two_is_not_finite_take_no_part():
    a, b = [1.0, math.inf, 3.0, 4.0], [0.0, 1.0, math.nan, 1.0]
    assert paired(a, b, seed=0) == (2.0, NOTHING)
    more = [*SKEWED, math.inf], [*reversed(SKEWED), 1.0]
    assert paired(*more, seed=0) == paired(SKEWED, SKEWED[::-1], seed=0)
    events = list("aabbccddee")
    assert paired(*more, seed=0, clusters=[*events, "z"]) == paired(SKEWED, SKEWED[::-1], seed=0, clusters=events)


def test_without_a_common_cascade_there_is_no_difference():
    assert paired([math.nan, 1.0], [1.0, math.inf], seed=0) == (None, NOTHING)
    assert paired([], [], seed=0) == (None, NOTHING)


@pytest.mark.parametrize(("a", "b", "clusters"), [([1.0], [1.0, 2.0], None), ([1.0], [1.0], ["a", "b"])])
def test_what_is_not_of_the_same_cascades_is_refused(a, b, clusters):
    with pytest.raises(ValueError, match="differ in length"):
        paired(a, b, seed=0, clusters=clusters)
