"""The embedded model is the one in the GGUF file, and the backend adds nothing of its own to it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers
from pydantic import BaseModel, Field
from tiny_models import log_probability, logits, one_thread

from mesa_meanfield import Schema
from mesa_meanfield.actions import Choice
from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.local import embedded
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.data import MeanField, State
from mesa_meanfield.errors import BackendError
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Request, Sampling, Turn

pytestmark = pytest.mark.model

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market from a friend.", "I fish.")
CROWD = [Request(TOWN, f"{state} Do you share the rumour?", seed) for seed, state in enumerate(STATES)]
HARBOUR = "你住在海边的一个小镇。有传言说旧桥将被关闭。"
CHINESE = [Request(HARBOUR, f"{who}你会转发它吗？", seed) for seed, who in enumerate(["我打鱼。", "我卖面包。"])]


def or_skip(get, *given):
    """What could be got, else why not; where everything must run, that is a failure."""
    try:
        return get(*given)
    except BackendError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs the embedded model: {error}")
        return pytest.skip(f"the embedded model is not here: {error}")


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def shared():
    or_skip(embedded.fetch)
    return load_backend("embedded", device="cpu")


STANCES = ("strongly support", "support", "neither support nor deny", "deny", "strongly deny")
FACTS = """You take part in an online discussion about a news story.

Topic: A small town plans to close its old bridge, and a rumour says that it will never open again.

What the others think so far: most of them doubt it, some are angry, and one in five shares the rumour without
a comment. Nobody has asked the mayor. Two hours ago a photo of the closed bridge was posted."""
READERS = (
    'You are Ana, 34, a nurse. You follow 120 people and rarely post.\nLast you said: "Is that true?"',
    "You are Bo, 71, a retired teacher.\nYou saw the photo and crossed the bridge this morning.",
    "You are Chen, 19. 你住在河边。\nYou post ten times a day and check nothing.",
)
STORY = [Request(FACTS, f"{reader}\n\nWhat is your stance?", seed) for seed, reader in enumerate(READERS)]
VOTES = [Request(FACTS, f"{reader}\n\nVote as JSON.", 7 + seed) for seed, reader in enumerate(READERS)]


class Vote(BaseModel):
    reason: str = Field(max_length=200)
    stance: Literal["support", "deny"]
    certainty: int = Field(ge=0, le=10)
    tags: list[str] = Field(max_length=3)
    friend: str | None = None


def with_batch(backend, batch):
    return LocalBackend(backend.model, backend.tokenizer, name=backend.name, batch=batch)


def brute_force(backend, requests, words):
    def text(request):
        roles = [{"role": "system", "content": request.prefix}, {"role": "user", "content": request.suffix}]
        return backend.tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=True)

    return np.array(
        [[log_probability(backend.model, backend.tokenizer, text(r), w) for w in words] for r in requests]
    )


def test_the_converted_weights_say_what_the_gguf_file_says(shared):
    with tempfile.TemporaryDirectory() as work:  # too large for pytest, which keeps its folders
        file = or_skip(embedded.gguf_file, Path(work))
        original = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        ).eval()
    for request in (CROWD[1], CHINESE[0]):
        ids = shared.tokenizer(f"{request.prefix} {request.suffix}")["input_ids"]
        assert len(ids) > 20
        assert (logits(shared.model, ids) - logits(original, ids)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("requests", "words", "lengths"),
    [
        (CROWD, ("yes", "no", "I would not"), [1, 1, 3]),
        (CHINESE, ("转发", "怀疑", "忽略"), [4, 5, 5]),
        (STORY, STANCES, [3, 1, 5, 2, 3]),
        ([CROWD[0], CHINESE[0], STORY[0], CROWD[1]], ("yes", "yes, but"), [1, 3]),
    ],
)
def test_scores_equal_brute_force(shared, requests, words, lengths):
    assert shared._runner._shares
    assert [len(shared.tokenizer(word)["input_ids"]) for word in words] == lengths
    assert shared.score(requests, words) == pytest.approx(brute_force(shared, requests, words), abs=1e-4)


def test_twenty_four_personas_decide_alike_at_every_batch_size(shared):
    crafts = ("baker", "teacher", "fisher", "nurse", "farmer", "painter", "driver", "clerk")
    moods = ("I trust my neighbours.", "I check what I hear.", "I mind my own business, and I have little time.")
    turns = [Turn(State(f"{c} {n}", f"I am a {c}. {m}"), seed=n) for c in crafts for n, m in enumerate(moods)]

    def decide(batch):
        policy = LLMPolicy(with_batch(shared, batch), Choice(("share", "doubt", "ignore")))
        return policy.decide(turns, MeanField("Most people share it."), topic=TOWN, groups={})

    one, sixteen = decide(1), decide(16)
    assert [d.labels for d in one] == [d.labels for d in sixteen]
    assert len({d.labels["action"] for d in one}) > 1
    for alone, together in zip(one, sixteen, strict=True):
        assert alone.distribution == pytest.approx(together.distribution, abs=1e-5)


def test_texts_are_the_same_in_every_call_and_at_every_batch_size(shared):
    short = [replace(r, sampling=Sampling(max_tokens=12)) for r in (*CROWD, *CHINESE)]
    replies = shared.generate(short)
    assert with_batch(shared, 1).generate(short) == replies
    assert with_batch(shared, 2).generate(short[::-1]) == replies[::-1]
    assert shared.generate(short) == replies
    assert all(reply.text.strip() and reply.failure is None for reply in replies)
    assert len({reply.text for reply in replies}) == len(short)


def test_a_text_ends_where_the_model_ends_it(shared):
    (reply,) = shared.generate([Request("Answer with one word.", "Say yes.", 1, Sampling(max_tokens=64, top_k=1))])
    assert reply.finished
    assert "<|im_end|>" not in reply.text


def test_replies_with_a_schema_fit_it_beside_free_ones(shared):
    votes = [replace(r, sampling=Sampling(max_tokens=60), schema=Schema(Vote).schema) for r in VOTES]
    free = replace(CROWD[0], sampling=Sampling(max_tokens=8))
    *replies, text = shared.generate([*votes, free])
    for reply in replies:
        assert isinstance(Schema(Vote).read(reply.text).value, Vote)
        assert reply.text == json.dumps(json.loads(reply.text), ensure_ascii=False, separators=(",", ":"))
    assert {reply.finished for reply in replies} == {True, False}  # the second has more to say
    assert [text] == shared.generate([free])
    assert shared.generate(votes[1:2]) == replies[1:2]
