"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, transformers serve, hosted ones.

What a server can do is never assumed: it is asked, and what it refuses is asked without.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Self, TypeVar, final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.http import (
    KEY_VARIABLE,
    MOST,
    REFUSED,
    Answer,
    Body,
    JsonClient,
    at,
    checked_url,
    find_key,
    label_scores,
)
from mesa_meanfield.errors import BackendError, BackendUnavailable, ScoringUnsupported
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Reply, Request, Usage

_Read = TypeVar("_Read")

_ONE_ONLY = (400, 409, 413, 414, 422, 451)  # of the 4xx, those that say nothing about other requests
_ADVICE = {
    401: f"; put the key in {KEY_VARIABLE}",
    403: f"; put a key that may do this in {KEY_VARIABLE}",
    404: "; does the URL end with the API's path, such as /v1, and is the model's name right?",
}
_TOKENS = (("prompt_tokens",), ("completion_tokens",), ("prompt_tokens_details", "cached_tokens"))
_PATIENCE = 8  # requests in a row without any answer, before the server counts as gone
_GLANCE = 0.2  # seconds between two looks whether the work is still wanted


@final
class ServerBackend:
    """A model behind an OpenAI-compatible chat server.

    Equal requests get equal replies as far as the server keeps to the seed it is sent. For scores the
    first token stands for the whole label: its probability is that of all top tokens that begin the
    label and no other.

    Args:
        url: Where the server's API begins, such as ``http://host:8000/v1``.
        model: The model's name; without it the one model that the server serves.
        concurrency: How many requests are under way at once; changes no result.
        timeout: Seconds without a sign of life before a try is given up.
        retries: Further tries of a request after overload, a server error or a lost connection.
        api_key: The key; else that of the environment: MESA_MEANFIELD_API_KEY, and OPENAI_API_KEY for OpenAI.
        backoff: Seconds before the first further try; doubled for each one after it.

    Raises:
        ValueError: An argument is out of its range, or the URL holds a password.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        concurrency: int = 16,
        timeout: float = 60.0,
        retries: int = 4,
        api_key: str | None = None,
        backoff: float = 0.5,
    ) -> None:
        if concurrency < 1 or timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "concurrency >= 1, timeout > 0, retries >= 0 and backoff >= 0 are needed, "
                f"got {concurrency}, {timeout}, {retries} and {backoff}"
            )
        self.url = checked_url(url)
        self._client = JsonClient(
            self.url,
            find_key(self.url, api_key),
            connections=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
        )
        self._model = model
        self._pool = ThreadPoolExecutor(concurrency, "mesa-meanfield-server")
        self._concurrency = concurrency
        self._usage = Usage()
        self._scores: bool | None = None  # whether it gives log-probabilities, once that is known
        self._lock = threading.Lock()
        self._finding = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is under way, and close all connections."""
        # In this order: a connection that is opened behind the client's back is never closed.
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    @property
    def name(self) -> str:
        """The server and the model, for records."""
        return f"server:{self.url}#{self.model}"

    @property
    def model(self) -> str:
        """The model's name, asked for once where it was not given.

        Raises:
            BackendError: The server does not serve exactly one model, or does not say.
        """
        with self._finding:
            if self._model is None:
                self._model = self._find_model()
            return self._model

    @property
    def usage(self) -> Usage:
        """What was spent so far.

        No failures among it: whoever asked counts the replies and rows it could not use.
        """
        return self._usage

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order.

        Raises:
            BackendUnavailable: The server answers nobody.
            BackendError: It refuses everybody, or its model is not known.
        """
        return self._ask_all("replies", requests, [self._question(r) for r in requests], self._reply)

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)); NaN where a request failed.

        Raises:
            ScoringUnsupported: The server gives no log-probabilities, or not those of every candidate.
            BackendUnavailable: The server answers nobody.
            BackendError: It refuses everybody, or its model is not known.
        """
        if not requests or not candidates:
            return np.empty((len(requests), len(candidates)))
        if self._scores is False:
            raise ScoringUnsupported(f"{self.url} gives no log-probabilities; ask it for replies instead")
        # Everything at 1: the model's own distribution, whatever the server's defaults are.
        asked = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": MOST}
        bodies = [self._messages(r) | asked for r in requests]
        lost: list[Answer] = []
        rows = self._ask_all("choices", requests, bodies, lambda _, answer: self._row(answer, candidates, lost))
        if len(lost) == len(requests):  # a row of NaN cannot say why; this can
            raise BackendUnavailable(f"{lost[0].failure}; none of {len(requests)} requests was scored")
        return np.array(rows, dtype=np.float64)

    # --- What is asked ------------------------------------------------------------------------------

    def _messages(self, request: Request) -> Body:
        system = [{"role": "system", "content": request.prefix}] if request.prefix else []
        return {"model": self.model, "messages": [*system, {"role": "user", "content": request.suffix}]}

    def _question(self, request: Request) -> Body:
        sampling = request.sampling
        body = self._messages(request) | {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,  # 0 is said, too: servers have defaults of their own
            "seed": request.seed & 0x7FFFFFFF,  # some servers take 32 bits with a sign
        }
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = sampling.repetition_penalty
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return body

    def _find_model(self) -> str:
        answer = self._client.get("/models")
        if answer.status is None:
            raise self._gone(answer)
        if answer.reason is not None:
            kind = BackendUnavailable if answer.passing else BackendError
            raise kind(f"{answer.failure}{_ADVICE.get(answer.status, '')}; or name the model, as URL#MODEL")
        listed = at(answer.body, "data")
        models = [str(at(model, "id")) for model in listed] if isinstance(listed, list) else []
        if len(models) != 1:
            names = self._client.line(", ".join(models)) or "none"
            raise BackendError(f"{self.url} serves {len(models)} models ({names}); name one, as URL#MODEL")
        return models[0]

    # --- How it is asked ----------------------------------------------------------------------------

    def _ask_all(
        self,
        what: str,
        requests: Sequence[Request],
        bodies: Sequence[Body],
        read: Callable[[Request, Answer], _Read],
    ) -> list[_Read]:
        """Everyone's answer as read, in order. Reports, and every error, come up in the calling thread."""
        if not requests:
            return []
        start, total = time.perf_counter(), len(requests)
        answers: dict[int, _Read] = {}
        refusals: list[Answer] = []
        failing: list[Answer] = []
        silent = 0  # requests in a row that nothing answered
        stop = threading.Event()
        finished: SimpleQueue[Future[Answer]] = SimpleQueue()
        asked = zip(bodies, requests, strict=True)
        indices = {self._pool.submit(self._ask, body, r.seed, stop): i for i, (body, r) in enumerate(asked)}
        try:
            for future in indices:
                future.add_done_callback(finished.put)
            while len(answers) < total:
                try:
                    future = finished.get(timeout=_GLANCE)
                except Empty:
                    report(what, len(answers), total)  # so that a cancel need not wait for a reply
                    continue
                answer, index = future.result(), indices[future]
                silent = silent + 1 if answer.status is None else 0
                if silent == min(total, max(self._concurrency, _PATIENCE)):
                    raise self._gone(answer)
                if answer.passing:
                    failing.append(answer)
                elif answer.status in _ONE_ONLY:
                    refusals.append(answer)
                elif answer.status and not 200 <= answer.status < 300:
                    raise BackendError(f"{answer.failure}{_ADVICE.get(answer.status, '')}")
                answers[index] = read(requests[index], answer)
                report(what, len(answers), total)
        finally:
            stop.set()
            for future in indices:  # after an error: those under way may finish, and nobody waits for them
                future.cancel()
            self._count(Usage(seconds=time.perf_counter() - start))
        if total > 1 and len(failing) == total:
            raise BackendUnavailable(f"{failing[0].failure}; so did all {total} requests of the batch")
        # A batch may hold one bad request only (asked again, say), so an earlier success speaks for the server.
        alike = len(refusals) == total and len({refusal.status for refusal in refusals}) == 1
        if alike and not self._client.answered:
            raise BackendError(f"{refusals[0].failure}; so did all {total} requests of the batch")
        return [answers[index] for index in range(total)]

    def _ask(self, body: Body, seed: int, stop: threading.Event) -> Answer:
        answer = self._client.post("/chat/completions", body, seed=seed, stop=stop)
        prompt, written, cached = (_number(at(answer.body, "usage", *path)) for path in _TOKENS)
        self._count(Usage(1, prompt + written, max(prompt - cached, 0) + written, retries=answer.tries - 1))
        return answer

    def _count(self, spent: Usage) -> None:
        with self._lock:
            self._usage += spent

    def _gone(self, answer: Answer) -> BackendUnavailable:
        return BackendUnavailable(f"{self.url} does not answer: {answer.reason}; is the server running?")

    # --- How answers are read -----------------------------------------------------------------------

    def _reply(self, request: Request, answer: Answer) -> Reply:
        if answer.reason is not None:
            return Reply(failure=answer.failure)
        choice = at(answer.body, "choices", 0)
        text, ended = at(choice, "message", "content"), at(choice, "finish_reason")
        refusal = at(choice, "message", "refusal") or (ended if ended == "content_filter" else None)
        if refusal:
            return Reply(failure=f"{answer.url}: the model refused: {self._client.line(str(refusal))}")
        if not isinstance(text, str):
            said = self._client.line(json.dumps(answer.body))
            return Reply(failure=f"{answer.url}: no text in the reply {said}")
        # Cut here as well, for servers that do not take stop strings or leave them standing.
        ends = [end for stop in request.sampling.stop if stop and (end := text.find(stop)) >= 0]
        return Reply(text[: min(ends)]) if ends else Reply(text, finished=ended != "length")

    def _row(self, answer: Answer, candidates: Sequence[str], lost: list[Answer]) -> list[float]:
        """One request's log-probabilities, shape (K,); an answer that did not come goes to the lost ones."""
        if answer.passing:
            lost.append(answer)
        refused = answer.status in REFUSED and "logprobs" in answer.said
        choice = at(answer.body, "choices", 0)
        if choice is None and not refused:
            return [math.nan] * len(candidates)
        top = at(choice, "logprobs", "content", 0, "top_logprobs")
        if not top:
            # A model may end its reply before the first token; a text without log-probabilities is no such case.
            if self._scores is None and (refused or at(choice, "message", "content")):
                self._scores = False
            raise ScoringUnsupported(f"{self.url} gives no log-probabilities; ask it for replies instead")
        self._scores = True
        try:
            return label_scores(top, candidates)
        except ScoringUnsupported as error:
            raise ScoringUnsupported(f"{self.url}: {error}; ask it for replies instead") from None


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
