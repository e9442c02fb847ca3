"""Pseudonyms: hashed ids, and texts without names, mentions, links and addresses."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from mesa_meanfield.data import Profile

PERSON = "@user"
"""Stands in a text for whoever was named."""

_SUFFIXES = "com|net|org|edu|gov|info|biz|cn|hk|tw|uk|tv|fm|io|cc|jp|de|fr|ru"  # no word of a language among them
_LABELS = r"(?:[a-z0-9-]{1,63}+\.){1,5}"

# One pass, the first alternative wins: what is masked stays masked, and an address is no mention.
# Repetitions are bounded, so that a text of any length is read in linear time.
_MASKS = re.compile(
    r"(?P<masked><(?:url|email|phone)>)"
    r"|(?P<email>[a-z0-9._%+-]{1,64}+@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,5})"
    rf"|(?P<url>(?:[a-z][a-z0-9+.-]{{1,20}}://|www\.|{_LABELS}[a-z]{{2,24}}/|{_LABELS}(?:{_SUFFIXES})(?![a-z0-9-]))"
    r"(?:(?!//[@＠])[!-~])*)"  # it ends where the quoted chain of a repost begins
    r"|[@＠](?P<mention>[\w·-]{1,30})"
    r"|(?P<person>(?<![a-z0-9_/])/?u/[a-z0-9_-]{3,20}(?![a-z0-9_-]))"  # as Reddit mentions
    r"|(?P<phone>(?<!\d)(?:(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"
    r"|(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4})(?!\d))",
    re.IGNORECASE,
)
_LINK_TAG = re.compile(r"</?a\b[^<>]*>", re.IGNORECASE)  # Weibo puts mentions and topics into links
_WIDE = "\u2e80"  # from here on are the scripts without spaces, mostly


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Hides who is who; the same salt gives the same pseudonyms again."""

    salt: bytes | None = field(repr=False)
    """Secret: whoever has it can find a given id again. None keeps everything as it is."""

    def post(self, identity: str) -> str:
        """The pseudonym of a post."""
        return self._hash("p", identity)

    def user(self, identity: str) -> str:
        """The pseudonym of a user."""
        return self._hash("u", identity)

    def profile(self, profile: Profile, names: Sequence[str] = ()) -> Profile:
        """A profile under its pseudonym, its words masked."""
        if self.salt is None:
            return profile
        return replace(
            profile,
            key=self.user(profile.key),
            description=self.text(profile.description, names) if profile.description else profile.description,
            location=self.text(profile.location, names) if profile.location else profile.location,
        )

    def text(self, text: str, names: Sequence[str] = ()) -> str:
        """A text with everything masked that tells who somebody is; the rest stays as posted.

        Args:
            text: The text.
            names: Names and ids to be masked, too, where they stand without an ``@``.
        """
        return text if self.salt is None else mask(text, names)

    def _hash(self, kind: str, identity: str) -> str:
        if self.salt is None:
            return identity
        # 64 bits: no two of the millions of posts of a corpus are likely to share a pseudonym
        return kind + hmac.new(self.salt, f"{kind}:{identity}".encode(), sha256).hexdigest()[:16]


def mask(text: str, names: Sequence[str] = ()) -> str:
    """Replace mentions and names by `PERSON`, and links, e-mail addresses and phone numbers by their kind."""
    while (bare := _LINK_TAG.sub("", text)) != text:  # what is left may make a new tag
        text = bare
    text = _MASKS.sub(_masked, text)
    folded = text.casefold()
    for name in sorted(filter(_telling, names), key=len, reverse=True):
        if name.casefold() in folded:  # far cheaper than a pattern, and mostly the end of it
            text = re.sub(rf"(<(?:url|email|phone)>|{PERSON})|{_whole(name)}", _named, text, flags=re.IGNORECASE)
    return text


def _masked(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "masked":
        return found[0]
    if kind == "mention":
        return PERSON + _MASKS.sub(_masked, found["mention"][_name_length(found["mention"]) :])
    return PERSON if kind == "person" else f"<{kind}>"


def _named(found: re.Match[str]) -> str:
    return found[1] or PERSON


def _name_length(name: str) -> int:
    """How much of it can be a name: 30 letters, a Chinese character counting as two, as Weibo has it."""
    width = 0
    for index, letter in enumerate(name):
        width += 2 if letter >= _WIDE else 1
        if width > 30:
            return index
    return len(name)


def _telling(name: str) -> bool:
    """Whether a name is long enough to be one wherever it stands, and no word such as "me"."""
    return len(name) >= (2 if max(name, default="") >= _WIDE else 4)


def _whole(name: str) -> str:
    """The name, but not inside a longer word of an alphabet."""
    letter = rf"[^\W{_WIDE}-\U0010ffff]"
    before = rf"(?<!{letter})" if re.match(letter, name) else ""
    after = rf"(?!{letter})" if re.match(letter, name[-1]) else ""
    return before + re.escape(name) + after
