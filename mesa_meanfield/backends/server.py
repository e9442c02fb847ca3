"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, transformers serve, hosted ones.

What a server can do is never assumed: it is asked, and what it refuses is asked without.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Self, final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.answers import at, label_scores, read_reply
from mesa_meanfield.backends.asking import ADVICE, Asking
from mesa_meanfield.backends.http import Answer, JsonClient, checked_url, find_key
from mesa_meanfield.backends.questions import (
    LISTED,
    REFUSED,
    USUAL,
    Question,
    score_body,
    score_questions,
    text_body,
    text_questions,
)
from mesa_meanfield.errors import BackendError, BackendUnavailable, ScoringUnsupported
from mesa_meanfield.protocols import Reply, Request, Usage


@final
class ServerBackend:
    """A model behind an OpenAI-compatible chat server.

    Equal requests get equal replies as far as the server keeps to the seed it is sent. Those who ask the same
    are asked for once. For scores the first token stands for the whole label, as `label_scores` says. A schema
    or choices are sent in the fields that servers have for them; a server that has none writes freely, and
    whoever reads its replies finds out. An adapter is asked for as the model of its name, as vLLM serves it.
    One trap: transformers serve samples only where the model's ``generation_config.json`` has ``do_sample``;
    else it gives everybody the most probable text, and no answer tells.

    Args:
        url: Where the server's API begins, such as ``http://host:8000/v1``.
        model: The model's name; without it the one model that the server serves.
        concurrency: How many requests are under way at once; changes no result.
        timeout: Seconds without a sign of life before a try is given up.
        retries: Further tries of a request after overload, a server error or a lost connection.
        api_key: The key; else that of the environment: MESA_MEANFIELD_API_KEY, and OPENAI_API_KEY for OpenAI.
        backoff: Seconds before the first further try; doubled for each one after it.
        samples_per_request: Up to so many requests that differ in their seeds alone are sent as one, for ``n``
            samples with the first one's seed, so that their prompt is read once. A text then depends on who
            else asks the same, which is why the default is 1. Where a server refuses ``n`` (as llama.cpp does
            above its number of slots) or ignores it, each is sent alone from then on.

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
        samples_per_request: int = 1,
    ) -> None:
        if concurrency < 1 or timeout <= 0 or retries < 0 or backoff < 0:
            raise ValueError(
                "concurrency >= 1, timeout > 0, retries >= 0 and backoff >= 0 are needed, "
                f"got {concurrency}, {timeout}, {retries} and {backoff}"
            )
        if samples_per_request < 1:
            raise ValueError(f"samples_per_request must be at least 1, got {samples_per_request}")
        self.url = checked_url(url)
        self._client = JsonClient(
            self.url,
            find_key(self.url, api_key),
            connections=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
        )
        self._asking = Asking(self._client, concurrency)
        self._model = model
        self._samples = samples_per_request
        self._scores: bool | None = None  # whether it gives log-probabilities, once that is known
        self._listed = USUAL  # how many top tokens are asked for
        self._finding = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is under way, and close all connections."""
        self._asking.close()

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
        """What was spent so far, tokens as the server counts them.

        No failures among it: whoever asked counts the replies and rows it could not use.
        """
        return self._asking.usage

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order.

        Raises:
            BackendUnavailable: The server answers nobody.
            BackendError: It refuses everybody, or its model is not known.
        """
        if not requests:
            return []
        model = self.model

        def ask(question: Question, stop: threading.Event) -> Answer:
            return self._asking.once(question, text_body(question, model), stop)

        replies = self._asking.every("replies", text_questions(requests, self._samples), ask, self._reply)
        return [replies[place] for place in range(len(requests))]

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
            raise self._no_scores()
        model, questions = self.model, score_questions(requests)
        lost: list[Answer] = []

        def ask(question: Question, stop: threading.Event) -> Answer:
            return self._ask_scores(question, model, candidates, stop)

        def read(answer: Answer, _place: int, _request: Request) -> list[float]:
            return self._row(answer, candidates, lost)

        rows = self._asking.every("choices", questions, ask, read)
        if len(lost) == len(questions):  # a row of NaN cannot say why; this can
            raise BackendUnavailable(f"{lost[0].failure}; none of {len(requests)} requests was scored")
        return np.array([rows[place] for place in range(len(requests))], dtype=np.float64)

    # --- How it is asked ----------------------------------------------------------------------------

    def _find_model(self) -> str:
        answer = self._client.get("/models")
        if answer.status is None:
            raise self._asking.gone(answer)
        if answer.reason is not None:
            kind = BackendUnavailable if answer.passing else BackendError
            raise kind(f"{answer.failure}{ADVICE.get(answer.status, '')}; or name the model, as URL#MODEL")
        listed = at(answer.body, "data")
        models = [str(at(model, "id")) for model in listed] if isinstance(listed, list) else []
        if len(models) != 1:
            names = self._client.line(", ".join(models)) or "none"
            raise BackendError(f"{self.url} serves {len(models)} models ({names}); name one, as URL#MODEL")
        return models[0]

    def _ask_scores(self, question: Question, model: str, candidates: Sequence[str], stop: threading.Event) -> Answer:
        """The top tokens; more of them where the labels are not among the first ones, and the server lists more."""
        listed = self._listed  # which other threads may raise meanwhile
        answer = self._asking.once(question, score_body(question, model, listed), stop)
        if listed >= self._client.most or stop.is_set() or _found(answer, candidates):
            return answer
        self._listed = LISTED[0]
        more = self._asking.once(question, score_body(question, model, LISTED[0]), stop)
        return answer if more.passing else more

    def _no_scores(self) -> ScoringUnsupported:
        return ScoringUnsupported(f"{self.url} gives no log-probabilities; ask it for replies instead")

    # --- How answers are read -----------------------------------------------------------------------

    def _reply(self, answer: Answer, place: int, request: Request) -> Reply:
        if answer.reason is not None:
            return Reply(failure=answer.failure)
        reply = read_reply(answer.body, place, request)
        return reply if reply.failure is None else Reply(failure=f"{answer.url}: {self._client.line(reply.failure)}")

    def _row(self, answer: Answer, candidates: Sequence[str], lost: list[Answer]) -> list[float]:
        """One question's log-probabilities, shape (K,); an answer that did not come goes to the lost ones."""
        if answer.passing:
            lost.append(answer)
        refused = answer.status in REFUSED and "logprobs" in answer.said
        choice = at(answer.body, "choices", 0)
        if choice is None and not refused:
            return [math.nan] * len(candidates)
        top = _top(answer)
        if not top:
            # A model may end its reply before the first token; a text without log-probabilities is no such case.
            if self._scores is None and (refused or at(choice, "message", "content")):
                self._scores = False
            raise self._no_scores()
        self._scores = True
        try:
            return label_scores(top, candidates).logs
        except ScoringUnsupported as error:
            raise ScoringUnsupported(f"{self.url}: {error}; ask it for replies instead") from None


def _top(answer: Answer) -> object:
    """The first token's most probable alternatives, as the server lists them."""
    return at(answer.body, "choices", 0, "logprobs", "content", 0, "top_logprobs")


def _found(answer: Answer, candidates: Sequence[str]) -> bool:
    """Whether more top tokens would say nothing better: every label is whole among them, or there are none at all."""
    top = _top(answer)
    try:
        return not top or label_scores(top, candidates).whole
    except ScoringUnsupported:
        return False
