"""How the prompts of a call are cut into batches: what is shared comes first, similar lengths go together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt to compute."""

    index: int
    """Its place in the call."""
    prompt: Ids
    group: Hashable
    """Those of one group are known to begin alike: one adapter, one prefix."""
    adapter: str | None = None
    """Groups of one adapter may begin alike, too."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts that are computed together, as a tree of depth three: root, stem, leaf."""

    root: Ids
    """What all of them begin with."""
    stems: tuple[Ids, ...]
    """What follows for the groups in it; a stem may be empty."""
    asks: tuple[Ask, ...]
    stem_of: tuple[int, ...]
    """For each ask its stem."""

    @property
    def adapters(self) -> tuple[str | None, ...]:
        """The adapter of each ask."""
        return tuple(ask.adapter for ask in self.asks)

    @property
    def width(self) -> int:
        """How many tokens a row takes, the padding between what it is made of included."""
        longest = max(len(self.leaf(place)) for place in range(len(self.asks)))
        return len(self.root) + max(map(len, self.stems)) + longest

    def leaf(self, place: int) -> Ids:
        """What the ask at a place has of its own."""
        return self.asks[place].prompt[len(self.root) + len(self.stems[self.stem_of[place]]) :]

    def halves(self) -> tuple[Batch, Batch]:
        """The same in two batches."""
        middle = len(self.asks) // 2
        return self._part(0, middle), self._part(middle, len(self.asks))

    def _part(self, start: int, end: int) -> Batch:
        stem_of = self.stem_of[start:end]
        kept = sorted(set(stem_of))
        stems = tuple(self.stems[stem] for stem in kept)
        return replace(self, stems=stems, asks=self.asks[start:end], stem_of=tuple(map(kept.index, stem_of)))


def batches(asks: Sequence[Ask], size: Callable[[int], int], shares: Callable[[int], bool]) -> Iterator[Batch]:
    """Cut the asks of one call into batches.

    Args:
        asks: All of them.
        size: Longest prompt -> how many prompts a batch may have.
        shares: Tokens of a row, padding included -> whether what it shares with others may be computed apart.
    """
    if not asks:
        return
    most = size(max(len(ask.prompt) for ask in asks))
    groups: dict[Hashable, list[Ask]] = {}
    for ask in asks:
        groups.setdefault(ask.group if shares(len(ask.prompt)) else (ask.adapter, None), []).append(ask)
    small: dict[str | None, list[list[Ask]]] = {}
    for group in groups.values():
        group.sort(key=lambda ask: (len(ask.prompt), ask.prompt))
        if not shares(len(group[0].prompt)):
            yield from (_flat(chunk) for chunk in _chunks(group, most))
        elif len(group) > most // 2:
            root = _common(group)
            for chunk in _chunks(group, most):
                yield Batch(root, ((),), tuple(chunk), (0,) * len(chunk))
        else:
            small.setdefault(group[0].adapter, []).append(group)
    rest = list(small.values())
    if sum(len(group) for several in rest for group in several) <= most:
        rest = [[group for several in rest for group in several]] if rest else []  # all adapters in one batch
    for several in rest:
        for pack in _packs(several, most):
            batch = _packed(pack)
            yield batch if shares(batch.width) else _flat(batch.asks)


def _packs(groups: list[list[Ask]], most: int) -> Iterator[list[list[Ask]]]:
    """Small groups together, as many as fit; those of similar length beside each other."""
    pack: list[list[Ask]] = []
    for group in sorted(groups, key=lambda group: (len(group[-1].prompt), group[-1].prompt)):
        if pack and sum(map(len, pack)) + len(group) > most:
            yield pack
            pack = []
        pack.append(group)
    yield pack


def _packed(pack: Sequence[Sequence[Ask]]) -> Batch:
    """Several groups behind what all of them share, each behind what it shares."""
    asks = tuple(ask for group in pack for ask in group)
    # What two adapters make of the same tokens differs, so they share nothing.
    root = _common(asks) if len({ask.adapter for ask in asks}) == 1 else ()
    if len(pack) == 1:
        return Batch(root, ((),), asks, (0,) * len(asks))
    stems = [_common(group)[len(root) :] for group in pack]
    return Batch(root, tuple(stems), asks, tuple(number for number, group in enumerate(pack) for _ in group))


def _flat(asks: Sequence[Ask]) -> Batch:
    return Batch((), ((),), tuple(asks), (0,) * len(asks))


def _chunks(asks: Sequence[Ask], most: int) -> Iterator[Sequence[Ask]]:
    return (asks[start : start + most] for start in range(0, len(asks), most))


def _common(asks: Sequence[Ask]) -> Ids:
    """What several prompts begin with, one token short of the shortest: each has to have one of its own."""
    prompts = [ask.prompt for ask in asks]
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    if first == last:
        return first[:-1] if len(prompts) > 1 else ()
    longest = min(map(len, prompts)) - 1
    return first[: next((i for i in range(longest) if first[i] != last[i]), longest)]
