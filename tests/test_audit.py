"""An audit asks some agents again, each alone, and tells what deciding together has changed."""

from __future__ import annotations

import math

import pytest
from crowds import Crowd

from mesa_meanfield import Choice, ChoiceThenText, Decision, FreeText, LLMPolicy, MeanField, ScriptedBackend, State
from mesa_meanfield.audit import Audit, Estimate
from mesa_meanfield.protocols import Turn

STANCE = Choice(("support", "deny"), dimension="stance")


class Mates(ScriptedBackend):
    """Answers depend on who else is asked, as they must not: with company everyone supports a little more."""

    def __init__(self, reply=None):
        super().__init__(reply, lambda r, c: {"support": 0.5 + self.lean, "deny": 0.5 - self.lean}[c])
        self.lean = 0.0
        self.sizes = []

    def score(self, requests, candidates):
        self.sizes.append(len(requests))
        self.lean = 0.2 if len(requests) > 1 else 0.0
        return super().score(requests, candidates)

    def generate(self, requests):
        self.sizes.append(len(requests))
        return super().generate(requests)


def crowd(n, **known):
    return [Turn(State(str(i), f"I am {i}."), seed=i, **known) for i in range(n)]


def decide(policy, turns):
    return policy.decide(turns, MeanField(), topic="The bridge is closed.", groups={})


def test_an_estimate_has_the_mean_and_its_standard_error():
    estimate = Estimate.of([1.0, 2.0, 6.0])
    assert (estimate.count, estimate.mean) == (3, 3.0)
    assert estimate.error == pytest.approx(math.sqrt(7 / 3))  # variance (4 + 1 + 9) / 2 = 7
    share = Estimate.of([1, 0, 0, 0, 1])
    assert share.error == pytest.approx(math.sqrt(0.4 * 0.6 / 4))


def test_too_few_agents_have_no_estimate():
    assert math.isnan(Estimate().mean)
    assert math.isnan(Estimate.of([3.0]).error)


def test_equal_values_have_no_error_however_they_are_rounded():
    assert Estimate.of([0.1] * 1000).error == pytest.approx(0, abs=1e-9)


PAIRS = [
    (Decision(labels={"stance": "support"}, distribution={"support": 0.7, "deny": 0.3}),
     Decision(labels={"stance": "deny"}, distribution={"support": 0.4, "deny": 0.6})),
    (Decision(labels={"stance": "deny"}, distribution={"support": 0.5, "deny": 0.5}),
     Decision(labels={"stance": "deny"}, distribution={"support": 0.6, "deny": 0.4})),
    (Decision("Yes.", labels={"mood": "calm"}), Decision("Yes.", labels={"mood": "calm"})),
    (Decision("Yes.", labels={"mood": "calm"}), Decision("No!", labels={"mood": "loud"})),
    (Decision(value=3), Decision(value=4)),
    (Decision(), Decision()),
    (Decision(failure="HTTP 500"), Decision("Yes.")),
    (Decision("Yes."), Decision(failure="HTTP 500")),
]  # fmt: skip


def test_two_answers_are_compared_in_all_that_they_have():
    audit = Audit.of([a for a, _ in PAIRS], [b for _, b in PAIRS])
    assert (audit.asked, audit.lost) == (8, 2)
    assert (audit.distance.count, audit.distance.mean, audit.farthest) == pytest.approx((2, 0.2, 0.3))
    assert audit.distance.error == pytest.approx(0.1)  # .3 and .1
    assert (audit.labels_differ.count, audit.labels_differ.mean) == (4, 0.5)
    assert (audit.texts_differ.count, audit.texts_differ.mean) == (3, 2 / 3)
    shifts = {d: {label: (s.count, s.mean) for label, s in of.items()} for d, of in audit.shifts.items()}
    assert shifts == {
        "stance": {"support": (2, 0.5), "deny": (2, -0.5)},
        "mood": {"calm": (2, 0.5), "loud": (2, -0.5)},
    }


@pytest.mark.parametrize("cut", range(len(PAIRS) + 1))
def test_the_audits_of_two_ticks_add_up_to_that_of_both(cut):
    parts = [Audit.of([a for a, _ in part], [b for _, b in part]) for part in (PAIRS[:cut], PAIRS[cut:])]
    whole = Audit.of([a for a, _ in PAIRS], [b for _, b in PAIRS])
    both = parts[0] + parts[1]
    assert (both.asked, both.lost, both.farthest) == (whole.asked, whole.lost, whole.farthest)
    for name in ("distance", "labels_differ", "texts_differ"):
        one, other = getattr(both, name), getattr(whole, name)
        assert (one.count, one.total, one.squares) == pytest.approx((other.count, other.total, other.squares))
    assert both.shifts == whole.shifts


def test_nothing_is_asked_twice_where_no_audit_is_wanted():
    policy = LLMPolicy(ScriptedBackend(), STANCE)
    decide(policy, crowd(20))
    assert (policy.audited, policy.usage.calls) == (Audit(), 20)


def test_a_backend_that_keeps_agents_apart_shows_no_difference():
    policy = LLMPolicy(ScriptedBackend(), ChoiceThenText(STANCE), audit=1.0)
    decide(policy, crowd(50))
    found = policy.audited
    assert (found.asked, found.lost) == (50, 0)
    assert (found.distance.count, found.distance.mean, found.farthest) == (50, 0.0, 0.0)
    assert (found.labels_differ.mean, found.texts_differ.mean) == (0.0, 0.0)
    assert {shift.mean for shift in found.shifts["stance"].values()} == {0.0}


def test_a_backend_whose_answers_depend_on_batch_mates_is_found_out():
    policy = LLMPolicy(Mates(), STANCE, audit=1.0)
    decisions = decide(policy, crowd(400))
    found = policy.audited
    assert (found.distance.mean, found.farthest) == pytest.approx((0.2, 0.2))
    # One in five changes sides, all of them to support.
    assert found.labels_differ.mean == pytest.approx(0.2, abs=0.08)
    assert found.shifts["stance"]["support"].mean == found.labels_differ.mean
    assert found.shifts["stance"]["deny"].mean == -found.labels_differ.mean
    assert found.labels_differ.error == pytest.approx(0.02, abs=0.004)
    assert decisions == decide(LLMPolicy(Mates(), STANCE), crowd(400))


def test_those_who_are_asked_again_are_asked_alone_with_their_own_question():
    backend = Mates(lambda r: "So be it.")
    policy = LLMPolicy(backend, ChoiceThenText(STANCE), texts_per_group=1, audit=0.2)
    twins = [Turn(State(str(i), "I am anyone."), seed=i) for i in range(100)]
    decide(policy, twins)
    asked = policy.audited.asked
    assert 8 <= asked <= 34  # 20 expected, standard deviation 4
    assert backend.sizes == [100, 2] + [1, 1] * asked
    assert policy.usage.calls == sum(backend.sizes)
    assert policy.usage.shared == 98


def test_texts_that_the_crowd_changes_shift_the_labels_that_are_read_from_them():
    backend = ScriptedBackend(lambda r: "NO" if company[0] else "no")
    company = [False]
    generate = backend.generate

    def noticing(requests):
        company[0] = len(requests) > 1
        return generate(requests)

    backend.generate = noticing
    space = FreeText(label_of=lambda text: "loud" if text.isupper() else "calm", options=("loud", "calm"))
    policy = LLMPolicy(backend, space, audit=1.0)
    decide(policy, crowd(30))
    found = policy.audited
    assert (found.texts_differ.mean, found.labels_differ.mean) == (1.0, 1.0)
    assert {label: shift.mean for label, shift in found.shifts["action"].items()} == {"loud": 1.0, "calm": -1.0}
    assert found.distance.count == 0


def test_sharing_texts_shows_in_the_audit_while_the_labels_hardly_shift():
    space = FreeText(label_of=lambda text: "long" if len(text) > 25 else "short", options=("long", "short"))
    policy = LLMPolicy(ScriptedBackend(), space, texts_per_group=20, audit=1.0)
    decide(policy, [Turn(State(str(i), "I am anyone."), seed=i) for i in range(300)])
    found = policy.audited
    assert found.texts_differ.mean > 0.9
    assert 0 < abs(found.shifts["action"]["long"].mean) < 0.35


def test_an_answer_that_cannot_be_read_alone_is_lost_and_stops_nobody():
    backend = Mates(lambda r: "So be it.")
    generate = backend.generate
    backend.generate = lambda requests: [r if len(requests) > 1 else type(r)("") for r in generate(requests)]
    policy = LLMPolicy(backend, FreeText(), audit=1.0, retries=1)
    assert all(d.failure is None for d in decide(policy, crowd(5)))
    assert (policy.audited.asked, policy.audited.lost, policy.audited.texts_differ.count) == (5, 5, 0)
    assert (policy.usage.retries, policy.usage.failures) == (5, 5)


def test_the_sample_is_a_matter_of_seeds_and_ticks_add_up():
    def run():
        model = Crowd(100, policy=LLMPolicy(ScriptedBackend(), STANCE, audit=0.3))
        asked = []
        for _ in range(3):
            model.step()
            asked.append(model.crowd.policy.audited.asked)
        return asked, model.crowd.usage.calls

    asked, calls = run()
    assert run() == (asked, calls)
    assert calls == 300 + asked[-1]
    assert all(15 <= more <= 46 for more in (asked[0], asked[1] - asked[0], asked[2] - asked[1]))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_the_share_must_be_a_share(share):
    with pytest.raises(ValueError, match="audit is a share of the agents, from 0 to 1"):
        LLMPolicy(ScriptedBackend(), STANCE, audit=share)
