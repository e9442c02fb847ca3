"""Where a training runs: processes, precision and trackers by accelerate, and the base model in its place."""

from __future__ import annotations

import importlib.util
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import load_backend, split_dtype
from mesa_meanfield.cli.output import progress
from mesa_meanfield.errors import BackendError, DataError

DTYPES = ("auto", "float32", "bfloat16", "float16")
PRECISIONS = ("no", "bf16", "fp16")
_NEEDED = ("torch", "transformers", "peft", "accelerate")


def check_installed() -> None:
    """See that a training can run here at all.

    Raises:
        BackendError: A package is missing.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise BackendError(f"tune needs {', '.join(missing)}: pip install 'mesa-meanfield[local]'")


def accelerated(precision: str | None, trackers: list[str]) -> Any:  # Any: it needs torch
    """The accelerator of this process; where its trackers write is still to be said.

    Args:
        precision: One of `PRECISIONS`; None for that of ``accelerate launch``, else bf16 on CUDA and none elsewhere.
        trackers: Accelerate's names of them.

    Raises:
        DataError: There is no such tracker.
        BackendError: A tracker is not installed, or the device cannot do what is asked.
    """
    from accelerate import Accelerator, PartialState

    for name in trackers:
        _check_tracker(name)
    try:
        if precision is None and "ACCELERATE_MIXED_PRECISION" not in os.environ:
            precision = "bf16" if PartialState().device.type == "cuda" else "no"
        return Accelerator(mixed_precision=precision, log_with=trackers or None, project_dir=".")
    except (ValueError, ImportError) as error:  # as where fp16 is asked of a CPU
        raise BackendError(f"accelerate: {error}") from error


def _check_tracker(name: str) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if name not in LOGGER_TYPE_TO_CLASS:
        raise DataError(f"--log-with {name}: there is no such tracker; there are {', '.join(LOGGER_TYPE_TO_CLASS)}")
    if name not in [str(one) for one in get_available_trackers()]:
        raise BackendError(f"--log-with {name}: it is not installed: pip install {name.replace('_', '-')}")


def load(spec: str, dtype: str, accelerator: Any, processes: Any) -> Any:  # Any: their modules need torch
    """The base model as a `LocalBackend`, where it is to be trained.

    Args:
        spec: A spec string of a local model.
        dtype: One of `DTYPES`; auto for fp32 on CPUs and bf16 elsewhere.
        accelerator: By `accelerated`.
        processes: Those of the training.

    Raises:
        BackendError: The model cannot be loaded.
    """
    with progress("Backend") if processes.main else nullcontext():
        if dtype == "auto" and not processes.sharded:
            return load_backend(spec, device=str(accelerator.device))
        spec, said = split_dtype(spec)
        backend: Any = load_backend(spec, device="cpu")  # in fp32, from which every other kind follows exactly
    from mesa_meanfield.backends.local.backend import LocalBackend

    usual = "float32" if accelerator.device.type == "cpu" else "bfloat16"
    processes.place(backend.model, (said or usual) if dtype == "auto" else dtype)
    return LocalBackend(backend.model, backend.tokenizer, name=backend.name)


def shared_by_all(path: Path) -> Path:
    """The path that the main process has, in every process: names with the time in them would differ."""
    from accelerate.utils import broadcast_object_list

    return Path(broadcast_object_list([str(path)])[0])


def told(accelerator: Any, backend: Any) -> dict[str, Any]:  # Any: their modules need torch; JSON
    """Where it runs, as records say it."""
    return {
        "processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "dtype": str(backend.model.dtype).removeprefix("torch."),
        "precision": accelerator.mixed_precision,
    }
