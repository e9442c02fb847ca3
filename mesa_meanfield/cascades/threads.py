"""RumourEval 2017 and 2019 and PHEME in their original form: a folder per conversation.

``EVENT/THREAD`` holds ``source-tweet/ID.json``, ``replies/ID.json`` (PHEME: also ``source-tweets``,
``reactions``) and ``structure.json``, the tree of ids. RumourEval has label files beside the events,
PHEME has ``annotation.json`` in each thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesa_meanfield.cascades.annotations import Labels, read_annotation, read_labels
from mesa_meanfield.cascades.conversion import Conversion, Draft, Feed
from mesa_meanfield.cascades.records import BrokenRecord, load_json, visible
from mesa_meanfield.cascades.tweets import read_post
from mesa_meanfield.data import Cascade
from mesa_meanfield.errors import DataError

_SOURCES, _REPLIES = ("source-tweet", "source-tweets"), ("replies", "reactions")
_KINDS = {"rumours": True, "non-rumours": False}
_DOMAINS = {  # what each event was about
    "charliehebdo": "crime",
    "sydneysiege": "crime",
    "ottawashooting": "crime",
    "ferguson": "politics",
    "putinmissing": "politics",
    "prince-toronto": "culture",
    "gurlitt": "culture",
    "ebola-essien": "health",
    "germanwings-crash": "news",
}


def threads(source: Path, job: Conversion, labels: Sequence[Path] = (), dataset: str = "") -> Feed:
    """Read a data set of conversations.

    Args:
        source: A folder in which there are threads, at any depth.
        job: What to do with it.
        labels: RumourEval's label files; only the threads that they label are read. Without any, all
            threads are read, and the label files are looked for in the folder.
        dataset: The name of the data set, unless the job has one; without it RumourEval's.

    Raises:
        DataError: There is no thread, or label files disagree.
    """
    found, beside = _search(source)
    known = read_labels(labels or beside, job, wanted=bool(labels))
    if labels:
        found = [thread for thread in found if _topic_file(thread).stem in known]
    if not found:
        which = "thread that the label files name" if labels else "thread"
        raise DataError(f"{source}: holds no {which}; expected THREAD/source-tweet/ID.json")
    job.name(dataset or ("rumoureval2019" if known.joint else "rumoureval2017"), "en")
    return Feed(len(found), job.every(found, lambda thread: _cascade(thread, known, job)))


def _search(folder: Path) -> tuple[list[Path], list[Path]]:
    """The threads in a folder, and the JSON files that belong to none."""
    if any((folder / name).is_dir() for name in _SOURCES):
        return [folder], []
    found, files = [], []
    for entry in visible(folder):
        if entry.is_dir():
            below, beside = _search(entry)
            found += below
            files += beside
        elif entry.suffix == ".json":
            files.append(entry)
    return found, files


def _cascade(thread: Path, labels: Labels, job: Conversion) -> Cascade | None:
    file = _topic_file(thread)
    topic = read_post(file)
    if topic is None:
        raise BrokenRecord(f"{file}: holds no text")
    identity = topic.action.id
    rumour, veracity = read_annotation(thread / "annotation.json")
    kind = _KINDS.get(thread.parent.name)
    label: dict[str, str | bool | None] = {**labels.of(identity)}
    if rumour is not None or kind is not None:
        label["rumor"] = kind if rumour is None else rumour
    above = _above(thread / "structure.json")
    event = _event(thread, kind is not None)
    return job.cascade(
        identity,
        topic,
        _drafts(thread, above, labels, job),
        label=label,
        veracity=labels.veracity.get(identity, veracity),
        event=event,
        domain=_DOMAINS.get(event or ""),
        above=above,
    )


def _topic_file(thread: Path) -> Path:
    files = [f for name in _SOURCES if (thread / name).is_dir() for f in visible(thread / name)]
    named = [f for f in files if f.suffix == ".json"]
    return named[0] if named else thread / _SOURCES[0] / f"{thread.name}.json"


def _event(thread: Path, sorted_by_kind: bool) -> str | None:
    """The event, where the folder above is one: flat parts of RumourEval lie in a folder called ...-data."""
    above = thread.resolve().parents[1 if sorted_by_kind else 0].name.removesuffix("-all-rnr-threads")
    return None if not above or above.endswith("data") else above


def _above(file: Path) -> dict[str, str]:
    """Post -> the post that it answers, as the tree has it; empty where there is no tree."""
    above: dict[str, str] = {}
    if not file.is_file():
        return above
    open_nodes: list[tuple[str | None, Any]] = [(None, load_json(file))]  # Any: JSON
    while open_nodes:
        parent, below = open_nodes.pop()
        if not isinstance(below, dict):  # leaves are empty lists
            continue
        for identity, further in below.items():
            if parent is not None:
                above.setdefault(identity, parent)
            open_nodes.append((identity, further))
    return above


def _drafts(thread: Path, above: dict[str, str], labels: Labels, job: Conversion) -> Iterator[Draft | None]:
    def read(file: Path) -> Draft | None:
        draft = read_post(file)
        if draft is None:
            job.counts["textless"] += 1
            return None
        action = draft.action
        parent = above.get(action.id, action.parent)
        return replace(draft, action=replace(action, parent=parent, labels=labels.of(action.id)))

    folders = [thread / name for name in _REPLIES if (thread / name).is_dir()]
    return job.every((f for folder in folders for f in visible(folder) if f.suffix == ".json"), read)
