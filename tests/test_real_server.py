"""A real server, llama.cpp's own with the embedded model, does what the server backend makes of it."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")  # of the model that it is compared with
if importlib.util.find_spec("xllamacpp") is None:  # imported in the server's own process only
    pytest.skip("optional: llama.cpp's server comes with the package xllamacpp", allow_module_level=True)

from fake_server import isolated  # noqa: F401 - a fixture for all
from pydantic import BaseModel, Field
from real_server import TOKENS, serving
from test_embedded import or_skip
from test_examples import hello_crowd
from tiny_models import one_thread

from mesa_meanfield import (
    Choice,
    FreeText,
    LLMPolicy,
    MeanField,
    Sampling,
    Schema,
    ServerBackend,
    State,
    load_backend,
)
from mesa_meanfield.backends.local import embedded
from mesa_meanfield.errors import ScoringUnsupported
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Request, Turn

pytestmark = pytest.mark.model

SLOTS = 4
TOPIC = "A neighbour says that the old bridge will be closed tomorrow."
TOWN = f"You live in a small town by the sea. {TOPIC}"
MOODS = ("You trust what neighbours say.", "You doubt most news.", "You are busy with your shop.")
SHORT = Sampling(max_tokens=8)
DIFFERENCE = 0.1
"""Between the server's distributions and ours, in total variation: its kernels multiply 4-bit weights with 8-bit
activations, ours 32-bit floats. Seen: up to 0.04."""


def crowd(n, sampling=SHORT):
    return [
        Request(TOWN, f"You are number {i} of the queue at the bakery. What do you say?", i, sampling)
        for i in range(n)
    ]


def twins(n):
    return [Request(TOWN, "What do you tell your friend?", 1000 * seed, SHORT) for seed in range(n)]


@pytest.fixture(scope="module")
def url(embedded_model):
    """A server of the very file that the local model was made from."""
    with tempfile.TemporaryDirectory() as work:  # too large for pytest, which keeps its folders
        gguf = or_skip(embedded.gguf_file, Path(work))
        with serving(gguf, SLOTS) as url:
            yield url


@pytest.fixture(scope="module")
def local(embedded_model):
    with one_thread():
        yield load_backend("embedded", device="cpu")


@pytest.fixture
def server(url):
    with ServerBackend(url, concurrency=SLOTS) as backend:
        yield backend


def prompts(choice):
    """What the policy asks agents of three moods."""
    prefix = Prompts().policy_prefix(choice, MeanField(), topic=TOPIC, group_field=None, instructions="")
    return [Request(prefix, Prompts().policy_suffixes(choice)(mood)) for mood in MOODS]


def decide(policy, n=6):
    turns = [Turn(State(str(i), MOODS[i % 3]), seed=i) for i in range(n)]
    return policy.decide(turns, MeanField(), topic=TOPIC, groups={})


def test_a_crowd_is_answered_and_its_common_prefix_computed_once_or_so(server):
    replies = server.generate(crowd(12))
    assert all(reply.failure is None and reply.text.strip() for reply in replies)
    assert len({reply.text for reply in replies}) > 6
    assert not all(reply.finished for reply in replies)
    assert server.usage.calls == 12
    assert (server.usage.retries, server.usage.failures) == (0, 0)
    # Each slot reads the prefix at most once; what it keeps of it is not computed again.
    assert 0 < server.usage.tokens_computed < 0.9 * server.usage.tokens_asked


def test_the_seed_makes_the_text(url):
    with ServerBackend(url, concurrency=1) as server:
        first, again = server.generate(twins(4)), server.generate(twins(4))
    assert len({reply.text for reply in first}) > 2
    # Its sums depend on what else is under way, so that in rare cases a token tips over.
    assert sum(a == b for a, b in zip(first, again, strict=True)) >= 3


@pytest.mark.parametrize(
    "choice",
    [
        Choice(("share", "doubt", "ignore"), letters=True),
        Choice(("yes", "no"), question="Do you share it?"),
        Choice(("Yes", "No"), question="Do you share it?"),
    ],
    ids=["letters", "words", "capitals"],
)
def test_labels_of_one_token_are_as_probable_as_for_the_local_model(server, local, choice):
    requests = prompts(choice)
    theirs, ours = server.score(requests, choice.answers), local.score(requests, choice.answers)
    assert (theirs <= 0).all()
    assert (np.exp(theirs).sum(axis=1) <= 1).all()
    assert np.abs(theirs - ours).max() < 1  # nats, of log-probabilities down to -6
    for p, q in zip(choice.distributions(theirs), choice.distributions(ours), strict=True):
        assert sum(abs(p[label] - q[label]) for label in p) / 2 < DIFFERENCE
        assert max(p, key=p.get) == max(q, key=q.get)


def test_twins_are_scored_once(server):
    choice = Choice(("yes", "no"))
    scores = server.score(prompts(choice) * 4, choice.answers)
    assert (scores.reshape(4, 3, 2) == scores[:3]).all()
    assert server.usage.calls == 12
    assert server.usage.tokens_asked > 3 * server.usage.tokens_computed


def test_labels_that_cannot_be_scored_are_written_and_nothing_else_is(server):
    choice = Choice(("share all", "share some", "share none"))
    with pytest.raises(ScoringUnsupported, match=r"the token '.*share' begins several of share all, share some"):
        server.score(prompts(choice), choice.answers)
    policy = LLMPolicy(server, choice, retries=0)
    decisions = decide(policy)
    assert all(decision.labels["action"] in choice.options for decision in decisions)
    assert {decision.distribution for decision in decisions} == {None}
    assert (policy.usage.retries, policy.usage.failures) == (0, 0)


class Plan(BaseModel):
    mood: str = Field(max_length=20)
    walks: bool
    neighbours: int = Field(ge=0, le=9)


def test_a_form_is_filled_in_as_its_schema_says(server):
    plan = Schema(Plan, sampling=Sampling(max_tokens=60))
    prefix = f"{TOWN} Answer as JSON with mood, walks (true or false) and neighbours (how many you tell)."
    requests = [Request(prefix, mood, 5, plan.sampling, schema=plan.schema) for mood in MOODS]
    for reply in server.generate(requests):
        assert set(json.loads(reply.text)) == {"mood", "walks", "neighbours"}
        assert reply.finished
    (cut,) = server.generate([replace(requests[0], sampling=Sampling(max_tokens=3))])
    assert not cut.finished
    decisions = decide(LLMPolicy(server, plan, retries=0), 3)
    assert all(isinstance(decision.value, Plan) for decision in decisions)


def test_a_schema_that_it_cannot_compile_is_left_away(server, caplog):
    (reply,) = server.generate([Request(TOWN, MOODS[0], 1, SHORT, schema='{"type": "no such type"}')])
    assert reply.failure is None
    assert "takes no response_format" in caplog.text


def test_several_samples_are_one_request(url, caplog):
    with ServerBackend(url, concurrency=SLOTS, samples_per_request=SLOTS) as server:
        replies = server.generate(twins(2 * SLOTS))
        assert server.usage.calls == 2 * SLOTS
    assert all(reply.failure is None for reply in replies)
    assert len({reply.text for reply in replies}) > SLOTS // 2
    assert "asked without" not in caplog.text


def test_more_samples_than_it_has_slots_are_asked_for_singly(url, caplog):
    with ServerBackend(url, concurrency=1, samples_per_request=SLOTS + 1) as server:
        replies = server.generate(twins(SLOTS + 1))
        assert (server.usage.calls, server.usage.retries) == (SLOTS + 1, 1)
    assert len({reply.text for reply in replies}) > SLOTS // 2
    assert "takes no n and is asked without" in caplog.text


def test_a_prompt_that_is_too_long_spoils_no_other(server):
    replies = server.generate([*crowd(2), Request(TOWN, "word " * TOKENS, 3, SHORT)])
    assert [reply.failure is None for reply in replies] == [True, True, False]
    assert "exceeds the available context size" in replies[2].failure


def test_texts_in_any_writing_arrive(server):
    policy = LLMPolicy(server, FreeText(Sampling(max_tokens=12)), retries=0, on_failure="skip")
    turns = [Turn(State("1", "你是面包师。🥖"), seed=1), Turn(State("2", "half an emoji \ud83e"), seed=2)]
    decisions = policy.decide(turns, MeanField(), topic="桥要封了。", groups={})
    assert decisions[0].failure is None


def test_hello_crowd_runs_on_it_by_one_argument(url):
    town = hello_crowd().Town(backend=url, citizens=6)
    with town.crowd.policy.backend:
        town.step()
        town.step()
    decisions = town.crowd.last.decisions
    assert len(decisions) == 6
    assert all(sum(decision.distribution.values()) == pytest.approx(1) for decision in decisions)
    assert town.crowd.field.size == 12
    assert 0 < town.crowd.usage.tokens_computed < town.crowd.usage.tokens_asked
