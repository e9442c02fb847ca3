"""Callers that come, leave or fail in the middle of a common batch, and the thread that it runs in."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar

import pytest
from threads import HOUR, Counting, Gate, Thread, crowd, has_ended, together

from mesa_meanfield import BatchingBackend, ScriptedBackend, Usage
from mesa_meanfield.errors import BackendError, BackendUnavailable, Cancelled, ReentryError
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request

pytestmark = pytest.mark.timeout(60)


# --- Progress and cancel -------------------------------------------------------------------------


def test_each_caller_hears_of_the_batch_in_its_own_thread_and_context():
    own: ContextVar[int] = ContextVar("own")
    batching = BatchingBackend(ScriptedBackend(batch=2), max_wait=HOUR)

    def ask(n):
        own.set(n)
        heard = []
        with watching(lambda *said: heard.append((*said, own.get(), threading.current_thread()))):
            batching.generate(crowd("a", n))
        assert {thread for *_, thread in heard} == {threading.current_thread()}
        return [said[:-1] for said in heard]

    for n, thread in zip((2, 4), together(batching, [lambda: ask(2), lambda: ask(4)]), strict=True):
        common = [("replies", done, 6, n) for done in (2, 4, 6)]
        heard = thread.result()
        assert heard[0] == ("replies", 0, n, n)
        assert list(dict.fromkeys(heard[1:]))[-3:] == common


def test_who_was_cancelled_is_waited_for_until_the_others_hear_of_it():
    model = ScriptedBackend()
    batching = BatchingBackend(model, patience=HOUR)
    registered, left = threading.Barrier(2), threading.Event()

    def leave():
        with batching.replica():
            registered.wait()
            raise Cancelled("Enough.")

    def hear_later(*_):
        if left.wait(1):  # long enough for a batch that needs nobody else
            raise Cancelled("Enough.")

    def ask():
        with batching.replica(), watching(hear_later):
            registered.wait()
            batching.generate(crowd("asking"))

    asking, leaving = Thread(ask), Thread(leave)
    with pytest.raises(Cancelled):
        leaving.result()
    time.sleep(0.5)
    left.set()
    with pytest.raises(Cancelled):
        asking.result()
    assert model.usage.calls == 0
    with batching.replica():  # and those who come after that are not held up
        batching.generate(crowd("later"))


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_a_watcher_that_raises_takes_its_own_caller_away_and_nobody_else(error):
    gate = Gate()
    model = Counting(gate, batch=1)
    batching = BatchingBackend(model, max_wait=HOUR)

    def stop(*_):
        if gate.reached.is_set():
            raise error("Enough.")

    def leave():
        with watching(stop):
            batching.generate(crowd("leaving"))

    leaving, staying = together(batching, [leave, lambda: batching.generate(crowd("staying"))])
    with pytest.raises(error, match=r"Enough\."):
        leaving.result()
    gate.open.set()
    assert [reply.text for reply in staying.result()] == ["staying 0", "staying 1"]
    assert model.sizes == [4]
    assert batching.total.calls == 4


def test_a_batch_that_all_have_left_stops_between_sub_batches():
    gate, written = Gate(), []
    model = ScriptedBackend(lambda request: written.append(request) or gate(request), batch=1)
    batching = BatchingBackend(model, max_wait=HOUR)
    cancelled = threading.Event()

    def check(*_):
        if cancelled.is_set():
            raise Cancelled("Enough.")

    def ask():
        with watching(check):
            batching.generate(crowd("a", 5))

    threads = together(batching, [ask, ask])
    assert gate.reached.wait(30)
    cancelled.set()  # the callers look up while the model is still at its first request
    for thread in threads:
        with pytest.raises(Cancelled, match=r"Enough\."):
            thread.result()
    gate.open.set()
    assert has_ended()
    assert len(written) == 1
    with batching.replica():
        assert len(batching.generate(crowd("b"))) == 2  # and the next call goes on as ever


def test_who_is_cancelled_before_the_batch_begins_is_not_asked_for():
    gate = Gate()
    model = Counting(gate)
    batching = BatchingBackend(model, max_wait=0)
    running = Thread(lambda: batching.generate(crowd("a")))
    assert gate.reached.wait(30)
    looks = iter([None, None])

    def twice(*_):
        if next(looks, "over") == "over":
            raise Cancelled("Enough.")

    with watching(twice), pytest.raises(Cancelled, match=r"Enough\."):
        batching.generate(crowd("b"))
    gate.open.set()
    assert len(running.result()) == 2
    assert has_ended()
    assert model.sizes == [2]


def test_an_interrupt_takes_the_waiting_caller_away_at_once():
    gate = Gate()
    batching = BatchingBackend(ScriptedBackend(gate), max_wait=0)
    other = Thread(lambda: batching.generate(crowd("other")))
    assert gate.reached.wait(30)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        threading.Timer(0.05, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            batching.generate(crowd("mine"))
    finally:
        signal.signal(signal.SIGINT, before)
        gate.open.set()
    assert len(other.result()) == 2


# --- Errors --------------------------------------------------------------------------------------


def refuse(error: BaseException, word: str = "bad") -> Callable[[Request], str]:
    def reply(request: Request) -> str:
        if word in request.suffix:
            raise error
        return request.suffix

    return reply


@pytest.mark.parametrize("error", [ValueError("No."), BackendError("No."), SystemExit("No.")])
def test_an_error_reaches_only_those_whose_requests_cause_it(error):
    batching = BatchingBackend(ScriptedBackend(refuse(error)), max_wait=HOUR)
    threads = together(batching, [lambda n=n: batching.generate(crowd(n)) for n in ("good", "bad", "fine")])
    assert [reply.text for reply in threads[0].result()] == ["good 0", "good 1"]
    assert [reply.text for reply in threads[2].result()] == ["fine 0", "fine 1"]
    with pytest.raises(type(error), match=r"No\.") as caught:
        threads[1].result()
    assert caught.value is error


def test_a_server_that_is_down_fails_everyone_at_once_each_with_an_error_of_its_own():
    model = Counting(refuse(BackendUnavailable("Down."), "a"))
    batching = BatchingBackend(model, max_wait=HOUR)
    errors = []
    for thread in together(batching, [lambda: batching.generate(crowd("a"))] * 3):
        with pytest.raises(BackendUnavailable, match=r"Down\.") as caught:
            thread.result()
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 3
    assert model.sizes == [6]


def test_an_error_that_cannot_be_copied_still_reaches_everyone():
    class Stubborn(BackendUnavailable):
        def __init__(self, *, why):
            super().__init__(why)

    batching = BatchingBackend(ScriptedBackend(refuse(Stubborn(why="Down."), "a")), max_wait=HOUR)
    for thread in together(batching, [lambda: batching.generate(crowd("a"))] * 2):
        with pytest.raises(Stubborn, match=r"Down\."):
            thread.result()


def test_a_call_that_fails_has_its_cost_all_the_same():
    class Costly(ScriptedBackend):
        def generate(self, requests):
            self.usage += Usage(calls=len(requests), tokens_asked=30)
            raise BackendError("No.")

    batching = BatchingBackend(Costly(), max_wait=0)
    with pytest.raises(BackendError):
        batching.generate(crowd("a"))
    assert batching.usage == batching.total == Usage(calls=2, tokens_asked=30)


def test_after_an_error_it_works_on():
    batching = BatchingBackend(ScriptedBackend(refuse(BackendError("No."))), max_wait=0)
    with pytest.raises(BackendError):
        batching.generate(crowd("bad"))
    assert [reply.text for reply in batching.generate(crowd("good"))] == ["good 0", "good 1"]


def test_a_model_that_says_too_little_is_found_out_before_replies_are_mixed_up():
    class Short(ScriptedBackend):
        def generate(self, requests):
            return super().generate(requests)[1:]

    with pytest.raises(ValueError, match="scripted gave 1 answers to 2 requests"):
        BatchingBackend(Short(), max_wait=0).generate(crowd("a"))


def test_a_model_that_asks_its_own_wrapper_is_told_so():
    batching = BatchingBackend(ScriptedBackend(lambda request: batching.generate(crowd("again"))[0]), max_wait=0)
    with pytest.raises(ReentryError, match="asked it in turn"):
        batching.generate(crowd("a"))


def test_a_watcher_may_ask_in_the_middle_of_a_batch():
    batching = BatchingBackend(ScriptedBackend(lambda request: request.suffix), max_wait=0)
    heard = []

    def ask(what, done, total):
        if not heard:
            heard.append("asking")
            heard.append(batching.generate(crowd("inner", 1))[0].text)

    with watching(ask):
        batching.generate(crowd("a"))
    assert heard == ["asking", "inner 0"]


# --- Its thread ----------------------------------------------------------------------------------


def test_no_thread_stays_behind():
    batching = BatchingBackend(ScriptedBackend(), max_wait=0)
    batching.generate(crowd("a"))
    assert has_ended()
    with batching.replica():
        batching.generate(crowd("a"))
    assert has_ended()


def test_its_thread_waits_for_no_others_once_all_who_asked_have_left():
    batching = BatchingBackend(ScriptedBackend(), max_wait=HOUR)

    def stop(*_):
        raise Cancelled("Enough.")

    with watching(stop), pytest.raises(Cancelled):
        batching.generate(crowd("a"))
    assert has_ended()


def test_where_its_thread_cannot_start_the_next_call_tries_again(monkeypatch):
    def fail(_):
        raise RuntimeError("can't start new thread")

    batching = BatchingBackend(ScriptedBackend(), max_wait=0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            batching.generate(crowd("a"))
    assert len(batching.generate(crowd("a"))) == 2


def test_replicas_that_are_busy_elsewhere_do_not_keep_its_thread():
    batching = BatchingBackend(ScriptedBackend(), max_wait=0)
    with batching.replica():
        batching.generate(crowd("a"))
        assert has_ended()
        assert len(batching.generate(crowd("b"))) == 2
