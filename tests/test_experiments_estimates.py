import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from mesa_meanfield.experiments.estimates import differences, mean, needed, student, variance_ratio, welch

NOTHING = (None, None)
A, B = np.array([0.2, 0.4, 0.6]), np.array([0.1, 0.2, 0.6])


def test_students_interval_of_three_values():
    # t(.975, 2) = 4.3027, s = 1, so the reach is 4.3027 / sqrt(3) = 2.4841
    assert student([1.0, 2.0, 3.0], 0.95) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_what_is_not_known_takes_no_part():
    assert student([1.0, math.nan, 2.0, 3.0], 0.95) == student([1.0, 2.0, 3.0], 0.95)
    assert mean([1.0, math.nan, 2.0]) == 1.5
    assert mean([math.nan]) is None


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan]])
def test_one_value_has_no_interval(values):
    assert student(values, 0.95) == NOTHING
    assert welch(np.array(values), A, 0.95) == NOTHING
    assert needed(values, 0.1, 0.95) is None


def test_the_unpaired_interval_is_welchs():
    a, b = np.array([0.2, 0.4, 0.9]), np.array([0.1, 0.2, 0.6, 0.5])
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert welch(a, b, 0.9) == pytest.approx((expected.low, expected.high))


def test_arms_without_any_chance_in_them_have_an_interval_without_width():
    assert welch(np.full(3, 0.5), np.full(3, 0.25), 0.95) == (0.25, 0.25)
    assert student([0.25] * 3, 0.95) == (0.25, 0.25)


def test_the_variance_ratio_by_hand():
    # A: variance .04; B: .07; A - B = .1, .2, 0: variance .01
    assert variance_ratio(A, B) == pytest.approx(0.01 / 0.11)
    assert variance_ratio(A, A) == 0
    assert variance_ratio(A, -A) == pytest.approx(2)
    assert variance_ratio(A, np.array([0.1, math.nan, 0.6])) == pytest.approx(0.005 / (0.08 + 0.125))


def test_where_nothing_varies_there_is_no_ratio():
    assert variance_ratio(np.full(3, 0.5), np.full(3, 0.2)) is None
    assert variance_ratio(A[:1], B[:1]) is None


def test_rounding_is_no_difference():
    assert differences(np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.2])).tolist() == [0, 0.3]
    assert student([0.1 + 0.2, 0.3, 0.3], 0.95) == pytest.approx((0.3, 0.3), abs=1e-15)


def test_how_many_replicas_by_steins_formula():
    # s = 1 of 3 values, t(.975, 2) = 4.3027: (2 * 4.3027 / 2)^2 = 18.5
    assert needed([1.0, 2.0, 3.0], 2.0, 0.95) == 19
    assert needed([1.0, 2.0, 3.0], 100.0, 0.95) == 3
    assert needed([2.0, 2.0], 0.001, 0.95) == 2


@pytest.mark.parametrize(("width", "confidence"), [(0, 0.95), (-1, 0.95), (math.nan, 0.95), (1, 0), (1, 1)])
def test_wrong_wishes_are_refused(width, confidence):
    with pytest.raises(ValueError, match="must be above 0"):
        needed([1.0, 2.0], width, confidence)


def test_so_many_replicas_do_give_the_wanted_width_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        pilot = rng.normal(size=6)
        rest = rng.normal(size=needed(pilot, 0.8, 0.9) - 6)
        covered += abs(np.concatenate([pilot, rest]).mean()) < 0.4
    assert covered >= 880
