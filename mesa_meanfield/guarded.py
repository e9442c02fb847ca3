"""Values of a record like the plain ones, but for what their reading leaves behind; see `provenance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from mesa_meanfield.data import Action, Cascade, Source, Topic


class Notes(Protocol):
    """Is told of every reading."""

    def note(self, source: Source) -> None:
        """Something is about to be read; an error keeps it from being read."""
        ...


class _Field:
    """A field that is noted when it is read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, guarded: Any, kind: type | None = None) -> Any:  # Any: any guarded value, any field
        if guarded is None:
            return self
        source = guarded._noted.get(self.name)
        if source is not None:
            guarded._ledger.note(source)
        return guarded._parts[self.name] if self.name in guarded._parts else getattr(guarded._plain, self.name)


class _Guarded:
    """What guarded values have in common. A copy is a plain value, and to make it every field was read."""

    __slots__ = ()
    _plain: Any  # a value of the plain type
    _ledger: Notes
    _noted: Mapping[str, Source]
    _parts: Mapping[str, object]
    __match_args__: tuple[str, ...]  # of a dataclass: its fields in their order

    def __init_subclass__(cls) -> None:
        for name in cls.__match_args__:
            setattr(cls, name, _Field(name))

    def __new__(cls, *args: object, **known: object) -> Any:  # `dataclasses.replace` calls it, for a plain value
        return cls.__bases__[1](*args, **known)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self).__bases__[1]):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    __hash__ = None  # type: ignore[assignment]  # nor have the plain ones any: they hold dicts

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self).__bases__[1], tuple(getattr(self, name) for name in self.__match_args__)


_SLOTS = ("_ledger", "_noted", "_parts", "_plain")


class GuardedAction(_Guarded, Action):
    """An `Action` whose reading is noted."""

    __slots__ = _SLOTS


class GuardedTopic(_Guarded, Topic):
    """A `Topic` whose reading is noted."""

    __slots__ = _SLOTS


class GuardedCascade(_Guarded, Cascade):
    """A `Cascade` whose reading is noted."""

    __slots__ = _SLOTS
    _shown_by = "mesa_meanfield.notebook:guarded_html"  # looking at it must not end the run


_Plain = TypeVar("_Plain", Action, Topic, Cascade)


def guard(
    kind: type[_Plain],
    plain: _Plain,
    ledger: Notes,
    noted: Mapping[str, Source],
    parts: Mapping[str, object] | None = None,
) -> _Plain:
    """A guarded value.

    Args:
        kind: One of the guarded classes.
        plain: What is guarded.
        ledger: Who is told.
        noted: Field -> what is told when it is read; other fields are free.
        parts: Fields whose values are guarded, too.
    """
    one = object.__new__(kind)
    for slot, value in zip(_SLOTS, (ledger, noted, parts or {}, plain), strict=True):
        object.__setattr__(one, slot, value)
    return one


def behind(cascade: Cascade) -> tuple[Cascade, Notes] | None:
    """The plain cascade and its ledger; None of a cascade that is not guarded."""
    return (cascade._plain, cascade._ledger) if isinstance(cascade, GuardedCascade) else None
