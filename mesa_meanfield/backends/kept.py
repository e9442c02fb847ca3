"""Local models that are loaded once in a process, however many Mesa models are made with their spec string.

A visualization's Reset and every run of a parameter sweep make a new Mesa model; weights take seconds to load.
"""

from __future__ import annotations

import functools
import threading

from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.load import is_server, load_backend
from mesa_meanfield.protocols import Backend

_loading = threading.Lock()


def kept_backend(given: str | Backend) -> Backend:
    """The backend that a spec string names, its weights kept for the next one who asks; anything else as it is.

    A local model is shared by all, in any thread, through one `BatchingBackend`. It knows no Mesa model, and so
    keeps none alive. Servers, logs and scripted backends hold no weights: each caller gets one of its own.

    Args:
        given: As for `load_backend`, or a backend.

    Raises:
        BackendError: The spec is unknown, or the model cannot be loaded. The next call tries again.
        DataError: There is no call log to replay.
    """
    if not isinstance(given, str):
        return given
    if given == "scripted" or given.startswith("replay:") or is_server(given):
        return load_backend(given)
    with _loading:  # two pages that open at once load one model
        return _local(given)


@functools.cache
def _local(spec: str) -> BatchingBackend:
    return BatchingBackend(load_backend(spec))
