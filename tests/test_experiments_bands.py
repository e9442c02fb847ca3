import math
from dataclasses import replace

import numpy as np
import pytest
from arms import chances, denial, run_of, town
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import case, drawn

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.evaluation.conformal import (
    Foreseen,
    conformal,
    coverage_by_event,
    foreseen_of,
    widened,
    widening,
)
from mesa_meanfield.evaluation.quantiles import band, nominal
from mesa_meanfield.experiments.bands import band_frame, bands, replicas_needed
from mesa_meanfield.experiments.comparison import CONTROL, TREATMENT, Comparison
from mesa_meanfield.experiments.counterfactual import compare
from mesa_meanfield.experiments.replicas import run_replicas
from mesa_meanfield.experiments.runs import Ensemble

# --- Bands over replicas -----------------------------------------------------------------------------


def of(*shares):
    return np.array([shares]).T


def test_the_ends_of_a_band_lie_at_exchangeable_ranks():
    low, median, high = band(of(*np.arange(1, 20) / 100), 0.9)  # 19 replicas: ranks .05 * 20 = 1 and 19
    assert (low[0], median[0], high[0]) == pytest.approx((0.01, 0.10, 0.19))
    low, _, high = band(of(*np.arange(1, 40) / 100), 0.9)  # 39: ranks 2 and 38
    assert (low[0], high[0]) == pytest.approx((0.02, 0.38))


def test_few_replicas_reach_from_the_lowest_to_the_highest_and_say_what_that_covers():
    low, _, high = band(of(0.3, 0.1, 0.2), 0.9)
    assert (low[0], high[0]) == (0.1, 0.3)
    assert nominal(3, 0.9) == 0.5
    assert nominal(39, 0.9) == 0.9
    assert (nominal(0, 0.9), nominal(1, 0.9)) == (0, 0)


def test_one_more_replica_lies_in_the_band_as_often_as_it_says():
    shares = np.random.default_rng(0).random((10, 4000))
    low, _, high = band(shares[:9], 0.6)  # ranks 2 and 8 of 9
    assert ((low <= shares[9]) & (shares[9] <= high)).mean() == pytest.approx(0.6, abs=0.03)


def test_bands_are_told_for_every_label_and_tick():
    found = bands(Ensemble((run_of([1, 5]), run_of([3, None], replica=1)), (), 2))
    yes, no = found
    assert (yes.label, no.label) == ("yes", "no")
    np.testing.assert_allclose(
        [yes.low, yes.median, yes.high, yes.mean], [[0.1, 0.5], [0.2, 0.5], [0.3, 0.5], [0.2, 0.5]]
    )
    assert yes.replicas.tolist() == [2, 1]
    np.testing.assert_allclose(yes.nominal, [1 / 3, 0])
    frame = band_frame(found)
    assert frame["tick"].tolist() == [0, 1, 0, 1]
    assert frame["high"].tolist() == pytest.approx([0.3, 0.5, 0.9, 0.5])


def test_a_band_is_of_sampled_shares_unless_one_asks_for_exact_ones():
    made = run_replicas(town(5), 20, 1, seed=0)
    sampled, exact = (bands(made, expected=expected)[0] for expected in (False, True))
    assert sampled.high[0] - sampled.low[0] > 0.3
    assert exact.high[0] == pytest.approx(exact.low[0])


def test_two_arms_have_no_common_band():
    with pytest.raises(ValueError, match="replicas of control, treatment: use"):
        bands(compare(town(2), [denial()], replicas=1, ticks=1).ensemble)


# --- How many replicas -------------------------------------------------------------------------------


def test_how_many_replicas_a_width_takes_at_the_worst_tick():
    made = Ensemble(tuple(run_of(yes, replica=r) for r, yes in enumerate([[4, 1], [5, 2], [6, 3]])), (), 2)
    worse = Ensemble(tuple(run_of(yes, replica=r) for r, yes in enumerate([[4, 1], [5, 3], [6, 5]])), (), 2)
    # s = .1 and t(.975, 2) = 4.3027: (2 * .43027 / .2)^2 = 18.5; with s = .2 74.05
    assert replicas_needed(made, 0.2) == 19
    assert replicas_needed(worse, 0.2) == 75
    assert replicas_needed(worse, 0.2, label="no", tick=0) == 19
    assert replicas_needed(worse, 0.2, tick=-1) == 75


def test_of_a_comparison_it_is_the_paired_differences_that_count():
    runs = [run_of([yes], arm=CONTROL, replica=r) for r, yes in enumerate([1, 5, 9])]
    runs += [run_of([yes], arm=TREATMENT, replica=r) for r, yes in enumerate([0, 3, 6])]
    made = Comparison(Ensemble(tuple(runs), (), 1), 0, 0.95)
    assert replicas_needed(made, 0.2) == 19  # differences -.1, -.2, -.3
    assert replicas_needed(made.ensemble.arm(CONTROL), 0.2) == 297  # s = .4: 296.2


def test_one_replica_cannot_say_how_many_it_takes():
    assert replicas_needed(Ensemble((run_of([3]),), (), 1), 0.1) is None


@pytest.mark.parametrize(
    ("wrong", "told"), [({"width": 0}, "width"), ({"tick": 1}, "tick"), ({"label": "x"}, "no label")]
)
def test_wrong_wishes_are_refused(wrong, told):
    made = Ensemble((run_of([3]), run_of([4], replica=1)), (), 1)
    with pytest.raises(ValueError, match=told):
        replicas_needed(made, **{"width": 0.1, **wrong})


# --- Conformal widening ------------------------------------------------------------------------------


def test_the_bound_is_the_residual_of_the_exact_rank():
    residuals = [9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert conformal(residuals, 0.8) == 8  # ceil(.8 * 10)
    assert conformal(residuals, 0.9) == 9
    assert conformal(residuals, 0.91) == math.inf
    assert conformal(residuals, 0.1) == 1


def test_residuals_of_a_group_share_its_weight():
    residuals, groups = [1, 1, 1, 5], ["a", "a", "a", "b"]  # weights 1/9 three times, and 1/3
    assert conformal(residuals, 0.33, groups) == 1
    assert conformal(residuals, 0.34, groups) == 5
    assert conformal(residuals, 0.67, groups) == math.inf


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(1, 99))
def test_without_groups_it_is_split_conformal(residuals, percent):
    rank = -(-percent * (len(residuals) + 1) // 100)
    expected = sorted(residuals)[rank - 1] if rank <= len(residuals) else math.inf
    assert conformal(residuals, percent / 100) == expected


def test_a_new_residual_keeps_the_bound_as_often_as_promised():
    drawn = np.random.default_rng(1).standard_cauchy((4000, 12))
    kept = [row[-1] <= conformal(row[:-1], 0.75) for row in drawn]
    assert np.mean(kept) == pytest.approx(0.75, abs=0.025)


def test_a_new_group_keeps_the_bound_as_often_as_promised():
    rng = np.random.default_rng(2)
    kept = []
    for _ in range(2000):
        centres, sizes = rng.normal(size=9), rng.integers(1, 6, 9)
        groups = np.repeat(np.arange(9), sizes)
        values = centres[groups] + 0.1 * rng.normal(size=len(groups))
        seen = groups < 8
        kept.append(np.mean(values[~seen] <= conformal(values[seen], 0.8, groups[seen])))
    assert 0.78 <= np.mean(kept) <= 0.93


@pytest.mark.parametrize(("residuals", "groups"), [([], None), ([math.nan], None), ([1.0, 2.0], ["a"])])
def test_residuals_must_be_numbers(residuals, groups):
    with pytest.raises(ValueError, match="Residuals must be numbers"):
        conformal(residuals, 0.9, groups)


def band_of(truth, *, low=0.4, high=0.6, cascade="c", event="e"):
    truth = np.array(truth, dtype=float)
    return Foreseen(cascade, event, np.full(truth.shape, low), np.full(truth.shape, high), truth)


def test_bands_are_widened_by_their_own_width():
    training = [band_of([0.7], cascade="a"), band_of([0.5], cascade="b"), band_of([0.35], cascade="c")]
    learnt = widening(training, 0.75)  # residuals .5, -.5 and .25 of a width; rank 3 of 3
    assert learnt.reach == pytest.approx(0.5)
    assert learnt.factor == pytest.approx(2)
    assert learnt.groups == 3
    low, high = learnt.apply(np.array([0.2, 0.1]), np.array([0.4, 0.9]))
    np.testing.assert_allclose(low, [0.1, 0])
    np.testing.assert_allclose(high, [0.5, 1])


def test_a_band_without_width_is_widened_by_the_floor():
    learnt = widening([band_of([0.6], low=0.5, high=0.5)], 0.5, floor=0.05)
    assert learnt.reach == pytest.approx(2)
    low, high = learnt.apply(np.array([0.5]), np.array([0.5]))
    np.testing.assert_allclose([low, high], [[0.4], [0.6]])


def test_bands_that_were_too_wide_are_narrowed_and_never_cross():
    learnt = widening([band_of([0.5], low=0.0, high=1.0)], 0.5)
    assert learnt.reach == pytest.approx(-0.5)
    low, high = learnt.apply(np.array([0.2]), np.array([0.21]))
    assert low[0] == high[0] == pytest.approx(0.205)


def test_too_few_cascades_for_a_level_widen_to_everything():
    learnt = widening([band_of([0.5])], 0.9)
    assert learnt.reach == math.inf
    assert [ends.tolist() for ends in learnt.apply(np.array([0.4]), np.array([0.6]))] == [[0], [1]]


def test_by_event_whole_events_are_exchangeable():
    training = [band_of([0.9], cascade=f"c{i}", event="one") for i in range(9)] + [band_of([0.5], event="two")]
    assert widening(training, 0.6).groups == 10
    assert widening(training, 0.6, by="event").groups == 2
    assert widening(training, 0.3, by="event").reach == pytest.approx(-0.5)
    assert widening(training, 0.3, by="cascade").reach == pytest.approx(1.5)


def test_truths_and_bands_that_are_not_known_teach_nothing():
    assert widening([band_of([0.7, math.nan])], 0.5).reach == pytest.approx(0.5)
    with pytest.raises(ValueError, match="nothing to learn from"):
        widening([band_of([math.nan])], 0.5)
    with pytest.raises(ValueError, match="floor must be"):
        widening([band_of([0.5])], 0.5, floor=0)
    with pytest.raises(ValueError, match="one shape"):
        Foreseen("c", "e", np.zeros(2), np.zeros(2), np.zeros(3))


def test_coverage_is_that_of_events_that_taught_nothing():
    near = [band_of([0.5, 0.5], cascade=f"n{i}", event="near") for i in range(3)]
    far = [band_of([0.5, 0.8], cascade=f"f{i}", event="far") for i in range(3)]
    found = coverage_by_event([*near, *far], 0.7)
    rows = {one.event: one for one in found.events}
    # near ones teach residuals of -.5: bands narrow to their middle, where .5 still is; far ones teach 1
    assert (rows["near"].before, rows["near"].after, rows["near"].cascades) == (1, 1, 3)
    assert (rows["far"].before, rows["far"].after) == (0.5, 0.5)
    assert rows["far"].widening.reach == pytest.approx(-0.5)
    assert rows["near"].widening.reach == pytest.approx(1)
    assert (found.before, found.after) == (0.75, 0.75)
    assert found.widening.groups == 6
    with pytest.raises(ValueError, match="takes two events"):
        coverage_by_event(near, 0.7)


def test_widened_bands_reach_the_wanted_coverage_on_events_like_the_others():
    rng = np.random.default_rng(3)
    cascades = [
        band_of(np.clip(rng.normal(0.5, 0.15, 6), 0, 1), low=0.45, high=0.55, cascade=f"c{i}", event=f"e{i % 12}")
        for i in range(120)
    ]
    found = coverage_by_event(cascades, 0.8)
    assert found.before < 0.4
    assert found.after == pytest.approx(0.8, abs=0.05)


def test_a_simulated_cascade_is_foreseen_window_by_window():
    recorded = case("aaaa", "aabb" + "bbbb")  # two windows of four
    found = foreseen_of(recorded, drawn("aaab" + "abbb", "abbb" + "aabb", "aaaa" + "bbbb"), 0.9)
    np.testing.assert_allclose(found.truth, [0.5, 0])
    np.testing.assert_allclose(found.low, [0.25, 0])
    np.testing.assert_allclose(found.high, [1, 0.5])
    assert (found.cascade, found.event) == ("c1", "c1")


def test_a_scorecard_says_what_widened_bands_cover():
    one, two = (replace(case("aaaa", "aabb" + "bbbb"), cascade=name, event=name) for name in ("one", "two"))
    simulated = drawn("aaab" + "abbb", "abbb" + "aabb", "aaaa" + "bbbb")
    found = widened([one, two], [simulated, simulated])
    expected = coverage_by_event([foreseen_of(at, simulated, 0.8) for at in (one, two)], 0.8)
    assert (found.level, found.events) == (0.8, 2)
    assert (found.before, found.after) == (expected.before, expected.after)
    assert found.factor is None  # two cascades promise .67 at most
    assert widened([one, two], [simulated, None]) is None  # nothing could be held out
    many = [replace(one, cascade=f"c{i}", event=f"e{i % 3}") for i in range(12)]
    assert widened(many, [simulated] * 12).factor == pytest.approx(expected_factor(many, simulated))


def expected_factor(cases, guess):
    return widening([foreseen_of(at, guess, 0.8) for at in cases], 0.8).factor


def test_a_replica_whose_window_failed_has_no_share_there():
    found = foreseen_of(case("aaaa", "aabb" + "bbbb"), drawn("aaab" + "....", "abbb" + "....", "aaaa" + "...."), 0.9)
    assert np.isnan(found.low).tolist() == [False, True]
    assert len(found.known.truth) == 1


def test_three_labels_are_foreseen_each():
    recorded = case("abca", "abca", "abc")
    found = foreseen_of(recorded, drawn("aaaa", "abcb", labels="abc"), 0.9)
    np.testing.assert_allclose(found.truth, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(found.high, [1, 0.5, 0.25])


def test_bands_of_a_real_run_cover_more_runs_of_the_same_model():
    backend = ScriptedBackend(probability=chances(0.4))
    shares = run_replicas(town(8, backend), 60, 2, seed=0)
    [yes, _] = bands(Ensemble(shares.runs[:39], (), 2), 0.9)
    more = Ensemble(shares.runs[39:], (), 2).curves("yes", expected=False)
    assert ((yes.low <= more) & (more <= yes.high)).mean() >= 0.85
