"""The server backend asks again what may pass, asks without what is refused, and never shows the key."""

from __future__ import annotations

import logging
import math
import socket
import threading
import traceback

import numpy as np
import pytest
from fake_server import DROPPED, OPENAI_FIELDS, FakeServer
from hypothesis import given
from hypothesis import strategies as st

from mesa_meanfield import Choice, LLMPolicy, MeanField, Sampling, ServerBackend, State
from mesa_meanfield.backends.http import find_key, label_scores
from mesa_meanfield.errors import BackendError, BackendUnavailable, Cancelled, ScoringUnsupported
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Reply, Request, Turn

KEY = "sk-test/42+secret=="
CANDIDATES = ("share", "doubt", "ignore")
SHORT = Sampling(max_tokens=8)
FANCY = Sampling(top_k=7, repetition_penalty=1.2)


def crowd(n, sampling=SHORT):
    return [Request("The bridge will be closed.", f"I am number {i}.", i, sampling) for i in range(n)]


def number(body):
    return int(body["messages"][-1]["content"].removeprefix("I am number ").rstrip("."))


def backend(fake, **options):
    return ServerBackend(fake.url, **{"backoff": 0.001, **options})


def decide(policy, n):
    turns = [Turn(State(str(i), f"I am {i}."), seed=i) for i in range(n)]
    return policy.decide(turns, MeanField(), topic="The bridge is closed.", groups={})


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("MESA_MEANFIELD_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def dead_url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        yield f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# --- What is asked ---------------------------------------------------------------------------------


def test_a_request_becomes_a_chat():
    request = Request("Instructions.", "Question?", (1 << 40) + 5, Sampling(9, 0.7, 0, 0.9, stop=("\n",)))
    with FakeServer() as fake, backend(fake, model="named") as server:
        server.generate([request, Request("", "Alone.")])
    first, second = sorted(fake.asked, key=lambda body: len(body["messages"]), reverse=True)
    assert first == {
        "model": "named",
        "messages": [{"role": "system", "content": "Instructions."}, {"role": "user", "content": "Question?"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "seed": 5,
        "stop": ["\n"],
    }
    assert second["messages"] == [{"role": "user", "content": "Alone."}]
    assert (second["top_k"], "repetition_penalty" in second) == (50, False)


def test_any_unicode_arrives_as_it_left():
    said = "桥要封了 🤷🏽‍♀️ café\u2028\x00"
    with FakeServer(reply=lambda body: body["messages"][-1]["content"]) as fake, backend(fake) as server:
        (reply,) = server.generate([Request("", said)])
        (half,) = server.generate([Request("", "half an emoji \ud83e", 2)])
    assert reply == Reply(said)
    assert half.failure is None


def test_the_only_model_is_found_and_asked_for_once():
    with FakeServer(models=["the/model"]) as fake, backend(fake) as server:
        assert fake.models_asked == 0
        server.generate(crowd(5))
        assert server.name == f"server:{fake.url}#the/model"
    assert fake.models_asked == 1
    assert {body["model"] for body in fake.asked} == {"the/model"}


@pytest.mark.parametrize(("models", "said"), [([], "serves 0 models (none)"), (["a", "b"], "serves 2 models (a, b)")])
def test_a_model_must_be_named_where_there_is_not_one(models, said):
    with FakeServer(models=models) as fake, backend(fake) as server, pytest.raises(BackendError) as caught:
        server.generate(crowd(2))
    assert said in str(caught.value)
    assert "name one" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://ann:pass-word@host/v1", "put the key in MESA_MEANFIELD_API_KEY"),
        ("ftp://host/v1", "must be http://HOST:PORT/v1"),
        ("host:8000/v1", "must be http://HOST:PORT/v1"),
        ("http:///v1", "must be http://HOST:PORT/v1"),
        ("http://host/v1?key=pass-word", "put the key in MESA_MEANFIELD_API_KEY"),
        ("http://host/v1#model", "must end with its path"),
        ("http://host:port/v1", "cannot be read"),
    ],
)
def test_a_url_is_a_plain_address(url, said):
    with pytest.raises(ValueError, match=said) as caught:
        ServerBackend(url)
    assert "pass-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout": 0}, {"retries": -1}, {"backoff": -1}])
def test_arguments_have_their_range(options):
    with pytest.raises(ValueError, match="concurrency >= 1, timeout > 0, retries >= 0 and backoff >= 0"):
        ServerBackend("http://host/v1", **options)


# --- The key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["argument", "environment"])
@pytest.mark.parametrize("model", [None, "named"])
def test_a_refused_key_is_said_at_once_and_never_shown(monkeypatch, caplog, source, model):
    caplog.set_level(logging.DEBUG)
    if source == "environment":
        monkeypatch.setenv("MESA_MEANFIELD_API_KEY", KEY)
    key = KEY if source == "argument" else None
    with FakeServer(key="another", echo=True) as fake, backend(fake, model=model, api_key=key) as server:
        with pytest.raises(BackendError) as caught:
            server.generate(crowd(3))
        assert set(fake.keys) == {f"Bearer {KEY}"}
        said = str(caught.value)
        assert not isinstance(caught.value, BackendUnavailable)
        assert fake.url in said
        assert "HTTP 401" in said
        assert "wrong key" in said
        assert "MESA_MEANFIELD_API_KEY" in said
        assert "\n" not in said
        shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(server) + str(vars(server))
        assert KEY not in shown
        assert "42+secret" not in shown


def test_a_key_stays_hidden_in_what_one_reply_fails_by():
    escaped = KEY.replace("/", "\\/").encode()
    for status, content in [(200, b"<html>" + escaped), (200, KEY.encode()), (500, None)]:
        options = {"statuses": [500] * 9} if status == 500 else {"reply": lambda body, c=content: c}
        with FakeServer(echo=True, **options) as fake, backend(fake, api_key=KEY, retries=1) as server:
            (reply,) = server.generate(crowd(1))
        assert "[key]" in reply.failure
        assert "42+secret" not in reply.failure


def test_the_key_of_openai_goes_to_openai_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    for host in ("api.openai.com", "openai.com", "eu.api.openai.com"):
        assert find_key(f"https://{host}/v1", None) == "theirs"
    for host in ("localhost:8000", "notopenai.com", "openai.com.example.org", "127.0.0.1"):
        assert find_key(f"https://{host}/v1", None) is None
    monkeypatch.setenv("MESA_MEANFIELD_API_KEY", "ours")
    assert find_key("https://api.openai.com/v1", None) == "ours"
    assert find_key("https://api.openai.com/v1", "mine\n") == "mine"


def test_a_key_that_no_header_can_carry_is_refused_unseen():
    for key in ("sk-secret\nInjected: yes", "sk-secret…", "sk secret"):
        with pytest.raises(ValueError, match="holds blanks or characters beyond ASCII") as caught:
            ServerBackend("http://host/v1", api_key=key)
        assert "secret" not in "".join(traceback.format_exception_only(caught.value))


# --- Asking again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [408, 429, 500, 503, DROPPED])
def test_what_may_pass_is_asked_again(trouble):
    with FakeServer(statuses=[trouble] * 3) as fake, backend(fake, concurrency=1) as server:
        replies = server.generate(crowd(3))
        assert server.usage.retries == 3
    with FakeServer() as healthy, backend(healthy) as other:
        assert replies == other.generate(crowd(3))
    assert len(fake.asked) == 6
    assert server.usage.calls == 3


def test_a_server_that_says_nothing_in_time_is_asked_again():
    slow = iter([0.6])
    with FakeServer(latency=lambda body: next(slow, 0)) as fake, backend(fake, timeout=0.3) as server:
        assert server.generate(crowd(1))[0].failure is None
        assert server.usage.retries >= 1


def test_tries_are_bounded_and_the_failure_says_so():
    trouble = {1: 503}
    with FakeServer(status_of=lambda body: trouble.get(number(body))) as fake, backend(fake, retries=2) as server:
        replies = server.generate(crowd(3))
    assert [reply.failure is None for reply in replies] == [True, False, True]
    assert replies[1].failure.startswith(f"{fake.url}/chat/completions after 3 tries: HTTP 503")
    assert "\n" not in replies[1].failure
    assert len(fake.asked) == 5
    assert (server.usage.retries, server.usage.failures) == (2, 0)  # the policy counts what it could not use


def test_the_server_may_say_when_to_come_back():
    with FakeServer(statuses=[429], retry_after="0.2") as fake, backend(fake, backoff=50) as server:
        assert server.generate(crowd(1))[0].failure is None  # not after 50 seconds
    assert fake.times[1] - fake.times[0] >= 0.2


@pytest.mark.parametrize("nonsense", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "nan", "soon"])
def test_a_retry_after_that_is_no_number_is_no_help(nonsense):
    with FakeServer(statuses=[429], retry_after=nonsense) as fake, backend(fake) as server:
        assert server.generate(crowd(1))[0].failure is None


def test_a_dead_server_is_unavailable_in_one_line(dead_url):
    for model in (None, "named"):
        with ServerBackend(dead_url, model, retries=1, backoff=0.001) as server:
            for ask in (lambda: server.generate(crowd(3)), lambda: server.score(crowd(3), CANDIDATES)):
                with pytest.raises(BackendUnavailable) as caught:
                    ask()
                assert str(caught.value).startswith(f"{dead_url} does not answer: ConnectError")
                assert str(caught.value).endswith("is the server running?")
                assert "\n" not in str(caught.value)
                assert caught.value.retryable


def test_a_dead_server_is_not_asked_for_everyone():
    with FakeServer(status_of=lambda body: DROPPED) as fake:
        server = backend(fake, model="m", retries=0)
        with server, pytest.raises(BackendUnavailable):
            server.generate(crowd(500))
    assert len(fake.asked) < 400


def test_a_few_lost_connections_do_not_make_a_dead_server():
    with FakeServer(status_of=lambda body: DROPPED if number(body) < 5 else None) as fake:
        server = backend(fake, retries=1, concurrency=1)
        with server:
            replies = server.generate(crowd(8))
    assert [reply.failure is None for reply in replies] == [False] * 5 + [True] * 3
    assert "after 2 tries" in replies[0].failure


# --- Many at once ----------------------------------------------------------------------------------


def test_requests_are_under_way_together_and_replies_keep_their_order():
    with FakeServer(latency=lambda body: 0.02 if number(body) % 4 == 0 else 0.002) as fake:
        with backend(fake, concurrency=4) as server:
            replies = server.generate(crowd(24))
        assert 1 < fake.at_once <= 4
        with backend(fake, concurrency=1) as server:
            assert replies == server.generate(crowd(24))


def test_the_limit_holds_over_threads_and_their_usage_adds_up():
    with FakeServer(latency=0.005) as fake, backend(fake, concurrency=3, model="m") as server:
        threads = [threading.Thread(target=server.generate, args=(crowd(10),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fake.at_once <= 3
        assert server.usage.calls == 40
        with backend(fake, model="m") as alone:
            alone.generate(crowd(10))
        assert server.usage.tokens_asked == 4 * alone.usage.tokens_asked


def test_closing_waits_for_what_is_under_way():
    with FakeServer(latency=lambda body: 0.1 * number(body), status_of=lambda body: 404) as fake:
        with backend(fake, model="m", concurrency=2) as server, pytest.raises(BackendError):
            server.generate(crowd(9))
        assert not [t for t in threading.enumerate() if t.name.startswith("mesa-meanfield-server")]
        with pytest.raises(RuntimeError):
            server.generate(crowd(1))


def test_progress_is_told_in_the_calling_thread():
    heard = []
    watcher = watching(lambda *said: heard.append((*said, threading.get_ident())))
    with FakeServer() as fake, backend(fake) as server, watcher:
        server.generate(crowd(6))
    assert {said[3] for said in heard} == {threading.get_ident()}
    assert sorted({said[1] for said in heard} - {0}) == [1, 2, 3, 4, 5, 6]


def test_a_cancel_leaves_the_rest_unasked():
    def stop(what, done, total):
        if done == 3:
            raise Cancelled("Enough.")

    with FakeServer(latency=0.01) as fake, backend(fake, concurrency=2) as server:
        with watching(stop), pytest.raises(Cancelled):
            server.generate(crowd(200))
        assert len(fake.asked) < 100


@pytest.mark.timeout(30)  # the first wait alone would be 60 seconds
def test_a_cancel_does_not_wait_for_a_server_that_is_to_be_asked_again():
    def stop(what, done, total):
        raise Cancelled("Enough.")

    with FakeServer(statuses=[503] * 99) as fake:
        server = backend(fake, backoff=1000, retries=9)
        with server, watching(stop), pytest.raises(Cancelled):
            server.generate(crowd(4))
    assert len(fake.asked) <= 4


# --- What servers differ in ------------------------------------------------------------------------


def test_a_field_that_the_server_does_not_know_is_left_away_from_then_on(caplog):
    with FakeServer(takes=OPENAI_FIELDS) as fake, backend(fake, concurrency=1) as server:
        assert [reply.failure for reply in server.generate(crowd(3, FANCY))] == [None] * 3
        assert server.usage.retries == 1  # both fields at once, and only for the first request
        assert len(fake.asked) == 4
        server.generate(crowd(2, FANCY))
        assert server.usage.retries == 1
    assert {"top_k", "repetition_penalty"} <= fake.asked[0].keys()
    assert all(not {"top_k", "repetition_penalty"} & body.keys() for body in fake.asked[1:])
    assert all("seed" in body for body in fake.asked)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{fake.url} takes no repetition_penalty, top_k and is asked without from now on"
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


# --- How replies are read --------------------------------------------------------------------------


def test_a_text_that_spent_its_tokens_is_not_finished():
    with FakeServer(reply=lambda body: "one two three four") as fake, backend(fake) as server:
        replies = server.generate([*crowd(1, Sampling(max_tokens=2)), *crowd(1, Sampling(max_tokens=9))])
    assert replies == [Reply("one two", finished=False), Reply("one two three four")]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"not JSON \xff", "expected JSON, got not JSON"),
        ([], "no text in the reply"),
        ({"error": {"message": "overloaded"}}, "no text in the reply"),
        ({"choices": []}, "no text in the reply"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, "no text in the reply"),
        ({"choices": [{"message": {"content": ["a"]}}]}, "no text in the reply"),
        ({"choices": [{"message": {"content": None, "refusal": "I can't."}}]}, "the model refused: I can't."),
        ({"choices": [{"message": {"content": "A"}, "finish_reason": "content_filter"}]}, "refused: content_filter"),
    ],
)
def test_a_reply_without_a_text_is_a_failure(said, why):
    answer = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    with FakeServer(reply=lambda body: said if number(body) == 1 else answer) as fake, backend(fake) as server:
        replies = server.generate(crowd(3))
    assert replies[0] == replies[2] == Reply("fine")
    assert replies[1].text == ""
    assert why in replies[1].failure
    assert "\n" not in replies[1].failure


def test_tokens_are_counted_as_the_server_counts_them():
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    said = {"choices": [{"message": {"content": "A"}}], "usage": usage}
    with FakeServer(reply=lambda body: said) as fake, backend(fake) as server:
        server.generate(crowd(2))
        assert (server.usage.tokens_asked, server.usage.tokens_computed) == (214, 86)
        usage["prompt_tokens_details"] = None
        server.generate(crowd(1))
        assert (server.usage.tokens_asked, server.usage.tokens_computed) == (321, 193)
        del said["usage"]
        server.generate(crowd(1))
        assert (server.usage.tokens_asked, server.usage.calls) == (321, 4)


# --- Scores ----------------------------------------------------------------------------------------


def entries(**logprobs):
    return [{"token": token, "logprob": logprob} for token, logprob in logprobs.items()]


def test_scores_are_those_of_the_first_token_at_temperature_one():
    with FakeServer() as fake, backend(fake) as server:
        scores = server.score(crowd(2), CANDIDATES)
    (asked,) = {tuple((key, body[key]) for key in body if key != "messages") for body in fake.asked}
    assert dict(asked) == {
        "model": "tiny", "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    body = next(body for body in fake.asked if number(body) == 1)
    known = {entry["token"]: entry["logprob"] for entry in fake._top(body)}
    assert scores[1].tolist() == pytest.approx([known[candidate] for candidate in CANDIDATES])


def test_every_token_that_begins_one_candidate_alone_counts_for_it():
    top = entries(sh=math.log(0.2), **{" sh": math.log(0.1), "\tshare": math.log(0.05), "doubt": math.log(0.3)})
    assert np.exp(label_scores(top, ("share", "doubt"))).tolist() == pytest.approx([0.35, 0.3])


def test_blanks_other_words_and_nonsense_count_for_nobody():
    top = [*entries(**{" ": -1, "": -1, "\n": -1, "shares": -1, "share": -2, "no": -3, "Nope": -1}), {}, None, "x"]
    top += [{"token": "share", "logprob": None}, {"token": "no", "logprob": math.nan}, {"logprob": -1}]
    assert label_scores(top, ("share", "no")) == [-2, -3]


def test_capitals_count_where_nothing_begins_with_the_token_as_it_stands():
    assert label_scores(entries(Share=-1, DOUBT=-2), ("share", "doubt")) == [-1, -2]
    assert label_scores(entries(Yes=-1, yes=-2), ("Yes", "yes")) == [-1, -2]
    assert label_scores(entries(A=-1, B=-2, b=-3), ("A", "B", "b")) == [-1, -2, -3]
    assert label_scores(entries(S=-0.5, share=-1, support=-2), ("share", "support")) == [-1, -2]


def test_a_token_that_begins_several_candidates_says_nothing():
    with pytest.raises(ScoringUnsupported, match="the token 's' begins several of share, support"):
        label_scores(entries(s=-1, share=-1, support=-2), ("share", "support"))


def test_a_candidate_that_is_not_listed_is_not_known():
    with pytest.raises(ScoringUnsupported, match="none of the 1 most probable tokens begins support"):
        label_scores(entries(share=-1), ("share", "support"))


def test_a_token_may_end_inside_a_character():
    top = [{"token": "\ufffd", "logprob": -1, "bytes": list("支持".encode()[:2])}]
    top += [{"token": "\ufffd", "logprob": -2, "bytes": list("反对".encode()[:4])}]
    assert label_scores(top, ("支持", "反对")) == [-1, -2]


@given(st.lists(st.tuples(st.sampled_from(["a", "A", " a", "ab", "b", "bc", "B", "c", ""]), st.integers(0, 99))))
def test_scores_are_log_probabilities(weights):
    total = sum(weight for _, weight in weights)
    top = [{"token": t, "logprob": math.log(w / total) if w else -math.inf} for t, w in weights]
    try:
        scores = label_scores(top, ("ab", "bc"))
    except ScoringUnsupported:
        return
    assert all(score <= 0 for score in scores)
    assert sum(map(math.exp, scores)) <= 1 + 1e-9


def test_fewer_top_tokens_are_asked_for_where_twenty_are_too_many():
    with FakeServer(most=5, words=("share", "doubt", "ignore")) as fake, backend(fake, concurrency=1) as server:
        scores = server.score(crowd(3), CANDIDATES)
        assert not np.isnan(scores).any()
        server.score(crowd(2), CANDIDATES)
        assert server.usage.retries == 1
    assert [body["top_logprobs"] for body in fake.asked] == [20, 5, 5, 5, 5, 5]


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_server_without_log_probabilities_is_not_asked_for_them_again(how):
    takes = OPENAI_FIELDS - {"logprobs", "top_logprobs"} if how == "refused" else None
    with FakeServer(logprobs=False, takes=takes) as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported, match="gives no log-probabilities"):
            server.score(crowd(1), CANDIDATES)
        fake.asked.clear()
        with pytest.raises(ScoringUnsupported, match="gives no log-probabilities"):
            server.score(crowd(4), CANDIDATES)
        assert fake.asked == []
        assert server.generate(crowd(1))[0].failure is None


def test_an_empty_reply_does_not_mean_that_there_are_no_log_probabilities():
    said = iter([{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}])
    with FakeServer(reply=lambda body: next(said, None)) as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported):
            server.score(crowd(1), CANDIDATES)
        assert server.score(crowd(1), CANDIDATES).shape == (1, 3)


def test_a_candidate_unknown_once_may_be_known_the_next_time():
    with FakeServer() as fake, backend(fake) as server:
        with pytest.raises(ScoringUnsupported, match=r"begins maybe; ask it for replies instead") as caught:
            server.score(crowd(3), ("share", "maybe"))
        assert str(caught.value).startswith(fake.url)
        assert server.score(crowd(3), CANDIDATES).shape == (3, 3)


def test_a_policy_samples_labels_where_there_are_no_log_probabilities():
    stance = Choice(("share", "doubt"), dimension="stance")
    with FakeServer(logprobs=False, reply=lambda b: "Share." if b.get("seed", 0) % 2 else "doubt") as fake:
        with backend(fake) as server:
            policy = LLMPolicy(server, stance)
            decisions = decide(policy, 12)
            assert {d.labels["stance"] for d in decisions} == {"share", "doubt"}
            assert all(d.distribution is None and d.failure is None for d in decisions)
            assert [d.labels for d in decide(policy, 12)] == [d.labels for d in decisions]
        assert policy.usage.failures == 0


def test_a_policy_scores_labels_and_counts_each_failure_once():
    stance = Choice(("share", "doubt"), dimension="stance")
    bad = lambda body: 400 if "I am 3." in body["messages"][-1]["content"] else None  # noqa: E731
    with FakeServer(status_of=bad) as fake, backend(fake) as server:
        policy = LLMPolicy(server, stance, on_failure="skip")
        decisions = decide(policy, 5)
    assert [d.failure is None for d in decisions] == [True, True, True, False, True]
    assert all(math.isclose(sum(d.distribution.values()), 1) for d in decisions if d.failure is None)
    # One scored batch of five; the one that failed is then asked to say its label, three times.
    assert (policy.usage.calls, policy.usage.failures, policy.usage.retries) == (8, 1, 3)


def test_retries_of_the_server_and_of_the_policy_are_counted_once_each():
    stance = Choice(("share", "doubt"), dimension="stance")
    replies = iter(["nonsense", "share"])
    with FakeServer(logprobs=False, reply=lambda body: next(replies)) as fake, backend(fake) as server:
        server._scores = False  # as if it had been asked before
        fake.statuses = [503]
        policy = LLMPolicy(server, stance)
        (decision,) = decide(policy, 1)
    assert decision.labels == {"stance": "share"}
    assert (policy.usage.calls, policy.usage.retries, policy.usage.failures) == (2, 2, 0)


def test_scores_of_an_overloaded_server_say_so():
    said = r"after 2 tries: HTTP 503.*so did all 2 requests of the batch"
    with FakeServer(status_of=lambda body: 503) as fake:
        server = backend(fake, retries=1)
        with server, pytest.raises(BackendUnavailable, match=said):
            server.score(crowd(2), CANDIDATES)
