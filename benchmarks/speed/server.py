"""An OpenAI-compatible server of the same model by plain ``generate``, for clients that need a server.

    python benchmarks/speed/server.py [--backend SPEC] [--batch N] [--new-tokens N]

It prints its URL and serves on this machine alone until its standard input ends. Requests that wait together
are answered in one left-padded batch: it starts when the batch is full or nobody came for a while. A model
name that ends with a number, such as ``label-8``, says how many tokens may be written where the client
cannot; sampling is that of our texts, or that of written labels for names that begin with ``label``.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from plain import LABEL, Plain

from mesa_meanfield.protocols import Request, Sampling

QUIET = 0.05
"""Seconds without a new request after which a batch is not waited for any longer."""
Waiting = tuple[Request, "Future[str]"]


class Batcher:
    """Answers the requests of many threads in common batches.

    Args:
        plain: The model.
        batch: How many requests a batch has at most.
    """

    def __init__(self, plain: Plain, batch: int) -> None:
        self._plain = plain
        self._batch = batch
        self._queue: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, request: Request) -> str:
        """The reply to one request."""
        answer: Future[str] = Future()
        self._queue.put((request, answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            waiting = [self._queue.get()]
            while len(waiting) < self._batch:
                try:
                    waiting.append(self._queue.get(timeout=QUIET))
                except queue.Empty:
                    break
            for sampling in dict.fromkeys(request.sampling for request, _ in waiting):
                self._answer([one for one in waiting if one[0].sampling == sampling])

    def _answer(self, waiting: Sequence[Waiting]) -> None:
        try:
            texts = self._plain.write([request for request, _ in waiting], self._batch)
        except Exception as error:  # every client has to hear of it
            for _, answer in waiting:
                answer.set_exception(error)
        else:
            for (_, answer), text in zip(waiting, texts, strict=True):
                answer.set_result(text)


def read_request(body: dict[str, Any], new: int) -> Request:
    """A chat request as ours, with ``new`` tokens where neither it nor the model's name says how many."""
    said = {message["role"]: message["content"] for message in body["messages"]}
    kind, _, number = body["model"].rpartition("-")
    most = body.get("max_tokens") or (int(number) if number.isdigit() else new)
    sampling = replace(LABEL if kind.startswith("label") else Sampling(), max_tokens=most)
    return Request(said.get("system") or "", said["user"], sampling=sampling)


def handler(batcher: Batcher, new: int) -> type[BaseHTTPRequestHandler]:
    """What answers one connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two would wait for each other

        def do_GET(self) -> None:
            self._send({"object": "list", "data": [{"id": f"text-{new}", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": batcher.ask(read_request(body, new))}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            known = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
            usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
            self._send({**known, "choices": [choice], "usage": usage})

        def _send(self, said: dict[str, Any]) -> None:
            content = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="embedded", help="embedded, or hf:NAME-OR-FOLDER")
    parser.add_argument("--batch", type=int, default=32, help="requests per batch at most")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens of a reply where nobody says")
    given = parser.parse_args()
    batcher = Batcher(Plain.load(given.backend), given.batch)
    server = _Server(("127.0.0.1", 0), handler(batcher, given.new_tokens))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
