"""What a server does not take it is not sent again; what it says about one request concerns nobody else."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
from fake_server import OPENAI_FIELDS, FakeServer, backend, crowd, isolated, number  # noqa: F401

from mesa_meanfield import Sampling
from mesa_meanfield.errors import BackendError, BackendUnavailable
from mesa_meanfield.protocols import Reply, Request

CANDIDATES = ("share", "doubt", "ignore")
FANCY = Sampling(top_k=7, repetition_penalty=1.2)


# --- What servers differ in ------------------------------------------------------------------------


def test_a_field_that_the_server_does_not_know_is_left_away_from_then_on(caplog):
    with FakeServer(takes=OPENAI_FIELDS) as fake, backend(fake, concurrency=1) as server:
        assert [reply.failure for reply in server.generate(crowd(3, FANCY))] == [None] * 3
        assert server.usage.retries == 1  # all fields at once, and only for the first request
        assert len(fake.asked) == 4
        server.generate(crowd(2, FANCY))
        assert server.usage.retries == 1
    unknown = {"top_k", "min_p", "repetition_penalty", "repeat_penalty"}
    assert unknown <= fake.asked[0].keys()
    assert all(not unknown & body.keys() for body in fake.asked[1:])
    assert all("seed" in body for body in fake.asked)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{fake.url} takes no min_p, repeat_penalty, repetition_penalty, top_k and is asked without from now on"
    ]


def test_all_optional_fields_may_be_unknown():
    takes = frozenset(("model", "messages", "max_tokens", "temperature", "top_p"))
    sampling = Sampling(top_k=3, repetition_penalty=1.1, stop=("X",))
    with FakeServer(takes=takes, reply=lambda body: "before X after") as fake, backend(fake) as server:
        assert server.generate(crowd(20, sampling)) == [Reply("before ")] * 20


def test_a_refusal_that_only_repeats_the_request_costs_no_field():
    bad = {2: 400}
    with FakeServer(status_of=lambda body: bad.get(number(body)), echo=True) as fake, backend(fake) as server:
        replies = server.generate(crowd(4, FANCY))
        assert [reply.failure is None for reply in replies] == [True, True, False, True]
        fake.asked.clear()
        server.generate(crowd(1, FANCY))
    assert {"top_k", "repetition_penalty", "seed"} <= fake.asked[0].keys()


def test_one_bad_request_does_not_spoil_its_batch():
    with FakeServer(status_of=lambda body: 400 if number(body) == 2 else None) as fake, backend(fake) as server:
        replies = server.generate(crowd(5))
        assert [reply.failure is None for reply in replies] == [True, True, False, True, True]
        assert "HTTP 400" in replies[2].failure
        assert "no reply" in replies[2].failure
        (again,) = server.generate(crowd(5)[2:3])  # alone in its batch, as when it is asked again
        assert "HTTP 400" in again.failure
        scores = server.score(crowd(5), CANDIDATES)
    assert np.isnan(scores).all(axis=1).tolist() == [False, False, True, False, False]
    assert server.usage.retries == 0


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_takes_no_request_at_all_is_an_error(status):
    with FakeServer(status_of=lambda body: status) as fake, backend(fake) as server:
        with pytest.raises(BackendError, match=f"HTTP {status}.*so did all 3 requests") as caught:
            server.generate(crowd(3))
        assert not isinstance(caught.value, BackendUnavailable)
        with pytest.raises(BackendError, match=f"HTTP {status}"):
            server.score(crowd(3), CANDIDATES)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405])
def test_what_concerns_everyone_stops_the_batch_at_once(status):
    with FakeServer(status_of=lambda body: status if number(body) == 0 else None, latency=0.005) as fake:
        server = backend(fake, concurrency=1)
        with server, pytest.raises(BackendError) as caught:
            server.generate(crowd(50))
    assert f"HTTP {status}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(fake.asked) < 40


def test_a_long_refusal_is_cut():
    with FakeServer(reply=lambda body: b"<p>\n" * 1000) as fake, backend(fake) as server:
        (reply,) = server.generate(crowd(1))
    assert len(reply.failure) < 200 + len(fake.url) + 40


# --- Schemas and choices ---------------------------------------------------------------------------


OPEN = {"type": "object", "properties": {"mood": {"type": "string"}}}
CLOSED = OPEN | {"required": ["mood"], "additionalProperties": False}


def form(schema, seed=0):
    return Request("The bridge will be closed.", "Fill in the form.", seed, schema=json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        (CLOSED | {"required": []}, False),
        (CLOSED | {"$defs": {"part": OPEN}}, False),
        (CLOSED | {"$defs": {"part": CLOSED}}, True),
        ({"type": "array", "items": [CLOSED, OPEN]}, False),
    ],
)
def test_a_schema_goes_along_and_is_strict_where_openai_would_take_it(schema, strict):
    with FakeServer(reply=lambda body: '{"mood": "calm"}') as fake, backend(fake) as server:
        assert server.generate([form(schema)]) == [Reply('{"mood": "calm"}')]
    said = fake.asked[0]["response_format"]
    assert said == {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": strict}}
    assert "grammar" not in fake.asked[0]


def test_a_form_that_is_cut_off_is_not_finished():
    request = Request("", "Fill in the form.", 0, Sampling(max_tokens=1), schema=json.dumps(OPEN))
    with FakeServer(reply=lambda body: '{"mood": "calm"}') as fake, backend(fake) as server:
        assert server.generate([request]) == [Reply('{"mood":', finished=False)]


@pytest.mark.parametrize("why", ["named", "said in other words"])
def test_a_server_that_follows_no_schema_is_asked_without(why, caplog):
    takes = OPENAI_FIELDS | {"top_k", "min_p"} if why == "named" else None
    refuse = (lambda body: 400 if "response_format" in body else None) if takes is None else (lambda body: None)
    with FakeServer(takes=takes, status_of=refuse) as fake, backend(fake, concurrency=1) as server:
        assert all(reply.failure is None for reply in server.generate([form(OPEN, seed) for seed in range(3)]))
        assert server.usage.retries == 1
    assert ["response_format" in body for body in fake.asked] == [True, False, False, False]
    assert f"{fake.url} takes no response_format and is asked without from now on" in caplog.text


def test_choices_are_said_to_each_server_in_its_own_words():
    choices = ("share", 'say "no"', "a.b (c)")
    with FakeServer() as fake, backend(fake) as server:
        server.generate([Request("", "What do you do?", choices=choices)])
    body = fake.asked[0]
    assert body["structured_outputs"] == {"choice": list(choices)}
    assert body["guided_choice"] == list(choices)
    assert re.fullmatch(body["regex"], "a.b (c)")
    assert not re.fullmatch(body["regex"], "axb (c)")
    assert body["grammar"] == r'root ::= "share" | "say \"no\"" | "a.b (c)"'
    assert "response_format" not in body


@pytest.mark.parametrize("why", ["named", "said in other words"])
def test_a_server_that_knows_no_choices_is_asked_without(why):
    takes = OPENAI_FIELDS | {"top_k", "min_p"} if why == "named" else None
    refuse = (lambda body: 400 if "grammar" in body else None) if takes is None else (lambda body: None)
    asked = [Request("", "What do you do?", seed, choices=("share", "doubt")) for seed in range(3)]
    with FakeServer(takes=takes, status_of=refuse) as fake, backend(fake, concurrency=1) as server:
        assert all(reply.failure is None for reply in server.generate(asked))
        assert server.usage.retries == 1
    assert ["grammar" in body for body in fake.asked] == [True, False, False, False]


def test_what_guides_a_reply_is_not_to_blame_where_the_request_fails_without_it():
    bad = lambda body: 400 if "Bad" in body["messages"][-1]["content"] else None  # noqa: E731
    with FakeServer(status_of=bad) as fake, backend(fake, concurrency=1) as server:
        asked = [Request("", what, choices=("share", "doubt")) for what in ("Bad.", "Good.")]
        assert [reply.failure is None for reply in server.generate(asked)] == [False, True]
    assert ["grammar" in body for body in fake.asked] == [True, False, True]
