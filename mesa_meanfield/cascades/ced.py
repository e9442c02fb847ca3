"""CED_Dataset (Song et al., CED, arXiv 1811.04175) in its original form.

``original-microblog/NUMBER_MID_UID.json`` is a topic; the file of the same name in ``rumor-repost`` or
``non-rumor-repost`` is the JSON list of its reposts and comments, which the data does not tell apart.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from mesa_meanfield.cascades.conversion import Conversion, Draft, Feed
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
    load_json,
    parse,
    stream_json_list,
    time_in,
    visible,
)
from mesa_meanfield.data import Action, Cascade, Profile
from mesa_meanfield.errors import DataError

_TOPICS, _RUMOURS, _OTHERS = "original-microblog", "rumor-repost", "non-rumor-repost"
_CHINA = timezone(timedelta(hours=8))
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # of Weibo's short ids, in their order


def ced(source: Path, job: Conversion) -> Feed:
    """Read the data set.

    Args:
        source: The folder ``CED_Dataset``, or the one that holds it.
        job: What to do with it.

    Raises:
        DataError: There is no topic.
    """
    folder = next((f for f in (source, source / "CED_Dataset") if (f / _TOPICS).is_dir()), source)
    files = [f for f in visible(folder / _TOPICS) if f.suffix == ".json"]
    if not files:
        raise DataError(f"{folder / _TOPICS}: holds no topic; expected NUMBER_MID_UID.json")
    job.name("ced-weibo", "zh")
    return Feed(len(files), job.every(files, lambda file: _cascade(file, job)))


def _cascade(file: Path, job: Conversion) -> Cascade | None:
    places = [file.parents[1] / folder / file.name for folder in (_RUMOURS, _OTHERS)]
    reposts = [place for place in places if place.is_file()]
    if len(reposts) != 1:
        raise BrokenRecord(
            f"{file}: expected its reposts in {_RUMOURS} or {_OTHERS}, found {len(reposts)} such files"
        )
    rumour = reposts[0] == places[0]
    _, mid, uid = (file.stem.split("_", 2) + [file.stem] * 2)[:3]
    topic = parse(_Topic, load_json(file), str(file))

    def read(post: tuple[int, Any]) -> Draft:  # Any: JSON
        return parse(_Repost, post[1], f"{reposts[0]} post {post[0]}").draft()

    return job.cascade(
        mid,
        Draft(Action(mid, None, topic.time, topic.author(uid), topic.text), (uid,)),
        job.every(enumerate(stream_json_list(reposts[0]), 1), read),
        label={"rumor": rumour},
        veracity="false" if rumour else None,  # what is no rumour was not checked, so it carries no verdict
    )


def _number(mid: str) -> int:
    """A short id as a number, which grows with time; the files list the latest first."""
    return reduce(lambda number, digit: number * 62 + _DIGITS.find(digit), mid, 0)


class _User(Record):
    """The author of a topic."""

    # Whether there is a description, not the description itself: in the data it is true or false.
    description: Annotated[MaybeText, BeforeValidator(lambda v: None if isinstance(v, bool) else v)] = None
    location: MaybeText = None
    followers: Count = None
    friends: Count = None
    messages: Count = None
    verified: Flag = None
    gender: Gender = None
    time: MaybeMoment = None


class _Topic(Record):
    text: Text
    time: Moment
    user: Annotated[_User | None, BeforeValidator(lambda v: v if isinstance(v, dict) else None)] = None

    def author(self, uid: str) -> Profile:
        user = self.user or _User()
        return Profile(
            key=uid,
            description=user.description,
            location=user.location,
            followers=user.followers,
            friends=user.friends,
            statuses=user.messages,
            verified=user.verified,
            gender=user.gender,
            created=user.time,
        )


def _china_time(value: Any) -> datetime:  # Any: JSON
    return time_in(value, "%Y-%m-%d %H:%M:%S").replace(tzinfo=_CHINA)


class _Repost(Record):
    """A repost or comment; its text is what its author added."""

    mid: Id
    uid: Id
    parent: MaybeId = None
    text: Text
    date: Annotated[Moment, BeforeValidator(_china_time)]

    def draft(self) -> Draft:
        action = Action(self.mid, self.parent, self.date, Profile(self.uid), self.text)
        return Draft(action, (self.uid,), order=_number(self.mid))
