"""The prompts of a run for its readers: its templates with their hashes, and an example of what was asked."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mesa_meanfield.prompts
from mesa_meanfield.backends.watched import Call, WatchedBackend
from mesa_meanfield.directory import json_text
from mesa_meanfield.errors import DataError
from mesa_meanfield.prompts import TEMPLATES, Prompts
from mesa_meanfield.protocols import Backend

PROMPTS = "prompts.json"
_SHIPPED = Path(mesa_meanfield.prompts.__file__).parent / "templates"
_MOST = 8  # examples: one of each kind of question and adapter


class Examples:
    """Keeps the first question of each kind: of a decision, a text, a summary, each adapter's apart."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []  # Any: JSON
        self._kinds: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()

    def watch(self, backend: Backend) -> WatchedBackend:
        """The backend whose questions are looked at."""

        def look(call: Call, asked: Backend) -> nullcontext[None]:
            self._look(call, asked.name)
            return nullcontext()

        return WatchedBackend(backend, look)

    def _look(self, call: Call, model: str) -> None:
        if not call.requests:
            return
        first = call.requests[0]
        sampling = first.sampling if call.kind == "reply" else None
        kind = (model, call.kind, first.adapter, sampling, tuple(call.candidates))
        with self._lock:
            if kind in self._kinds or len(self.found) == _MOST:
                return
            self._kinds.add(kind)
            told: dict[str, Any] = {"kind": call.kind, "model": model, "adapter": first.adapter}
            if sampling is not None:
                told |= {"seed": first.seed, "sampling": {n: getattr(sampling, n) for n in sampling.__slots__}}
            if call.candidates:
                told["candidates"] = list(call.candidates)
            self.found.append({**told, "prefix": first.prefix, "suffix": first.suffix})


def write_prompts(folder: Path, prompts: Iterable[Prompts], examples: Examples | None = None) -> None:
    """Write the templates in use, and the examples found so far."""
    told = {"templates": _templates(prompts), "examples": [] if examples is None else examples.found}
    text = json_text(told, indent=2) + "\n"
    (folder / PROMPTS).write_text(text, encoding="utf-8", errors="backslashreplace")


def check_prompts(folder: Path, prompts: Iterable[Prompts]) -> None:
    """See that the templates are those that a run was begun with: with others, all would be asked anew.

    Raises:
        DataError: One of them is another.
    """
    try:
        before = json.loads((folder / PROMPTS).read_text(encoding="utf-8"))["templates"]
        hashes = {(lang, name): one["sha256"] for lang, of in before.items() for name, one in of.items()}
    except FileNotFoundError:  # killed before they were written
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / PROMPTS}: cannot be read ({error}); begin anew with another --out") from error
    for language, of in _templates(prompts).items():
        for name, one in of.items():
            if hashes.get((language, name)) != one["sha256"]:
                raise DataError(
                    f"{folder / PROMPTS}: the template {language}/{name}.j2 has changed since; "
                    "begin anew with another --out"
                )


def _templates(prompts: Iterable[Prompts]) -> dict[str, dict[str, Mapping[str, str]]]:
    """Language -> template -> its text and hash."""
    return {one.language: {name: _template(one, name) for name in TEMPLATES} for one in prompts}


def _template(prompts: Prompts, name: str) -> Mapping[str, str]:
    own = None if prompts.folder is None else prompts.folder / f"{name}.j2"
    file = own if own is not None and own.is_file() else _SHIPPED / prompts.language / f"{name}.j2"
    content = file.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "text": content.decode(errors="replace")}
