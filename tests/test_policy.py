from __future__ import annotations

import numpy as np
import pytest

from mesa_meanfield import (
    Choice,
    ChoiceThenText,
    Decision,
    FreeText,
    LLMPolicy,
    MeanField,
    Sampling,
    ScriptedBackend,
    State,
)
from mesa_meanfield.errors import ReplyError, ScoringUnsupported
from mesa_meanfield.prompts import prompt_hash
from mesa_meanfield.protocols import Reply, Turn

STANCE = Choice(("support", "deny"), dimension="stance")


def turns(n, **known):
    return [Turn(State(str(i), f"I am {i}."), seed=i, **known) for i in range(n)]


def decide(policy, turns):
    return policy.decide(turns, MeanField(), topic="The bridge is closed.", groups={})


def test_a_choice_keeps_the_exact_distribution_it_was_sampled_from():
    policy = LLMPolicy(ScriptedBackend(probability=lambda r, c: {"support": 3.0, "deny": 1.0}[c]), STANCE)
    decisions = decide(policy, turns(400))
    assert decisions[0].distribution == pytest.approx({"support": 0.75, "deny": 0.25})
    assert 0.68 < np.mean([d.labels["stance"] == "support" for d in decisions]) < 0.82


def test_the_seed_alone_decides_between_agents_with_one_prompt():
    policy = LLMPolicy(ScriptedBackend(probability=lambda r, c: 1.0), STANCE)
    same = [Turn(State(str(i), "I am anyone."), seed=5) for i in range(20)]
    other = [Turn(State(str(i), "I am anyone."), seed=i) for i in range(20)]
    assert len({d.labels["stance"] for d in decide(policy, same)}) == 1
    assert len({d.labels["stance"] for d in decide(policy, other)}) == 2


def test_choices_with_equal_answers_make_one_batch_and_each_reads_its_own_scores():
    asked = []

    class Counting(ScriptedBackend):
        def score(self, requests, candidates):
            asked.append(len(requests))
            return super().score(requests, candidates)

    backend = Counting(probability=lambda r, c: 4.0 if (c == "deny") == ("I am 1." in r.suffix) else 1.0)
    mood = Choice(("support", "deny"), dimension="mood", temperature=0.5)
    crowd = [Turn(State(str(i), f"I am {i}."), seed=i, actions=mood if i % 2 else None) for i in range(4)]
    decisions = decide(LLMPolicy(backend, STANCE), crowd)
    assert asked == [4]
    assert [list(d.labels) for d in decisions] == [["stance"], ["mood"]] * 2
    # 4 : 1, and 16 : 1 at temperature 1/2; agent 1 the other way round.
    found = [round(d.distribution["support"] * 85) for d in decisions]
    assert found == [68, 5, 68, 80]


def test_twins_cost_one_prompt_and_keep_their_own_labels():
    backend = ScriptedBackend(probability=lambda r, c: 1.0)
    twins = [Turn(State(str(i), "I am anyone."), seed=i) for i in range(40)]
    decisions = decide(LLMPolicy(backend, STANCE), twins)
    assert len({d.prompt_hash for d in decisions}) == 1
    assert [d.labels["stance"] for d in decisions] == [STANCE.sample(d.distribution, d.seed) for d in decisions]


def test_a_text_fits_the_label_that_was_chosen_first():
    asked = []
    backend = ScriptedBackend(lambda r: asked.append(r) or "So be it.", lambda r, c: float(c == "deny"))
    (decision,) = decide(LLMPolicy(backend, ChoiceThenText(STANCE)), turns(1))
    assert (decision.labels, decision.text) == ({"stance": "deny"}, "So be it.")
    assert "You decided: deny" in asked[0].suffix


def test_both_questions_of_a_turn_share_their_prefix():
    prefixes = set()
    backend = ScriptedBackend(lambda r: prefixes.add(r.prefix) or "x", lambda r, c: prefixes.add(r.prefix) or 1.0)
    decide(LLMPolicy(backend, ChoiceThenText(STANCE)), turns(3))
    assert len(prefixes) == 1


def test_a_silent_label_carries_no_text_and_asks_for_none():
    space = ChoiceThenText(STANCE, silent=("support",))
    backend = ScriptedBackend(lambda r: "words", lambda r, c: 1.0)
    policy = LLMPolicy(backend, space)
    decisions = decide(policy, turns(30))
    silent = [d for d in decisions if d.labels["stance"] == "support"]
    assert 0 < len(silent) < 30
    assert {d.text for d in silent} == {""}
    assert policy.usage.calls == 30 + (30 - len(silent))


def test_a_backend_without_probabilities_samples_the_label_and_keeps_no_distribution():
    class NoScores(ScriptedBackend):
        def score(self, requests, candidates):
            raise ScoringUnsupported("no logprobs here")

    decisions = decide(LLMPolicy(NoScores(lambda r: " Deny. "), STANCE), turns(2))
    assert [(d.labels, d.distribution) for d in decisions] == [({"stance": "deny"}, None)] * 2


def test_an_unreadable_reply_is_asked_for_again_with_a_fresh_seed():
    seeds = []

    def reply(request):
        seeds.append(request.seed)
        return "fine" if len(seeds) == 3 else ""

    policy = LLMPolicy(ScriptedBackend(reply), FreeText())
    (decision,) = decide(policy, turns(1))
    assert (decision.text, decision.failure) == ("fine", None)
    assert len(set(seeds)) == 3
    assert (policy.usage.retries, policy.usage.failures, policy.usage.calls) == (2, 0, 3)


def test_only_the_unreadable_replies_are_asked_for_again():
    asked = []
    backend = ScriptedBackend(lambda r: asked.append(r.suffix) or ("" if "I am 1." in r.suffix else "fine"))
    decide(LLMPolicy(backend, FreeText(), on_failure="skip", retries=3), turns(3))
    assert len(asked) == 3 + 3
    assert all("I am 1." in suffix for suffix in asked[3:])


def test_a_failed_call_becomes_neither_text_nor_label():
    backend = ScriptedBackend(lambda r: Reply("half a sen", failure="HTTP 500"))
    (decision,) = decide(LLMPolicy(backend, ChoiceThenText(STANCE), on_failure="skip"), turns(1))
    assert (decision.text, decision.labels, decision.failure) == ("", {}, "HTTP 500")
    assert decision.empty


def test_a_model_that_neither_scores_nor_says_a_label_is_a_failure():
    class Blank(ScriptedBackend):
        def score(self, requests, candidates):
            return np.full((len(requests), len(candidates)), np.nan)

    policy = LLMPolicy(Blank(lambda r: "perhaps"), STANCE, on_failure="skip")
    (decision,) = decide(policy, turns(1))
    assert "'perhaps' is not one of support, deny" in decision.failure
    assert (policy.usage.failures, policy.usage.retries) == (1, 3)


def test_a_label_that_could_not_be_scored_is_asked_for():
    class Blank(ScriptedBackend):
        def score(self, requests, candidates):
            return np.full((len(requests), len(candidates)), np.nan)

    (decision,) = decide(LLMPolicy(Blank(lambda r: "deny"), STANCE), turns(1))
    assert (decision.labels, decision.distribution, decision.failure) == ({"stance": "deny"}, None, None)


def test_a_fallback_keeps_why_it_was_needed():
    fallback = Decision(labels={"stance": "support"})
    (decision,) = decide(LLMPolicy(ScriptedBackend(lambda r: ""), FreeText(), on_failure=fallback), turns(1))
    assert (decision.labels, decision.failure) == ({"stance": "support"}, "The reply is empty")


def test_an_unknown_on_failure_is_told():
    with pytest.raises(ValueError, match="on_failure must be 'raise', 'skip' or a Decision"):
        LLMPolicy(ScriptedBackend(), STANCE, on_failure="ignore")


def test_raise_names_the_agent_and_what_to_do():
    with pytest.raises(ReplyError, match=r"Agent 0 .*on_failure='skip'"):
        decide(LLMPolicy(ScriptedBackend(lambda r: ""), FreeText()), turns(1))


def test_a_decision_names_the_prompt_it_came_from():
    asked = []
    backend = ScriptedBackend(probability=lambda r, c: asked.append(r) or 1.0)
    (decision,) = decide(LLMPolicy(backend, STANCE), turns(1))
    assert decision.prompt_hash == prompt_hash(asked[0].prefix, asked[0].suffix)


def test_free_text_gets_its_label_from_label_of():
    space = FreeText(label_of=lambda text: "loud" if text.isupper() else "calm", options=("loud", "calm"))
    (decision,) = decide(LLMPolicy(ScriptedBackend(lambda r: "NO WAY"), space), turns(1))
    assert decision.labels == {"action": "loud"}


def test_the_action_spaces_sampling_reaches_the_model():
    asked = []
    sampling = Sampling(max_tokens=7, temperature=0.3, stop=("\n",))
    decide(LLMPolicy(ScriptedBackend(lambda r: asked.append(r) or "x"), FreeText(sampling)), turns(1))
    assert asked[0].sampling == sampling
