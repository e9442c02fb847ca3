"""Many questions under way to one server at once, and what came of them as a whole."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from mesa_meanfield.backends.answers import samples, tokens
from mesa_meanfield.backends.http import KEY_VARIABLE, Answer, JsonClient
from mesa_meanfield.backends.questions import Body, Question
from mesa_meanfield.errors import BackendError, BackendUnavailable
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Request, Usage

_Read = TypeVar("_Read")

ADVICE = {
    401: f"; put the key in {KEY_VARIABLE}",
    403: f"; put a key that may do this in {KEY_VARIABLE}",
    404: "; does the URL end with the API's path, such as /v1, and is the model's name right?",
}
"""What to do about a status."""
_ONE_ONLY = (400, 409, 413, 414, 422, 451)  # of the 4xx, those that say nothing about other questions
_PATIENCE = 8  # questions in a row without any answer, before the server counts as gone
_GLANCE = 0.2  # seconds between two looks whether the work is still wanted


class Asking:
    """Asks one chat server, from any number of threads.

    Args:
        client: Talks to the server.
        concurrency: How many questions are under way at once, over all threads.
    """

    def __init__(self, client: JsonClient, concurrency: int) -> None:
        self.usage = Usage()
        """What was spent so far."""
        self._client = client
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, "mesa-meanfield-server")
        self._lock = threading.Lock()

    def close(self) -> None:
        """Wait for what is under way, and close all connections."""
        # In this order: a connection that is opened behind the client's back is never closed.
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def every(
        self,
        what: str,
        questions: Sequence[Question],
        ask: Callable[[Question, threading.Event], Answer],
        read: Callable[[Answer, int, Request], _Read],
    ) -> dict[int, _Read]:
        """Everyone's answer as read, by place. Reports, and every error, come up in the calling thread.

        Args:
            what: What is reported to be done.
            questions: What is asked.
            ask: Asks one of them, by `once`; the event says that its answer is no longer wanted.
            read: Takes an answer, and which of the question's requests is meant.

        Raises:
            BackendUnavailable: The server answers nobody.
            BackendError: It refuses everybody.
        """
        start, total = time.perf_counter(), sum(question.size for question in questions)
        answers: dict[int, _Read] = {}
        failing: list[Answer] = []
        refusals: list[Answer] = []
        unanswered = refused = 0  # how many places these concern
        silent = 0  # questions in a row that nothing answered
        stop = threading.Event()
        waiting = deque(questions)
        finished: SimpleQueue[tuple[Question, Answer | Exception]] = SimpleQueue()

        def work() -> None:
            while waiting and not stop.is_set():
                try:
                    question = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    finished.put((question, self._work(ask, question, stop)))
                except Exception as error:  # for the calling thread
                    finished.put((question, error))

        # One job per connection, not per question: handing a job over takes longer than the rest of the client.
        jobs = [self._pool.submit(work) for _ in range(min(self._concurrency, len(waiting)))]
        try:
            while len(answers) < total:
                try:
                    question, answer = finished.get(timeout=_GLANCE)
                except Empty:
                    report(what, len(answers), total)  # so that a cancel need not wait for a reply
                    continue
                if isinstance(answer, Exception):
                    raise answer
                silent = silent + 1 if answer.status is None else 0
                if silent == min(len(questions), max(self._concurrency, _PATIENCE)):
                    raise self.gone(answer)
                if answer.passing:
                    failing.append(answer)
                    unanswered += question.size
                elif answer.status in _ONE_ONLY:
                    refusals.append(answer)
                    refused += question.size
                elif answer.status and not 200 <= answer.status < 300:
                    raise BackendError(f"{answer.failure}{ADVICE.get(answer.status, '')}")
                given = _given(question, answer)
                for place, request in enumerate(question.requests[:given]):
                    answers |= dict.fromkeys(question.askers[place], read(answer, place, request))
                if rest := question.singly(given):
                    waiting.extend(rest)
                    jobs += [self._pool.submit(work) for _ in range(min(self._concurrency, len(rest)))]
                report(what, len(answers), total)
        finally:
            stop.set()
            for job in jobs:  # after an error: those under way may finish, and nobody waits for them
                job.cancel()
            self._count(Usage(seconds=time.perf_counter() - start))
        if unanswered == total > 1:
            raise BackendUnavailable(f"{failing[0].failure}; so did all {total} requests of the batch")
        # A batch may hold one bad request only (asked again, say), so an earlier success speaks for the server.
        alike = refused == total and len({refusal.status for refusal in refusals}) == 1
        if alike and not self._client.answered:
            raise BackendError(f"{refusals[0].failure}; so did all {total} requests of the batch")
        return answers

    def once(self, question: Question, body: Body, stop: threading.Event) -> Answer:
        """Ask a question in these words, and count what that costs."""
        answer = self._client.post("/chat/completions", body, seed=question.requests[0].seed, stop=stop)
        settled, cost = question.first(_given(question, answer)), tokens(answer.body)
        if len(settled.requests) < len(question.requests):
            self._client.leave_away({"n"})
        alone = cost.prompt + cost.written / len(settled.requests)  # of one request, were it asked alone
        computed = max(cost.prompt - cost.cached, 0) + cost.written
        self._count(Usage(0, round(alone * settled.size), computed, retries=answer.tries - 1))
        return answer

    def gone(self, answer: Answer) -> BackendUnavailable:
        """The error for a server that nothing comes from."""
        return BackendUnavailable(f"{self._client.url} does not answer: {answer.reason}; is the server running?")

    def _work(
        self, ask: Callable[[Question, threading.Event], Answer], question: Question, stop: threading.Event
    ) -> Answer:
        answer = ask(question, stop)
        self._count(Usage(question.first(_given(question, answer)).size))
        return answer

    def _count(self, spent: Usage) -> None:
        with self._lock:
            self.usage += spent


def _given(question: Question, answer: Answer) -> int:
    """Of how many of its requests an answer disposes: a failure is that of all."""
    whole = len(question.requests)
    return whole if answer.reason is not None else min(whole, max(1, samples(answer.body)))
