import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesa_meanfield.evaluation.cases import UNLABELLED, Case
from mesa_meanfield.evaluation.dynamics import SIR, DeGroot, degroot_curves, fitted, stacked

PRIOR = np.array([0.5, 0.3, 0.2])
KINDS = [DeGroot(2.0, weight=0.7, firmness=3.0), SIR(2.0, recovery=0.1, penalty=1.0)]

both = pytest.mark.parametrize("dynamics", KINDS, ids=["degroot", "sir"])
warm_ups = st.lists(st.integers(UNLABELLED, 2), max_size=90).map(lambda found: np.array(found, dtype=np.int64))


def curve(dynamics, warm_up, slots, prior=PRIOR):
    """One cascade's expected shares, shape (n, K)."""
    return dynamics.curves(stacked([np.array(warm_up, dtype=np.int64)], len(prior)), prior, slots)[0]


def grown(rng, prior, actions, weigh):
    """Labels drawn one after the other, each from the weights that ``weigh`` gives the labels so far."""
    labels = []
    for _ in range(actions):
        weights = weigh(labels)
        labels.append(int(rng.choice(len(prior), p=weights / weights.sum())))
    return np.array(labels, dtype=np.int64)


def case(warm_up, roll_out):
    both = (np.array(labels, dtype=np.int64) for labels in (warm_up, roll_out))
    return Case("c", "e", "news", "en", "stance", ("a", "b", "c"), *both)


# --- Both -------------------------------------------------------------------------------------------


@both
@settings(max_examples=60)
@given(warm_up=warm_ups, slots=st.integers(0, 60))
def test_every_slot_has_a_distribution_without_zeros(dynamics, warm_up, slots):
    rows = curve(dynamics, warm_up, slots)
    assert rows.shape == (slots, 3)
    assert rows.sum(axis=1) == pytest.approx(np.ones(slots))
    assert (rows > 0).all()


@both
@settings(max_examples=60)
@given(warm_up=warm_ups, order=st.permutations(range(3)))
def test_other_names_for_the_labels_give_the_same_curves_under_other_names(dynamics, warm_up, order):
    renamed = np.array([*order, UNLABELLED])[warm_up]  # the last place is that of UNLABELLED, -1
    rows = curve(dynamics, renamed, 20, PRIOR[np.argsort(order)])
    assert rows[:, order] == pytest.approx(curve(dynamics, warm_up, 20), abs=1e-7)


@both
@given(warm_up=warm_ups, slots=st.integers(1, 30))
def test_a_longer_roll_out_begins_like_a_shorter(dynamics, warm_up, slots):
    assert curve(dynamics, warm_up, slots + 7)[:slots] == pytest.approx(curve(dynamics, warm_up, slots))


@both
def test_each_cascade_gets_the_curve_that_it_gets_alone(dynamics):
    known = [np.array(one, dtype=np.int64) for one in ([0, 1, 1], [], [2] * 40, [UNLABELLED, 1], [0, 1, 2] * 9)]
    together = dynamics.curves(stacked(known, 3), PRIOR, 12)
    for one, rows in zip(known, together, strict=True):
        assert rows == pytest.approx(curve(dynamics, one, 12), abs=1e-7)


@both
@pytest.mark.parametrize("warm_up", [[], [UNLABELLED] * 9])
def test_without_a_label_in_the_warm_up_the_prior_stays(dynamics, warm_up):
    assert curve(dynamics, warm_up, 30) == pytest.approx(np.tile(PRIOR, (30, 1)))


@both
def test_actions_without_label_are_passed_over(dynamics):
    with_gaps = [UNLABELLED, 0, UNLABELLED, 1, 1, UNLABELLED]
    assert curve(dynamics, with_gaps, 9) == pytest.approx(curve(dynamics, [0, 1, 1], 9))


@both
def test_one_label_alone_raises_its_share_and_leaves_the_others_possible(dynamics):
    rows = curve(dynamics, [2] * 90, 200)
    assert (rows[:, 2] > PRIOR[2]).all()
    assert rows.min() > 1e-4


@both
def test_more_labels_and_a_long_warm_up_are_no_matter(dynamics):
    rng = np.random.default_rng(0)
    rows = curve(dynamics, rng.integers(0, 12, 3000), 50, np.full(12, 1 / 12))
    assert rows.sum(axis=1) == pytest.approx(np.ones(50))
    assert 0.01 < rows.min() <= rows.max() < 0.25  # they came at random, each as often as any other


# --- DeGroot ----------------------------------------------------------------------------------------


def test_nobody_who_listens_to_nobody_leaves_the_prior():
    seen = stacked([np.array([2, 2, 2, 2])], 3)
    still = degroot_curves(seen, PRIOR, 10, start=1.0, weights=np.zeros(1))
    assert still[0] == pytest.approx(np.tile(PRIOR, (10, 1)))


def test_who_has_no_opinion_of_their_own_keeps_the_shares_where_they_are():
    # Polya's urn: (2 * .5 + 1, 2 * .3 + 3, 2 * .2) / 6, and so in every slot.
    seen = stacked([np.array([1, 0, 1, 1])], 3)
    urn = degroot_curves(seen, PRIOR, 4, start=2.0, weights=np.ones(1))
    assert urn[0] == pytest.approx(np.tile([2 / 6, 3.6 / 6, 0.4 / 6], (4, 1)))


def test_shares_return_to_the_prior_newcomer_by_newcomer():
    prior, w = np.array([0.5, 0.5]), 0.5
    rows = degroot_curves(stacked([np.array([0])], 2), prior, 3, start=1.0, weights=np.array([w]))[0]
    # Shares of the two so far: .75. The next is w .75 + (1 - w) .5 = .625; it makes (2 * .75 + .625) / 3.
    third = (2 * 0.75 + 0.625) / 3
    fourth = (3 * third + (w * third + (1 - w) * 0.5)) / 4
    assert rows[:, 0] == pytest.approx([0.625, w * third + (1 - w) * 0.5, w * fourth + (1 - w) * 0.5])
    assert len(degroot_curves(stacked([np.array([0])], 2), prior, 1, start=1.0, weights=np.array([w]))[0]) == 1


def test_the_expectation_of_degroot_is_the_mean_of_its_samples():
    start, w, rng = 1.0, 0.8, np.random.default_rng(3)
    first = [1, 1, 2]

    def weigh(labels):
        counts = np.bincount(first + labels, minlength=3)
        return w * (start * PRIOR + counts) / (start + 3 + len(labels)) + (1 - w) * PRIOR

    sampled = np.array([grown(rng, PRIOR, 12, weigh) for _ in range(1500)])
    expected = degroot_curves(stacked([np.array(first)], 3), PRIOR, 12, start=start, weights=np.array([w]))[0]
    for label in range(3):
        # The standard error of each is below .013.
        assert (sampled == label).mean(axis=0) == pytest.approx(expected[:, label], abs=0.05)


@pytest.mark.parametrize("true", [0.3, 0.95])
def test_long_warm_ups_tell_the_weight_that_they_were_made_with(true):
    start, rng = 1.0, np.random.default_rng(11)

    def weigh(labels):
        shares = (start * PRIOR + np.bincount(labels, minlength=3)) / (start + len(labels))
        return true * shares + (1 - true) * PRIOR

    known = [grown(rng, PRIOR, 600, weigh) for _ in range(20)]
    weak = DeGroot(start, weight=0.5, firmness=0.5)
    assert weak.weights(stacked(known, 3), PRIOR).mean() == pytest.approx(true, abs=0.08)


def test_the_weight_is_the_one_of_maximum_posterior_density():
    dynamics, warm_up = DeGroot(1.5, weight=0.6, firmness=2.0), [0, 2, 2, 1, 2]
    grid = np.linspace(0.001, 0.999, 999)
    density = 2.0 * (0.6 * np.log(grid) + 0.4 * np.log(1 - grid))
    counts = np.zeros(3)
    for label in warm_up:
        shares = (1.5 * PRIOR + counts) / (1.5 + counts.sum())
        density += np.log(grid * shares[label] + (1 - grid) * PRIOR[label])
        counts[label] += 1
    found = dynamics.weights(stacked([np.array(warm_up)], 3), PRIOR)
    assert found == pytest.approx([grid[density.argmax()]], abs=0.001)


# --- SIR --------------------------------------------------------------------------------------------


def test_pressure_grows_by_adopters_and_decays_by_those_who_recover():
    before, after = SIR(2.0, recovery=0.25, penalty=1.0).pressures(stacked([np.array([0, 2])], 3), PRIOR)
    assert before[0] == pytest.approx(np.array([[1.0, 0.6, 0.4], [2.0, 0.6, 0.4]]))
    assert after[0] == pytest.approx([1.75, 0.6, 1.4])


def test_equal_contagions_without_recovery_keep_the_shares_where_they_are():
    # Polya's urn again, since the penalty leaves no beta but 1.
    urn = curve(SIR(2.0, recovery=0.0, penalty=1e9), [1, 0, 1, 1], 5)
    assert urn == pytest.approx(np.tile([2 / 6, 3.6 / 6, 0.4 / 6], (5, 1)))


def test_the_expected_next_slot_follows_from_the_pressure():
    prior = np.array([0.5, 0.5])
    first, second = curve(SIR(2.0, recovery=0.5, penalty=1e9), [0], 2, prior)
    assert first == pytest.approx([2 / 3, 1 / 3])  # pressures 1 + 1 and 1
    # Half the adopters recover, and the slot adds its expectation: 1 + .5 + 2/3 and 1 + 1/3.
    assert second == pytest.approx(np.array([13 / 6, 4 / 3]) / 3.5)


def test_the_betas_are_those_of_maximum_posterior_density():
    dynamics, seen = SIR(1.5, recovery=0.2, penalty=0.7), stacked([np.array([0, 2, 2, 1, 2, 2])], 3)
    pressures = dynamics.pressures(seen, PRIOR)[0][0]

    def density(logs):
        weights = pressures * np.exp(logs)
        chosen = (weights / weights.sum(axis=1, keepdims=True))[seen[0] > 0]
        return np.log(chosen).sum() - 0.7 / 2 * (logs**2).sum()

    found = dynamics.log_betas(seen, PRIOR)[0]
    nearby = found + np.random.default_rng(0).normal(scale=0.02, size=(200, 3))
    assert density(found) > max(map(density, nearby))


@pytest.mark.parametrize("recovery", [0.0, 0.2])
def test_a_long_warm_up_tells_the_betas_that_it_was_made_with(recovery):
    start, true, rng = 20.0, np.array([0.3, 0.0, -0.3]), np.random.default_rng(5)
    dynamics, adopters = SIR(start, recovery=recovery, penalty=0.5), np.zeros(3)
    labels = []
    for _ in range(3000):
        weights = np.exp(true) * (start * PRIOR + adopters)
        labels.append(int(rng.choice(3, p=weights / weights.sum())))
        adopters = (1 - recovery) * adopters + np.eye(3)[labels[-1]]
    found = dynamics.log_betas(stacked([np.array(labels)], 3), PRIOR)[0]
    assert found == pytest.approx(true, abs=0.15)


def test_the_fit_ends_where_the_pressures_point_away_from_every_label():
    # Plain Newton steps swing for ever here: the first goes a hundred too far.
    hard, prior = SIR(500.0, recovery=0.5, penalty=0.5), np.array([0.998, 0.001, 0.001])
    seen = stacked([np.array([2] * 300), np.array([1, 2] * 10)], 3)
    found = hard.log_betas(seen, prior)
    weights = hard.pressures(seen, prior)[0] * np.exp(found)[:, None]
    played = seen.sum(axis=2, keepdims=True)
    slope = (seen - weights / weights.sum(axis=2, keepdims=True) * played).sum(axis=1) - 0.5 * found
    assert slope == pytest.approx(np.zeros((2, 3)), abs=1e-6)


# --- The fit to training cases ----------------------------------------------------------------------


def test_training_finds_that_shares_return_or_that_they_stay():
    even = np.full(3, 1 / 3)
    returns = [case([k] * 20, [0, 1, 2] * 20) for k in range(3)]
    stays = [case([k] * 20, [k] * 60) for k in range(3)]
    back, still = fitted(DeGroot, returns, even), fitted(DeGroot, stays, even)
    for cases, dynamics in ((returns, back), (stays, still)):
        real = cases[0].counts / 60
        assert curve(dynamics, cases[0].warm_up, 60, even).mean(axis=0) == pytest.approx(real, abs=0.15)


def test_training_finds_a_contagion_that_takes_over():
    takes_over = [case([0, 0, 0, 0, 1, 0, 1, 1, 1, 1], [1] * 40), case([2, 2, 2, 0, 2, 0, 0, 0], [0] * 40)]
    even = np.full(3, 1 / 3)
    found = fitted(SIR, takes_over, even)
    for one, label in zip(takes_over, (1, 0), strict=True):
        assert curve(found, one.warm_up, 40, even).mean(axis=0)[label] > 0.8


@pytest.mark.parametrize("kind", [DeGroot, SIR])
def test_a_fit_is_the_same_each_time_and_within_its_ranges(kind):
    cases = [case([0, 0, 1, 2], [0, 1, 1, 0, UNLABELLED]), case([1], [2, 2, 1, 1]), case([], [0, 1])]
    found = fitted(kind, cases, PRIOR)
    assert found == fitted(kind, cases, PRIOR)
    assert 0.5 - 1e-9 <= found.start <= 500 + 1e-9


@pytest.mark.parametrize("kind", [DeGroot, SIR])
def test_a_fit_to_many_or_long_cases_takes_some_of_each(kind):
    rng = np.random.default_rng(2)
    many = [case(rng.integers(0, 3, 4), rng.integers(0, 3, 9)) for _ in range(401)]
    assert fitted(kind, many, PRIOR) == fitted(kind, many[::3], PRIOR)
    long = rng.integers(0, 3, 2500)
    cut = case(long[:300], long[300:1000])
    assert fitted(kind, [case(long[:750], long[750:])], PRIOR) == fitted(kind, [cut], PRIOR)


def test_nothing_to_fit_to_is_an_error():
    with pytest.raises(ValueError, match="nothing to fit to"):
        fitted(SIR, [case([0, 1], [UNLABELLED])], PRIOR)
