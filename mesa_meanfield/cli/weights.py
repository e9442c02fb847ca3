"""What is known of a model's weights, for records: their hashes or revision, and how they were run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import split_dtype
from mesa_meanfield.backends.local.embedded import gguf_sha256
from mesa_meanfield.machine import machine
from mesa_meanfield.protocols import Backend


def weights_of(spec: str, backend: Backend) -> dict[str, Any]:  # Any: JSON
    """The weights that answered.

    Returns:
        For a local model ``sha256`` (its weight files' hashes by name), ``revision`` (on the hub), ``device``
        and ``dtype``, as far as they are known; nothing for others: what a server runs, it does not say.
    """
    model: Any = getattr(backend, "model", None)  # Any: a transformers model, or a server's name for its own
    if not hasattr(model, "config"):
        return {}
    return {
        "sha256": _hashes(spec),
        "revision": getattr(model.config, "_commit_hash", None),
        "device": str(getattr(model, "device", None)),
        "dtype": str(getattr(model, "dtype", None)).removeprefix("torch."),
    }


def hardware() -> dict[str, Any]:  # Any: JSON
    """The machine, without the versions that stand elsewhere."""
    return {name: one for name, one in machine().items() if name not in ("python", "versions")}


def _hashes(spec: str) -> dict[str, str]:
    spec, _ = split_dtype(spec)
    if spec in ("embedded", "local"):
        return {"GGUF": gguf_sha256()}
    if spec.endswith(".gguf"):
        files = [Path(spec.removeprefix("gguf:"))]
    else:
        files = sorted(Path(spec.removeprefix("hf:")).expanduser().glob("*.safetensors"))
    found = {}
    for file in files:
        with file.open("rb") as opened:
            found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found
