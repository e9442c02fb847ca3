import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import drawn, rule

from mesa_meanfield.data import normalise
from mesa_meanfield.evaluation.metrics import (
    guessed_shares,
    js,
    kl,
    noise_floor,
    smoothed,
    total_variation,
    wasserstein,
)

WEIGHTS = st.lists(st.floats(0.001, 1), min_size=3, max_size=3)


def shares(weights):
    return normalise(dict(zip("abc", weights, strict=True)))


def test_kl_has_its_value_in_nats():
    # .5 ln(.5 / .25) + .5 ln(.5 / .75) = .5 ln(4 / 3)
    assert kl({"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 0.75}) == pytest.approx(0.5 * math.log(4 / 3))
    assert kl({"a": 0.25, "b": 0.75}, {"a": 0.5, "b": 0.5}) == pytest.approx(
        0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    )


def test_kl_takes_the_real_shares_as_they_are():
    assert kl({"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(math.log(2))
    assert kl({"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 0.0}) == math.inf


def test_js_is_a_distance_in_nats():
    # m = (.75, .25): .5 ln(4/3) + .5 (.5 ln(2/3) + .5 ln 2) = .75 ln(4/3)
    assert js({"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(math.sqrt(0.75 * math.log(4 / 3)))
    assert js({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}) == pytest.approx(math.sqrt(math.log(2)))
    assert js({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}) == 0


def test_total_variation_is_the_share_that_would_have_to_change_its_label():
    # (|.5 - .2| + |.3 - .3| + |.2 - .5|) / 2
    p, q = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.2, "b": 0.3, "c": 0.5}
    assert total_variation(p, q) == pytest.approx(0.3)
    assert total_variation({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}) == 1


def test_wasserstein_carries_shares_along_the_labels_positions():
    p, q = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.2, "b": 0.3, "c": 0.5}
    # .3 from a to c: a distance of 2, or of 10, whatever lies between.
    assert wasserstein(p, q, {"a": 0, "b": 1, "c": 2}) == pytest.approx(0.6)
    assert wasserstein(p, q, {"a": -5, "b": 4.5, "c": 5, "unused": 7}) == pytest.approx(3)
    # a moved by one place is nearer than a moved by two, though their total variation is the same.
    near, far = {"a": 0.2, "b": 0.6, "c": 0.2}, {"a": 0.2, "b": 0.3, "c": 0.5}
    assert wasserstein(p, near, {"a": 0, "b": 1, "c": 2}) == pytest.approx(0.3)
    assert total_variation(p, near) == total_variation(p, far)


def test_wasserstein_without_positions_is_total_variation_and_half_of_them_are_an_error():
    p, q = {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.1, "b": 0.4, "c": 0.5}
    assert wasserstein(p, q) == total_variation(p, q) == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"Labels \['b', 'c'\] have no position"):
        wasserstein(p, q, {"a": 0})


@settings(deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_wasserstein_of_equally_far_labels_is_total_variation(first, second):
    p, q = shares([*first[:2], 0]), shares([*second[:2], 0])
    assert wasserstein(p, q, {"a": 0, "b": 1, "c": 9}) == pytest.approx(total_variation(p, q), abs=1e-9)


@pytest.mark.parametrize("distance", [kl, js, total_variation, wasserstein])
def test_labels_are_matched_by_name_and_must_be_the_same(distance):
    assert distance({"a": 0.2, "b": 0.8}, {"b": 0.8, "a": 0.2}) == 0
    with pytest.raises(ValueError, match=r"labels differ: \['a', 'b'\] and \['a', 'c'\]"):
        distance({"a": 0.5, "b": 0.5}, {"a": 0.5, "c": 0.5})


@settings(deadline=None)
@given(WEIGHTS, WEIGHTS)
def test_distances_are_never_negative_and_js_is_symmetric(first, second):
    p, q = shares(first), shares(second)
    assert kl(p, q) >= -1e-12
    assert 0 <= js(p, q) <= math.sqrt(math.log(2))
    assert js(p, q) == pytest.approx(js(q, p), abs=1e-7)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 2), st.sampled_from([2**-53, -(2**-53), 2**-52, -(2**-52)]))
def test_shares_that_differ_by_rounding_alone_are_as_good_as_equal(weights, place, rounding):
    p = shares(weights)
    q = shares([share * (1 + rounding * (i == place)) for i, share in enumerate(p.values())])
    assert kl(p, q) == pytest.approx(0, abs=1e-12)
    assert 0 <= js(p, q) < 1e-6


def test_smoothing_adds_half_a_count_to_each_label():
    assert smoothed({"a": 3, "b": 0}) == {"a": 3.5 / 4, "b": 0.5 / 4}
    assert smoothed({"a": 1, "b": 0}, add=1) == {"a": 2 / 3, "b": 1 / 3}
    assert smoothed({"a": 0, "b": 0}) == {"a": 0.5, "b": 0.5}


def test_a_guess_shares_are_the_mean_of_its_rows_over_slots_and_replicas():
    assert guessed_shares(rule([0.9, 0.1], [0.5, 0.5]), "ab") == pytest.approx({"a": 0.7, "b": 0.3})
    assert guessed_shares(drawn("ab", "bb", exact=True), "ab") == {"a": 0.25, "b": 0.75}


def test_a_guess_that_only_drew_labels_gets_half_a_count_for_each():
    assert guessed_shares(drawn("aab", "aaa"), "ab") == {"a": 5.5 / 7, "b": 1.5 / 7}


def test_failed_decisions_are_in_no_share_and_failures_alone_have_none():
    assert guessed_shares(drawn("a.", "b.", "b."), "ab") == {"a": 1.5 / 4, "b": 2.5 / 4}
    assert guessed_shares(drawn("a.", "..", "b.", exact=True), "ab") == {"a": 0.5, "b": 0.5}
    assert guessed_shares(drawn("..", exact=True), "ab") is None
    assert guessed_shares(drawn("..", ".."), "ab") is None


@pytest.mark.parametrize("k", [2, 4])
def test_the_noise_floor_of_many_actions_is_that_of_the_chi_squared_law(k):
    n = 20_000
    counts = {f"label {i}": n // k for i in range(k)}
    found = noise_floor(counts, dict.fromkeys(counts, 1 / k))
    expected = (k - 1) / (2 * n)
    # The standard deviation over 1,000 draws is expected * sqrt(2 / (k - 1) / 1000).
    assert abs(found / expected - 1) < 5 * math.sqrt(2 / (k - 1) / 1000)


def test_the_noise_floor_of_one_action_is_the_entropy_of_what_it_is_drawn_from():
    # p = (1 + 8 / 2) / 9, and KL((1, 0) || p) = -ln p_a: its mean is the entropy.
    entropy = -(5 / 9 * math.log(5 / 9) + 4 / 9 * math.log(4 / 9))
    assert noise_floor({"a": 1, "b": 0}, {"a": 0.5, "b": 0.5}) == pytest.approx(entropy, abs=0.02)


def test_the_prior_weighs_as_eight_actions():
    # p = (8 + 8 * 0) / 16 and (0 + 8 * 1) / 16: even, whatever the data alone say.
    even = noise_floor({"a": 4, "b": 4}, {"a": 0.5, "b": 0.5})
    assert noise_floor({"a": 8, "b": 0}, {"a": 0.0, "b": 1.0}) == pytest.approx(even)


def test_the_noise_floor_is_seeded_and_steadier_with_more_draws():
    def floor(seed, draws=50):
        return noise_floor({"a": 9, "b": 3}, {"a": 0.5, "b": 0.5}, seed=seed, draws=draws)

    assert floor(1) == floor(1)
    few, many = [floor(s) for s in range(20)], [floor(s, 2000) for s in range(20)]
    assert len(set(few)) > 1
    assert statistics.stdev(many) < statistics.stdev(few)


def test_the_noise_floor_falls_with_the_number_of_actions():
    even = {"a": 0.5, "b": 0.5}
    floors = [noise_floor({"a": n, "b": n}, even) for n in (2, 10, 50, 250)]
    assert floors == sorted(floors, reverse=True)
    assert np.isfinite(floors).all()


def test_no_actions_have_no_noise_floor():
    with pytest.raises(ValueError, match="no actions"):
        noise_floor({"a": 0, "b": 0}, {"a": 0.5, "b": 0.5})
