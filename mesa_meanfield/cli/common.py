"""What the commands that simulate have in common: their arguments, models and directories."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import itertools
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mesa_meanfield
import mesa_meanfield_models.cascade
from mesa_meanfield import __version__
from mesa_meanfield.cascades.dimensions import known_labels, label_of
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cli.output import note
from mesa_meanfield.data import Action, Cascade
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.items import language_of
from mesa_meanfield.prompts import LANGUAGES, Prompts
from mesa_meanfield.protocols import Backend, Request, Sampling
from mesa_meanfield.summarizers import SUMMARIZERS as SUMMARIZERS
from mesa_meanfield.summarizers import summarizer_named as summarizer_named

SHIPPED = Path(mesa_meanfield_models.cascade.__file__).parent / "data" / "synthetic.jsonl"


def seed(given: str) -> int:
    """A seed from the command line.

    Raises:
        ValueError: It is no whole number or below zero.
    """
    if (number := int(given)) < 0:
        raise ValueError("a seed is at least 0")
    return number


def read_data(data: Path | None) -> tuple[list[Cascade], str]:
    """The cascades of a file, or the shipped ones, and what messages call them."""
    return (read_cascades(SHIPPED), "the shipped cascades") if data is None else (read_cascades(data), str(data))


def prompts_in(language: str, folder: Path | None) -> Prompts:
    """The prompts in a language, or else in English, which is told."""
    known = language if language in LANGUAGES else "en"
    if known != language:
        note(f"there are no prompts in language {language!r}; taking those in {known!r}")
    return Prompts(known, folder)


def read_files(files: Sequence[Path] | None) -> tuple[list[Cascade], dict[str, str]]:
    """The cascades of several files, each once, or the shipped ones; and the files with their hashes."""
    if not files:
        return read_data(None)[0], {SHIPPED.name: sha256(SHIPPED)}
    found = {(cascade.dataset, cascade.id): cascade for file in files for cascade in read_cascades(file)}
    names = Counter(file.name for file in files)
    return list(found.values()), {file.name if names[file.name] == 1 else str(file): sha256(file) for file in files}


def prompts_of(cascades: Iterable[Cascade], folder: Path | None) -> dict[str, Prompts]:
    """The prompts of some cascades, by language."""
    found: dict[str, Prompts] = {}
    for cascade in cascades:
        if (language := language_of(cascade)) not in found:
            found[language] = prompts_in(cascade.language, folder)
    return found


def note_labels(actions: Sequence[Action], dimension: str, labels: Sequence[str]) -> None:
    """Tell of labels that may be slips, and of actions that have none."""
    known = known_labels(dimension)
    if known and (odd := [label for label in labels if label not in known]):
        note(f"{dimension} is known with the labels {', '.join(known)}; the data also has {', '.join(odd)}")
    without = sum(label_of(action, dimension) is None for action in actions)
    if without:
        note(f"{without} of {len(actions)} recorded actions have no label of {dimension!r} and count nowhere")


def probe(backend: Backend) -> None:
    """Ask a server one short thing, so that one that is down or refuses is told before anything is written.

    Raises:
        BackendError: It does not answer, or not as it should.
    """
    failure = backend.generate([Request("", "Say yes.", sampling=Sampling(max_tokens=1))])[0].failure
    if failure is not None:
        raise BackendError(failure)


def new_directory(name: str) -> Path:
    """A directory under ``runs/`` that is not there yet."""
    now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    for number in itertools.count(1):
        path = Path("runs") / (f"{now}-{safe}" if number == 1 else f"{now}-{safe}-{number}")
        if not path.exists() and not path.with_name(f"{path.name}.partial").exists():
            break
    return path


def asked_for(given: argparse.Namespace, *without: str) -> dict[str, Any]:  # Any: JSON
    """The arguments as JSON values, but for some."""
    left = {"do", "json", "command", *without}
    return {key: _plain(value) for key, value in vars(given).items() if key not in left}


def circumstances() -> Mapping[str, Any]:  # Any: JSON
    """When and with which versions something is done; the git revision is null where there is no checkout."""
    packages = ("mesa", "numpy", "torch", "transformers", "peft", "accelerate")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "mesa_meanfield": __version__,
        "revision": _revision(Path(mesa_meanfield.__file__).parents[1]),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages if _installed(name)},
    }


def _revision(root: Path) -> str | None:
    """The commit of a git checkout, with ``-dirty`` behind it where tracked files differ; None where it is none."""
    if not (root / ".git").exists():  # a package installed somewhere inside another repository is no checkout of it
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout that it refuses
        return None
    return done.stdout.strip() or None


def sha256(file: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
