import math
from dataclasses import replace

import pytest
from worlds import STANCES, action, cascade

from mesa_meanfield.data import cut
from mesa_meanfield.errors import DataError, ReplyError
from mesa_meanfield.evaluation import rivals
from mesa_meanfield.evaluation.comparison import compare, real_counts, simulated_shares
from mesa_meanfield.evaluation.metrics import noise_floor

LABELS = ("support", "deny")
HALF = cut(cascade(8, LABELS), 0.5)  # support, deny, support, deny before the cut and after it


def exact(support, label="support", **known):
    return action(label=label, distribution={"support": support, "deny": 1 - support}, **known)


def test_exact_distributions_are_averaged_whatever_was_sampled():
    assert simulated_shares([exact(0.9), exact(0.5)], "stance", LABELS) == pytest.approx(
        {"support": 0.7, "deny": 0.3}
    )


@pytest.mark.parametrize("first", [action(simulated=True), action()])
def test_a_label_without_distribution_is_certain_and_labels_alone_get_half_a_count_each(first):
    found = simulated_shares([first, action(), exact(0.1, "deny")], "stance", LABELS)
    assert found == pytest.approx({"support": 2.1 / 3, "deny": 0.9 / 3})
    plain = simulated_shares([first, action(), action(label="deny")], "stance", LABELS)
    assert plain == {"support": 2.5 / 4, "deny": 1.5 / 4}


def test_failed_decisions_count_in_no_share():
    failed = exact(0.0, "deny", failure="unreadable")
    assert simulated_shares([exact(0.9), failed], "stance", LABELS) == pytest.approx({"support": 0.9, "deny": 0.1})
    plain = action(label="deny", failure="unreadable")
    assert simulated_shares([action(), plain], "stance", LABELS) == {"support": 0.75, "deny": 0.25}


def test_a_simulation_of_failures_alone_is_a_reply_error():
    failures = [exact(0.5, failure="unreadable")] * 3
    with pytest.raises(ReplyError, match="None of the 3 simulated decisions"):
        compare(HALF, failures, "stance", LABELS)


def test_the_real_shares_are_those_after_the_warm_up_and_not_smoothed():
    parts = cut(cascade(8, ["deny"] * 4 + ["support"] * 3 + [None]), 0.5)
    assert real_counts(parts, "stance", LABELS) == {"support": 3, "deny": 0}
    assert compare(parts, [exact(0.5)], "stance", LABELS).real == {"support": 1.0, "deny": 0.0}


def test_nothing_to_compare_is_a_data_error():
    unlabelled = cut(cascade(8, ["deny"] * 4 + [None] * 4), 0.5)
    for parts in (unlabelled, cut(cascade(0)), cut(cascade(8), 0.5)):
        dimension = "mood" if parts.roll_out and parts.roll_out[0][0].labels else "stance"
        with pytest.raises(DataError, match=f"no action after the warm-up has a label of dimension '{dimension}'"):
            compare(parts, [exact(0.5)], dimension, LABELS)


def test_the_distances_are_of_the_real_to_the_simulated():
    found = compare(HALF, [exact(0.9), exact(0.5), exact(0.2, failure="x")], "stance", LABELS, name="tally")
    assert (found.simulated.name, found.labels, found.failures) == ("tally", LABELS, 1)
    assert found.real == {"support": 0.5, "deny": 0.5}
    # .5 ln(.5 / .7) + .5 ln(.5 / .3)
    assert found.simulated.kl == pytest.approx(0.5 * math.log(0.25 / 0.21))
    # m = (.6, .4): the mean of KL((.5, .5) || m) and KL((.7, .3) || m), and its root
    halves = 0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4), 0.7 * math.log(0.7 / 0.6) + 0.3 * math.log(0.75)
    assert found.simulated.js == pytest.approx(math.sqrt(sum(halves) / 2))


def test_a_label_that_was_real_but_impossible_is_infinitely_far():
    found = compare(HALF, [exact(1.0)], "stance", LABELS)
    assert found.simulated.kl == math.inf


def test_without_training_data_the_rivals_are_uniform_and_persistence_towards_it():
    parts = cut(cascade(8, ["deny"] * 3 + ["support"] * 5), 0.5)
    found = compare(parts, [exact(0.5)], "stance", LABELS)
    shares = {rival.name: rival.shares for rival in found.rivals}
    assert list(shares) == ["uniform", "persistence_shrunk"]
    # Warm-up 1 support, 3 deny; half a count towards uniform for each of the two labels.
    assert shares["persistence_shrunk"] == {"support": 1.5 / 5, "deny": 3.5 / 5}
    uniform, shrunk = found.rivals
    assert uniform.kl == pytest.approx(math.log(2))
    assert shrunk.kl == pytest.approx(math.log(5 / 1.5))
    assert found.noise_floor == noise_floor({"support": 4, "deny": 0}, {"support": 0.5, "deny": 0.5})


def test_training_data_give_the_prior_the_strength_and_the_noise_floor():
    train = [cascade(40, ["support", "support", "support", "deny"], key="t")]
    found = compare(HALF, [exact(0.5)], "stance", LABELS, trained=rivals.train(train, "stance", LABELS, warm_up=0.5))
    shares = {rival.name: rival.shares for rival in found.rivals}
    prior = {"support": 30.5 / 41, "deny": 10.5 / 41}
    assert list(shares) == ["uniform", "prior", "persistence_shrunk"]
    assert shares["prior"] == pytest.approx(prior)
    strength = rivals.fit_strength(train, "stance", LABELS, prior, warm_up=0.5)
    expected = rivals.persistence_shrunk({"support": 2, "deny": 2}, prior, strength)
    assert shares["persistence_shrunk"] == pytest.approx(expected)
    assert found.noise_floor == pytest.approx(noise_floor({"support": 2, "deny": 2}, prior))


def test_no_rival_sees_the_roll_out():
    other = replace(HALF, roll_out=(tuple(action(f"b{i}", "deny") for i in range(4)),))
    for trained in (None, rivals.train([cascade(40, LABELS, key="t")], "stance", LABELS)):
        first, second = (compare(parts, [exact(0.5)], "stance", LABELS, trained=trained) for parts in (HALF, other))
        assert [rival.shares for rival in first.rivals] == [rival.shares for rival in second.rivals]
        assert first.real != second.real


def test_labels_that_nobody_used_take_part():
    found = compare(HALF, [action(), action(label="query")], "stance", STANCES)
    assert found.real == {"support": 0.5, "deny": 0.5, "query": 0.0, "comment": 0.0}
    assert found.simulated.shares == {"support": 1.5 / 4, "deny": 0.5 / 4, "query": 1.5 / 4, "comment": 0.5 / 4}
