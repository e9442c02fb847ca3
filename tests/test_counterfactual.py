import itertools
import json

import mesa
import numpy as np
import pytest
from arms import all_at_once, chances, denial, run_of, town
from crowds import YES_NO, Crowd

from mesa_meanfield import (
    BatchingBackend,
    Choice,
    LLMPolicy,
    MeanFieldAgent,
    MeanFieldScheduler,
    RulePolicy,
    ScriptedBackend,
    TallySummarizer,
)
from mesa_meanfield.data import Decision
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.experiments.comparison import CONTROL, TREATMENT, Comparison
from mesa_meanfield.experiments.counterfactual import compare
from mesa_meanfield.experiments.estimates import variance_ratio
from mesa_meanfield.experiments.replicas import PairingError, run_replicas, seeded
from mesa_meanfield.experiments.runs import Ensemble
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade


def comparison(treatment, control, *, fork_at=0, ticks=2, failed=()):
    """Arms whose runs have so many yes of ten in each tick."""
    runs = [run_of(yes, arm=CONTROL, replica=r) for r, yes in control.items()]
    runs += [run_of(yes, arm=TREATMENT, replica=r) for r, yes in treatment.items()]
    return Comparison(Ensemble(tuple(runs), tuple(failed), ticks), fork_at, 0.95)


# --- Figures -----------------------------------------------------------------------------------------


def test_an_effect_by_hand():
    made = comparison({0: [5, 2], 1: [5, 3], 2: [6, 4]}, {0: [5, 4], 1: [5, 6], 2: [6, 8]})
    one = made.effect("yes", 1)
    # differences -.2, -.3, -.4: mean -.3, s = .1, reach 4.3027 * .1 / sqrt(3) = .24841
    assert one.effect == pytest.approx(-0.3)
    assert one.ci == pytest.approx((-0.5484, -0.0516), abs=1e-4)
    assert (one.treatment, one.control, one.replicas) == (pytest.approx(0.3), pytest.approx(0.6), 3)
    # variances .01 and .04, of the differences .01
    assert one.variance_ratio == pytest.approx(0.2)
    low, high = one.effect_unpaired_ci
    assert low < one.ci[0] < one.ci[1] < high
    assert made.effect("yes", -1) == one
    assert made.effect("no", 1).effect == pytest.approx(0.3)
    assert made.effect("yes", 0).effect == 0


def test_without_a_tick_the_effect_is_on_all_decisions_from_the_fork_on():
    made = comparison({0: [9, 2, None, 3]}, {0: [9, 4, None, 8]}, fork_at=1, ticks=4)
    assert made.effect("yes").effect == pytest.approx(5 / 20 - 12 / 20)
    assert made.effect("yes").tick is None
    assert made.effect("yes", 3, cumulative=True).effect == pytest.approx(14 / 30 - 21 / 30)


def test_only_whole_pairs_count():
    made = comparison({0: [1, 1], 1: [2, 2], 2: [9, 9]}, {0: [5, 5], 1: [5, None], 3: [9, 9]})
    assert made.effect("yes", 0).replicas == 2
    assert made.effect("yes", 0).effect == pytest.approx(-0.35)
    assert made.effect("yes", 1).replicas == 1
    assert made.effect("yes", 1).effect == pytest.approx(-0.4)


def test_one_pair_has_no_interval_and_says_so():
    made = comparison({0: [1, 1]}, {0: [5, 5]})
    one = made.effect("yes")
    assert (one.effect, one.ci, one.effect_unpaired_ci) == (pytest.approx(-0.4), (None, None), (None, None))
    assert one.variance_ratio is None
    assert made.notes == ("One pair of replicas has no interval: how much chance there is in it cannot be said",)


def test_a_tick_without_decisions_has_no_effect():
    made = comparison({0: [1, None]}, {0: [5, 5]})
    assert made.effect("yes", 1).effect is None
    assert np.isnan(made.frame().query("tick == 1 and label == 'yes'")["effect"].item())


def test_a_table_has_one_row_for_each_label_and_tick():
    frame = comparison({0: [5, 2], 1: [5, 3]}, {0: [5, 4], 1: [5, 6]}).frame()
    assert list(zip(frame["label"], frame["tick"], strict=True)) == [("yes", 0), ("yes", 1), ("no", 0), ("no", 1)]
    np.testing.assert_allclose(frame["effect"], [0, -0.25, 0, 0.25])
    assert frame["low"][1] < -0.25 < frame["high"][1]
    assert frame["replicas"].tolist() == [2] * 4


def test_the_effect_as_json():
    made = comparison({0: [5, 2], 1: [5, 3]}, {0: [5, 4], 1: [5, 6]}, fork_at=1)
    told = json.loads(json.dumps(made.as_dict("yes")))
    assert list(told)[:6] == ["label", "effect", "ci", "effect_unpaired_ci", "variance_ratio", "replicas"]
    assert (told["label"], told["effect"], told["replicas"], told["fork_at"]) == ("yes", pytest.approx(-0.25), 2, 1)
    assert len(told["ci"]) == len(told["effect_unpaired_ci"]) == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"label": "maybe"}, "no label 'maybe'"),
        ({"label": "yes", "tick": 2}, "tick must be at least 0 and below 2"),
        ({"label": "yes", "cumulative": True}, "give the tick"),
    ],
)
def test_effects_that_there_are_not_are_refused(asked, told):
    with pytest.raises(ValueError, match=told):
        comparison({0: [1, 1]}, {0: [5, 5]}).effect(**asked)


def test_what_a_model_rounds_otherwise_before_the_fork_is_no_effect():
    made = comparison({0: [5, 2], 1: [4, 3]}, {0: [5.0001, 4], 1: [4.0002, 6]}, fork_at=1)
    before = made.effect("yes", 0)
    assert (before.effect, before.ci, before.variance_ratio) == (0, (0, 0), 0)


# --- Simulated arms ----------------------------------------------------------------------------------


def test_arms_are_the_same_up_to_the_fork_and_the_exact_effect_after_it():
    made = compare(town(10), [denial(at=2)], replicas=3, ticks=4, seed=1)
    assert made.fork_at == 2
    for expected, effect in ((True, [0, 0, -0.3, -0.3]), (False, [0, 0])):
        differences = made.differences("yes", expected=expected)
        np.testing.assert_allclose(differences[:, : len(effect)], [effect] * 3, atol=1e-12)
    assert made.effect("yes").effect == pytest.approx(-0.3)


def test_pairs_share_their_random_numbers_at_every_tick():
    sampled = compare(town(10), [denial(at=0)], replicas=4, ticks=3).differences("yes", expected=False)
    assert (sampled <= 0).all()  # who says yes at .2 says yes at .5 with the same number
    assert (sampled < 0).any()


def test_pairing_lowers_the_variance_as_computed_by_hand():
    # Of one agent: var(yes at .2) + var(yes at .5) = .16 + .25, and they differ with probability .3: .21.
    made = compare(town(4), [denial(at=0)], replicas=100, ticks=1)
    one = made.effect("yes", 0, expected=False)
    assert one.variance_ratio == pytest.approx(0.21 / 0.41, abs=0.12)
    unpaired = [run_replicas(town(4), 100, 1, seed=s, interventions=i) for s, i in ((0, ()), (999, [denial(0)]))]
    curves = [of.curves("yes", expected=False)[:, 0] for of in unpaired]
    assert variance_ratio(*curves) == pytest.approx(1, abs=0.2)


def test_the_fewer_are_reached_the_more_pairing_saves():
    few, all_ = (
        compare(town(20), [denial(at=0, reach=reach)], replicas=40, ticks=1).effect("yes", 0, expected=False)
        for reach in (0.1, 1.0)
    )
    assert few.variance_ratio < 0.1 < all_.variance_ratio
    width, unpaired = (high - low for low, high in (few.ci, few.effect_unpaired_ci))
    assert width < 0.4 * unpaired


def test_the_interval_covers_the_truth_as_often_as_it_says():
    made = compare(town(10), [denial(at=0)], replicas=200, ticks=1)
    rows = made.differences("yes", expected=False)[:, 0].reshape(40, 5)
    covered = 0
    for row in rows:
        arms = [{r: [round(10 * v)] for r, v in enumerate(values)} for values in (row + 1, np.ones(5))]
        low, high = comparison(arms[0], arms[1], ticks=1).effect("yes", 0).ci
        covered += low <= -0.3 <= high
    assert covered >= 35


def test_posts_of_the_intervention_itself_are_no_effect():
    bots = Inject(1, "Yes!", "bot", {"action": "yes"}, copies=30)
    made = compare(town(5), [bots], replicas=2, ticks=2)
    np.testing.assert_allclose(made.differences("yes"), 0, atol=1e-12)


def test_two_interventions_are_compared_with_each_other():
    made = compare(town(10), [denial(at=1)], control=[denial(at=2)], replicas=2, ticks=3)
    assert made.fork_at == 1
    np.testing.assert_allclose(made.differences("yes"), [[0, -0.3, 0]] * 2, atol=1e-12)


def test_nothing_against_nothing_has_no_effect():
    made = compare(town(6), [], replicas=3, ticks=3)
    assert made.fork_at == 0
    assert (made.differences("yes", expected=False) == 0).all()
    assert made.effect("yes", expected=False).ci == (0, 0)


def test_both_arms_share_batches():
    sizes = []

    class Noted(ScriptedBackend):
        def score(self, requests, candidates):
            sizes.append(len(requests))
            return super().score(requests, candidates)

    merged = BatchingBackend(Noted(probability=chances()), max_wait=30)
    made = compare(all_at_once(town(5, merged), 6), [denial(at=1)], replicas=3, ticks=4)
    assert sizes == [3 * 2 * 5] * 4
    assert made.ensemble.frame().equals(compare(town(5), [denial(at=1)], replicas=3, ticks=4).ensemble.frame())


# --- The check of the pairing ------------------------------------------------------------------------


def test_an_intervention_that_acts_before_the_fork_is_an_error():
    with pytest.raises(
        PairingError, match=r"replica 0, tick 1, agent 1 is not asked the same .* before the fork at 3"
    ):
        compare(town(), [denial(at=1)], replicas=1, ticks=4, fork_at=3)


def test_an_agent_that_is_missing_before_the_fork_is_an_error():
    with pytest.raises(PairingError, match="tick 0, agent 2 does not decide in the same place"):
        compare(town(), [Mute(0, who=lambda agents: agents[1:2])], replicas=1, ticks=3, fork_at=1)


def test_a_state_that_is_changed_before_the_fork_is_an_error_though_the_decision_is_the_same():
    rule = RulePolicy(lambda agent, field: "yes", YES_NO)
    with pytest.raises(PairingError, match="tick 0, agent 1 is not asked the same"):
        compare(town(policy=lambda seed: rule), [Persuade(0, "Think!")], replicas=1, ticks=3, fork_at=1)


def test_random_numbers_that_are_not_the_seeds_are_an_error():
    answers = itertools.cycle(["yes", "no"])
    rule = RulePolicy(lambda agent, field: next(answers), YES_NO)
    with pytest.raises(PairingError, match=r"tick 0, agent 1 does not decide the same.*not the seed's"):
        compare(town(1, policy=lambda seed: rule), [denial(at=2)], replicas=1, ticks=3)


def test_a_failed_call_in_one_arm_costs_the_pair_alone():
    fails = iter([True])  # the first answer of replica 1, in whichever arm

    def policy(seed):
        def rule(agent, field):
            if seed == 1 and agent.model.crowd.tick == 1 and next(fails, False):
                return Decision(failure="unreadable")
            return "yes"

        return RulePolicy(rule, YES_NO)

    made = compare(town(1, policy=policy), [denial(at=2)], replicas=3, ticks=3)
    assert [treatment.replica for treatment, _ in made.pairs] == [0, 2]
    assert made.notes[0].startswith("1 of 3 pairs of replicas are left out, as a run failed")
    assert "replica 1, tick 1, agent 1 has no usable decision in one arm" in made.notes[0]


def test_a_run_that_fails_takes_its_pair_with_it_and_no_other():
    class Fragile(Crowd):
        def step(self):
            super().step()
            if self.fails and self.crowd.tick == 2 and self.crowd.interventions:
                raise BackendUnavailable("the server is down")

    def make(seed):
        model = Fragile(3, rng=seed)
        model.fails = seed == 1
        return model

    made = compare(make, [denial(at=1)], replicas=3, ticks=3)
    assert [(one.arm, one.replica) for one in made.ensemble.failed] == [(TREATMENT, 1)]
    assert made.effect("yes").replicas == 2
    assert made.as_dict("yes")["failed"] == 1
    with pytest.raises(BackendUnavailable):
        compare(lambda seed: make(1), [denial(at=1)], replicas=2, ticks=3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fork_at": 4}, "fork_at must be one of the 4 ticks, 0 to 3"),
        ({"fork_at": -1}, "fork_at must be"),
        ({"confidence": 1}, "confidence must be"),
        ({"replicas": 0}, "replicas must be at least 1"),
        ({"interventions": [denial(at=4)]}, "begins after the end of the run"),
    ],
)
def test_wrong_wishes_are_refused(wrong, told):
    asked = {"interventions": [denial(at=1)], "replicas": 2, "ticks": 4, **wrong}
    with pytest.raises(ValueError, match=told):
        compare(town(), **asked)


class Owner(MeanFieldAgent):
    def observe(self):
        return f"You own house {self.unique_id}."


class Houses(mesa.Model):
    """As Mesa's models are: a parameter first, the seed by name."""

    def __init__(self, houses=4, rng=5):
        super().__init__(rng=rng)
        self.houses, self.rng_given = houses, rng
        Owner.create_agents(self, houses)
        self.crowd = MeanFieldScheduler(
            self, policy=LLMPolicy(ScriptedBackend(), Choice(("a", "b"))), summarizer=TallySummarizer()
        )

    def step(self):
        self.crowd.step(self.agents)


def test_the_seed_goes_to_rng_where_a_model_has_it_and_else_comes_first():
    assert [seeded(Houses)(seed).rng_given for seed in (3, 4)] == [3, 4]
    assert seeded(Houses)(3).houses == 4
    assert seeded(Houses, {"houses": 2})(3).houses == 2
    assert seeded(lambda first, **given: Houses(**given, rng=first + 1), {"houses": 2})(3).rng_given == 4


def test_replicas_that_are_all_the_same_run_are_told_of():
    ann = [Announce(at=1, text="The bridge stays open.", source="the mayor")]
    forgot = compare(lambda seed: Houses(houses=8), ann, replicas=3, ticks=3)
    assert any("does the model use its seed?" in note for note in forgot.notes)
    assert not any("seed" in note for note in compare(Houses, ann, replicas=3, ticks=3).notes)


def test_one_intervention_by_itself_is_refused_in_one_line():
    alone = Announce(at=1, text="The bridge stays open.", source="the mayor")
    with pytest.raises(TypeError, match=r"interventions must be a list: write \[.*Announce"):
        compare(Houses, alone, replicas=2, ticks=2)
    with pytest.raises(TypeError, match="interventions must be a list"):
        MeanFieldScheduler(Houses(), policy=RulePolicy(print), summarizer=TallySummarizer(), interventions=alone)
