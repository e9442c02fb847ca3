"""Who decides within a tick: models, rules and the record, and what is done when nobody can."""

from __future__ import annotations

import mesa
import pytest
from crowds import YES_NO, Crowd, Voter

from mesa_meanfield import Decision, FreeText, LLMPolicy, NoField, RecordedPolicy, RulePolicy, ScriptedBackend
from mesa_meanfield.errors import ReplyError


def test_each_agent_type_has_its_policy_and_rules_count_in_the_field():
    class Bot(Voter):
        pass

    class LoudBot(Bot):
        pass

    model = Crowd(
        2,
        policy={Voter: LLMPolicy(ScriptedBackend(), YES_NO), Bot: RulePolicy(lambda agent, field: "yes", YES_NO)},
    )
    Bot.create_agents(model, 1)
    LoudBot.create_agents(model, 1)
    model.step()
    assert [b.done[0].labels["action"] for b in model.agents.select(agent_type=Bot)] == ["yes", "yes"]
    assert model.crowd.field.size == 4


def test_a_type_without_policy_is_an_error_that_names_it():
    class Guest(mesa.Agent):
        observe = Voter.observe
        act = Voter.act

    model = Crowd(0, policy={Voter: LLMPolicy(ScriptedBackend(), YES_NO)})
    Guest.create_agents(model, 1)
    with pytest.raises(ValueError, match="Guest 1 has no policy; there are policies for Voter"):
        model.step()


def test_a_rule_sees_its_agent_and_the_field_and_may_abstain():
    def rule(agent, field):
        return None if agent.unique_id == 1 else ("yes" if field.size else "no")

    model = Crowd(3, policy=RulePolicy(rule, YES_NO))
    model.step()
    model.step()
    assert [[d.labels["action"] for d in v.done] for v in model.agents] == [[], ["no", "yes"], ["no", "yes"]]
    assert model.crowd.field.size == 4


def test_rules_may_give_numbers_whose_mean_and_quantiles_the_field_has():
    model = Crowd(5, policy=RulePolicy(lambda agent, field: float(agent.unique_id)))
    model.step()
    numbers = model.crowd.field.numbers
    assert (numbers.size, numbers.mean, numbers.latest_quantiles["0.5"]) == (5, 3.0, 3.0)


def test_a_recorded_policy_plays_through_the_same_path():
    record = RecordedPolicy({str(i): Decision(labels={"action": "yes"}) for i in (1, 2)}, YES_NO)
    model = Crowd(2)
    tick = model.crowd.step(model.agents, policy=record)
    assert tick.recorded
    assert model.crowd.field.shares["action"] == {"yes": 1.0, "no": 0.0}
    assert model.crowd.usage.calls == 0
    assert not model.crowd.step(model.agents).recorded


def test_a_missing_record_is_told():
    model = Crowd(2)
    with pytest.raises(ValueError, match="no decision of agent 2"):
        model.crowd.step(model.agents, policy=RecordedPolicy({"1": Decision(labels={"action": "yes"})}))


def test_recorded_and_simulated_decisions_of_one_tick_are_told_apart():
    model = Crowd(2)
    leader, follower = model.agents
    model.crowd.decide([leader], policy=RecordedPolicy({1: Decision(labels={"action": "yes"})}, YES_NO))
    model.crowd.decide([follower])
    tick = model.crowd.update()
    assert [d.recorded for d in tick.decisions] == [True, False]
    assert not tick.recorded


def test_a_recorded_action_without_label_and_text_still_takes_place():
    model = Crowd(1)
    model.crowd.step(model.agents, policy=RecordedPolicy({"1": Decision()}, YES_NO))
    assert (len(model.crowd.last.states), model.crowd.field.size) == (1, 1)


def unreadable(on_failure):
    return LLMPolicy(
        ScriptedBackend(lambda r: "" if "voter 2" in r.suffix else "fine"), FreeText(), on_failure=on_failure
    )


def test_a_failed_decision_raises_where_nothing_else_is_declared():
    model = Crowd(3, policy=unreadable("raise"))
    with pytest.raises(ReplyError, match="Agent 2 has no usable decision, asked 2 times again"):
        model.step()
    assert [v.done for v in model.agents] == [[], [], []]


def test_a_skipped_agent_does_not_act_and_counts_nowhere():
    model = Crowd(3, policy=unreadable("skip"))
    model.step()
    assert [len(v.done) for v in model.agents] == [1, 0, 1]
    assert (model.crowd.field.size, model.crowd.usage.failures, model.crowd.usage.retries) == (2, 1, 2)
    assert model.crowd.last.decisions[1].failure == "The reply is empty"


def test_a_fallback_decision_moves_its_agent_but_counts_nowhere():
    model = Crowd(3, policy=unreadable(Decision(text="(silence)", labels={"action": "yes"})))
    model.step()
    assert [v.done[0].text for v in model.agents] == ["fine", "(silence)", "fine"]
    assert model.crowd.field.size == 2
    assert model.crowd.field.shares == {}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"policy": "llm"}, "policy must be an object with decide"),
        ({"policy": {"Voter": None}}, "policy's keys must be agent types, got 'Voter'"),
        ({"policy": LLMPolicy}, "policy must be an object with decide"),
        ({"summarizer": "tally"}, "summarizer must be an object with update"),
        ({"summarizer": NoField}, "summarizer must be an object with update"),
    ],
)
def test_parts_of_a_wrong_kind_are_told_at_once(parts, said):
    with pytest.raises(TypeError, match=said):
        Crowd(1, **parts)


def test_results_of_a_wrong_kind_are_told_in_their_tick():
    class Wordy(NoField):
        def update(self, field, tick, **known):
            return "People nod."

    class Plain(RulePolicy):
        def decide(self, turns, field, **known):
            return ["yes"] * len(turns)

    with pytest.raises(TypeError, match=r"Wordy\.update\(\) must return a MeanField, got 'People nod\.'"):
        Crowd(1, summarizer=Wordy()).step()
    with pytest.raises(TypeError, match="Plain must decide by Decision or None, got 'yes'"):
        Crowd(1, policy=Plain(lambda agent, field: None)).step()
    with pytest.raises(TypeError, match=r"Voter 1: group\(\) must return a str, got int"):
        Crowd(1, group=lambda agent: 7).step()
