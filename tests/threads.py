"""What tests need that ask from several threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from mesa_meanfield import BatchingBackend, ScriptedBackend
from mesa_meanfield.protocols import Request

HOUR = 3600.0
"""A wait that no test survives: where it is given, nobody may wait in vain."""


class Counting(ScriptedBackend):
    """A scripted backend that notes its calls, and whether two came at once."""

    def __init__(self, *args, pause: float = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.sizes: list[int] = []
        self.overlaps = 0
        self._busy = threading.Lock()
        self._pause = pause

    def generate(self, requests):
        return self._alone(requests, lambda: super(Counting, self).generate(requests))

    def score(self, requests, candidates):
        return self._alone(requests, lambda: super(Counting, self).score(requests, candidates))

    def _alone(self, requests, answer):
        self.sizes.append(len(requests))
        self.overlaps += not self._busy.acquire(blocking=False)
        try:
            time.sleep(self._pause)
            return answer()
        finally:
            self._busy.release()


class Gate:
    """A scripted reply that holds the model up, so that a test knows what is under way."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> str:
        self.reached.set()
        assert self.open.wait(30)
        return request.suffix


class Thread(threading.Thread):
    """A thread whose result, or error, can be had."""

    def __init__(self, work: Callable[[], object]):
        super().__init__()
        self._work = work
        self._result: object = None
        self._error: BaseException | None = None
        self.start()

    def run(self):
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(30)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def crowd(name: str, size: int = 2) -> list[Request]:
    return [Request("Here we are.", f"{name} {i}", i) for i in range(size)]


def together(batching: BatchingBackend, works: Sequence[Callable[[], object]]) -> list[Thread]:
    """Each in a thread of its own, all registered before the first asks."""
    start = threading.Barrier(len(works))

    def run(work):
        with batching.replica():
            start.wait(30)
            return work()

    return [Thread(lambda work=work: run(work)) for work in works]


def has_ended(worker: str = "meanfield-merger") -> bool:
    """Whether the thread in which the model is asked ends by itself."""
    deadline = time.monotonic() + 30
    while any(thread.name == worker for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
