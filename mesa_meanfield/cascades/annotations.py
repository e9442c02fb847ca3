"""Gold labels of RumourEval and PHEME, in the files that the data sets have them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesa_meanfield.cascades.conversion import Conversion
from mesa_meanfield.cascades.records import BrokenRecord, Count, Record, load_json, parse
from mesa_meanfield.errors import DataError

_STANCES = frozenset({"support", "deny", "query", "comment"})
_VERACITIES = frozenset({"true", "false", "unverified"})


@dataclass(slots=True)
class Labels:
    """What the label files say."""

    stance: dict[str, str] = field(default_factory=dict)
    veracity: dict[str, str] = field(default_factory=dict)
    joint: bool = False
    """Whether both tasks stand in one file, as in 2019."""

    def __contains__(self, identity: str) -> bool:
        return identity in self.stance or identity in self.veracity

    def of(self, identity: str) -> dict[str, str]:
        """The labels of one post."""
        return {"stance": self.stance[identity]} if identity in self.stance else {}


def read_labels(files: Sequence[Path], job: Conversion, *, wanted: bool) -> Labels:
    """Read RumourEval's label files: id -> label, in 2019 under the name of the task.

    Args:
        files: Which ones.
        job: Hears of files that are broken.
        wanted: Whether each of them must hold labels; else those that hold none are passed over.

    Raises:
        DataError: Two files give one post different labels, or a wanted file holds none.
    """
    labels, origin = Labels(), dict[tuple[str, str], Path]()
    for file in files:
        try:
            content = load_json(file)
        except BrokenRecord as broken:
            if wanted:
                raise DataError(str(broken)) from None
            job.leave_out(broken)
            continue
        found = list(_pairs(content))
        if wanted and not found:
            raise DataError(f"{file}: holds no labels; expected post id -> label")
        labels.joint |= bool(found) and any(key.startswith("subtask") for key in content)
        for identity, label in found:
            task = "stance" if label in _STANCES else "veracity"
            known = getattr(labels, task)
            if known.setdefault(identity, label) != label:  # answers of some system lie beside the gold labels
                where = origin[task, identity]
                raise DataError(f"{where} and {file} give a post different labels; name the right ones with --labels")
            origin.setdefault((task, identity), file)
    return labels


def _pairs(content: Any) -> Iterator[tuple[str, str]]:  # Any: JSON
    if not isinstance(content, dict):
        return
    for identity, label in content.items():
        if identity.startswith("subtask"):
            yield from _pairs(label)
        elif isinstance(label, str) and label in _STANCES | _VERACITIES:
            yield identity, label


class _Annotation(Record):
    is_rumour: str | None = None
    misinformation: Count = None
    true: Count = None


def read_annotation(file: Path) -> tuple[bool | None, str | None]:
    """PHEME's annotation of a thread: whether it is a rumour, and its veracity; None where nothing is said.

    Raises:
        BrokenRecord: The file cannot be read, or calls the story both true and false.
    """
    if not file.is_file():
        return None, None
    said = parse(_Annotation, load_json(file), str(file))
    if said.misinformation and said.true:
        raise BrokenRecord(f"{file}: says both misinformation and true")
    rumour = {"rumour": True, "nonrumour": False, "non-rumour": False}.get(said.is_rumour or "")
    if rumour is False or (said.misinformation is None and said.true is None):
        return rumour, None
    return rumour, "true" if said.true else "false" if said.misinformation else "unverified"
