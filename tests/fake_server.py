"""A small OpenAI-compatible server in this process, as difficult as a test wants it, and who asks it."""

from __future__ import annotations

import json
import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mesa_meanfield import Sampling, ServerBackend
from mesa_meanfield.protocols import Request
from mesa_meanfield.seeds import derive, unit

OPENAI_FIELDS = frozenset(
    ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "logprobs", "top_logprobs")
)
"""What a strict server takes; it refuses anything else."""
DROPPED = 0
"""Instead of a status: the connection is lost without a word."""
WORDS = ("share", "doubt", "ignore", "like", "hide", "wait", "ask", "跟", "转")
"""The tokens it knows."""

SHORT = Sampling(max_tokens=8)

Body = dict[str, Any]


@pytest.fixture(autouse=True)
def isolated(monkeypatch):
    """Import it where a server is asked: no proxy and no key comes from the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("MESA_MEANFIELD_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


def backend(fake: FakeServer, **options: Any) -> ServerBackend:
    """A backend that is not slow to ask again."""
    return ServerBackend(fake.url, **{"backoff": 0.001, **options})


def crowd(n: int, sampling: Sampling = SHORT) -> list[Request]:
    """People who are all asked something different."""
    return [Request("The bridge will be closed.", f"I am number {i}.", i, sampling) for i in range(n)]


def number(body: Body) -> int:
    """Who is asked."""
    return int(body["messages"][-1]["content"].removeprefix("I am number ").rstrip("."))


class FakeServer:
    """Serves ``/v1/models`` and ``/v1/chat/completions`` inside a with block.

    Args:
        statuses: What the first requests get instead of a reply, one each; `DROPPED` loses the connection.
        status_of: Request's body -> its status, for requests that are always refused; None for the others.
        retry_after: Sent along with every refusal.
        latency: Seconds until a reply, or request's body -> seconds.
        logprobs: Whether it gives log-probabilities, or silently ignores the wish.
        most: How many top tokens it gives at most.
        samples: How many texts it writes for one request at most; it says nothing about the others.
        takes: The fields it takes; any other is answered by 422.
        key: The key it wants.
        echo: Whether refusals repeat the Authorization header and the whole request.
        models: What it serves.
        reply: Request's body -> what it answers instead: a text, or the JSON or bytes to send.
        words: The tokens it knows.
    """

    def __init__(
        self,
        *,
        statuses: Sequence[int] = (),
        status_of: Callable[[Body], int | None] = lambda body: None,
        retry_after: str | None = None,
        latency: float | Callable[[Body], float] = 0.0,
        logprobs: bool = True,
        most: int = 20,
        samples: int = 1,
        takes: frozenset[str] | None = None,
        key: str | None = None,
        echo: bool = False,
        models: Sequence[str] = ("tiny",),
        reply: Callable[[Body], Any] | None = None,
        words: Sequence[str] = WORDS,
    ) -> None:
        self.statuses = list(statuses)
        self.status_of = status_of
        self.retry_after = retry_after
        self.latency = latency
        self.logprobs = logprobs
        self.most = most
        self.samples = samples
        self.takes = takes
        self.key = key
        self.echo = echo
        self.models = models
        self.reply = reply
        self.words = words
        self.asked: list[Body] = []
        """The bodies of all chat requests, as they came."""
        self.keys: list[str | None] = []
        """The Authorization header of every request."""
        self.times: list[float] = []
        """When each chat request came."""
        self.models_asked = 0
        self.at_once = 0
        """The most requests that were ever under way together."""
        self._under_way = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def connections(self) -> int:
        """How many TCP connections were ever opened."""
        return self._server.connections

    def __enter__(self) -> FakeServer:
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: two would wait for each other

            def do_GET(self) -> None:
                fake.models_asked += 1
                fake.keys.append(self.headers.get("Authorization"))
                refusal = fake.refusal(self.headers, None)
                self.send(*(refusal or (200, {"data": [{"id": model} for model in fake.models]})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.under_way(body, self.headers) as refusal:
                    delay = fake.latency(body) if callable(fake.latency) else fake.latency
                    if delay:
                        time.sleep(delay)
                    status, said = refusal or (200, fake.answer(body))
                if status == DROPPED:
                    self.close_connection = True
                    return
                self.send(status, said)

            def send(self, status: int, said: Any) -> None:
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                if status != 200 and fake.retry_after is not None:
                    self.send_header("Retry-After", fake.retry_after)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    @contextmanager
    def under_way(self, body: Body, headers: Any) -> Iterator[tuple[int, Any] | None]:
        """Counts a request as under way, and says how it is refused, if it is."""
        with self._lock:
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
            self.asked.append(body)
            self.keys.append(headers.get("Authorization"))
            self.times.append(time.monotonic())
            scripted = self.statuses.pop(0) if self.statuses else None
        try:
            if scripted is not None:
                yield scripted, self.refused(f"scripted {scripted}", headers, body)
            else:
                yield self.refusal(headers, body)
        finally:
            with self._lock:
                self._under_way -= 1

    def refusal(self, headers: Any, body: Body | None) -> tuple[int, Any] | None:
        if self.key is not None and headers.get("Authorization") != f"Bearer {self.key}":
            return 401, self.refused("wrong key", headers, body)
        if body is None:
            return None
        if (status := self.status_of(body)) is not None:
            return status, self.refused(f"no reply\nfor this request ({status})", headers, body)
        unknown = sorted(body.keys() - self.takes) if self.takes is not None else []
        if unknown:
            return 422, self.refused(f"Unexpected fields in the request: {unknown}", headers, body)
        if body.get("top_logprobs", 0) > self.most:
            said = f"Requested sample logprobs of {body['top_logprobs']}, which is more than {self.most}"
            return 400, self.refused(said, headers, body)
        return None

    def refused(self, why: str, headers: Any, body: Body | None) -> Any:
        said: dict[str, Any] = {"message": why}
        if self.echo:
            said |= {"authorization": headers.get("Authorization"), "input": body}
        return {"error": said}

    def answer(self, body: Body) -> Any:
        said = self.reply(body) if self.reply is not None else None
        if said is not None and not isinstance(said, str):
            return said
        texts = [said or self._text(body, place) for place in range(min(body.get("n", 1), self.samples))]
        choices = [self._choice(body, text.split(" ")) for text in texts]
        asked = sum(len(message["content"].split()) + 1 for message in body["messages"])
        written = sum(len(choice["message"]["content"].split(" ")) for choice in choices)
        return {"choices": choices, "usage": {"prompt_tokens": asked, "completion_tokens": written}}

    def _text(self, body: Body, place: int) -> str:
        seed = derive(_plain(body), body.get("seed"), *([place] if place else []))
        return " ".join(self._word(seed, i) for i in range(seed % 30 + 1))

    def _choice(self, body: Body, words: list[str]) -> Body:
        written = words[: body["max_tokens"]]
        choice: Body = {
            "message": {"role": "assistant", "content": " ".join(written)},
            "finish_reason": "length" if len(words) > len(written) else "stop",
        }
        if self.logprobs and body.get("logprobs"):
            top = self._top(body)[: body["top_logprobs"]]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return choice

    def _word(self, seed: int, index: int) -> str:
        return self.words[int(unit(seed, f"word {index}") * len(self.words))]

    def _top(self, body: Body) -> list[dict[str, Any]]:
        """A distribution over the words that the messages alone decide."""
        weights = {word: 0.1 + unit(derive(_plain(body)), word) for word in self.words}
        total = 1.1 * math.fsum(weights.values())  # the rest is for what nobody lists
        top = [
            {"token": word, "logprob": math.log(weight / total), "bytes": list(word.encode())}
            for word, weight in weights.items()
        ]
        return sorted(top, key=lambda entry: -entry["logprob"])


def _plain(body: Body) -> str:
    return json.dumps(body["messages"])  # ASCII, so that half an emoji can be hashed


class _Server(ThreadingHTTPServer):
    """Waits for its threads at the end, so that no socket outlives a test."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self.connections = 0
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Wake the threads that wait for a client's next request."""
        for connection in self._open.copy():
            with suppress(OSError):  # closed in this moment
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error here."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
