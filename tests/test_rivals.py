import pytest
from worlds import action, cascade

from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation import rivals

LABELS = ("support", "deny")
EVEN = {"support": 0.5, "deny": 0.5}


def halves(first, rest, key="c"):
    """A cascade of 20 + 20 actions, as many of them support in each half as is said."""
    labels = [*(["support"] * first + ["deny"] * (20 - first)), *(["support"] * rest + ["deny"] * (20 - rest))]
    return cascade(40, labels, key=key)


def strength(train, **known):
    return rivals.fit_strength(train, "stance", LABELS, EVEN, warm_up=0.5, **known)


def test_uniform_gives_every_label_alike():
    assert rivals.uniform(("a", "b", "c", "d")) == dict.fromkeys("abcd", 0.25)


def test_the_prior_pools_all_training_actions_and_adds_half_a_count():
    train = [cascade(6, ["support"]), cascade(3, ["deny", "support", None])]
    # 7 support and 1 deny, half a count more for each of three labels.
    expected = {"support": 7.5 / 9.5, "deny": 1.5 / 9.5, "query": 0.5 / 9.5}
    assert rivals.prior(train, "stance", (*LABELS, "query")) == pytest.approx(expected)


def test_the_prior_of_no_training_data_is_uniform():
    assert rivals.prior([], "stance", LABELS) == EVEN


def test_failed_decisions_do_not_count_in_the_prior():
    failed = action("a2", "deny", failure="unreadable")
    found = rivals.prior([cascade(actions=[action("a1", "support"), failed])], "stance", LABELS)
    assert found == {"support": 0.75, "deny": 0.25}


def test_persistence_is_drawn_to_the_prior_by_its_strength():
    warm_up, prior = {"support": 3, "deny": 1}, {"support": 0.25, "deny": 0.75}
    # (3 + 4 * .25) / 8 and (1 + 4 * .75) / 8
    assert rivals.persistence_shrunk(warm_up, prior, 4) == {"support": 0.5, "deny": 0.5}
    assert rivals.persistence_shrunk(warm_up, prior, 0) == {"support": 0.75, "deny": 0.25}
    assert rivals.persistence_shrunk(warm_up, prior, 1e9) == pytest.approx(prior)


def test_persistence_without_warm_up_is_the_prior():
    prior = {"support": 0.25, "deny": 0.75}
    assert rivals.persistence_shrunk({"support": 0, "deny": 0}, prior, 2) == pytest.approx(prior)


def test_the_fitted_strength_is_the_one_that_was_planted():
    # Warm-up (20, 0), roll-out .75: (20 + s / 2) / (20 + s) = .75 has the one solution s = 20.
    assert strength([halves(20, 15)]) == pytest.approx(20, rel=0.01)
    # The mirror image asks for the same.
    assert strength([halves(20, 15), halves(0, 5)]) == pytest.approx(20, rel=0.01)
    # One guess for two roll-outs: the mean of KL(real || guess) is least at their mean, (.95 + .55) / 2.
    assert strength([halves(20, 19), halves(20, 11)]) == pytest.approx(20, rel=0.01)


def test_a_telling_warm_up_gets_a_small_strength_and_an_idle_one_a_large():
    telling = strength([halves(18, 18), halves(2, 2)])
    idle = strength([halves(18, 10), halves(2, 10)])
    assert 0.5 <= telling < 1
    assert 400 < idle <= 500


def test_small_cascades_and_those_without_labels_do_not_take_part():
    small, unlabelled = cascade(14, LABELS), cascade(40, [None])
    assert strength([halves(20, 15), small, unlabelled]) == strength([halves(20, 15)])
    assert strength([halves(20, 15), small], min_actions=14) != strength([halves(20, 15)])


def test_a_fit_without_any_large_cascade_is_an_error():
    with pytest.raises(DataError, match="no training cascade has 15 actions and labels of 'stance'"):
        strength([cascade(14, LABELS), cascade(40, [None])])
