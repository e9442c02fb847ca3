import itertools
import json
import math

import numpy as np
import pytest
from arms import denial, run_of, town
from crowds import YES_NO, Crowd

from mesa_meanfield import RulePolicy
from mesa_meanfield.data import Decision
from mesa_meanfield.errors import BackendUnavailable
from mesa_meanfield.experiments.objectives import AreaUnder, ShareAt, TimeToReversal
from mesa_meanfield.experiments.planning import plan
from mesa_meanfield.interventions import Replace

# --- Objectives --------------------------------------------------------------------------------------


def test_the_share_at_a_tick():
    run = run_of([4, 9, 2])
    assert ShareAt("yes")(run) == 0.2
    assert ShareAt("no", 1)(run) == pytest.approx(0.1)
    assert ShareAt("yes", cumulative=True)(run) == 0.5
    assert math.isnan(ShareAt("yes", 3)(run))
    assert math.isnan(ShareAt("yes")(run_of([4, None])))


def test_the_time_to_reversal_is_the_first_tick_in_which_the_other_label_leads():
    reversal = TimeToReversal("no", over="yes")
    assert reversal(run_of([8, 5, 4, 6])) == 2
    assert not reversal.censored(run_of([8, 5, 4, 6]))
    assert reversal(run_of([3, 4, 8])) == 0
    assert TimeToReversal("no", over="yes", since=1)(run_of([3, 8, 2])) == 2


def test_a_reversal_that_never_happens_is_censored_at_the_end():
    reversal = TimeToReversal("no", over="yes")
    assert reversal(run_of([8, 5, None, 6])) == 4
    assert reversal.censored(run_of([8, 5, None, 6]))


def test_the_area_under_a_curve_is_that_of_its_trapezoids():
    assert AreaUnder("yes")(run_of([0, 4, 8])) == pytest.approx(0.2 + 0.6)
    assert AreaUnder("yes", since=1)(run_of([0, 4, 8])) == pytest.approx(0.6)
    assert AreaUnder("yes")(run_of([0, None, 8])) == pytest.approx(0.8)
    assert math.isnan(AreaUnder("yes")(run_of([4])))


@pytest.mark.parametrize(
    "objective",
    [ShareAt("maybe"), AreaUnder("maybe"), TimeToReversal("maybe", "yes"), ShareAt("yes", dimension="stance")],
)
def test_an_objective_of_an_unknown_label_is_refused(objective):
    with pytest.raises(ValueError, match=r"The objective's label '(maybe|yes)' is not known.*labels are no, yes"):
        objective(run_of([4]))


# --- The search --------------------------------------------------------------------------------------


def no(count: int, at: int = 0):
    """So many agents say no from a tick on, whatever they would have said."""
    return Replace(at, Decision(labels={"action": "no"}), who=lambda agents: agents[:count])


NOTHING = {"nothing": []}
SAMPLED = ShareAt("yes", expected=False)


def test_the_planted_best_candidate_is_found_and_separated():
    candidates = {**NOTHING, "four": [no(4)], "six": [no(6)], "five": [no(5)]}
    made = plan(town(10), candidates, SAMPLED, replicas=40, ticks=1, maximise=False)
    assert made.best == "six"
    assert made.stopped == "separated"
    assert made.why == f"six is separated from the others in round {made.ranking[0].rounds}"
    assert sorted(one.intervention for one in made.ranking) == sorted(candidates)
    first, second, *given_up = made.ranking
    assert (first.behind, first.behind_ci) == (0, (None, None))
    assert second.behind_ci[1] < 0
    assert first.replicas == second.replicas == made.targets[first.rounds - 1]
    assert {one.replicas for one in given_up} == {made.targets[0]}


def test_more_is_better_unless_one_says_otherwise():
    made = plan(town(10), {"some": [no(5)], **NOTHING}, SAMPLED, replicas=12, ticks=2)
    assert made.best == "nothing"
    assert made.ranking[1].behind_ci[0] > 0


def test_rounds_halve_the_candidates_and_double_the_replicas():
    candidates = {str(n): [] for n in range(8)}  # all the same, so that it goes on to the end
    made = plan(town(3), candidates, SAMPLED, replicas=16, ticks=1)
    assert made.targets == (2, 4, 8, 16)
    assert [one.replicas for one in made.ranking] == [16, 16, 4, 4, 2, 2, 2, 2]
    assert [one.rounds for one in made.ranking] == [4, 4, 2, 2, 1, 1, 1, 1]


def test_candidates_that_do_not_differ_are_not_separated():
    made = plan(town(6), {**NOTHING, "again": []}, SAMPLED, replicas=12, ticks=2)
    assert made.stopped == "replicas"
    assert made.why == "all 12 replicas are run, and nothing is not separated from the others"
    assert made.ranking[0].objective == made.ranking[1].objective
    assert made.ranking[1].behind_ci == (0, 0)


def test_nothing_is_called_separated_from_fewer_than_five_replicas():
    made = plan(town(10), {**NOTHING, "all": [no(10)]}, ShareAt("no"), replicas=4, ticks=1)
    assert (made.best, made.stopped) == ("all", "replicas")
    assert plan(town(10), {**NOTHING, "all": [no(10)]}, ShareAt("no"), replicas=5, ticks=1).stopped == "separated"


def test_the_intervals_make_up_for_repeated_looks():
    made = plan(town(4), {**NOTHING, "a": [no(1)], "b": [no(1)]}, SAMPLED, replicas=8, ticks=1, confidence=0.9)
    assert made.targets == (2, 4, 8)
    assert made.look_confidence == pytest.approx(1 - 0.1 / (3 * 2))


def test_separation_is_seldom_claimed_where_there_is_none():
    def make(seed):
        drawn = np.random.default_rng([seed, next(fresh)])  # another world each time: nothing in common
        rule = RulePolicy(lambda agent, field: "yes" if drawn.random() < 0.5 else "no", YES_NO)
        return town(4, policy=lambda seed: rule)(seed)

    fresh = itertools.count()
    same = {"a": [], "b": []}
    plans = (plan(make, same, SAMPLED, replicas=10, ticks=1, seed=s, confidence=0.8, workers=1) for s in range(100))
    assert sum(one.stopped == "separated" for one in plans) <= 20


def test_candidates_are_compared_on_the_same_random_numbers():
    made = plan(town(10), {**NOTHING, "denial": [denial()]}, SAMPLED, replicas=6, ticks=1)
    own, other = (high - low for low, high in (made.ranking[1].ci, made.ranking[1].behind_ci))
    arms = [made.ensemble.arm(name).curves("yes", expected=False)[:, 0] for name in ("nothing", "denial")]
    assert (arms[0] >= arms[1]).all()
    assert own > 0
    assert other > 0


def test_a_single_candidate_is_run_to_the_end():
    made = plan(town(4), NOTHING, SAMPLED, replicas=6, ticks=1)
    assert made.targets == (6,)
    assert (made.stopped, made.ranking[0].replicas) == ("replicas", 6)


def test_any_function_of_a_run_is_an_objective():
    made = plan(town(6), {**NOTHING, "some": [no(3)]}, lambda run: run.share("no"), replicas=5, ticks=2)
    assert made.best == "some"


def test_censored_times_are_counted():
    made = plan(
        town(6), {**NOTHING, "most": [no(5, at=1)]}, TimeToReversal("no", "yes"), replicas=2, ticks=3, maximise=False
    )
    most, nothing = made.ranking
    assert (most.objective, most.censored) == (1, 0)
    assert (nothing.objective, nothing.censored) == (3, 2)


# --- The budget --------------------------------------------------------------------------------------


def cost():
    """Tokens of one run of the town below."""
    return plan(town(3), NOTHING, SAMPLED, replicas=1, ticks=2).tokens


@pytest.mark.parametrize(("runs", "made"), [(16, 16), (15.9, 14), (7, 6), (3.5, 2), (2, 2), (1.9, 1), (0.5, 1)])
def test_nothing_is_begun_that_would_exceed_the_budget(runs, made):
    one = cost()
    found = plan(
        town(3), {**NOTHING, "again": []}, SAMPLED, replicas=8, ticks=2, budget_tokens=math.floor(runs * one)
    )
    assert len(found.ensemble.runs) == made
    assert found.tokens == made * one
    assert found.stopped == ("replicas" if made == 16 else "budget")
    assert found.tokens == sum(entry.tokens for entry in found.ranking)


def test_a_spent_budget_keeps_pairs_and_says_what_is_spent():
    one = cost()
    made = plan(town(3), {**NOTHING, "again": []}, SAMPLED, replicas=8, ticks=2, budget_tokens=7 * one)
    assert [entry.replicas for entry in made.ranking] == [3, 3]
    assert made.why.startswith(f"{6 * one:,} of {7 * one:,} tokens are spent")


def test_a_candidate_that_the_budget_did_not_reach_has_no_objective():
    made = plan(town(3), {**NOTHING, "again": []}, SAMPLED, replicas=8, ticks=2, budget_tokens=1)
    assert made.ranking[0].objective is not None
    assert (made.ranking[1].objective, made.ranking[1].ci, made.ranking[1].behind) == (None, (None, None), None)
    assert math.isnan(made.frame()["objective"][1])


# --- What goes wrong ---------------------------------------------------------------------------------


def breaks(scene):
    raise BackendUnavailable("the server is down")


def test_a_candidate_whose_runs_all_fail_is_ranked_last_and_the_others_are_kept():
    made = plan(town(6), {"broken": [breaks], **NOTHING, "some": [no(3)]}, ShareAt("no"), replicas=8, ticks=1)
    assert [one.intervention for one in made.ranking] == ["some", "nothing", "broken"]
    assert made.ranking[-1].without == len(made.ensemble.failed) > 0
    assert made.ranking[-1].objective is None


def test_what_was_run_before_everything_failed_is_kept():
    class Fragile(Crowd):
        def step(self):
            super().step()
            if self.late:
                raise BackendUnavailable("the server is down")

    def make(seed):
        model = Fragile(4, rng=seed)
        model.late = seed >= 4
        return model

    made = plan(make, {**NOTHING, "some": [no(2)]}, SAMPLED, replicas=8, ticks=1)
    assert made.stopped == "failed"
    assert made.why == "no run of round 2 came to its end; the last one: the server is down"
    assert [one.replicas for one in made.ranking] == [4, 4]


def test_where_nothing_runs_the_error_is_raised():
    with pytest.raises(BackendUnavailable):
        plan(town(2), {"broken": [breaks]}, SAMPLED, replicas=2, ticks=1)
    with pytest.raises(ValueError, match="NaN in every run"):
        plan(town(2), NOTHING, lambda run: math.nan, replicas=2, ticks=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"candidates": {}}, "A plan needs candidates"),
        ({"candidates": {"late": [denial(at=9)]}}, "begins after the end"),
        ({"replicas": 0}, "replicas must be at least 1"),
        ({"confidence": 0}, "confidence must be"),
        ({"budget_tokens": 0}, "budget_tokens must be at least 1"),
    ],
)
def test_wrong_wishes_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        plan(town(2), **{"candidates": NOTHING, "objective": SAMPLED, "replicas": 2, "ticks": 1, **wrong})


def test_a_plan_is_a_table_and_json():
    made = plan(town(6), {**NOTHING, "some": [no(3)]}, ShareAt("no"), replicas=6, ticks=1)
    frame = made.frame()
    assert frame["intervention"].tolist() == ["some", "nothing"]
    assert frame["place"].tolist() == [1, 2]
    assert frame["objective"].tolist() == pytest.approx([0.75, 0.5])
    told = json.loads(json.dumps(made.as_dict()))
    assert [one["intervention"] for one in told["ranking"]] == ["some", "nothing"]
    assert {"intervention", "objective", "ci", "tokens"} <= told["ranking"][0].keys()
