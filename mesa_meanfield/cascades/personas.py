"""A profile as the words in which an agent hears about itself.

Counts are those at the time of crawling, so they are told in grades only; what is unknown is left
out rather than invented.
"""

from __future__ import annotations

import html
from bisect import bisect_right

from mesa_meanfield.data import Profile

_STEPS = (100, 1_000, 10_000, 100_000)

_EN = {
    "user": "You are a user of a social network.",
    "m": "You are a man.",
    "f": "You are a woman.",
    "description": "You describe yourself so: {}",
    "location": "Your place: {}",
    "followers": (
        "You have hardly any followers.",
        "You have a few followers.",
        "You have quite some followers.",
        "You have many followers.",
        "You have a huge number of followers.",
    ),
    "friends": (
        "You follow few accounts.",
        "You follow some accounts.",
        "You follow many accounts.",
        "You follow very many accounts.",
        "You follow very many accounts.",
    ),
    "statuses": (
        "You hardly ever post.",
        "You post now and then.",
        "You post often.",
        "You post very often.",
        "You post all the time.",
    ),
    "verified": "Your account is verified.",
    "again": "You have already spoken in this thread.",
}
_ZH = {
    "user": "你是一个社交网络用户。",
    "m": "你是男性。",
    "f": "你是女性。",
    "description": "你的自我介绍：{}",
    "location": "你的所在地：{}",
    "followers": ("你几乎没有粉丝。", "你有少量粉丝。", "你有一些粉丝。", "你有很多粉丝。", "你的粉丝非常多。"),
    "friends": (
        "你关注的人很少。",
        "你关注了一些人。",
        "你关注了很多人。",
        "你关注的人非常多。",
        "你关注的人非常多。",
    ),
    "statuses": ("你几乎不发帖。", "你偶尔发帖。", "你经常发帖。", "你发帖非常频繁。", "你一直在发帖。"),
    "verified": "你的账号经过认证。",
    "again": "你已经在这个话题下发过言。",
}


def persona(profile: Profile, language: str = "en", *, again: bool = False) -> str:
    """What an agent knows about itself.

    Args:
        profile: Who the agent is, as far as the data says.
        language: ``zh``, or anything else for English.
        again: Whether this author has acted in the cascade before.
    """
    words = _ZH if language == "zh" else _EN
    told = [words["user"]]
    if profile.gender in ("m", "f"):
        told.append(words[profile.gender])
    for field in ("description", "location"):
        said = getattr(profile, field)
        if said and said.strip():
            told.append(str(words[field]).format(" ".join(html.unescape(said).split())))
    for field in ("followers", "friends", "statuses"):
        count = getattr(profile, field)
        if count is not None:
            told.append(words[field][bisect_right(_STEPS, count)])
    if profile.verified:
        told.append(words["verified"])
    if again:
        told.append(words["again"])
    return "\n".join(map(str, told))
