"""How probable the recorded texts are to those who are simulated in place of their authors."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel
from worlds import action, cascade

from mesa_meanfield import (
    Choice,
    ChoiceThenText,
    FreeText,
    LLMPolicy,
    LLMSummarizer,
    MeanField,
    Prompts,
    Schema,
    ScriptedBackend,
    State,
    TallySummarizer,
    Usage,
)
from mesa_meanfield.errors import BackendError
from mesa_meanfield.evaluation.likelihood import LikelihoodPolicy
from mesa_meanfield.protocols import Likelihood, LikelihoodScorer, Turn
from mesa_meanfield_models.cascade.model import CascadeModel

STANCE = Choice(("support", "deny", "comment"), dimension="stance", letters=True)
SPOKEN = ChoiceThenText(STANCE, silent=("comment",))
FIELD = MeanField("Most people laugh about the walrus.")
TOPIC = "A walrus sits in the canal."


class Reading(ScriptedBackend):
    """A scripted backend that keeps what it is asked; a text has one token per word and 2 nats per token."""

    def __init__(self, context: int = 100):
        super().__init__()
        self.read, self.asked, self.context = [], [], context

    def generate(self, requests):
        self.asked += requests
        return super().generate(requests)

    def score(self, requests, candidates):
        self.asked += requests
        return super().score(requests, candidates)

    def log_likelihood(self, requests, texts):
        self.read += zip(requests, texts, strict=True)
        self._count(requests, 0, 0)
        tokens = [len(text.split()) + 1 for text in texts]
        return [Likelihood(-2.0 * n, n) if n <= self.context else Likelihood(math.nan, 0) for n in tokens]

    @property
    def texts(self):
        return [text for _, text in self.read]


def turns(*keys, **known):
    return [Turn(State(key, f"You are reader {key}."), seed=n, **known) for n, key in enumerate(keys)]


def decide(policy, *keys, field=FIELD, **known):
    return policy.decide(turns(*keys, **known), field, topic=TOPIC, groups={})


def reader(*actions, space=SPOKEN, backend=None, **settings):
    policy = LLMPolicy(backend or Reading(), space, **settings)
    return LikelihoodPolicy(policy, {one.id: one for one in actions})


RECORD = [
    action("a1", "support", "It is true, I saw it."),
    action("a2", "deny", "No walrus here."),
    action("a3", "comment", "Ha!"),
    action("a4", "deny", "Nonsense!"),
]
KEYS = [one.id for one in RECORD]


# --- What is read ----------------------------------------------------------------------------------


def test_each_text_is_read_behind_the_prompt_for_writing_it_with_its_recorded_label():
    own, prompts = reader(*RECORD, instructions="You live by a canal."), Prompts()
    decide(own, *KEYS)
    prefix = prompts.policy_prefix(SPOKEN, FIELD, topic=TOPIC, instructions="You live by a canal.")
    expected = [
        (prefix, prompts.policy_suffix(SPOKEN, f"You are reader {key}.", chosen=label), text)
        for key, label, text in (
            ("a1", "support", "It is true, I saw it."),
            ("a2", "deny", "No walrus here."),
            ("a4", "deny", "Nonsense!"),
        )
    ]
    assert [(r.prefix, r.suffix, text) for r, text in own.policy.backend.read] == expected
    assert len({suffix for _, suffix, _ in expected}) == 3


def test_the_prompts_are_those_that_the_model_writes_from_where_the_labels_agree():
    own = reader(*RECORD)
    decisions = decide(own, *KEYS)
    writing = {(r.prefix, r.suffix) for r in own.policy.backend.asked if r.choices is None}
    agreeing = [
        (request.prefix, request.suffix)
        for request, text in own.policy.backend.read
        for one, decision in zip(RECORD, decisions, strict=True)
        if one.text == text and one.labels == decision.labels
    ]
    assert agreeing
    assert set(agreeing) <= writing


def test_a_text_without_a_label_before_it_is_read_behind_the_plain_prompt():
    own, prompts = reader(action("a1", None, "No walrus here."), space=FreeText()), Prompts("zh")
    own.policy.prompts = prompts
    decide(own, "a1")
    ((request, text),) = own.policy.backend.read
    assert request.prefix == prompts.policy_prefix(FreeText(), FIELD, topic=TOPIC)
    assert (request.suffix, text) == (prompts.policy_suffix(FreeText(), "You are reader a1."), "No walrus here.")


def test_an_agents_own_actions_and_its_groups_field_are_those_of_its_prompt():
    own, mood = reader(action("a1", "calm", "Well.", dimension="mood")), Choice(("calm", "angry"), dimension="mood")
    (turn,) = turns("a1", actions=ChoiceThenText(mood))
    turn = Turn(State("a1", turn.state.text, group="north"), actions=turn.actions)
    own.policy.decide([turn], FIELD, topic=TOPIC, groups={"north": MeanField("The north is calm.")})
    own.decide([turn], FIELD, topic=TOPIC, groups={"north": MeanField("The north is calm.")})
    ((request, _),) = own.policy.backend.read
    assert "The north is calm." in request.prefix
    assert "You decided: calm" in request.suffix


def test_recorded_texts_are_read_as_they_were_meant():
    own = reader(action("a1", "deny", "  Cats &amp; dogs &gt; a walrus\n"))
    decide(own, "a1")
    assert own.policy.backend.texts == ["Cats & dogs > a walrus"]


@pytest.mark.parametrize(
    "left_out",
    [
        action("a1", "deny", ""),
        action("a1", "deny", " \n"),
        action("a1", "comment", "Ha!"),
        action("a1", None, "No walrus here."),
        action("a1", "query", "Is there one?"),
        action("a1", "deny", "No walrus here.", dimension="mood"),
        action("a1", "deny", "No walrus here.", failure="no reply"),
        action("a9", "deny", "No walrus here."),
    ],
    ids=["empty", "blank", "silent", "unlabelled", "other label", "other dimension", "failed", "not there"],
)
def test_what_nobody_could_have_written_is_left_out(left_out):
    own = reader(left_out, RECORD[1])
    decide(own, "a1", "a2")
    assert own.policy.backend.texts == ["No walrus here."]
    assert (own.texts, own.tokens, own.nats) == (1, 4, 8.0)


class Vote(BaseModel):
    reason: str


@pytest.mark.parametrize("space", [STANCE, Schema(Vote)], ids=["labels alone", "a form"])
def test_where_no_plain_text_is_written_none_is_read(space):
    own = reader(*RECORD, space=space)
    decide(own, *KEYS)
    assert own.policy.backend.read == []
    assert (own.nats, own.tokens, own.texts, own.nats_per_token) == (0.0, 0, 0, None)


def test_a_failed_simulated_text_is_no_text_of_free_writers():
    own = reader(action("a1", None, "Well.", failure="no reply"), RECORD[1], space=FreeText())
    decide(own, "a1", "a2")
    assert own.policy.backend.texts == ["No walrus here."]


# --- What comes of it ------------------------------------------------------------------------------


def test_nats_and_tokens_add_up_over_texts_and_ticks():
    own = reader(*RECORD)
    assert own.nats_per_token is None
    decide(own, "a1", "a2")
    assert (own.nats, own.tokens, own.texts) == (2.0 * (7 + 4), 7 + 4, 2)
    decide(own, "a3", "a4")
    assert (own.nats, own.tokens, own.texts) == (2.0 * (7 + 4 + 2), 7 + 4 + 2, 3)
    assert own.nats_per_token == 2.0


def test_a_text_that_does_not_fit_is_not_counted():
    own = reader(*RECORD, backend=Reading(context=4))
    decide(own, *KEYS)
    assert (own.nats, own.tokens, own.texts) == (2.0 * (4 + 2), 4 + 2, 2)
    assert len(own.policy.backend.read) == 3


@pytest.mark.parametrize("space", [SPOKEN, FreeText(), STANCE])
def test_decisions_are_those_of_the_policy_inside(space):
    own, plain = reader(*RECORD, space=space, texts_per_group=2), LLMPolicy(Reading(), space, texts_per_group=2)
    for field in (FIELD, MeanField("Most doubt it.")):
        assert decide(own, *KEYS, field=field) == decide(plain, *KEYS, field=field)
    assert own.actions is space
    assert own.policy.backend.asked == plain.backend.asked


def test_what_reading_costs_is_counted_apart():
    own, plain = reader(*RECORD), LLMPolicy(Reading(), SPOKEN)
    decide(own, *KEYS)
    decide(plain, *KEYS)
    assert (own.usage.calls, own.usage.tokens_asked) == (plain.usage.calls, plain.usage.tokens_asked)
    assert own.spent.calls == 3
    backend = own.policy.backend.usage
    both = own.usage + own.spent
    assert (both.calls, both.tokens_asked) == (backend.calls, backend.tokens_asked)
    assert both.seconds == pytest.approx(backend.seconds)


def test_a_backend_without_likelihoods_is_not_asked_for_any():
    plain = ScriptedBackend()
    assert not isinstance(plain, LikelihoodScorer)
    own = reader(*RECORD, backend=plain)
    decisions = decide(own, *KEYS)
    assert (own.nats, own.tokens, own.texts, own.nats_per_token, own.spent) == (None, 0, 0, None, Usage())
    assert decisions == decide(LLMPolicy(ScriptedBackend(), SPOKEN), *KEYS)
    assert own.usage == plain.usage


def test_a_failed_reading_is_told_counted_and_adds_nothing():
    class Broken(Reading):
        def log_likelihood(self, requests, texts):
            super().log_likelihood(requests, texts)
            raise BackendError("out of memory")

    own = reader(*RECORD, backend=Broken())
    with pytest.raises(BackendError, match="out of memory"):
        decide(own, *KEYS)
    assert (own.nats, own.tokens, own.texts, own.spent.calls) == (0.0, 0, 0, 3)


# --- In a roll-out ---------------------------------------------------------------------------------


def rolled(texts_read, summarizer):
    record = cascade(12, ("support", "deny", "comment"), topic=TOPIC)
    backend = Reading()
    policy = LLMPolicy(backend, SPOKEN)
    reading = LikelihoodPolicy(policy, {one.id: one for one in record.actions})
    model = CascadeModel(
        record,
        policy=reading if texts_read else policy,
        summarizer=summarizer(backend),
        dimension="stance",
        warm_up=0.5,
        per_tick=2,
    )
    while model.running:
        model.step()
    return model, reading


@pytest.mark.parametrize("summarizer", [lambda _: TallySummarizer(), LLMSummarizer], ids=["tally", "llm"])
def test_a_roll_out_goes_as_it_goes_without_it_and_reads_what_was_not_played(summarizer):
    plain, _ = rolled(False, summarizer)
    model, reading = rolled(True, summarizer)
    assert model.simulated == plain.simulated
    assert model.crowd.field == plain.crowd.field
    assert model.crowd.usage.calls == plain.crowd.usage.calls
    assert model.crowd.usage.tokens_asked == plain.crowd.usage.tokens_asked
    backend = reading.policy.backend
    assert backend.texts == [f"Remark {n}." for n in (7, 8, 10, 11)]  # 9 and 12 are comments
    assert reading.texts == 4
    prefixes = {request.prefix for request in backend.asked}
    assert {request.prefix for request, _ in backend.read} <= prefixes
    assert len({request.prefix for request, _ in backend.read}) == 3  # each under the field of its own tick


def test_no_prompt_shows_what_is_recorded_behind_the_warm_up():
    _, reading = rolled(True, LLMSummarizer)
    backend = reading.policy.backend
    shown = "\n".join(r.prefix + r.suffix for r in (*backend.asked, *(r for r, _ in backend.read)))
    assert "Remark 6." in shown
    assert not any(f"Remark {n}." in shown for n in range(7, 13))
