"""From posts as a data set has them to a cascade: in order, each once, under pseudonyms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.data import Action, Cascade, Topic

COUNTED = {
    "broken": "broken records, left out",
    "repeated": "cascades that stand there twice, the first is kept",
    "duplicates": "posts that stand there twice, the first is kept",
    "orphans": "posts whose parent is missing or not before them, they answer the next post above",
    "textless": "placeholders without any text, left out",
    "unlabelled": "topics without a label",
}
"""What is counted -> how it is told."""

_Item = TypeVar("_Item")
_Read = TypeVar("_Read")
_SAID = 20  # broken records that are told one by one; the others are counted


@dataclass(frozen=True, slots=True)
class Draft:
    """A post as the source has it: its ids, names and texts are still the real ones."""

    action: Action
    names: tuple[str, ...] = ()
    """What its author is called."""
    order: int | None = None
    """Its place among the posts of the same second; None for that in the file."""


def known(*names: str | None) -> tuple[str, ...]:
    """Those names that are known, each once."""
    return tuple(dict.fromkeys(filter(None, names)))


@dataclass(frozen=True, slots=True)
class Feed:
    """What a reader gives."""

    total: int | None
    """How many events there are, where that is known beforehand."""
    cascades: Iterator[Cascade | None]
    """One after the other; None for an event that was left out."""


@dataclass(slots=True)
class Conversion:
    """What a conversion is told, and what it counted on its way."""

    pseudonyms: Pseudonyms
    dataset: str = ""
    """Its name; empty for the reader's own."""
    language: str = ""
    """Of the cascades; empty for the reader's own."""
    domain: str | None = None
    """Of all cascades; None for what the reader knows, else `unknown`."""
    skip_bad: bool = False
    """Whether broken records are left out and counted, instead of ending the conversion."""
    say: Callable[[str], None] = lambda _: None
    """Hears of each record that is left out."""
    counts: Counter[str] = field(default_factory=Counter)
    """`COUNTED` -> how often."""
    _ids: set[str] = field(default_factory=set)

    def name(self, dataset: str, language: str) -> None:
        """Take a reader's own names where no others are given."""
        self.dataset = self.dataset or dataset
        self.language = self.language or language

    def leave_out(self, broken: BrokenRecord) -> None:
        """Count a broken record.

        Raises:
            BrokenRecord: Nothing is to be left out.
        """
        if not self.skip_bad:
            raise broken
        self.counts["broken"] += 1
        if self.counts["broken"] <= _SAID:
            self.say(f"left out: {broken}")
        elif self.counts["broken"] == _SAID + 1:
            self.say("more is left out and only counted")

    def every(self, items: Iterable[_Item], read: Callable[[_Item], _Read]) -> Iterator[_Read | None]:
        """Read one item after the other; None for one that is broken and left out."""
        for item in items:
            try:
                found = read(item)
            except BrokenRecord as broken:
                self.leave_out(broken)
                yield None
            else:
                yield found

    def cascade(
        self,
        identity: str,
        topic: Draft,
        drafts: Iterable[Draft | None],
        *,
        label: dict[str, str | bool | None],
        veracity: str | None = None,
        event: str | None = None,
        domain: str | None = None,
        above: Mapping[str, str] | None = None,
    ) -> Cascade | None:
        """Put a cascade together; None if one with this id was there before.

        Posts stand in the order of their times; of a post that is listed twice the first is kept. A post
        whose parent is missing, or does not stand before it, answers the next post above that does.

        Args:
            identity: The cascade's own id.
            topic: The post that the others react to.
            drafts: The others, in any order; None for one that was left out.
            label: What is known of the topic.
            veracity: ``true``, ``false``, ``unverified`` or None.
            event: What the cascade is about; data is split by it.
            domain: The domain of the event, if no other is given for all.
            above: Post -> the post that it answers, for posts that may be missing among the drafts.
        """
        if identity in self._ids:
            self.counts["repeated"] += 1
            return None
        rows = self._sorted(topic, drafts)
        self._ids.add(identity)
        self.counts["unlabelled"] += not label
        return Cascade(
            id=self.pseudonyms.post(identity),
            dataset=self.dataset,
            event=event,
            domain=self.domain or domain or "unknown",
            language=self.language,
            veracity=veracity,
            topic=Topic(
                author=self.pseudonyms.profile(topic.action.author, topic.names),
                text=self.pseudonyms.text(topic.action.text, topic.names),
                time=topic.action.time,
                label=label,
            ),
            actions=tuple(self._linked(topic.action.id, rows, above or {})),
        )

    def _sorted(self, topic: Draft, drafts: Iterable[Draft | None]) -> list[tuple[Action, str | None]]:
        """The actions under their pseudonyms, each with the real id of its parent."""
        seen, rows = {topic.action.id}, []
        for position, draft in enumerate(drafts):
            if draft is None:
                continue
            action = draft.action
            if action.id in seen:
                self.counts["duplicates"] += 1
                continue
            seen.add(action.id)
            names = draft.names + topic.names
            hidden = replace(
                action,
                id=self.pseudonyms.post(action.id),
                parent=None,
                author=self.pseudonyms.profile(action.author, names),
                text=self.pseudonyms.text(action.text, names),
            )
            # Masked here and now, so that of a large event only what is written stays in memory.
            rows.append((action.time, position if draft.order is None else draft.order, hidden, action.parent))
        rows.sort(key=lambda row: row[:2])
        return [(hidden, parent) for _, _, hidden, parent in rows]

    def _linked(
        self, topic: str, rows: list[tuple[Action, str | None]], above: Mapping[str, str]
    ) -> Iterator[Action]:
        hash_of = self.pseudonyms.post
        before: set[str] = set()
        for action, parent in rows:
            wanted, passed = parent, set()
            while parent is not None and parent != topic and hash_of(parent) not in before:
                passed.add(parent)
                parent = above.get(parent)
                parent = None if parent in passed else parent  # a circle leads nowhere
            if parent != wanted:
                self.counts["orphans"] += 1
            before.add(action.id)
            yield action if parent in (None, topic) else replace(action, parent=hash_of(str(parent)))
