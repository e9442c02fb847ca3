"""Many are asked at once: over few connections, each question once, in an order that suits a server's cache."""

from __future__ import annotations

import threading

import pytest
from fake_server import OPENAI_FIELDS, SHORT, FakeServer, backend, crowd, isolated, number  # noqa: F401

from mesa_meanfield.errors import BackendError, BackendUnavailable, Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Request

CANDIDATES = ("share", "doubt", "ignore")


# --- Many at once ----------------------------------------------------------------------------------


def test_requests_are_under_way_together_and_replies_keep_their_order():
    with FakeServer(latency=lambda body: 0.02 if number(body) % 4 == 0 else 0.002) as fake:
        with backend(fake, concurrency=4) as server:
            replies = server.generate(crowd(24))
        assert 1 < fake.at_once <= 4
        with backend(fake, concurrency=1) as server:
            assert replies == server.generate(crowd(24))


def test_connections_are_kept_for_the_next_request():
    with FakeServer() as fake, backend(fake, concurrency=4) as server:
        server.generate(crowd(100))
        server.score(crowd(10), CANDIDATES)
    assert len(fake.asked) == 110
    assert fake.connections <= 4


def test_all_of_one_prefix_are_asked_together_in_order_of_arrival():
    asked = [Request(f"Group {i % 3}.", f"I am number {i}.", i, SHORT) for i in range(9)]
    with FakeServer() as fake, backend(fake, concurrency=1) as server:
        replies = server.generate(asked)
        assert [number(body) for body in fake.asked] == [0, 3, 6, 1, 4, 7, 2, 5, 8]
        assert replies == [server.generate([request])[0] for request in asked]
        fake.asked.clear()
        server.score(asked, CANDIDATES)
        assert [number(body) for body in fake.asked] == [0, 3, 6, 1, 4, 7, 2, 5, 8]


def test_the_limit_holds_over_threads_and_their_usage_adds_up():
    with FakeServer(latency=0.005) as fake, backend(fake, concurrency=3, model="m") as server:
        threads = [threading.Thread(target=server.generate, args=(crowd(10),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fake.at_once <= 3
        assert server.usage.calls == 40
        with backend(fake, model="m") as alone:
            alone.generate(crowd(10))
        assert server.usage.tokens_asked == 4 * alone.usage.tokens_asked


def test_closing_waits_for_what_is_under_way():
    others = set(threading.enumerate())
    with FakeServer(latency=lambda body: 0.1 * number(body), status_of=lambda body: 404) as fake:
        with backend(fake, model="m", concurrency=2) as server, pytest.raises(BackendError):
            server.generate(crowd(9))
        left = set(threading.enumerate()) - others
        assert not [thread for thread in left if thread.name.startswith("mesa-meanfield-server")]
        with pytest.raises(RuntimeError):
            server.generate(crowd(1))


def test_progress_is_told_in_the_calling_thread():
    heard = []
    watcher = watching(lambda *said: heard.append((*said, threading.get_ident())))
    with FakeServer() as fake, backend(fake) as server, watcher:
        server.generate(crowd(6))
    assert {said[3] for said in heard} == {threading.get_ident()}
    assert sorted({said[1] for said in heard} - {0}) == [1, 2, 3, 4, 5, 6]


def test_a_cancel_leaves_the_rest_unasked():
    def stop(what, done, total):
        if done == 3:
            raise Cancelled("Enough.")

    with FakeServer(latency=0.01) as fake, backend(fake, concurrency=2) as server:
        with watching(stop), pytest.raises(Cancelled):
            server.generate(crowd(200))
        assert len(fake.asked) < 100


@pytest.mark.timeout(30)  # the first wait alone would be 60 seconds
def test_a_cancel_does_not_wait_for_a_server_that_is_to_be_asked_again():
    def stop(what, done, total):
        raise Cancelled("Enough.")

    with FakeServer(statuses=[503] * 99) as fake:
        server = backend(fake, backoff=1000, retries=9)
        with server, watching(stop), pytest.raises(Cancelled):
            server.generate(crowd(4))
    assert len(fake.asked) <= 4


# --- Twins -----------------------------------------------------------------------------------------


def same(seeds, suffix="What do you do?"):
    return [Request("The bridge will be closed.", suffix, seed, SHORT) for seed in seeds]


def test_a_score_is_asked_for_once_per_prompt():
    with FakeServer() as fake, backend(fake) as server:
        scores = server.score([*same(range(5)), *crowd(1), *same([7])], CANDIDATES)
        assert len(fake.asked) == 2
        one = server.usage
        assert (scores[[0, 1, 2, 3, 4]] == scores[6]).all()
        assert (scores[5] != scores[6]).any()
        assert scores[5:].tolist() == server.score([*crowd(1), *same([0])], CANDIDATES).tolist()
        two = server.usage - one
    assert (one.calls, two.calls) == (7, 2)
    assert one.tokens_computed == two.tokens_computed
    assert one.tokens_asked > two.tokens_asked == two.tokens_computed


def test_wholly_equal_requests_are_asked_once():
    with FakeServer() as fake, backend(fake) as server:
        replies = server.generate(same([1, 2, 1, 1]))
        assert len(fake.asked) == 2
        assert replies[0] == replies[2] == replies[3] != replies[1]
        assert server.usage.calls == 4
        assert server.usage.tokens_asked > server.usage.tokens_computed


def test_progress_counts_twins():
    heard = []
    with FakeServer() as fake, backend(fake) as server, watching(lambda *said: heard.append(said)):
        server.score(same(range(5)), CANDIDATES)
    assert heard[-1] == ("choices", 5, 5)


def test_a_failure_is_that_of_all_twins():
    with FakeServer(status_of=lambda body: 503) as fake, backend(fake, retries=0) as server:
        with pytest.raises(BackendUnavailable, match="so did all 3 requests of the batch"):
            server.generate(same([1, 1, 1]))
        assert (len(fake.asked), server.usage.calls) == (1, 3)


# --- Several samples of one request ----------------------------------------------------------------


def test_requests_that_differ_in_their_seeds_alone_are_asked_together():
    asked = [*same([5, 6, 7, 8, 9, 5]), *same([5, 6], "And now?"), *same([3])]
    with FakeServer(samples=9) as fake, backend(fake, samples_per_request=4) as server:
        replies = server.generate(asked)
        bodies = sorted((body["messages"][-1]["content"], body["seed"], body.get("n")) for body in fake.asked)
        assert bodies == [("And now?", 5, 2), ("What do you do?", 5, 4), ("What do you do?", 9, 2)]
        assert replies == server.generate(asked)
    assert replies[0] == replies[5]
    assert len({reply.text for reply in replies}) == 8
    with FakeServer() as fake, backend(fake) as server:
        alone = server.generate(asked)
    assert [place for place in range(9) if replies[place] == alone[place]] == [0, 4, 5, 6]  # the first of each


def test_what_samples_cost_is_counted_as_if_each_were_asked_alone():
    with FakeServer(samples=4, reply=lambda body: "one two three") as fake, backend(fake) as alone:
        alone.generate(same(range(4)))
        with backend(fake, samples_per_request=4) as server:
            server.generate(same(range(4)))
    assert (server.usage.calls, server.usage.tokens_asked) == (4, alone.usage.tokens_asked)
    assert alone.usage.tokens_computed - server.usage.tokens_computed == 3 * (alone.usage.tokens_asked // 4 - 3)


@pytest.mark.parametrize("given", [1, 3])
def test_texts_that_do_not_come_are_asked_for_singly(given, caplog):
    with FakeServer() as fake, backend(fake) as server:
        alone = server.generate(same(range(10)))
    with FakeServer(samples=given) as fake, backend(fake, samples_per_request=5, concurrency=1) as server:
        replies = server.generate(same(range(10)))
        assert [place for place in range(10) if replies[place] == alone[place]] == [0, *range(given, 10)]
        assert [body.get("n") for body in fake.asked] == [5] + [None] * (10 - given)
        assert server.usage.calls == 10
        assert server.generate(same(range(10))) == alone
    assert f"{fake.url} takes no n and is asked without from now on" in caplog.text


@pytest.mark.parametrize("why", ["unknown", "too many"])
def test_a_server_that_refuses_several_samples_is_asked_singly(why):
    takes = OPENAI_FIELDS | {"top_k", "min_p"} if why == "unknown" else None
    refuse = lambda body: 400 if takes is None and body.get("n", 1) > 4 else None  # noqa: E731
    with FakeServer(takes=takes, status_of=refuse, samples=9) as fake:
        with backend(fake, samples_per_request=5, concurrency=1) as server:
            replies = server.generate(same(range(10)))
            assert [body.get("n") for body in fake.asked] == [5] + [None] * 10
            assert (server.usage.calls, server.usage.retries) == (10, 1)
        with backend(fake) as server:
            assert replies == server.generate(same(range(10)))


def test_a_failure_is_that_of_all_samples():
    bad = lambda body: 400 if body["messages"][-1]["content"] == "Bad." else None  # noqa: E731
    with FakeServer(status_of=bad, samples=9) as fake, backend(fake, samples_per_request=3) as server:
        replies = server.generate([*same(range(3), "Bad."), *same(range(3))])
        assert [reply.failure is None for reply in replies] == [False] * 3 + [True] * 3
        assert server.usage.calls == 6
