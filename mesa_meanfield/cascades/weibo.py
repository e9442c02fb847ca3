"""The Weibo rumour corpus of Ma et al. (rumdect, IJCAI 2016) in its original form.

A folder ``Weibo`` with one JSON list of posts per event, ``EVENT.json``, whose first post is the topic;
beside it ``Weibo.txt`` with a line ``eid:EVENT label:0|1 POST POST ...`` per event.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mesa_meanfield.cascades.conversion import Conversion, Draft, Feed, known
from mesa_meanfield.cascades.records import (
    BrokenRecord,
    Count,
    Flag,
    Gender,
    Id,
    MaybeId,
    MaybeMoment,
    MaybeText,
    Moment,
    Record,
    Text,
    parse,
    stream_json_list,
    visible,
)
from mesa_meanfield.data import Action, Cascade, Popularity, Profile
from mesa_meanfield.errors import DataError

_LABELS = "Weibo.txt"
_LINE = re.compile(r"eid:(\S+)\s+label:([01])(?!\S)")


def weibo(source: Path, job: Conversion) -> Feed:
    """Read the corpus.

    Args:
        source: The folder that holds ``Weibo`` and ``Weibo.txt``, or the folder of the events, or one event.
        job: What to do with it.

    Raises:
        DataError: There is no event.
    """
    folder = next((f for f in (source / "Weibo", source / "posts") if f.is_dir()), source)
    files = [source] if source.is_file() else [f for f in visible(folder) if f.suffix == ".json"]
    if not files:
        raise DataError(f"{folder}: holds no event; expected Weibo/EVENT.json, each a JSON list of posts")
    job.name("rumdect-weibo", "zh")
    rumours = _labels(folder, job)
    return Feed(len(files), job.every(files, lambda file: _cascade(file, rumours.get(file.stem), job)))


def _cascade(file: Path, rumour: bool | None, job: Conversion) -> Cascade | None:
    def read(post: tuple[int, Any]) -> Draft:  # Any: JSON
        return parse(_Post, post[1], f"{file} post {post[0]}").draft()

    posts = enumerate(stream_json_list(file), 1)
    first = next(posts, None)
    if first is None:
        raise BrokenRecord(f"{file}: holds no post; expected the topic first")
    return job.cascade(
        file.stem,
        read(first),
        job.every(posts, read),
        label={} if rumour is None else {"rumor": rumour},
        veracity="false" if rumour else None,  # what is no rumour was not checked, so it carries no verdict
    )


def _labels(folder: Path, job: Conversion) -> dict[str, bool]:
    """Event -> whether it is a rumour; empty where no file says so."""
    places = (folder, folder.parent, folder.parent.parent)
    file = next((place / _LABELS for place in places if (place / _LABELS).is_file()), None)
    rumours: dict[str, bool] = {}
    if file is None:
        return rumours
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if found := _LINE.match(line):
                rumours[found[1]] = found[2] == "1"
            elif line.strip():
                job.leave_out(BrokenRecord(f"{file} line {number}: expected eid:EVENT label:0 or label:1"))
    return rumours


class _Post(Record):
    """A post. ``text`` is what its author added, ``original_text`` has the quoted chain, too."""

    mid: Id = Field(validation_alias=AliasChoices("mid", "id"))  # parents are told by mid; old posts have two ids
    parent: MaybeId = None
    t: Moment
    text: Text = Field(validation_alias=AliasChoices("text", "original_text"))
    reposts_count: Count = None
    attitudes_count: Count = None
    uid: Id
    screen_name: MaybeText = None
    username: MaybeText = None
    user_description: MaybeText = None
    user_location: MaybeText = None
    followers_count: Count = None
    friends_count: Count = None
    statuses_count: Count = None
    verified: Flag = None
    gender: Gender = None
    user_created_at: MaybeMoment = None

    def draft(self) -> Draft:
        author = Profile(
            key=self.uid,
            description=self.user_description,
            location=self.user_location,
            followers=self.followers_count,
            friends=self.friends_count,
            statuses=self.statuses_count,
            verified=self.verified,
            gender=self.gender,
            created=self.user_created_at,
        )
        action = Action(
            id=self.mid,
            parent=self.parent,
            time=self.t,
            author=author,
            text=self.text,
            popularity=Popularity(reposts=self.reposts_count, likes=self.attitudes_count),
        )
        return Draft(action, known(self.screen_name, self.username, self.uid))
