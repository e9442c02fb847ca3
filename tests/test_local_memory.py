"""Where memory does not suffice, batches are halved, and nobody's answer changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch
from tiny_models import model, one_thread, tokenizer

from mesa_meanfield.backends.local import memory
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.protocols import Request, Sampling

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]

TOWN = "You live in a small town by the sea. A rumour says that the old bridge will be closed."
STATES = ("I am a baker.", "I am a teacher, and I heard it at the market.", "I fish.")
PLACES = (TOWN, "You live on a hill.", f"{TOWN} It is old.", "You live by the sea.")
CROWD = [
    Request(place, f"{state} {n}", 10 * n, Sampling(max_tokens=8))
    for place in PLACES
    for n, state in enumerate(STATES)
]
CROWD += [CROWD[0], CROWD[4]]  # twins
WORDS = ("share", "share it", "never in my life")
ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB."),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
    "MPS": RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB, max allowed: 1.13 GB)."),
}
errors = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
asks = pytest.mark.parametrize("ask", ["score", "generate"])


@pytest.fixture(scope="module")
def _single():
    with one_thread():
        yield


def narrow(rows, error, batch=16, **settings):
    """A backend whose device takes so many rows at once, with the list of all that were tried."""
    own, tried = model("llama", **settings), []
    backend = LocalBackend(own, tokenizer("llama"), name="narrow", batch=batch)

    def check(_, given, named):
        tried.append(len(named["input_ids"]))
        if tried[-1] > rows:
            raise error

    own.register_forward_pre_hook(check, with_kwargs=True)
    return backend, tried


def asked(ask, backend, requests=CROWD):
    return backend.score(requests, WORDS).tolist() if ask == "score" else backend.generate(requests)


@asks
@errors
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 11])
def test_answers_are_those_of_a_larger_device(ask, error, rows):
    wide, _ = narrow(99, error)
    backend, tried = narrow(rows, error)
    expected = asked(ask, wide)
    found = asked(ask, backend)
    assert max(tried) > rows
    assert found == (expected if ask == "generate" else [pytest.approx(row, abs=1e-4) for row in expected])
    assert backend.usage.tokens_asked == wide.usage.tokens_asked
    assert backend.usage.calls == wide.usage.calls


@asks
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("batch", [16, None])
def test_later_calls_begin_with_what_fitted(ask, attention, batch):
    backend, tried = narrow(5, ERRORS["CUDA"], batch, attn_implementation=attention)
    first = asked(ask, backend)
    assert sum(rows > 5 for rows in tried) in (1, 2)  # 14 rows, or 7, did not fit
    tried.clear()
    again = asked(ask, backend)
    assert 1 < max(tried) <= 5
    assert again == (first if ask == "generate" else [pytest.approx(row, abs=1e-4) for row in first])


@asks
@errors
def test_one_request_that_does_not_fit_is_told_on_one_line(ask, error):
    backend, _ = narrow(0, error)
    with pytest.raises(
        BackendError, match=r"^narrow: out of memory with one request; take a smaller model"
    ) as caught:
        asked(ask, backend)
    assert "\n" not in str(caught.value)
    assert not caught.value.retryable


@asks
def test_memory_that_came_back_is_enough(ask):
    backend, _ = narrow(0, ERRORS["CUDA"])
    with pytest.raises(BackendError):
        asked(ask, backend)
    backend.model._forward_pre_hooks.clear()
    wide, _ = narrow(99, ERRORS["CUDA"])
    expected = asked(ask, wide)
    assert asked(ask, backend) == (expected if ask == "generate" else [pytest.approx(r, abs=1e-4) for r in expected])


@asks
@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("out of memory")], ids=repr)
def test_other_errors_are_not_taken_for_it(ask, error):
    backend, tried = narrow(2, error)
    with pytest.raises(type(error), match=str(error)):
        asked(ask, backend)
    assert sum(rows > 2 for rows in tried) == 1


# --- What fits -------------------------------------------------------------------------------------


def test_the_bytes_of_a_row_by_hand():
    config = model("llama").config
    config.vocab_size = 400
    tokens, layers, key_heads, size, heads, hidden, inner = 10, 2, 2, 8, 4, 32, 64
    cache = 2 * (2 * layers * key_heads * size * tokens * 4)  # keys and values, twice while rows leave
    layer = tokens * (4 * hidden + 3 * inner) * 4 + 2 * (heads * tokens * tokens * 4)
    logits = 400 * 4 + 400 * 3 * 8
    assert memory.row_bytes(config, tokens, torch.float32) == cache + layer + logits == 5120 + 16000 + 11200
    half = cache // 2 + tokens * (4 * hidden + 3 * inner) * 2 + 2 * heads * tokens * tokens * 4 + 400 * 2 + 400 * 24
    assert memory.row_bytes(config, tokens, torch.bfloat16) == half


def test_a_config_need_not_say_everything():
    config = model("gpt_neox").config  # as many key heads as heads, and no size of theirs
    cache = 2 * 2 * config.num_hidden_layers * config.hidden_size * 10 * 4
    assert memory.row_bytes(config, 10, torch.float32) - memory.row_bytes(config, 0, torch.float32) > cache


def test_a_cpu_takes_rows_for_speed_alone():
    assert memory.rows_that_fit(model("llama"), 10) == memory.rows_that_fit(model("llama"), 10_000) == 32


@pytest.mark.parametrize(
    ("free", "rows"),
    [(0, 1), (32_320, 1), (10 * 32_320 / 0.8, 10), (1 << 40, 1024)],  # a row of 10 tokens takes 32,320 bytes
)
def test_a_gpu_takes_as_many_as_fit_into_what_is_free(free, rows, monkeypatch):
    config = model("llama").config
    config.vocab_size = 400
    gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, config=config)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free / 2, 1 << 40))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: free / 2 + 500)  # torch keeps it for later
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    assert memory.rows_that_fit(gpu, 10) == rows
