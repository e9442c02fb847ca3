"""A profile as the words in which an agent hears about itself.

What is told is what MF-LLM tells (arXiv 2504.21582): gender, self-description, place, influence, friends,
activity, and whether the account is verified. Counts are those at the time of crawling, so they are told in
grades only; what is unknown is left out rather than invented.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mesa_meanfield.data import Profile

PERSONAS = ("graded", "none")
"""How much an agent hears of its profile: all of it, its counts in grades; or nothing."""

_STEPS = (100, 1_000, 10_000, 100_000)
_LONGEST = 200
"""Characters of a description or place; what is longer is cut, since every one costs a prompt its tokens."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What can be said, in one language."""

    user: str
    genders: Mapping[str, str]
    said: Mapping[str, str]
    """Field -> how the user's own words are told."""
    grades: Mapping[str, tuple[str, ...]]
    """Field -> what is told between the steps."""
    verified: Mapping[bool, str]
    again: str


_EN = _Words(
    user="You are a user of a social network.",
    genders={"m": "You are a man.", "f": "You are a woman."},
    said={"description": "You describe yourself so: {}", "location": "Your place: {}"},
    grades={
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
            "You follow a huge number of accounts.",
        ),
        "statuses": (
            "You hardly ever post.",
            "You post now and then.",
            "You post often.",
            "You post very often.",
            "You post all the time.",
        ),
    },
    verified={True: "Your account is verified.", False: "Your account is not verified."},
    again="You have already spoken in this thread.",
)
_ZH = _Words(
    user="你是一个社交网络用户。",
    genders={"m": "你是男性。", "f": "你是女性。"},
    said={"description": "你的自我介绍：{}", "location": "你的所在地：{}"},
    grades={
        "followers": (
            "你几乎没有粉丝。",
            "你有少量粉丝。",
            "你有一些粉丝。",
            "你有很多粉丝。",
            "你的粉丝非常多。",
        ),
        "friends": (
            "你关注的人很少。",
            "你关注了一些人。",
            "你关注了很多人。",
            "你关注的人非常多。",
            "你关注的人多得数不清。",
        ),
        "statuses": ("你几乎不发帖。", "你偶尔发帖。", "你经常发帖。", "你发帖非常频繁。", "你一直在发帖。"),
    },
    verified={True: "你的账号经过认证。", False: "你的账号未经认证。"},
    again="你已经在这个话题下发过言。",
)

# What platforms show where a user has said nothing.
_DEFAULTS = {
    "description": re.compile(
        r"(暂无|暂时没有|还没有|没有)(个人)?(简介|介绍|描述|签名)[。.…~]*"
        r"|(这个?|此)(人|家伙|用户)(很|太|比较)?懒.{0,12}"
        r"|(this|the) user has(n't| not) .*|no (bio|description)( yet| provided| available)?\.?|none|null|n/a|nan",
        re.IGNORECASE,
    ),
    "location": re.compile(r"other|none|null|n/a|nan", re.IGNORECASE),
}
_REMAINDER = re.compile(r"(^|\s)(其他|其它)$|(?<=^overseas) other$", re.IGNORECASE)  # the last in Weibo's lists


def persona(profile: Profile, language: str = "en", *, again: bool = False, level: str = "graded") -> str:
    """What an agent knows about itself.

    Args:
        profile: Who the agent is, as far as the data says.
        language: ``zh``, or anything else for English.
        again: Whether this author has acted in the cascade before. That is not of the profile, so it is told
            at every level.
        level: One of `PERSONAS`.

    Raises:
        ValueError: There is no such level.
    """
    if level not in PERSONAS:
        raise ValueError(f"persona must be one of {', '.join(PERSONAS)}, got {level!r}")
    words = _ZH if language == "zh" else _EN
    told = [words.user, *(_graded(profile, words) if level == "graded" else ())]
    return "\n".join([*told, words.again] if again else told)


def _graded(profile: Profile, words: _Words) -> Iterator[str]:
    if gender := words.genders.get(profile.gender or ""):
        yield gender
    for field, sentence in words.said.items():
        if said := _own_words(getattr(profile, field), field):
            yield sentence.format(said)
    for field, grades in words.grades.items():
        if (count := getattr(profile, field)) is not None:
            yield grades[bisect_right(_STEPS, count)]
    if profile.verified is not None:
        yield words.verified[profile.verified]


def _own_words(text: str | None, field: str) -> str:
    """What the user said, on one line; empty where that is nothing, or a platform's default."""
    said = " ".join(html.unescape(text or "").split())
    if field == "location":
        said = _REMAINDER.sub("", said)
    if _DEFAULTS[field].fullmatch(said) or not any(unicodedata.category(c)[0] in "LNS" for c in said):
        return ""
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
