import random
import threading
import time
from contextlib import closing

import mesa
import numpy as np
import pytest
from arms import PROMPTS, all_at_once, chances, denial, run_of, town
from crowds import YES_NO, Crowd, Voter
from worlds import cascade, tick

from mesa_meanfield import (
    BatchingBackend,
    Choice,
    LLMPolicy,
    MeanFieldScheduler,
    RulePolicy,
    ScriptedBackend,
    TallySummarizer,
)
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.log import LoggedBackend
from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.errors import BackendUnavailable, Cancelled, DataError, LeakError, MeanFieldError
from mesa_meanfield.evaluation.waves import PATIENCE, Start
from mesa_meanfield.experiments.replicas import run_replicas
from mesa_meanfield.experiments.runs import COLUMNS, Ensemble, TickCounts
from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.interventions import Inject, Replace
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request, Usage
from mesa_meanfield_models.cascade.model import CascadeModel

# --- What a tick comes to ----------------------------------------------------------------------------


def counted(*decisions, labels=("support", "deny")):
    field = MeanField(counts={"stance": dict.fromkeys(labels, 0)})
    return TickCounts.of(tick(*decisions), field, Usage())


def test_exact_expectations_stand_beside_what_was_sampled():
    exact = Decision(labels={"stance": "support"}, distribution={"support": 0.75, "deny": 0.25})
    found = counted(exact, "deny")
    assert found.counts == {"stance": {"support": 1, "deny": 1}}
    assert found.expected == {"stance": {"support": 0.75, "deny": 1.25}}
    assert found.exact == 1


def test_a_failed_decision_and_an_injected_post_are_no_data():
    failed = Decision(labels={"stance": "deny"}, failure="no reply")
    posted = Decision(labels={"stance": "deny"}, injected=True)
    found = counted("support", failed, posted)
    assert found.counts == {"stance": {"support": 1, "deny": 0}}
    assert found.failures == 1


def test_a_distribution_belongs_to_the_dimension_that_was_scored():
    labels = {"stance": "deny", "tone": "angry"}
    found = counted(Decision(labels=labels, distribution={"support": 0.5, "deny": 0.5}))
    assert found.expected == {"stance": {"support": 0.5, "deny": 0.5}, "tone": {"angry": 1.0}}


# --- What a run comes to -----------------------------------------------------------------------------


def test_shares_of_ticks_so_far_and_from_a_tick_on():
    run = run_of([4, None, 9, 2])
    np.testing.assert_allclose(run.curve("yes"), [0.4, np.nan, 0.9, 0.2])
    np.testing.assert_allclose(run.curve("yes", cumulative=True), [0.4, 0.4, 0.65, 0.5])
    assert run.share("yes", since=2) == pytest.approx(0.55)
    assert run.share("no") == pytest.approx(0.5)
    assert np.isnan(run_of([None]).share("yes"))


def test_a_table_has_one_row_for_each_replica_tick_and_label():
    frame = Ensemble((run_of([4, 9]), run_of([1], replica=1)), (), 2).frame()
    assert tuple(frame.columns) == COLUMNS
    assert frame.values.tolist() == [
        [0, 0, "run", "action", "yes", 0.4, 0.4, 10],
        [0, 1, "run", "action", "yes", 0.9, 0.9, 10],
        [0, 0, "run", "action", "no", 0.6, 0.6, 10],
        [0, 1, "run", "action", "no", 0.1, 0.1, 10],
        [1, 0, "run", "action", "yes", 0.1, 0.1, 10],
        [1, 0, "run", "action", "no", 0.9, 0.9, 10],
    ]
    assert Ensemble((run_of([4, 9]),), (), 2).frame(cumulative=True)["share"].tolist() == [0.4, 0.65, 0.6, 0.35]
    assert Ensemble((run_of([4, 9]),), (), 2).frame(cumulative=True)["size"].tolist() == [10, 20, 10, 20]


def test_curves_of_runs_that_stopped_early_end_with_nothing():
    found = Ensemble((run_of([4, 9]), run_of([1], replica=1)), (), 2).curves("no")
    np.testing.assert_allclose(found, [[0.6, 0.1], [0.9, np.nan]])


def test_an_unknown_label_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match="no label 'maybe'; the labels are action: yes, no"):
        Ensemble((run_of([4]),), (), 1).curves("maybe")
    with pytest.raises(ValueError, match="no label 'yes' in dimension 'stance'"):
        Ensemble((run_of([4]),), (), 1).curves("yes", "stance")


# --- Running them ------------------------------------------------------------------------------------


def test_replicas_differ_by_their_seed_and_are_the_same_each_time():
    first, again = (run_replicas(town(20), 3, 4, seed=5) for _ in range(2))
    assert [run.replica for run in first.runs] == [0, 1, 2]
    assert [run.seed for run in first.runs] == [5, 6, 7]
    assert first.frame().equals(again.frame())
    curves = first.curves("yes", expected=False)
    assert not np.array_equal(curves[0], curves[1])
    np.testing.assert_allclose(first.curves("yes"), 0.5)


def test_a_replica_is_the_model_run_by_hand():
    model = town(6)(9)
    shares = []
    for _ in range(3):
        model.step()
        shares.append(model.crowd.field.latest["action"]["yes"])
    run = run_replicas(town(6), 1, 3, seed=9).runs[0]
    assert run.curve("yes", expected=False).tolist() == shares
    assert run.curve("yes", expected=False, cumulative=True)[-1] == model.crowd.field.share("yes")


def test_merged_batches_change_no_result():
    merged = BatchingBackend(ScriptedBackend(probability=chances()))
    found = run_replicas(town(6, merged), 4, 3, seed=2)
    alone = run_replicas(town(6), 4, 3, seed=2)
    assert found.frame().equals(alone.frame())
    assert found.usage.calls == alone.usage.calls == 4 * 3 * 6


class Batches(ScriptedBackend):
    """Notes how many requests come at a time, and whether two threads come at once."""

    def __init__(self):
        super().__init__(probability=chances())
        self.sizes = []
        self.busy = threading.Lock()

    def score(self, requests, candidates):
        assert self.busy.acquire(blocking=False), "asked by two threads at once"
        try:
            self.sizes.append(len(requests))
            return super().score(requests, candidates)
        finally:
            self.busy.release()


@pytest.mark.parametrize("hidden", [False, True])
def test_replicas_share_batches_where_they_ask_a_batching_backend(hidden):
    class Wrapped(ScriptedBackend):
        """A backend that hides the common one inside itself."""

        score = property(lambda self: merged.score)

    batches = Batches()
    merged = BatchingBackend(batches, max_wait=30)
    factory = town(5, Wrapped() if hidden else merged)
    found = run_replicas(all_at_once(factory, 4), 4, 3, seed=0, shared=merged if hidden else None)
    assert batches.sizes == [20, 20, 20]
    assert len(found.runs) == 4


class Orders(ScriptedBackend):
    """Keeps what stood in each batch, in its order."""

    def __init__(self):
        super().__init__(probability=chances())
        self.batches = []

    def score(self, requests, candidates):
        self.batches.append([(one.prefix, one.suffix, one.seed) for one in requests])
        return super().score(requests, candidates)


def dawdling(factory, dawdle):
    """Models whose making and steps take as long as chance has it."""

    def make(seed):
        dawdle()
        model = factory(seed)
        step = model.crowd.step

        def slow(*agents):
            dawdle()
            step(*agents)

        model.crowd.step = slow
        return model

    return make


def test_what_stands_in_a_batch_depends_on_no_clock():
    """Probabilities depend on it by rounding: a run that is made again must ask the same batches."""
    found = []
    for chance in (1, 2, 3):
        rng = random.Random(chance)
        orders = Orders()
        factory = town(3, BatchingBackend(orders, patience=PATIENCE))
        slow = dawdling(factory, lambda rng=rng: time.sleep(rng.choice([0, 0.02, 0.2])))
        run_replicas(slow, 5, 3, seed=4, workers=3)
        found.append(orders.batches)
    assert [len(batch) for batch in found[0]] == [9, 9, 9, 6, 6, 6]  # two waves
    assert found[0] == found[1] == found[2]


def test_a_model_that_asks_while_it_is_made_is_not_kept_waiting():
    """It is no replica yet, so nobody is worth waiting for."""
    shared = BatchingBackend(ScriptedBackend(probability=chances()), patience=PATIENCE)
    factory = town(3, shared)

    def make(seed):
        shared.score([Request("who are you", str(seed))], ("yes", "no"))
        return factory(seed)

    start = time.monotonic()
    assert len(run_replicas(make, 3, 2, seed=0).runs) == 3
    assert time.monotonic() - start < PATIENCE / 4


def test_work_that_is_stopped_leaves_nobody_at_the_start():
    start = Start(2)

    def stopped(*_):
        raise Cancelled("enough")

    with watching(stopped), pytest.raises(Cancelled):
        start.arrive()


def test_a_replica_that_cannot_be_made_keeps_nobody_waiting():
    orders = Orders()
    factory = town(3, BatchingBackend(orders, patience=PATIENCE))

    def make(seed):
        if seed == 1:
            raise RuntimeError("no town today")
        return factory(seed)

    found = run_replicas(make, 3, 2, seed=0)
    assert [run.replica for run in found.runs] == [0, 2]
    assert [len(batch) for batch in orders.batches] == [6, 6]


def test_a_backend_that_is_not_made_for_threads_is_asked_by_one_at_a_time():
    batches = Batches()
    found = run_replicas(town(5, batches), 6, 3, seed=0)
    assert not found.failed
    assert batches.sizes == [5] * 18


def test_interventions_come_behind_those_of_the_model():
    said = []

    def noting(name):
        return lambda scene: said.append(name) or scene

    run_replicas(town(1, interventions=[noting("own")]), 1, 1, seed=0, interventions=[noting("given")])
    assert said == ["own", "given"]


def test_an_intervention_that_never_acts_is_refused():
    with pytest.raises(ValueError, match="begins after the end of the run"):
        run_replicas(town(), 1, 3, seed=0, interventions=[denial(at=3)])


def test_posts_from_outside_count_in_no_share():
    crowd = run_replicas(
        town(4), 2, 2, seed=0, interventions=[Inject(1, "Yes!", "bot", {"action": "yes"}, copies=50)]
    )
    assert crowd.runs[0].sizes("action").tolist() == [4, 4]
    np.testing.assert_allclose(crowd.curves("yes"), 0.5)


def test_a_script_counts_as_what_its_agents_did():
    scripted = Replace(1, Decision(labels={"action": "no"}), who=lambda agents: agents[:2])
    np.testing.assert_allclose(
        run_replicas(town(4), 1, 2, seed=0, interventions=[scripted]).curves("yes"), [[0.5, 0.25]]
    )


def test_the_crowds_own_recorder_still_gets_every_tick():
    class Noted(list):
        def record(self, tick, field, groups):
            self.append(tick.number)

    noted = Noted()
    run_replicas(town(recorder=noted), 1, 3, seed=0)
    assert noted == [0, 1, 2]


def test_usage_is_told_by_replica_and_by_tick():
    run = run_replicas(town(4), 1, 3, seed=0).runs[0]
    assert [tick.usage.calls for tick in run.ticks] == [4, 4, 4]
    assert run.usage.calls == 12


def test_ticks_are_reported():
    heard = []
    with watching(lambda what, done, total: heard.append((what, done, total))):
        run_replicas(town(), 2, 3, seed=0)
    assert ("ticks", 6, 6) in heard


# --- What goes wrong ---------------------------------------------------------------------------------


def breaking(*seeds, error, at=1):
    """Models of these seeds break in a tick."""

    def policy(seed):
        def rule(agent, field):
            if seed in seeds and agent.model.crowd.tick == at:
                raise error
            return "yes"

        return RulePolicy(rule, YES_NO)

    return policy


@pytest.mark.parametrize(
    ("error", "told"),
    [(BackendUnavailable("the server is down"), "the server is down"), (KeyError("x"), "KeyError: 'x'")],
)
def test_a_replica_that_fails_is_kept_as_its_error_and_the_others_go_on(error, told):
    found = run_replicas(town(policy=breaking(1, 2, error=error)), 4, 3, seed=0)
    assert [run.replica for run in found.runs] == [0, 3]
    assert [(one.replica, one.seed, one.ticks, one.error) for one in found.failed] == [
        (1, 1, 1, told),
        (2, 2, 1, told),
    ]
    assert found.frame()["replica"].unique().tolist() == [0, 3]


def test_what_a_failed_replica_cost_counts():
    class Late(Crowd):
        def step(self):
            super().step()
            if self.crowd.tick == 2 and self.late:
                raise MeanFieldError("lost")

    def make(seed):
        model = Late(3, rng=seed)
        model.late = seed == 1
        return model

    found = run_replicas(make, 2, 3, seed=0)
    assert found.failed[0].usage.calls == 6
    assert found.usage.calls == 6 + 9


def test_where_all_replicas_fail_the_first_error_is_raised():
    with pytest.raises(KeyError):
        run_replicas(town(policy=breaking(0, 1, error=KeyError("x"))), 2, 3, seed=0)


@pytest.mark.parametrize("error", [Cancelled("enough"), DataError("the disk is full"), LeakError("no")])
def test_what_concerns_all_replicas_ends_all_of_it(error):
    with pytest.raises(type(error)):
        run_replicas(town(policy=breaking(1, error=error)), 3, 3, seed=0)


def test_a_replay_from_a_log_is_the_same_without_a_model_and_lacks_no_call(tmp_path):
    def ran(backend, seed=0):
        with closing(CallLog(tmp_path / "calls.sqlite")) as log:
            merged = BatchingBackend(LoggedBackend(backend, log))
            return run_replicas(town(4, merged), 3, 2, seed=seed, interventions=[denial(at=1)])

    first = ran(ScriptedBackend(probability=chances()))
    assert ran(None).frame().equals(first.frame())
    with pytest.raises(DataError):
        ran(None, seed=1_000)


def test_a_cascade_is_run_with_its_warm_up():
    def make(seed):
        return CascadeModel(
            cascade(20, labels=("support", "deny")),
            policy=LLMPolicy(ScriptedBackend(), Choice(("support", "deny"), dimension="stance"), prompts=PROMPTS),
            summarizer=TallySummarizer(prompts=PROMPTS),
            dimension="stance",
            rng=seed,
        )

    found = run_replicas(make, 2, 50, seed=0)
    for run in found.runs:
        assert [tick.recorded for tick in run.ticks] == [True, True, False, False, False, False]
        assert run.curve("support")[0] == 0.5
        assert [tick.exact for tick in run.ticks] == [0, 0, 4, 4, 4, 2]
    assert np.isnan(found.curves("deny")[:, 6:]).all()


def test_failed_decisions_count_in_no_share_and_are_counted():
    def reply(request):
        return "yes" if "voter 1" in request.suffix else "hm"

    class Replies(ScriptedBackend):
        score = None  # no Scorer: the model says the label itself

    backend = Replies(reply)
    factory = town(4, backend, policy=lambda seed: LLMPolicy(backend, YES_NO, on_failure="skip", retries=0))
    run = run_replicas(factory, 1, 2, seed=0).runs[0]
    assert run.failures == 6
    assert run.curve("yes").tolist() == [1.0, 1.0]
    assert run.sizes("action").tolist() == [1, 1]


def test_a_model_that_stops_by_itself_has_fewer_ticks():
    class Short(Crowd):
        def step(self):
            super().step()
            self.running = self.crowd.tick < 2

    run = run_replicas(lambda seed: Short(2, rng=seed), 1, 5, seed=0).runs[0]
    assert [tick.number for tick in run.ticks] == [0, 1]


def test_a_crowd_that_stands_still_ends_its_replica():
    class Still(Crowd):
        def step(self):
            pass

    with pytest.raises(MeanFieldError, match="'crowd' made no tick in 1000 steps"):
        run_replicas(lambda seed: Still(2, rng=seed), 1, 5, seed=0)


def test_which_scheduler_is_meant_must_be_clear():
    class Two(mesa.Model):
        def __init__(self):
            super().__init__(rng=1)
            rule = RulePolicy(lambda agent, field: "yes", YES_NO)
            for name in ("leaders", "others"):
                setattr(self, name, MeanFieldScheduler(self, policy=rule, summarizer=TallySummarizer(), name=name))

    model = Two()
    assert crowd_of(model, "others") is model.others
    with pytest.raises(ValueError, match="Two has the schedulers leaders, others; say which one is meant"):
        crowd_of(model)
    with pytest.raises(ValueError, match="nobody is no MeanFieldScheduler"):
        crowd_of(model, "nobody")
    with pytest.raises(ValueError, match="Model holds no MeanFieldScheduler"):
        crowd_of(mesa.Model(rng=1))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"replicas": 0}, "replicas must be at least 1"),
        ({"ticks": 0}, "ticks must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_numbers_out_of_their_range_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        run_replicas(town(), **{"replicas": 1, "ticks": 1, "seed": 0, **wrong})


def test_two_crowds_of_one_model_are_told_apart_by_name():
    class Two(mesa.Model):
        def __init__(self, seed):
            super().__init__(rng=seed)
            Voter.create_agents(self, 2)
            for name in ("yes", "no"):
                rule = RulePolicy(lambda agent, field, name=name: name, YES_NO)
                setattr(self, name, MeanFieldScheduler(self, policy=rule, summarizer=TallySummarizer(), name=name))

        def step(self):
            self.yes.step(self.agents)
            self.no.step(self.agents)

    assert run_replicas(Two, 1, 2, seed=0, crowd="no").curves("yes").tolist() == [[0, 0]]
    assert run_replicas(Two, 1, 2, seed=0, crowd="yes").curves("yes").tolist() == [[1, 1]]
