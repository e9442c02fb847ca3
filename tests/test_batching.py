"""What threads ask together, and that each gets what it would get alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mesa
import numpy as np
import pytest
from crowds import YES_NO, Voter
from hypothesis import given, settings
from hypothesis import strategies as st
from threads import HOUR, Counting, Gate, Thread, crowd, has_ended, together

from mesa_meanfield import (
    BatchingBackend,
    ChoiceThenText,
    LLMPolicy,
    LLMSummarizer,
    MeanFieldScheduler,
    ScriptedBackend,
    TallySummarizer,
    Usage,
)
from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.batching import split
from mesa_meanfield.protocols import Backend, Likelihood, LikelihoodScorer, Reply, Request, Scorer

pytestmark = pytest.mark.timeout(60)


# --- Replicas of a model -------------------------------------------------------------------------


class Town(mesa.Model):
    """Any Mesa model; it knows nothing of threads."""

    def __init__(self, backend: Backend, rng: int, *, texts: bool = False):
        super().__init__(rng=rng)
        Voter.create_agents(self, 5)
        actions = ChoiceThenText(YES_NO) if texts else YES_NO
        summarizer = LLMSummarizer(backend) if texts else TallySummarizer()
        self.crowd = MeanFieldScheduler(self, policy=LLMPolicy(backend, actions), summarizer=summarizer)
        self.fields = []

    def step(self):
        self.crowd.step(self.agents)
        self.fields.append(self.crowd.field)

    def run(self, ticks: int = 5):
        for _ in range(ticks):
            self.step()
        return self

    @property
    def done(self):
        return self.fields, [voter.done for voter in self.agents]


@pytest.mark.parametrize("texts", [False, True])
def test_replicas_do_together_what_each_does_alone_in_a_fraction_of_the_calls(texts):
    alone = Counting()
    expected = [Town(alone, seed, texts=texts).run() for seed in range(8)]
    model = Counting()
    batching = BatchingBackend(model, max_wait=HOUR)
    threads = together(batching, [lambda s=seed: Town(batching, s, texts=texts).run() for seed in range(8)])
    towns = [thread.result() for thread in threads]
    assert [town.done for town in towns] == [town.done for town in expected]
    assert len(model.sizes) == len(alone.sizes) / 8
    assert model.overlaps == 0


def test_replicas_in_a_pool_need_no_more_than_the_documented_pattern():
    expected = [Town(ScriptedBackend(), seed, texts=True).run().done for seed in range(8)]
    model = Counting(pause=0.001)
    batching = BatchingBackend(model)

    def simulate(seed):
        with batching.replica():
            return Town(batching, seed, texts=True).run().done

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(simulate, range(8))) == expected
    assert len(model.sizes) < 8 * 5 * 3 / 2


@pytest.mark.parametrize("max_batch", [None, 12])
def test_a_replica_counts_its_own_usage_and_all_together_what_was_spent(max_batch):
    model = Counting()
    batching = BatchingBackend(model, max_wait=0.01, max_batch=max_batch)
    works = [lambda s=seed: Town(batching, s, texts=True).run() for seed in range(4)]
    towns = [thread.result() for thread in together(batching, works)]
    alone = [Town(ScriptedBackend(), seed, texts=True).run() for seed in range(4)]
    assert [town.crowd.usage.calls for town in towns] == [town.crowd.usage.calls for town in alone]
    assert sum(town.crowd.usage.tokens_asked for town in towns) == model.usage.tokens_asked
    assert sum(town.crowd.usage.seconds for town in towns) == pytest.approx(model.usage.seconds)
    assert batching.total.calls == model.usage.calls
    assert batching.usage == Usage()  # this thread never asked


@settings(max_examples=15, deadline=None)
@given(
    delays=st.lists(st.lists(st.floats(0, 0.004), min_size=4, max_size=4), min_size=1, max_size=6),
    registered=st.lists(st.booleans(), min_size=6, max_size=6),
    max_wait=st.floats(0, 0.003),
    max_batch=st.none() | st.integers(1, 9),
)
def test_answers_are_the_same_whatever_the_interleaving(delays, registered, max_wait, max_batch):
    model, alone = Counting(pause=0.0005), ScriptedBackend()
    batching = BatchingBackend(model, max_wait=max_wait, max_batch=max_batch)

    def ask(backend, who, pauses):
        said = []
        for turn, pause in enumerate(pauses):
            time.sleep(pause)
            requests = crowd(f"{who} in turn {turn}", size=1 + (who + turn) % 4)
            said.append(backend.generate(requests))
            said.append(backend.score(requests, ("yes", "no", "perhaps")[: 2 + who % 2]).tolist())
        return said, backend.usage.calls

    def join(who):
        if not registered[who]:
            return ask(batching, who, delays[who])
        with batching.replica():
            return ask(batching, who, delays[who])

    threads = [Thread(lambda who=who: join(who)) for who in range(len(delays))]
    results = [thread.result() for thread in threads]
    assert [said for said, _ in results] == [ask(alone, who, [0] * 4)[0] for who in range(len(delays))]
    assert sum(calls for _, calls in results) == batching.total.calls == model.usage.calls
    assert model.overlaps == 0
    assert has_ended()


# --- What is merged ------------------------------------------------------------------------------


def test_calls_that_wait_at_the_same_time_become_one_and_each_gets_its_own():
    model = Counting(reply=lambda request: request.suffix)
    batching = BatchingBackend(model, max_wait=HOUR)
    threads = together(batching, [lambda n=n: batching.generate(crowd(f"caller {n}", n)) for n in (1, 2, 3)])
    for n, thread in zip((1, 2, 3), threads, strict=True):
        assert [reply.text for reply in thread.result()] == [f"caller {n} {i}" for i in range(n)]
    assert model.sizes == [6]


def test_other_candidates_are_asked_one_after_the_other():
    asked = []
    model = ScriptedBackend(probability=lambda request, candidate: asked.append(candidate) or 1.0)
    batching = BatchingBackend(model, max_wait=0.01)
    candidates = [("yes", "no"), ("up", "down"), ("yes", "no")]
    threads = together(batching, [lambda c=c: batching.score(crowd("a", 1), c) for c in candidates])
    for thread in threads:
        np.testing.assert_array_equal(thread.result(), np.log([[0.5, 0.5]]))
    assert sorted(asked) == ["down", "no", "no", "up", "yes", "yes"]


def test_replies_and_scores_are_not_mixed():
    model = Counting()
    batching = BatchingBackend(model, max_wait=0.01)
    works = [lambda: batching.generate(crowd("a", 2)), lambda: batching.score(crowd("b", 3), ("yes", "no"))]
    replies, scores = [thread.result() for thread in together(batching, works)]
    assert (len(replies), scores.shape) == (2, (3, 2))
    assert sorted(model.sizes) == [2, 3]


class Reading(Counting):
    """A backend that knows how probable a text is: e to the minus number of its letters."""

    def log_likelihood(self, requests, texts):
        def read():
            self._count(requests, 0, time.perf_counter())
            return [Likelihood(-float(len(text)), 1 + len(text)) for text in texts]

        return self._alone(requests, read)


def test_texts_to_read_become_one_batch_and_each_gets_its_own():
    model = Reading()
    batching = BatchingBackend(model, max_wait=HOUR)
    works = [lambda n=n: batching.log_likelihood(crowd(f"caller {n}", n), ["a" * n] * n) for n in (1, 2, 3)]
    for n, thread in zip((1, 2, 3), together(batching, works), strict=True):
        assert thread.result() == [Likelihood(-n, 1 + n)] * n
    assert model.sizes == [6]
    assert (batching.total.calls, model.overlaps) == (6, 0)


def test_texts_replies_and_scores_are_not_mixed():
    model = Reading()
    batching = BatchingBackend(model, max_wait=0.01)
    works = [
        lambda: batching.log_likelihood(crowd("a", 1), ["ab"]),
        lambda: batching.generate(crowd("b", 2)),
        lambda: batching.score(crowd("c", 3), ()),
    ]
    read, replies, scores = [thread.result() for thread in together(batching, works)]
    assert (read, len(replies), scores.shape) == ([Likelihood(-2.0, 3)], 2, (3, 0))
    assert sorted(model.sizes) == [1, 2, 3]


def test_a_text_too_few_is_its_callers_own_mistake():
    model = Reading()
    batching = BatchingBackend(model, max_wait=0.01)
    works = [lambda n=n: batching.log_likelihood(crowd("a", 2), ["a"] * n) for n in (1, 2, 3)]
    few, right, many = together(batching, works)
    assert right.result() == [Likelihood(-1.0, 2)] * 2
    for n, wrong in ((1, few), (3, many)):
        with pytest.raises(ValueError, match=f"got 2 requests and {n} texts"):
            wrong.result()
    assert model.sizes == [2]


@pytest.mark.parametrize(("max_batch", "sizes"), [(1, [2] * 4), (4, [4, 4]), (5, [4, 4]), (8, [8])])
def test_no_more_is_merged_than_allowed_and_a_larger_call_goes_whole(max_batch, sizes):
    model = Counting()
    batching = BatchingBackend(model, max_wait=HOUR, max_batch=max_batch)
    for thread in together(batching, [lambda: batching.generate(crowd("a", 2))] * 4):
        assert len(thread.result()) == 2
    assert model.sizes == sizes


def test_nobody_waits_for_those_who_are_not_registered():
    batching = BatchingBackend(ScriptedBackend(), max_wait=HOUR)
    with batching.replica(), batching.replica():  # twice is once
        assert len(batching.generate(crowd("a"))) == 2


def test_a_full_batch_does_not_wait():
    batching = BatchingBackend(ScriptedBackend(), max_wait=HOUR, max_batch=2)
    assert len(batching.generate(crowd("a"))) == 2


def test_those_who_are_busy_elsewhere_hold_nobody_up():
    batching = BatchingBackend(ScriptedBackend(), max_wait=0.01)
    with batching.replica():  # and this thread does not ask
        assert len(Thread(lambda: batching.generate(crowd("a"))).result()) == 2


def test_a_replica_that_fails_is_waited_for_no_longer():
    batching = BatchingBackend(ScriptedBackend(), max_wait=HOUR)

    def fail():
        raise KeyError("gone")

    failing, going = together(batching, [fail, lambda: batching.generate(crowd("a"))])
    with pytest.raises(KeyError):
        failing.result()
    assert len(going.result()) == 2


def test_who_was_served_joins_those_who_queued_meanwhile():
    gate = Gate()
    model = Counting(gate)
    batching = BatchingBackend(model, max_wait=0.5)
    ready = threading.Event()

    def first():
        with batching.replica():
            batching.generate(crowd("first"))
            return batching.generate(crowd("again"))

    def second():
        with batching.replica():
            ready.set()
            return batching.generate(crowd("second"))

    early = Thread(first)
    assert gate.reached.wait(30)
    late = Thread(second)
    assert ready.wait(30)
    time.sleep(0.6)  # more than it would wait if that counted from when the second came
    gate.open.set()
    assert (len(early.result()), len(late.result())) == (2, 2)
    assert model.sizes == [2, 4]


def test_an_empty_call_asks_nobody():
    model = Counting()
    batching = BatchingBackend(model, max_wait=HOUR)
    assert batching.generate([]) == []
    assert batching.score([], ("yes", "no")).shape == (0, 2)
    assert BatchingBackend(Reading(), max_wait=HOUR).log_likelihood([], []) == []
    assert model.sizes == []


# --- What it is ----------------------------------------------------------------------------------


def test_it_is_a_scorer_only_where_the_wrapped_backend_is():
    class Writer:
        name, usage = "writer", Usage()

        def generate(self, requests):
            return [Reply("yes") for _ in requests]

    writer = BatchingBackend(Writer(), max_wait=0)
    assert isinstance(writer, Backend)
    assert not isinstance(writer, Scorer)
    assert isinstance(BatchingBackend(ScriptedBackend()), Scorer)
    assert isinstance(BatchingBackend(BatchingBackend(ScriptedBackend())), Scorer)
    assert writer.name == "writer"
    assert Town(writer, 1).run(2).crowd.field.shares["action"]["yes"] == 1  # the policy lets it pick


@pytest.mark.parametrize("wrap", [BatchingBackend, lambda backend: AdaptedBackend(backend, "bold")])
def test_it_reads_texts_only_where_the_wrapped_backend_does(wrap):
    assert not isinstance(wrap(ScriptedBackend()), LikelihoodScorer)
    assert isinstance(wrap(Reading()), LikelihoodScorer)
    assert isinstance(wrap(BatchingBackend(Reading())), LikelihoodScorer)
    assert not isinstance(wrap(AdaptedBackend(ScriptedBackend(), "shy")), LikelihoodScorer)
    model = Reading()
    wrapped = wrap(model)
    assert wrapped.log_likelihood(crowd("a"), ["", "abc"]) == [Likelihood(0.0, 1), Likelihood(-3.0, 4)]
    assert wrapped.usage == model.usage
    assert wrapped.usage.calls == 2


@pytest.mark.parametrize("wrong", [{"max_wait": -1}, {"max_wait": float("nan")}, {"max_wait": float("inf")}])
def test_a_wait_is_a_number_of_seconds(wrong):
    with pytest.raises(ValueError, match="max_wait must be a number of seconds"):
        BatchingBackend(ScriptedBackend(), **wrong)


def test_a_batch_holds_at_least_one():
    with pytest.raises(ValueError, match="max_batch must be at least 1"):
        BatchingBackend(ScriptedBackend(), max_batch=0)


@given(
    st.builds(Usage, *[st.integers(0, 10**6)] * 3, st.floats(0, 1e6), *[st.integers(0, 50)] * 3),
    st.lists(st.integers(1, 10**4), min_size=1, max_size=20),
)
def test_shares_of_what_was_spent_are_whole_fair_and_add_up(spent, weights):
    shares = split(spent, weights)
    for name in ("calls", "tokens_asked", "tokens_computed", "retries", "failures", "shared"):
        amount, parts = getattr(spent, name), [getattr(share, name) for share in shares]
        assert sum(parts) == amount
        assert all(isinstance(part, int) for part in parts)
        assert all(abs(part - amount * w / sum(weights)) < 1 for part, w in zip(parts, weights, strict=True))
    assert sum(share.seconds for share in shares) == pytest.approx(spent.seconds)
    assert [share.calls for share in split(Usage(calls=sum(weights)), weights)] == weights


def test_the_largest_remainder_gets_what_is_left():
    assert [share.retries for share in split(Usage(retries=5), [1, 2, 4])] == [1, 1, 3]  # of .71, 1.43, 2.86


# --- Patience -----------------------------------------------------------------------------------------


class Kinds(ScriptedBackend):
    """Notes what is asked of it, and how much at a time."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def score(self, requests, candidates):
        self.asked.append(("choices", [one.suffix for one in requests]))
        return super().score(requests, candidates)

    def generate(self, requests):
        self.asked.append(("replies", [one.suffix for one in requests]))
        return super().generate(requests)


def test_with_patience_no_batch_depends_on_who_comes_first():
    """Replicas out of step ask different kinds at one time; which goes first is then no matter of the clock."""
    found = []
    for delays in ([0, 0.1, 0.2], [0.2, 0.1, 0], [0.1, 0.3, 0]):
        kinds = Kinds()
        merged = BatchingBackend(kinds, patience=30)
        ready = threading.Barrier(3)

        def replica(number, delay, merged=merged, ready=ready):
            with merged.replica():
                ready.wait()
                for tick in range(4):
                    time.sleep(delay)
                    asked = [Request("p", f"{number} {tick}")]
                    if (number + tick) % 3:
                        merged.score(asked, ("a", "b"))
                    else:
                        merged.generate(asked)

        threads = [threading.Thread(target=replica, args=one) for one in enumerate(delays)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        found.append(kinds.asked)
    assert found[0] == found[1] == found[2]


def test_patience_is_for_replicas_and_not_for_who_asks_in_their_name():
    merged = BatchingBackend(ScriptedBackend(), max_wait=0.01, patience=60)
    start = time.monotonic()
    with merged.replica():  # this thread asks through another one, as a policy with a pool of its own does
        other = threading.Thread(target=merged.score, args=([Request("p", "s")], ("a", "b")))
        other.start()
        other.join(20)
    assert time.monotonic() - start < 15
