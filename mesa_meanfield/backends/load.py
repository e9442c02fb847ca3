"""A spec string -> a backend, so that a model is one argument everywhere."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from mesa_meanfield.backends.http import checked_url
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.errors import BackendError
from mesa_meanfield.protocols import Backend

SPECS = (
    "embedded (SmolLM2-135M-Instruct, fetched once), hf:NAME-OR-FOLDER, FILE.gguf, each with @bf16, @fp16 or @fp32 "
    "behind it where it is to be computed so, "
    "http://HOST:PORT/v1#MODEL, scripted (no model), or replay:RUN (the answers that a run recorded)"
)
"""What a spec string can be, for help texts and errors."""
_REPLAY = "replay:"
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def split_dtype(spec: str) -> tuple[str, str | None]:
    """A local model's spec string -> the model, and torch's name of the dtype behind its ``@``, None without one."""
    model, _, word = spec.rpartition("@")
    return (model, _DTYPES[word]) if model and word in _DTYPES else (spec, None)


def is_server(spec: str) -> bool:
    """Whether a spec string names a server; anything with an address or a user in it does."""
    model, _ = split_dtype(spec)
    local = model.startswith(("hf:", "embedded@", "local@", _REPLAY)) or model.endswith(".gguf")
    return not local and ("://" in model or "@" in model)


def load_backend(
    spec: str = "embedded", *, batch: int | None = None, adapter: str | Path | None = None, device: str | None = None
) -> Backend:
    """Load the backend that a spec string names.

    Args:
        spec: ``embedded``, ``hf:NAME-OR-FOLDER``, ``FILE.gguf``, ``http://HOST:PORT/v1#MODEL``, ``scripted``;
            ``replay:RUN`` for the answers in a run's call log, with the model's name as ``replay:RUN#NAME``
            where it has several models'. A local model is computed in bf16 on GPUs and in fp32 on CPUs;
            ``embedded@bf16`` and the like say otherwise. CPUs with AMX take bf16 several times faster.
        batch: Requests per sub-batch of a local model, or at once under way to a server; changes no result.
            By default what is fast and fits into memory; 16 for a server.
        adapter: A peft adapter's folder, for local models.
        device: Where a local model runs; by default CUDA where there is any, else MPS, else the CPU.

    Raises:
        BackendError: The spec is unknown, or the model cannot be loaded.
        DataError: There is no call log to replay.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    remote = is_server(spec)
    if remote:
        checked_url(spec.partition("#")[0])  # before any message could show a password
    if adapter is not None and (remote or spec == "scripted" or spec.startswith(_REPLAY)):
        raise BackendError("An adapter needs a local model; for a server, start the server with the adapter")
    if spec == "scripted":
        return ScriptedBackend()
    if spec.startswith(_REPLAY):
        from mesa_meanfield.backends.log import replayed

        run, _, name = spec.removeprefix(_REPLAY).partition("#")
        return replayed(run, name or None)
    if remote:
        from mesa_meanfield.backends.server import ServerBackend

        url, _, model = spec.partition("#")
        return ServerBackend(url, model or None, concurrency=batch or 16)
    model, dtype = split_dtype(spec)
    if not (model in ("embedded", "local") or model.startswith("hf:") or model.endswith(".gguf")):
        raise BackendError(f"Unknown backend {spec!r}; expected {SPECS}")
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise BackendError(f"Backend {spec!r} needs torch and transformers: pip install 'mesa-meanfield[local]'")
    # Read when torch is first imported. Threads that wait should sleep soon: with GNU OpenMP's own setting two
    # processes that share the cores slow each other by ten times and more (docs/LOG.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from mesa_meanfield.backends.local.loading import load_local

    return load_local(model, dtype=dtype, batch=batch, adapter=adapter, device=device)
