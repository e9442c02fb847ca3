"""What goes over the wire to an OpenAI-compatible server: bounded retries, refused fields, and the key."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Url, parse_url

from mesa_meanfield.backends.questions import LISTED, REFUSED, Body, lighter
from mesa_meanfield.seeds import unit

_log = logging.getLogger(__name__)

KEY_VARIABLE = "MESA_MEANFIELD_API_KEY"
LONGEST_WAIT = 60.0
"""Seconds between two tries, whatever the server or the backoff asks for."""
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
        self.answered = False
        """Whether the server ever gave what it was asked for."""
        self.most = LISTED[0]
        """How many top tokens it lists at most, as far as that is known."""
        self._dropped: frozenset[str] = frozenset()  # optional fields that it does not take
        self._lock = threading.Lock()
        self._key = key
        self._retries = retries
        self._backoff = backoff
        self._pool = _pool(
            parse_url(url),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
            maxsize=connections,
            block=True,  # waiting for a free connection is no failure
            retries=False,
        )

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        self._pool.clear()

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
            sent["top_logprobs"] = min(sent["top_logprobs"], self.most)
        tries = 0
        while True:
            answer = self._try(path, sent, seed, stop)
            tries += answer.tries
            refused = answer.status in REFUSED and not stop.is_set()
            less = lighter(sent, answer.said) if refused else None
            if less is None:
                break
            sent = less
        if answer.reason is None:
            self._learn(body, sent)
        return replace(answer, tries=tries)

    def leave_away(self, fields: Set[str]) -> None:
        """Send these fields no more; said once."""
        with self._lock:
            dropped = fields - self._dropped
            self._dropped |= dropped
        if dropped:
            _log.warning("%s takes no %s and is asked without from now on", self.url, ", ".join(sorted(dropped)))

    def _learn(self, body: Body, sent: Body) -> None:
        """Remember what was left away for an answer: only the answer shows that this was it."""
        with self._lock:
            self.answered = True
            if "top_logprobs" in sent and sent["top_logprobs"] < body["top_logprobs"]:
                self.most = min(self.most, sent["top_logprobs"])
        self.leave_away(body.keys() - sent.keys())

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
        headers = {**self._pool.headers, "Content-Type": "application/json"}
        # ASCII, since half an emoji in a scraped text is no valid UTF-8 and would raise here.
        content = None if body is None else json.dumps(body).encode("ascii")
        method = "GET" if body is None else "POST"
        try:
            response = self._pool.request(method, url, body=content, headers=headers, redirect=False)
        except HTTPError as error:
            said = str(error).rpartition("): ")[2]  # behind the connection, which the URL tells already
            return Answer(url, reason=self.line(f"{type(error).__name__} {said}")), None
        status, said = response.status, self._hide(response.data.decode(errors="replace"))
        if not 200 <= status < 300:
            answer = Answer(url, status=status, reason=self.line(f"HTTP {status} {said}"), said=said)
            return answer, _seconds(response.headers.get("Retry-After"))
        try:
            return Answer(url, json.loads(response.data), status), None
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
        parts = parse_url(url)
    except LocationParseError as error:
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
    host = parse_url(url).host or ""
    found = key or os.environ.get(KEY_VARIABLE)
    if not found and (host == "openai.com" or host.endswith(".openai.com")):
        found = os.environ.get("OPENAI_API_KEY")
    found = (found or "").strip()
    # Checked here, since the error of a header that cannot be sent would show the key.
    if not all("!" <= c <= "~" for c in found):
        raise ValueError(f"The API key holds blanks or characters beyond ASCII; look at api_key or {KEY_VARIABLE}")
    return found or None


def _pool(url: Url, **settings: Any) -> urllib3.PoolManager:  # Any: urllib3's own
    """Connections to a server, through the proxy that the environment names for it, if any."""
    proxy = getproxies().get(url.scheme or "")
    if proxy is None or proxy_bypass(url.host or ""):
        return urllib3.PoolManager(**settings)
    return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}", **settings)


def _seconds(said: str | None) -> float | None:
    """A Retry-After in seconds; one that is a date or nonsense is no help."""
    try:
        seconds = float(said or "")
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
