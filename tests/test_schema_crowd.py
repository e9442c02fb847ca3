"""A crowd whose decisions are pydantic objects, from the model's reply to the mean field."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import pytest
from crowds import Crowd, Voter
from pydantic import BaseModel, Field

from mesa_meanfield import (
    LLMPolicy,
    LLMSummarizer,
    RecentActions,
    RulePolicy,
    Schema,
    ScriptedBackend,
    TallySummarizer,
)
from mesa_meanfield.summarizers import action_line


class Mood(StrEnum):
    CALM = "calm"
    ANGRY = "angry"


class Order(BaseModel):
    good: Literal["wheat", "wood"]
    amount: int = Field(ge=1, le=9)


class Vote(BaseModel):
    reason: str = Field(max_length=80)
    stance: Literal["support", "deny"]
    certainty: int = Field(ge=0, le=10)
    mood: Mood | None = None
    leaves: bool = False


class Walrus(BaseModel):
    size: int
    name: str = ""


VOTE = Schema(Vote, text_field="reason")
REPLY = '{"reason": " It is wet. ", "stance": "deny", "certainty": 3, "mood": "angry", "leaves": true}'


def test_a_crowd_acts_on_values_and_sees_the_shares_of_every_dimension():
    crowd = Crowd(40, policy=LLMPolicy(ScriptedBackend(), VOTE), summarizer=TallySummarizer())
    for _ in range(3):
        crowd.step()
    decisions = [decision for agent in crowd.agents for decision in agent.done]
    votes = [decision.value for decision in decisions]
    assert len(votes) == 120
    assert all(isinstance(vote, Vote) and 0 <= vote.certainty <= 10 for vote in votes)
    assert {decision.text == decision.value.reason.strip() for decision in decisions} == {True}
    shares = crowd.crowd.field.shares
    assert {dimension: tuple(of) for dimension, of in shares.items()} == VOTE.labels
    assert shares["stance"]["deny"] == pytest.approx(sum(v.stance == "deny" for v in votes) / 120)
    assert shares["leaves"]["yes"] == pytest.approx(sum(v.leaves for v in votes) / 120)
    moods = [v.mood for v in votes if v.mood]
    assert shares["mood"]["calm"] == pytest.approx(moods.count("calm") / len(moods))
    assert "stance, all 120 so far: support" in crowd.crowd.field.text


def test_the_same_seed_gives_the_same_values_and_another_others():
    def votes(rng):
        crowd = Crowd(10, policy=LLMPolicy(ScriptedBackend(), VOTE), rng=rng)
        crowd.step()
        return [agent.done[0].value for agent in crowd.agents]

    assert votes(1) == votes(1)
    assert votes(1) != votes(2)


def test_a_reply_that_does_not_fit_is_asked_for_again():
    def reply(request):
        return REPLY if request.seed % 2 else "I would rather talk."

    policy = LLMPolicy(ScriptedBackend(reply), VOTE, retries=20)
    crowd = Crowd(10, policy=policy)
    crowd.step()
    assert policy.usage.retries > 0
    assert crowd.crowd.field.share("deny", "stance") == 1


def test_the_fallback_and_a_rule_can_be_a_value():
    vote = Vote(reason="So.", stance="support", certainty=0)
    policy = LLMPolicy(ScriptedBackend(lambda request: "no"), VOTE, on_failure=VOTE.decision(vote))
    crowd = Crowd(1, policy=policy)
    crowd.step()
    assert crowd.agents[0].done[0].value == vote
    assert crowd.crowd.field.shares["stance"] == {}
    ruled = Crowd(1, policy=RulePolicy(lambda agent, field: VOTE.decision(vote), VOTE))
    ruled.step()
    assert ruled.crowd.field.shares["stance"] == {"support": 1.0, "deny": 0.0}


def test_agents_with_a_form_of_their_own_decide_by_it():
    class Trader(Voter):
        actions = Schema(Order)

    crowd = Crowd(2)
    Trader.create_agents(crowd, 3)
    crowd.step()
    kinds = [type(agent.done[0].value) for agent in crowd.agents]
    assert kinds == [type(None)] * 2 + [Order] * 3
    assert set(crowd.crowd.field.shares) == {"action", "good"}


def test_others_see_labels_with_their_dimension_and_the_text_or_the_values():
    read = VOTE.read(REPLY)
    assert action_line(read, [VOTE]) == "[stance: deny, mood: angry, leaves: yes] It is wet."
    order = Schema(Order)
    assert action_line(order.read('{"good": "wood", "amount": 2}'), [order]) == '[good: wood] "amount": 2'
    walrus = Schema(Walrus)
    assert action_line(walrus.read('{"size": 3, "name": "海\\n象"}'), [walrus]) == '"size": 3, "name": "海\\n象"'


def test_summaries_are_written_from_the_texts_and_exact_shares():
    asked = []
    summarizer = LLMSummarizer(ScriptedBackend(lambda request: asked.append(request) or "Wet feet."))
    policy = LLMPolicy(ScriptedBackend(lambda request: REPLY), VOTE)
    crowd = Crowd(3, policy=policy, summarizer=summarizer)
    crowd.step()
    assert "- [stance: deny, mood: angry, leaves: yes] It is wet." in asked[0].suffix
    assert "stance: support 0%, deny 100%" in asked[0].suffix
    recent = Crowd(2, policy=LLMPolicy(ScriptedBackend(lambda request: REPLY), VOTE), summarizer=RecentActions(1))
    recent.step()
    assert recent.crowd.field.text == "- [stance: deny, mood: angry, leaves: yes] It is wet."
