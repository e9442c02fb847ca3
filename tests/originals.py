"""Small data sets of our own making in the forms that public ones were published in. Every text is invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

START = 1_344_000_000  # 2012-08-03 13:20:00 UTC, 21:20:00 in China


def write(file: Path, values: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(values if isinstance(values, str) else json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return file


# --- Weibo, Ma et al. ----------------------------------------------------------------------------------


def weibo_post(number: int, text: str = "真的吗？", *, parent: int | None = 0, **changes: Any) -> dict[str, Any]:
    """Post ``number`` of an event, a minute after the one before; post 0 is the topic."""
    return {
        "mid": f"34760556566440{number:02}",
        "id": f"34760556566440{number:02}",
        "parent": None if number == 0 or parent is None else f"34760556566440{parent:02}",
        "t": START + 60 * number,
        "text": text,
        "original_text": text,
        "uid": 1_600_000_000 + number,
        "screen_name": f"运河居民{number}",
        "username": f"运河居民{number}",
        "user_description": "爱看河。",
        "user_location": "广东 广州",
        "user_created_at": 1_282_439_985,
        "user_avatar": "http://tp3.sinaimg.cn/1/180/1",
        "gender": "f",
        "verified": False,
        "verified_type": -1,
        "verified_reason": "",
        "friends_count": 826,
        "followers_count": 13_495,
        "bi_followers_count": 531,
        "statuses_count": 713,
        "favourites_count": 66,
        "reposts_count": 4,
        "comments_count": 2,
        "attitudes_count": 1,
        "picture": None,
        "geo": None,
        "city": "1",
        "province": "44",
        "user_geo_enabled": True,
    } | changes


def weibo_corpus(folder: Path, events: dict[str, Any], labels: str | None = None) -> Path:
    """A folder of events, with a label line each: rumours by turns, beginning with one."""
    for eid, posts in events.items():
        write(folder / "Weibo" / f"{eid}.json", posts)
    if labels is None:
        labels = "".join(f"eid:{eid}\tlabel:{(n + 1) % 2}\t1 2 3 \n" for n, eid in enumerate(events))
    write(folder / "Weibo.txt", labels)
    return folder


# --- CED -----------------------------------------------------------------------------------------------


def ced_topic(text: str = "河里有一头海象。", **changes: Any) -> dict[str, Any]:
    user = {
        "verified": True, "description": True, "gender": "m", "messages": 25_139, "followers": 15_217,
        "location": "北京 海淀区", "time": 1_267_085_097, "friends": 3_231, "verified_type": 0,
    }  # fmt: skip
    return {
        "multi": None, "text": text, "user": user, "has_url": False, "comments": 37, "pics": 1,
        "source": "微博 weibo.com", "likes": 0, "time": START, "reposts": 116,
    } | changes  # fmt: skip


def ced_repost(mid: str, date: str, text: str = "", *, parent: str = "", uid: str = "1700000001") -> dict[str, Any]:
    return {"kids": [], "uid": uid, "parent": parent, "text": text, "mid": mid, "date": date}


def ced_set(folder: Path, topics: dict[str, tuple[Any, Any]], *, rumours: bool = True) -> Path:
    """Topics and their reposts under the file names ``NUMBER_MID_UID``."""
    for name, (topic, reposts) in topics.items():
        write(folder / "original-microblog" / f"{name}.json", topic)
        write(folder / ("rumor-repost" if rumours else "non-rumor-repost") / f"{name}.json", reposts)
    return folder


# --- Twitter -------------------------------------------------------------------------------------------


def tweet(identity: int, text: str = "Says who?", *, to: int | None = None, **changes: Any) -> dict[str, Any]:
    """A tweet, ``identity`` minutes after the first one."""
    return {
        "id": identity,
        "id_str": str(identity),
        "text": text,
        "created_at": f"Sun Aug 10 01:{identity % 60:02}:14 +0000 2014",
        "in_reply_to_status_id": to,
        "in_reply_to_status_id_str": None if to is None else str(to),
        "retweet_count": 3,
        "favorite_count": 5,
        "entities": {"urls": []},
        "user": {
            "id": 7_000_000 + identity,
            "id_str": str(7_000_000 + identity),
            "screen_name": f"canal_walker{identity}",
            "name": f"Walker No. {identity}",
            "description": "I walk.",
            "location": "",
            "followers_count": 12,
            "friends_count": 34,
            "statuses_count": 56,
            "verified": False,
            "created_at": "Fri Mar 13 12:55:21 +0000 2009",
        },
    } | changes


def thread(
    folder: Path,
    source: dict[str, Any],
    replies: list[dict[str, Any]],
    tree: Any,
    *,
    names: tuple[str, str] = ("source-tweet", "replies"),
) -> Path:
    """A conversation in a folder that is named by its source."""
    folder = folder / source["id_str"]
    write(folder / names[0] / f"{source['id_str']}.json", source)
    (folder / names[1]).mkdir(parents=True, exist_ok=True)
    for reply in replies:
        write(folder / names[1] / f"{reply['id_str']}.json", reply)
    write(folder / "structure.json", tree)
    return folder


def rumoureval(folder: Path) -> Path:
    """Two events with a thread each, and the label files of 2017."""
    data = folder / "rumoureval-data"
    source, replies = tweet(100, "A walrus sits in the canal."), [tweet(101, to=100), tweet(103, "It does.", to=101)]
    thread(data / "ottawashooting", source, replies, {"100": {"101": {"103": []}}})
    thread(data / "germanwings-crash", tweet(200, "The bridge closes."), [tweet(201, to=200)], {"200": {"201": []}})
    write(folder / "traindev" / "subtaskA-train.json", {"100": "support", "101": "query", "103": "comment"})
    write(folder / "traindev" / "subtaskB-train.json", {"100": "false"})
    write(folder / "traindev" / "subtaskA-dev.json", {"200": "support", "201": "deny"})
    write(folder / "traindev" / "subtaskB-dev.json", {"200": "unverified"})
    return folder
