"""What every backend promises: whoever wraps or replaces one can rely on this."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fake_server import FakeServer

from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.budget import Budget
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.backends.log import LoggedBackend
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.backends.server import ServerBackend
from mesa_meanfield.errors import Cancelled
from mesa_meanfield.progress import watching
from mesa_meanfield.protocols import Backend, Reply, Request, Sampling, Scorer, Usage

SECRET = "sk-contract-0123456789"
CANDIDATES = ("share", "doubt", "ignore")
SHORT = Sampling(max_tokens=8)
CROWD = [
    Request("A rumour says that the bridge will be closed.", f"I am number {i}. What do you do?", i, SHORT)
    for i in range(7)
]


@contextmanager
def server() -> Iterator[ServerBackend]:
    with FakeServer() as fake, ServerBackend(fake.url, concurrency=3) as backend:
        yield backend


def tiny() -> AbstractContextManager[Backend]:
    tiny_models = pytest.importorskip("tiny_models", reason="optional: local models need torch")
    return nullcontext(tiny_models.backend("llama"))


def embedded() -> AbstractContextManager[Backend]:
    return nullcontext(load_backend("embedded", batch=3))


@contextmanager
def logged() -> Iterator[LoggedBackend]:
    with TemporaryDirectory() as folder, closing(CallLog(Path(folder) / "log")) as log:
        yield LoggedBackend(ScriptedBackend(), log)


BACKENDS: dict[str, Callable[[], AbstractContextManager[Backend]]] = {
    "scripted": lambda: nullcontext(ScriptedBackend()),
    "batching": lambda: nullcontext(BatchingBackend(ScriptedBackend(), max_wait=0)),
    "budgeted": lambda: nullcontext(Budget(calls=1000).watch(ScriptedBackend())),
    "logged": logged,
    "server": server,
    "local-tiny": tiny,
    "embedded": embedded,
}
"""Name -> a fresh backend. A further one is a line here and a param, with its marks, below."""


@pytest.fixture(
    params=[
        "scripted",
        "batching",
        "budgeted",
        "logged",
        "server",
        pytest.param("local-tiny", marks=pytest.mark.torch),
        pytest.param("embedded", marks=pytest.mark.model),
    ]
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    if request.param == "embedded":
        request.getfixturevalue("embedded_model")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MESA_MEANFIELD_API_KEY", SECRET)
    with BACKENDS[request.param]() as backend:
        yield backend


def test_it_is_a_backend_and_a_scorer(backend):
    assert isinstance(backend, Backend)
    assert isinstance(backend, Scorer)


def test_its_name_is_for_records_and_tells_no_secret(backend):
    assert isinstance(backend.name, str)
    assert backend.name.strip()
    assert SECRET not in backend.name + repr(backend) + str(vars(backend))
    assert backend.name == backend.name


def test_there_is_one_reply_per_request_in_order(backend):
    replies = backend.generate(CROWD)
    assert len(replies) == len(CROWD)
    assert all(isinstance(reply, Reply) and reply.failure is None for reply in replies)
    assert len({reply.text for reply in replies}) > 1
    assert replies == [backend.generate([request])[0] for request in CROWD]


def test_equal_requests_have_equal_replies_whoever_else_is_asked(backend):
    replies = dict(zip(CROWD, backend.generate(CROWD), strict=True))
    assert backend.generate(CROWD[::-1]) == [replies[request] for request in CROWD[::-1]]
    assert backend.generate([CROWD[3], CROWD[0], CROWD[3]]) == [replies[CROWD[i]] for i in (3, 0, 3)]


def test_the_seed_makes_the_reply(backend):
    same = [Request("Say anything.", "Go on.", seed, SHORT) for seed in range(12)]
    assert len({reply.text for reply in backend.generate(same)}) > 1


def test_nobody_asked_nothing_said(backend):
    assert backend.generate([]) == []
    assert backend.score([], CANDIDATES).shape == (0, len(CANDIDATES))
    assert (backend.usage.calls, backend.usage.tokens_asked) == (0, 0)


def test_scores_are_log_probabilities_of_replies_that_exclude_each_other(backend):
    scores = backend.score(CROWD, CANDIDATES)
    assert scores.shape == (len(CROWD), len(CANDIDATES))
    assert scores.dtype == np.float64
    assert not np.isnan(scores).any()
    assert (scores <= 0).all()
    assert (np.exp(scores).sum(axis=1) <= 1 + 1e-6).all()


def test_a_score_depends_on_its_prompt_alone(backend):
    scores = backend.score(CROWD, CANDIDATES)
    assert len({tuple(row) for row in scores.round(6)}) > 1
    np.testing.assert_allclose(backend.score(CROWD[::-1], CANDIDATES), scores[::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backend.score(CROWD[2:3], CANDIDATES), scores[2:3], rtol=1e-4, atol=1e-5)
    reseeded = [Request(r.prefix, r.suffix, r.seed + 100, r.sampling) for r in CROWD]
    np.testing.assert_allclose(backend.score(reseeded, CANDIDATES), scores, rtol=1e-4, atol=1e-5)


def test_a_score_belongs_to_its_candidate_wherever_it_stands(backend):
    scores = backend.score(CROWD, CANDIDATES)
    turned = backend.score(CROWD, CANDIDATES[::-1])
    np.testing.assert_allclose(turned, scores[:, ::-1], rtol=1e-4, atol=1e-5)


def test_a_reply_ends_when_its_tokens_are_spent(backend):
    short = [Request(r.prefix, r.suffix, r.seed, Sampling(max_tokens=2)) for r in CROWD]
    long = [Request(r.prefix, r.suffix, r.seed, Sampling(max_tokens=30)) for r in CROWD]
    assert all(len(reply.text) <= 2 * 24 for reply in backend.generate(short))  # hardly a token is longer
    lengths = [sum(len(reply.text) for reply in backend.generate(crowd)) for crowd in (short, long)]
    assert lengths[0] < lengths[1]


def test_usage_grows_by_what_was_asked(backend):
    backend.generate(CROWD)
    first = backend.usage
    backend.score(CROWD[:4], CANDIDATES)
    second = backend.usage - first
    assert (first.calls, second.calls) == (len(CROWD), 4)
    for usage in (first, second):
        assert isinstance(usage, Usage)
        assert 0 < usage.tokens_computed <= usage.tokens_asked
        assert usage.seconds > 0
        assert (usage.retries, usage.failures) == (0, 0)


@pytest.mark.parametrize("what", ["replies", "choices"])
def test_progress_goes_up_to_the_end(backend, what):
    heard = []
    with watching(lambda *said: heard.append(said)):
        backend.generate(CROWD) if what == "replies" else backend.score(CROWD, CANDIDATES)
    assert heard[-1] == (what, len(CROWD), len(CROWD))
    assert heard == sorted(heard, key=lambda said: said[1])
    assert {said[0] for said in heard} == {what}


@pytest.mark.parametrize("what", ["replies", "choices"])
def test_a_watcher_that_raises_stops_the_call(backend, what):
    def stop(*_):
        raise Cancelled("Enough.")

    with watching(stop), pytest.raises(Cancelled, match=r"Enough\."):
        backend.generate(CROWD) if what == "replies" else backend.score(CROWD, CANDIDATES)
    assert len(backend.generate(CROWD)) == len(CROWD)  # and the next call goes on as ever


def test_any_writing_goes_through(backend):
    crowd = [
        Request("你住在海边的小镇。", "桥要封了，你怎么办？", 1, SHORT),
        Request("🌊 Café", "What now? 🤷🏽‍♀️\x00\u2028", 2, SHORT),
    ]
    replies = backend.generate(crowd)
    assert [reply.failure for reply in replies] == [None, None]
    for reply in replies:
        reply.text.encode()
    assert not np.isnan(backend.score(crowd, CANDIDATES)).any()
