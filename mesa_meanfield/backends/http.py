"""What goes over the wire to an OpenAI-compatible server: bounded retries, the key, and what servers differ in."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np

from mesa_meanfield.errors import ScoringUnsupported
from mesa_meanfield.seeds import unit

_log = logging.getLogger(__name__)
Body = dict[str, Any]  # Any: JSON

KEY_VARIABLE = "MESA_MEANFIELD_API_KEY"
LONGEST_WAIT = 60.0
"""Seconds between two tries, whatever the server or the backoff asks for."""
REFUSED = (400, 422)
"""What a server says to a body that it does not take."""
MOST, FEWER = 20, 5
"""How many top tokens are asked for, and how many where that is too many."""
_OPTIONAL = ("top_k", "repetition_penalty", "seed", "stop", "logprobs", "top_logprobs")
_PASSING = (408, 429)
_SHOWN = 200  # characters of a server's own words in a message


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking once, retries included."""

    url: str
    body: Any = None  # whatever JSON the server sends
    status: int | None = None
    """None where nothing answered."""
    reason: str | None = None
    """Why there is no body, in a few words, without the key."""
    said: str = ""
    """The whole text of a refusal, without the key."""
    tries: int = 1

    @property
    def passing(self) -> bool:
        """Whether there is no body for a reason that may pass: overload, a server error, a lost connection."""
        return self.status is None or self.status in _PASSING or self.status >= 500

    @property
    def failure(self) -> str | None:
        """Where and why there is no body, in one line."""
        tries = f" after {self.tries} tries" if self.tries > 1 else ""
        return None if self.reason is None else f"{self.url}{tries}: {self.reason}"


class JsonClient:
    """Asks one server for JSON, from any number of threads.

    Args:
        url: Where the server's API begins, such as ``http://host:8000/v1``.
        key: Sent as a bearer token; never shown.
        connections: How many requests are under way at once, over all threads.
        timeout: Seconds without a sign of life before a try is given up.
        retries: Tries after the first one.
        backoff: Seconds before the first of them; doubled for each further one.
    """

    def __init__(
        self, url: str, key: str | None, *, connections: int, timeout: float, retries: int, backoff: float
    ) -> None:
        self.url = url
        self.answered = False  # whether the server ever gave what it was asked for
        self._dropped: frozenset[str] = frozenset()  # optional fields that it does not take
        self._most = MOST
        self._lock = threading.Lock()
        self._key = key
        self._retries = retries
        self._backoff = backoff
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, pool=None),  # waiting for a free connection is no failure
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        self._client.close()

    def get(self, path: str) -> Answer:
        """GET, with retries."""
        return self._try(path, None, 0, threading.Event())

    def post(self, path: str, body: Body, *, seed: int, stop: threading.Event) -> Answer:
        """POST the body, with retries, and without the optional fields that the server refuses.

        Args:
            path: What follows the URL.
            body: What is sent, as JSON.
            seed: Spreads the waits of requests that failed together.
            stop: When it is set, nothing is tried again, and nobody waits.
        """
        sent = {key: value for key, value in body.items() if key not in self._dropped}
        if "top_logprobs" in sent:
            sent["top_logprobs"] = min(sent["top_logprobs"], self._most)
        tries = 0
        while True:
            answer = self._try(path, sent, seed, stop)
            tries += answer.tries
            lighter = None if stop.is_set() else _lighter(sent, answer)
            if lighter is None:
                break
            sent = lighter
        if answer.reason is None:
            self._learn(body, sent)
        return replace(answer, tries=tries)

    def _learn(self, body: Body, sent: Body) -> None:
        """Remember what was left away for an answer: only the answer shows that this was it."""
        with self._lock:
            self.answered = True
            self._most = min(self._most, sent.get("top_logprobs", self._most))
            dropped = body.keys() - sent.keys() - self._dropped
            self._dropped |= dropped
        if dropped:
            _log.warning("%s takes no %s and is asked without from now on", self.url, ", ".join(sorted(dropped)))

    def _try(self, path: str, body: Body | None, seed: int, stop: threading.Event) -> Answer:
        """Overload, server errors and lost connections are tried again."""
        for attempt in range(self._retries + 1):
            answer, wait = self._once(self.url + path, body)
            if not answer.passing or attempt == self._retries:
                break
            if wait is None:
                wait = self._backoff * 2**attempt * (0.5 + unit(seed, f"backoff {attempt}"))
            if stop.wait(min(wait, LONGEST_WAIT)):
                break
        return replace(answer, tries=attempt + 1)

    def _once(self, url: str, body: Body | None) -> tuple[Answer, float | None]:
        """What one try brought, and for how many seconds the server asks to be left alone."""
        try:
            if body is None:
                response = self._client.get(url)
            else:
                # ASCII, since half an emoji in a scraped text is no valid UTF-8 and would raise here.
                content = json.dumps(body).encode("ascii")
                response = self._client.post(url, content=content, headers={"Content-Type": "application/json"})
        except httpx.RequestError as error:
            return Answer(url, reason=self.line(f"{type(error).__name__} {error}")), None
        status, said = response.status_code, self._hide(response.text)
        if not response.is_success:
            answer = Answer(url, status=status, reason=self.line(f"HTTP {status} {said}"), said=said)
            return answer, _seconds(response.headers.get("Retry-After"))
        try:
            return Answer(url, response.json(), status), None
        except ValueError:
            return Answer(url, status=status, reason=self.line(f"expected JSON, got {said}")), None

    def line(self, text: str) -> str:
        """A server's words as one short line without the key."""
        line = "".join(c for c in " ".join(self._hide(text).split()) if c.isprintable())
        return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"

    def _hide(self, text: str) -> str:
        for form in {self._key, self._key.replace("/", "\\/")} if self._key else ():  # JSON may escape a slash
            text = text.replace(form, "[key]")
        return text


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        ValueError: It is no plain HTTP address. The message never shows what may be a credential.
    """
    if "@" in url:  # before anything that could show it
        raise ValueError(f"The server's URL must not hold a user or password; put the key in {KEY_VARIABLE}")
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"The server's URL cannot be read ({error}); expected http://HOST:PORT/v1") from None
    if parts.query or parts.fragment:
        raise ValueError(f"The server's URL must end with its path, such as /v1; put the key in {KEY_VARIABLE}")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"The server's URL must be http://HOST:PORT/v1 or https://..., got {url!r}")
    return url.rstrip("/")


def find_key(url: str, key: str | None) -> str | None:
    """The key given, else the one in the environment; OpenAI's own goes to OpenAI alone.

    Raises:
        ValueError: The key holds what no header can carry.
    """
    host = httpx.URL(url).host
    found = key or os.environ.get(KEY_VARIABLE)
    if not found and (host == "openai.com" or host.endswith(".openai.com")):
        found = os.environ.get("OPENAI_API_KEY")
    found = (found or "").strip()
    # Checked here, since the error of a header that cannot be sent would show the key.
    if not all("!" <= c <= "~" for c in found):
        raise ValueError(f"The API key holds blanks or characters beyond ASCII; look at api_key or {KEY_VARIABLE}")
    return found or None


def at(body: Any, *path: str | int) -> Any:  # Any: whatever JSON a server sends
    """What stands at a path in JSON; None where the path ends before."""
    for step in path:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def label_scores(top: Any, candidates: Sequence[str]) -> list[float]:  # Any: JSON
    """Log P that a reply's first token begins each candidate and no other, shape (K,), in nats.

    A blank before the token does not count, nor do capitals where the token begins no candidate as it
    stands, since a written reply is read in the same way.

    Args:
        top: The most probable tokens as a server lists them: ``token``, ``logprob``, perhaps ``bytes``.
        candidates: The labels' words.

    Raises:
        ScoringUnsupported: A token begins several candidates, or a candidate begins with none of the tokens.
    """
    found: list[list[float]] = [[] for _ in candidates]
    for entry in top if isinstance(top, list) else []:
        token, logprob = _token(entry), at(entry, "logprob")
        if not token or not isinstance(logprob, int | float) or math.isnan(logprob):
            continue
        begun = [i for i, candidate in enumerate(candidates) if candidate.encode().startswith(token)]
        if len(begun) > 1:
            raise ScoringUnsupported(
                f"the token {token.decode(errors='replace')!r} begins several of {', '.join(candidates)}"
            )
        if not begun:
            text = token.decode(errors="replace").casefold()
            begun = [i for i, candidate in enumerate(candidates) if candidate.casefold().startswith(text)]
        if len(begun) == 1:
            found[begun[0]].append(logprob)
    missing = [candidate for candidate, logprobs in zip(candidates, found, strict=True) if not logprobs]
    if missing:
        raise ScoringUnsupported(f"none of the {len(top)} most probable tokens begins {', '.join(missing)}")
    return [min(0.0, float(np.logaddexp.reduce(logprobs))) for logprobs in found]


def _token(entry: object) -> bytes:
    """A token's text without leading blanks, as bytes, since a token may end inside a Chinese character."""
    given, text = at(entry, "bytes"), at(entry, "token")
    if isinstance(given, list) and all(isinstance(b, int) and 0 <= b < 256 for b in given):
        return bytes(given).lstrip()
    return str(text or "").encode(errors="replace").lstrip()


def _lighter(sent: Body, answer: Answer) -> Body | None:
    """The body without the optional fields that a refusal names, or None where it names none."""
    if answer.status not in REFUSED:
        return None
    named = {key for key in _OPTIONAL if key in sent and re.search(rf"\b{key}\b", answer.said)}
    if not named:
        return None
    if "top_logprobs" not in sent:
        return {key: value for key, value in sent.items() if key not in named}
    return sent | {"top_logprobs": FEWER} if sent["top_logprobs"] > FEWER else None


def _seconds(said: str | None) -> float | None:
    """A Retry-After in seconds; one that is a date or nonsense is no help."""
    try:
        seconds = float(said or "")
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
