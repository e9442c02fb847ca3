"""Posts of Twitter and Reddit as their programming interfaces gave them, one file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mesa_meanfield.cascades.conversion import Draft, known
from mesa_meanfield.cascades.records import (
    Count,
    Flag,
    Id,
    MaybeId,
    MaybeMoment,
    MaybeText,
    Moment,
    Record,
    Text,
    load_json,
    parse,
)
from mesa_meanfield.data import Action, Popularity, Profile


def read_post(file: Path) -> Draft | None:
    """Read one post; None for a placeholder of Reddit, which has no text.

    Raises:
        BrokenRecord: It is not what it should be; says where.
    """
    values = load_json(file)
    if isinstance(values, dict) and isinstance(values.get("data"), dict):
        return _reddit_post(values["data"], file)
    return parse(_Tweet, values, str(file)).draft()


class _User(Record):
    id: Id = Field(validation_alias=AliasChoices("id_str", "id"))
    screen_name: MaybeText = None
    name: MaybeText = None
    description: MaybeText = None
    location: MaybeText = None
    followers_count: Count = None
    friends_count: Count = None
    statuses_count: Count = None
    verified: Flag = None
    created_at: MaybeMoment = None


class _Tweet(Record):
    id: Id = Field(validation_alias=AliasChoices("id_str", "id"))
    text: Text = Field(validation_alias=AliasChoices("full_text", "text"))
    created_at: Moment
    user: _User
    in_reply_to: MaybeId = Field(
        None, validation_alias=AliasChoices("in_reply_to_status_id_str", "in_reply_to_status_id")
    )
    retweet_count: Count = None
    favorite_count: Count = None

    def draft(self) -> Draft:
        user = self.user
        author = Profile(
            key=user.id,
            description=user.description,
            location=user.location,
            followers=user.followers_count,
            friends=user.friends_count,
            statuses=user.statuses_count,
            verified=user.verified,
            created=user.created_at,
        )
        popularity = Popularity(reposts=self.retweet_count, likes=self.favorite_count)
        action = Action(self.id, self.in_reply_to, self.created_at, author, self.text, popularity=popularity)
        names = known(user.screen_name, user.name, user.id)
        return Draft(action, names, int(self.id) if self.id.isdecimal() and len(self.id) < 25 else None)


class _Reddit(Record):
    """What submissions and comments have in common."""

    author: MaybeText = None
    created_utc: Moment
    score: int | None = None


class _Submission(_Reddit):
    title: Text
    selftext: MaybeText = None


class _Comment(_Reddit):
    body: Text
    parent_id: MaybeId = None


def _reddit_post(data: dict[str, Any], file: Path) -> Draft | None:  # Any: JSON
    children = data.get("children")
    if isinstance(children, list) and children and isinstance(children[0], dict):  # a submission: a list of one
        submission = parse(_Submission, children[0].get("data"), str(file))
        text = "\n\n".join(filter(None, (submission.title, submission.selftext)))
        return _reddit_draft(submission, file.stem, None, text)
    if "body" not in data:
        return None
    comment = parse(_Comment, data, str(file))
    parent = comment.parent_id.rpartition("_")[2] if comment.parent_id else None  # t1_ID or t3_ID
    return _reddit_draft(comment, file.stem, parent, comment.body)


def _reddit_draft(post: _Reddit, identity: str, parent: str | None, text: str) -> Draft:
    name = None if post.author == "[deleted]" else post.author
    author = Profile(f"reddit/{name or f'author of {identity}'}")
    action = Action(identity, parent, post.created_utc, author, text, popularity=Popularity(likes=post.score))
    return Draft(action, known(name))
