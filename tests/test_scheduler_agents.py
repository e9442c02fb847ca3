"""Which agents take part in a tick, and with what."""

from __future__ import annotations

import pickle

import pytest
from crowds import YES_NO, Crowd, Log, Stone, Voter, labels

from mesa_meanfield import (
    ArrivalOrder,
    Choice,
    ChoiceThenText,
    FreeText,
    LLMPolicy,
    MeanFieldAgent,
    RandomShare,
    RulePolicy,
)


def test_agents_without_both_methods_are_left_alone():
    model = Crowd(2)
    Stone.create_agents(model, 3)
    model.step()
    assert len(model.crowd.last.states) == 2


def test_who_sees_nothing_abstains():
    model = Crowd(3)
    next(iter(model.agents)).observe = lambda: None
    model.step()
    assert [s.agent for s in model.crowd.last.states] == ["2", "3"]


def test_what_is_seen_must_be_text():
    model = Crowd(1)
    next(iter(model.agents)).observe = lambda: 3
    with pytest.raises(TypeError, match="Voter 1: observe\\(\\) must return a str or None, got int"):
        model.step()


def test_an_agents_own_action_space_overrides_the_policys():
    class Juror(Voter):
        actions = Choice(("guilty", "innocent"), dimension="verdict")

    model = Crowd(1)
    Juror.create_agents(model, 2)
    model.step()
    assert set(model.crowd.field.shares) == {"action", "verdict"}
    assert sum(model.crowd.field.shares["verdict"].values()) == 1


def test_an_own_action_space_of_a_wrong_kind_is_told():
    model = Crowd(1)
    next(iter(model.agents)).actions = ["yes", "no"]
    with pytest.raises(TypeError, match="Voter 1: actions must be an action space such as Choice"):
        model.step()


def test_equal_action_spaces_of_many_agents_make_one_batch():
    events: list[str] = []
    model = Crowd(6, backend=Log(events))
    for voter in model.agents:
        voter.actions = Choice(("yes", "no"))
    model.step()
    assert events == ["batch of 6"]


def test_agents_with_different_texts_still_make_one_batch():
    events: list[str] = []
    model = Crowd(3, policy=LLMPolicy(Log(events), FreeText()))
    for voter in model.agents:
        voter.actions = FreeText(question=f"What does voter {voter.unique_id} write?")
    model.step()
    assert events == ["replies to 3"]


def test_agents_removed_before_they_act_are_skipped_and_counted():
    class Assassin(Voter):
        def act(self, decision):
            super().act(decision)
            list(self.model.agents)[-1].remove()

    model = Crowd(0)
    Assassin.create_agents(model, 1)
    Voter.create_agents(model, 2)
    victim = list(model.agents)[-1]
    model.step()
    assert (model.crowd.removed, victim.done, model.crowd.field.size) == (1, [], 2)


def test_agents_removed_while_the_crowd_observes_or_decides_are_counted_and_do_not_act():
    class Guard(Voter):
        def observe(self):
            list(self.model.agents)[-1].remove()
            return "on guard"

    def expel(agent, field):
        if isinstance(agent, Guard):
            list(model.agents)[-1].remove()
        return "yes"

    model = Crowd(0, policy=RulePolicy(expel, YES_NO))
    Guard.create_agents(model, 1)
    Voter.create_agents(model, 3)
    one, two, three = list(model.agents)[1:]
    model.step()
    assert [len(v.done) for v in (one, two, three)] == [1, 0, 0]
    assert (model.crowd.removed, model.crowd.field.size) == (2, 2)


def test_agents_added_while_acting_join_at_the_next_tick():
    class Parent(Voter):
        def act(self, decision):
            Voter(self.model)

    model = Crowd(0)
    Parent.create_agents(model, 1)
    model.step()
    assert model.crowd.field.size == 1
    model.crowd.step(model.agents.select(agent_type=Voter))
    assert "2" in labels(model.crowd.last)


def test_keys_must_name_their_agents():
    model = Crowd(2)
    for voter in model.agents:
        voter.key = "same"
    with pytest.raises(ValueError, match="Voter same: another agent has the same key"):
        model.step()
    for voter in model.agents:
        voter.key = voter.observe
    with pytest.raises(TypeError, match="key must be a str or an int, got method"):
        model.crowd.step(model.agents)  # Mesa 3.5 runs no step() again after one that raised


def test_a_random_share_is_active_and_newcomers_do_not_shift_the_others():
    def active(voters):
        model = Crowd(voters, activation=RandomShare(0.3))
        model.step()
        return {int(s.agent) for s in model.crowd.last.states}

    few, many = active(200), active(300)
    assert {agent for agent in many if agent <= 200} == few
    assert 35 <= len(few) <= 90


def test_arrival_order_activates_the_agents_of_the_tick_in_its_order():
    model = Crowd(4, activation=ArrivalOrder([["3", "1"], ["4"]]))
    seen = []
    for _ in range(3):
        model.step()
        seen.append([s.agent for s in model.crowd.last.states])
    assert seen == [["3", "1"], ["4"], []]


def test_memory_agents_keep_their_last_decisions():
    class Rememberer(MeanFieldAgent):
        def observe(self):
            return f"{len(self.memory)} before"

    model = Crowd(0)
    Rememberer.create_agents(model, 1, memory=2)
    for _ in range(3):
        model.step()
    (agent,) = model.agents
    assert len(agent.memory) == 2
    assert agent.decision is agent.memory[-1]
    assert model.crowd.last.states[0].text == "2 before"


def test_an_agent_that_does_not_say_what_it_sees_is_told_so():
    model = Crowd(0)
    MeanFieldAgent.create_agents(model, 1)
    with pytest.raises(NotImplementedError, match="MeanFieldAgent must say what it sees"):
        model.step()


def test_an_action_space_can_be_pickled_as_batch_runs_do():
    space = ChoiceThenText(Choice(("a", "b"), meanings={"a": "first"}), silent=("a",))
    assert pickle.loads(pickle.dumps(space)) == space
