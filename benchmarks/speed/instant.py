"""An OpenAI-compatible server without a model that answers at once, so that only its clients' time is left.

    python benchmarks/speed/instant.py

It prints its URL and serves until its standard input ends. A request is not parsed further than needed to
answer as wanted: with a tool call where one is required, with JSON for a response format, with
log-probabilities where they are asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys

LABELS = ("share", "reply", "ignore")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


def _answer(message: dict[str, object], logprobs: object = None) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", "logprobs": logprobs}
    usage = {"prompt_tokens": 230, "completion_tokens": 1, "total_tokens": 231}
    known = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "instant"}
    body = json.dumps({**known, "choices": [choice], "usage": usage}).encode()
    return _HEAD % (len(body), body)


def _tool_call() -> dict[str, object]:
    function = {"name": "decide", "arguments": json.dumps({"label": LABELS[0]})}
    return {"content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": function}]}


_TOP = [{"token": label, "logprob": -1.1, "bytes": list(label.encode())} for label in LABELS]
_TEXT = _answer({"content": LABELS[0]})
_CALL = _answer(_tool_call())
_JSON = _answer({"content": json.dumps({"reasoning": "It is close by.", "action": "I share it."})})
_SCORED = _answer({"content": LABELS[0]}, {"content": [{**_TOP[0], "top_logprobs": _TOP}]})
_MODELS = json.dumps({"object": "list", "data": [{"id": "instant", "object": "model"}]}).encode()


class Instant(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request as soon as it is whole."""
        self.seen += data
        while (end := self.seen.find(b"\r\n\r\n")) >= 0:
            head = self.seen[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self.seen) < end + 4 + length:
                return
            body, self.seen = self.seen[end + 4 : end + 4 + length], self.seen[end + 4 + length :]
            self.transport.write(_reply(head, body))


def _reply(head: bytes, body: bytes) -> bytes:
    if head.startswith(b"get"):
        return _HEAD % (len(_MODELS), _MODELS)
    wish = body.replace(b": ", b":")
    if b'"tool_choice":"required"' in wish:
        return _CALL
    if b'"response_format":{' in wish:
        return _JSON
    return _SCORED if b'"logprobs":true' in wish else _TEXT


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
