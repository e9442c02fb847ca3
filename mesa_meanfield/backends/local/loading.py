"""Weights from a folder, a hub, a GGUF file or the cache -> a `LocalBackend`.

Weights are read as safetensors or GGUF, never as pickles; code that comes with a model is never run.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers

from mesa_meanfield.backends.local.adapters import check_complete, put_on
from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.backends.local.embedded import MODEL, fetch
from mesa_meanfield.errors import BackendError

_SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
Loaded = tuple[Any, Any]  # a transformers model and its tokenizer: the library leaves their classes open


def load_local(
    spec: str,
    *,
    dtype: str | None = None,
    batch: int | None = None,
    adapter: str | Path | None = None,
    device: str | None = None,
) -> LocalBackend:
    """Load a model for inference.

    Args:
        spec: ``embedded``, ``hf:NAME-OR-FOLDER`` or ``FILE.gguf``.
        dtype: In what it is computed, by torch's name; by default float32 on the CPU and bfloat16 elsewhere.
            Another one is part of the backend's name: its answers differ.
        batch: Requests per sub-batch; by default as many as are fast and fit into memory.
        adapter: A peft adapter's folder, put on the model for every request.
        device: A torch device; by default CUDA where there is any, else MPS, else the CPU.

    Raises:
        BackendError: The model or the adapter cannot be loaded; one line says why.
    """
    with _one_line(f"device {device}"):
        place = torch.device(device or _best_device())
        torch.empty(1, device=place)
    usual = torch.float32 if place.type == "cpu" else torch.bfloat16
    kind: torch.dtype = usual if dtype is None else getattr(torch, dtype)
    folder = str(fetch()) if spec in ("embedded", "local") else ""  # outside _quiet, which would hide its progress
    with _quiet(), _one_line(spec):
        if spec.endswith(".gguf"):
            model, tokenizer = _read_gguf(Path(spec.removeprefix("gguf:")), kind)
            name = Path(spec).name
        else:
            source = folder or spec.removeprefix("hf:")
            name = MODEL if spec in ("embedded", "local") else spec
            model, tokenizer = _read(source, kind)
    if kind != usual:
        name = f"{name}@{_SHORT[kind]}"
    if adapter is not None:
        with _quiet(), _one_line(f"adapter {adapter}"):
            model = put_on(model, "default", Path(adapter))
            name = f"{name}+{Path(adapter).name}"
    with _one_line(name):
        model = model.to(place).eval()
    return LocalBackend(model, tokenizer, name=name, batch=batch)


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the weights and tokenizer of a GGUF file as safetensors, dequantised to fp32."""
    with _quiet(), _one_line(str(file)):
        model, tokenizer = _read_gguf(file, torch.float32)
        model.hf_quantizer = None  # save_pretrained refuses a model that says it is quantised
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _read(source: str, dtype: torch.dtype) -> Loaded:
    here = Path(source).expanduser()
    if source.startswith((".", "/", "~")) and not here.is_dir():
        raise BackendError(f"{source}: no such folder; hf: takes a model's folder or its name on the hub")
    place = str(here) if here.is_dir() else source
    safe = {"trust_remote_code": False, "local_files_only": here.is_dir()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, **safe)
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        place, dtype=dtype, use_safetensors=True, output_loading_info=True, **safe
    )
    check_complete(source, found["missing_keys"])
    return model, tokenizer


def _read_gguf(file: Path, dtype: torch.dtype) -> Loaded:
    if not file.is_file():
        raise BackendError(f"{file}: no such GGUF file")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise BackendError(f"{file}: this is no GGUF file")
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    return transformers.AutoModelForCausalLM.from_pretrained(**place, dtype=dtype), tokenizer


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever the libraries raise about a model that does not load, said on one line."""
    try:
        yield
    except BackendError:
        raise
    except torch.OutOfMemoryError as error:
        raise BackendError(f"{what} does not fit into the device's memory; take a smaller model") from error
    except Exception as error:  # each library has its own: SafetensorError, struct.error, TypeError, ...
        said = " ".join(str(error).split())
        raise BackendError(f"{what} could not be loaded: {said[:300] or type(error).__name__}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' own bars and notes are not for the users of this package."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF reader draws its bar whatever it is told
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
