"""Values that say what they are: the same words in every process, for records, errors and appendices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


class Plain:
    """A frozen dataclass whose repr is `told`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return told(self)


def told(value: object) -> str:
    """A value on one line.

    Of a dataclass what is not as it is by default; a function by its name and any other object by its class,
    since their own repr holds an address, which is another one in the next run.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({', '.join(f'{name}={told(one)}' for name, one in _given(value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{told(key)}: {told(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple | frozenset):
        return "[" + ", ".join(told(one) for one in _ordered(value)) + "]"
    return repr(value) if value is None or isinstance(value, str | int | float) else _name(value)


def describe(value: object) -> Any:  # Any: a JSON value
    """A value as JSON, for example an intervention for a methods appendix.

    A dataclass becomes an object with its class as ``kind`` and what is not as it is by default; functions
    and other objects are named as `told` does.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **{name: describe(one) for name, one in _given(value)}}
    if isinstance(value, Mapping):
        return {str(key): describe(one) for key, one in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [describe(one) for one in _ordered(value)]
    return value if value is None or isinstance(value, str | int | float) else _name(value)


def _given(value: Any) -> list[tuple[str, object]]:  # Any: a dataclass
    given = []
    for one in fields(value):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if one.repr and (default is MISSING or getattr(value, one.name) != default):
            given.append((one.name, getattr(value, one.name)))
    return given


def _ordered(values: Any) -> Any:  # Any: a list, a tuple, or a frozenset, which has another order in every process
    return sorted(values) if isinstance(values, frozenset) else values


def _name(value: object) -> str:
    named: Any = value if hasattr(value, "__qualname__") else type(value)  # Any: a function or a class
    module = getattr(named, "__module__", None)  # methods written in C have none
    return named.__qualname__ if module is None else f"{module}.{named.__qualname__}"
