"""The server backend asks what it should, asks again what may pass, and never shows the key."""

from __future__ import annotations

import logging
import socket
import traceback

import pytest
from fake_server import DROPPED, FakeServer, backend, crowd, isolated, number  # noqa: F401 - a fixture for all

from mesa_meanfield import Sampling, ServerBackend
from mesa_meanfield.backends.http import find_key
from mesa_meanfield.errors import BackendError, BackendUnavailable
from mesa_meanfield.protocols import Reply, Request

KEY = "sk-test/42+secret=="
CANDIDATES = ("share", "doubt", "ignore")


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
        "top_k": -1,
        "min_p": 0.0,
        "seed": 5,
        "stop": ["\n"],
    }
    assert second["messages"] == [{"role": "user", "content": "Alone."}]
    assert (second["top_k"], "repetition_penalty" in second) == (50, False)


def test_an_adapter_is_asked_for_as_a_model():
    with FakeServer() as fake, backend(fake, model="base") as server:
        server.generate([Request("", "Who are you?", adapter="sceptic"), Request("", "Who are you?")])
        server.score([Request("", "Who are you?", adapter="sceptic")], CANDIDATES)
    assert [body["model"] for body in fake.asked[2:]] == ["sceptic"]
    assert sorted(body["model"] for body in fake.asked[:2]) == ["base", "sceptic"]


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
    with pytest.raises(ValueError, match="samples_per_request must be at least 1, got 0"):
        ServerBackend("http://host/v1", samples_per_request=0)


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
                assert str(caught.value).startswith(f"{dead_url} does not answer: NewConnectionError Failed")
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
