"""Agents who are asked the same can share a few texts (``texts_per_group``)."""

from __future__ import annotations

from collections import Counter

import mesa
import pytest
from crowds import Voter

from mesa_meanfield import (
    Choice,
    ChoiceThenText,
    Decision,
    FreeText,
    LLMPolicy,
    MeanField,
    MeanFieldScheduler,
    NoField,
    ScriptedBackend,
    State,
)
from mesa_meanfield.protocols import Reply, Turn

STANCE = Choice(("support", "deny"), dimension="stance")


def twins(n, kind="a nurse", tick_seed=0):
    return [Turn(State(f"{kind} {i}", f"I am {kind}."), seed=i, tick_seed=tick_seed) for i in range(n)]


def texts(turns, most=3, space=None, **known):
    policy = LLMPolicy(ScriptedBackend(), space or FreeText(), texts_per_group=most, **known)
    decisions = policy.decide(turns, MeanField(), topic="The bridge is closed.", groups={})
    return {turn.state.agent: decision.text for turn, decision in zip(turns, decisions, strict=True)}


def test_those_who_are_asked_the_same_share_at_most_so_many_texts():
    backend = ScriptedBackend()
    policy = LLMPolicy(backend, FreeText(), texts_per_group=3)
    crowd = twins(200) + twins(100, "a vet")
    decisions = policy.decide(crowd, MeanField(), topic="", groups={})
    nurses, vets = (Counter(d.text for d in part) for part in (decisions[:200], decisions[200:]))
    assert (len(nurses), len(vets)) == (3, 3)
    assert not nurses.keys() & vets.keys()
    # 67 expected of each, standard deviation 6.7; five of them are room enough.
    assert min(nurses.values()) > 33
    assert (policy.usage.calls, policy.usage.shared) == (6, 294)


def test_without_it_everyone_has_a_text_of_ones_own():
    policy = LLMPolicy(ScriptedBackend(), FreeText())
    decisions = policy.decide(twins(30), MeanField(), topic="", groups={})
    assert len({d.text for d in decisions}) == 30
    assert (policy.usage.calls, policy.usage.shared) == (30, 0)


def test_agents_who_come_or_go_change_neither_the_texts_nor_who_takes_which():
    few, many = texts(twins(5)), texts(twins(60, "a vet") + twins(80))
    assert few == {agent: many[agent] for agent in few}


def test_texts_that_nobody_takes_are_not_generated():
    policy = LLMPolicy(ScriptedBackend(), FreeText(), texts_per_group=1000)
    policy.decide(twins(4), MeanField(), topic="", groups={})
    assert (policy.usage.calls, policy.usage.shared) == (4, 0)


def test_the_label_belongs_to_what_is_asked():
    said = {}
    backend = ScriptedBackend(lambda r: said.setdefault(r.suffix, f"text {len(said)}"), lambda r, c: 1.0)
    policy = LLMPolicy(backend, ChoiceThenText(STANCE), texts_per_group=1)
    decisions = policy.decide(twins(40), MeanField(), topic="", groups={})
    by_label = {label: {d.text for d in decisions if d.labels["stance"] == label} for label in STANCE.options}
    assert [len(of) for of in by_label.values()] == [1, 1]
    assert by_label["support"] != by_label["deny"]
    assert (policy.usage.calls, policy.usage.shared) == (40 + 2, 38)


def test_texts_are_shared_across_action_spaces_only_where_they_are_read_alike():
    loud = FreeText(label_of=lambda text: "loud")
    crowd = [*twins(3), *(Turn(State(f"loud {i}", "I am a nurse."), seed=i, actions=loud) for i in range(3))]
    policy = LLMPolicy(ScriptedBackend(lambda r: "So be it."), FreeText(), texts_per_group=1)
    decisions = policy.decide(crowd, MeanField(), topic="", groups={})
    assert [d.labels for d in decisions] == [{}] * 3 + [{"action": "loud"}] * 3


def test_each_tick_and_each_run_has_texts_of_its_own():
    def run(rng, name="crowd"):
        model = mesa.Model(rng=rng)
        agents = Voter.create_agents(model, 4)
        for agent in agents:
            agent.observe = lambda: "I am anyone."
        policy = LLMPolicy(ScriptedBackend(), FreeText(), texts_per_group=1)
        crowd = MeanFieldScheduler(model, policy=policy, summarizer=NoField(), name=name)
        ticks = [crowd.step(agents) for _ in range(3)]
        assert all(len({d.text for d in tick.decisions}) == 1 for tick in ticks)
        return [tick.decisions[0].text for tick in ticks]

    assert run(1) == run(1)
    assert len({*run(1), *run(2), *run(1, "other")}) == 9


def test_a_shared_text_that_fails_is_a_failure_of_each_who_takes_it():
    def reply(request):
        return Reply(failure="HTTP 500") if "a vet" in request.suffix else "Fine."

    fallback = Decision(text="(silence)")
    policy = LLMPolicy(ScriptedBackend(reply), FreeText(), texts_per_group=1, retries=1, on_failure=fallback)
    decisions = policy.decide(twins(2) + twins(3, "a vet"), MeanField(), topic="", groups={})
    assert [(d.text, d.failure) for d in decisions] == [("Fine.", None)] * 2 + [("(silence)", "HTTP 500")] * 3
    assert [d.seed for d in decisions] == [0, 1, 0, 1, 2]
    assert (policy.usage.failures, policy.usage.retries, policy.usage.shared) == (1, 1, 3)


@pytest.mark.parametrize("most", [0, -1])
def test_at_least_one_text_is_needed(most):
    with pytest.raises(ValueError, match=f"texts_per_group must be at least 1, or None .*, got {most}"):
        texts([], most)
