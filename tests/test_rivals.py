from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import action, cascade

from mesa_meanfield.data import cut
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation import rivals
from mesa_meanfield.evaluation.cases import UNLABELLED, Case, case_of
from mesa_meanfield.evaluation.dynamics import SIR, DeGroot, fitted, stacked

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


# --- Rivals of a case ---------------------------------------------------------------------------------


def a_case(warm_up, roll_out, labels=LABELS):
    """Labels by their indices; -1 is none."""
    played, real = (np.array(indices, dtype=np.int64) for indices in (warm_up, roll_out))
    return Case("c1", "flood", "news", "en", "stance", tuple(labels), played, real)


def shares(case, trained=None):
    """Name -> the mean of the rival's rows, label by label."""
    found = rivals.rivals(case, trained)
    return {guess.name: dict(zip(case.labels, guess.rows[0].mean(axis=0).tolist(), strict=True)) for guess in found}


TRAINED = rivals.Trained(
    {"support": 0.25, "deny": 0.75},
    strength=4.0,
    degroot=DeGroot(2.0, weight=0.5, firmness=3.0),
    sir=SIR(2.0, recovery=0.1, penalty=2.0),
)


def test_rivals_come_in_the_order_of_a_scorecard():
    names = ["uniform", "prior", "persistence", "persistence_shrunk", "degroot", "sir"]
    assert [guess.name for guess in rivals.rivals(a_case([0], [1]), TRAINED)] == names
    assert [guess.name for guess in rivals.rivals(a_case([0], [1]))] == [name for name in names if name != "prior"]


def test_a_rival_gives_a_distribution_for_each_slot_and_samples_nobody():
    for guess in rivals.rivals(a_case([0, 1, 1], [1, UNLABELLED, 0, 1, 1]), TRAINED):
        assert guess.rows.shape == (1, 5, 2)
        assert guess.rows.sum(axis=2) == pytest.approx(np.ones((1, 5)))
        assert (guess.sampled.shape, guess.exact, guess.simulated) == ((0, 5), True, False)


def test_what_stands_still_is_a_share_of_counts():
    found = shares(a_case([0, 0, 0, 1, UNLABELLED], [1] * 7), TRAINED)
    assert found["uniform"] == pytest.approx(EVEN)
    assert found["prior"] == pytest.approx(TRAINED.prior)
    assert found["persistence"] == pytest.approx({"support": 3.5 / 5, "deny": 1.5 / 5})
    assert found["persistence_shrunk"] == pytest.approx({"support": 0.5, "deny": 0.5})


def test_the_dynamics_are_those_of_the_case_and_of_what_was_learnt():
    case = a_case([0, 1, 0], [1] * 6)
    moving = {guess.name: guess.rows[0] for guess in rivals.rivals(case, TRAINED)}
    seen, start = stacked([case.warm_up], 2), np.array([0.25, 0.75])
    assert moving["degroot"] == pytest.approx(TRAINED.degroot.curves(seen, start, 6)[0])
    assert moving["sir"] == pytest.approx(TRAINED.sir.curves(seen, start, 6)[0])
    assert np.ptp(moving["degroot"], axis=0).max() > 0.001


@pytest.mark.parametrize("warm_up", [[], [UNLABELLED, UNLABELLED]])
def test_an_empty_warm_up_leaves_the_prior_to_those_who_know_it(warm_up):
    found = shares(a_case(warm_up, [0, 1, 1]), TRAINED)
    assert found["persistence"] == pytest.approx(EVEN)
    for name in ("prior", "persistence_shrunk", "degroot", "sir"):
        assert found[name] == pytest.approx(TRAINED.prior), name


def test_without_training_shrunk_persistence_is_persistence():
    found = shares(a_case([0, 1, 1, 1], [0] * 3))
    assert found["persistence_shrunk"] == pytest.approx(found["persistence"])
    assert all(found[name]["deny"] > 0.5 for name in ("persistence", "degroot", "sir"))


labels_of_roll_outs = st.lists(st.integers(UNLABELLED, 1), min_size=1, max_size=30)


@given(st.lists(st.integers(UNLABELLED, 1), max_size=30), labels_of_roll_outs, st.randoms(use_true_random=False))
def test_a_rival_depends_on_nothing_of_the_roll_out_but_its_length(warm_up, roll_out, random):
    other = [random.randint(UNLABELLED, 1) for _ in roll_out]
    for trained in (TRAINED, None):
        first, second = (rivals.rivals(a_case(warm_up, after), trained) for after in (roll_out, other))
        for one, same in zip(first, second, strict=True):
            assert np.array_equal(one.rows, same.rows)


@given(st.lists(st.integers(UNLABELLED, 1), max_size=30))
def test_labels_in_another_order_get_the_same_shares(warm_up):
    swapped = [1 - index if index != UNLABELLED else index for index in warm_up]
    first, second = a_case(warm_up, [0] * 9), a_case(swapped, [0] * 9, LABELS[::-1])
    for name, found in shares(first, TRAINED).items():
        assert shares(second, TRAINED)[name] == pytest.approx(found, abs=1e-7)


def test_what_was_learnt_of_other_labels_is_refused():
    with pytest.raises(ValueError, match="trained on the labels support, deny"):
        rivals.rivals(a_case([0], [1], ("support", "query")), TRAINED)


# --- Training and folds -------------------------------------------------------------------------------


def in_event(event, key, labels=LABELS, n=20, dataset="invented"):
    return replace(cascade(n, labels, key=key), event=event, dataset=dataset)


def test_training_fits_all_that_rivals_know():
    learnt_from = [halves(20, 15, "c1"), halves(2, 8, "c2")]
    found = rivals.train(learnt_from, "stance", LABELS, warm_up=0.5)
    known = rivals.prior(learnt_from, "stance", LABELS)
    assert found.prior == known
    assert found.strength == rivals.fit_strength(learnt_from, "stance", LABELS, known, warm_up=0.5)
    start = np.array([known[label] for label in LABELS])
    cases = [case_of(one, cut(one, 0.5), "stance", LABELS) for one in learnt_from]
    assert (found.degroot, found.sir) == (fitted(DeGroot, cases, start), fitted(SIR, cases, start))


def test_the_smallest_cascades_count_in_the_prior_alone():
    large, small = [halves(20, 15)], [cascade(6, ["deny"], key="small")]
    found = rivals.train([*large, *small], "stance", LABELS, warm_up=0.5)
    assert found.prior == rivals.prior([*large, *small], "stance", LABELS)
    assert found != rivals.train([*large, *small], "stance", LABELS, warm_up=0.5, min_actions=6)


def test_no_event_learns_from_itself_and_each_learns_from_all_others():
    reported = [in_event("flood", "a"), in_event("flood", "b"), in_event("fire", "c"), in_event(None, "d")]
    extra = [in_event("flood", "e"), in_event("storm", "f"), in_event(None, "g")]
    found = {event: [one.id for one in of] for event, of in rivals.folds(reported, extra).items()}
    assert found == {
        "flood": ["f", "g", "c", "d"],
        "fire": ["e", "f", "g", "a", "b", "d"],
        "d": ["e", "f", "g", "a", "b", "c"],
    }


def test_the_reported_cascades_can_be_left_to_be_reported():
    reported = [in_event("flood", "a"), in_event("fire", "b")]
    extra = [in_event("flood", "c"), in_event("storm", "d"), reported[1]]
    found = {event: [one.id for one in of] for event, of in rivals.folds(reported, extra, among=False).items()}
    assert found == {"flood": ["d", "b"], "fire": ["c", "d"]}


def test_a_cascade_is_never_learnt_from_for_itself_under_another_event_or_data_set():
    reported = [in_event("flood", "a")]
    extra = [
        in_event("fire", "a", dataset="other"),
        in_event("fire", "a"),
        in_event(None, "b"),
        in_event(None, "flood"),
    ]
    assert [one.id for one in rivals.folds(reported, extra)["flood"]] == ["b"]


def test_a_cascade_that_is_given_twice_is_learnt_from_once():
    twice = in_event("fire", "b")
    found = rivals.folds([in_event("flood", "a"), twice], [twice, in_event("fire", "b", dataset="other")])
    assert [(one.dataset, one.id) for one in found["flood"]] == [("invented", "b"), ("other", "b")]


def test_each_event_gets_what_its_own_training_cascades_teach():
    reported = [
        in_event(event, event, labels) for event, labels in (("a", LABELS), ("b", ["deny"]), ("c", ["support"]))
    ]
    folds = rivals.folds(reported)
    found = rivals.train_folds(folds, "stance", LABELS)
    assert found == {event: rivals.train(of, "stance", LABELS) for event, of in folds.items()}
    assert len({one.prior["deny"] for one in found.values()}) == 3


def test_the_same_training_cascades_are_fitted_once():
    reported, extra = [in_event(None, key) for key in "abc"], [in_event("fire", "x"), in_event("fire", "y", ["deny"])]
    found = rivals.train_folds(rivals.folds(reported, extra, among=False), "stance", LABELS)
    assert found["a"] is found["b"]
    assert found["a"] is found["c"]


def test_a_fold_without_anything_to_learn_from_is_an_error_that_names_it():
    with pytest.raises(DataError, match="events than 'flood': no training cascade has 15 actions"):
        rivals.train_folds(rivals.folds([in_event("flood", "a"), in_event("flood", "b")]), "stance", LABELS)
