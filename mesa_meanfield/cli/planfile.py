"""Plan files: what ``compare`` and ``plan`` are asked, in TOML, every table checked before anything else happens."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ValidationError, create_model

from mesa_meanfield.cli.plantables import Call, CascadeTable, FactoryTable, Named, Said, Table, Whole
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.objectives import AreaUnder, ShareAt, TimeToReversal
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace

FUNCTION = "function"
"""The kind of an intervention or an objective that is a function of one's own."""
INTERVENTIONS: Mapping[str, Any] = {  # Any: classes that have nothing in common but to be dataclasses
    "announce": Announce,
    "inject": Inject,
    "replace": Replace,
    "mute": Mute,
    "persuade": Persuade,
}
OBJECTIVES: Mapping[str, Any] = {"share_at": ShareAt, "time_to_reversal": TimeToReversal, "area_under": AreaUnder}

_WHO = 'a share from 0 to 1, "most_influential:N", or a function as "module:name" or "file.py:name"'
_NAME = 'a function as "module:name" or "file.py:name"'
_EXPECTED = {
    "reach": _WHO,
    "who": _WHO,
    "script": f"{{labels = {{...}}, text = ...}}, a list of these, one a tick, or {_NAME}",
    "change": f"a text, or {{function = ...}} with {_NAME}",
    "call": _NAME,
    "factory": _NAME,
    "intervention": "a list of tables, each below a line [[intervention]]",
    "control": "a list of tables, each below a line [[control]]",
    "candidates": "lists of tables, each below a line [[candidates.NAME]], or NAME = [] for doing nothing",
}


_Known = TypeVar("_Known", bound=Table)


@dataclass(frozen=True)
class Part:
    """An intervention or an objective as it stands in the file."""

    where: str
    """File and table, for errors."""
    kind: str
    values: Mapping[str, Any]  # Any: checked TOML
    """Its fields, without those that are not given."""


@dataclass(frozen=True)
class PlanFile:
    """A plan file, every field checked; what it names (data, functions, a model) is still to be found."""

    path: Path
    content: bytes
    question: str
    model: CascadeTable | FactoryTable
    ticks: int | None
    replicas: int
    fork_at: int | None
    seed: int
    confidence: float
    label: str | None
    interventions: tuple[Part, ...]
    control: tuple[Part, ...]
    candidates: Mapping[str, tuple[Part, ...]]
    objective: Part | None
    maximise: bool
    budget_tokens: int | None


def read_plan_file(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        DataError: It cannot be read, is no TOML, or has a field, a kind or a value that cannot be: says file,
            table and field, and what is allowed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; give a plan file in TOML") from error
    try:
        values = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{path}: is no TOML: {error}") from None
    whole = _checked(Whole, values, f"{path}")
    objective, maximise = _objective(whole.objective, f"{path}: [objective]")
    candidates = {name: _parts(tables, f"{path}: [[candidates.{name}]]") for name, tables in whole.candidates.items()}
    return PlanFile(
        path=path,
        content=content,
        question=whole.question,
        model=_model(whole.model, f"{path}: [model]"),
        ticks=whole.ticks,
        replicas=whole.replicas,
        fork_at=whole.fork_at,
        seed=whole.seed,
        confidence=whole.confidence,
        label=whole.label,
        interventions=_parts(whole.intervention, f"{path}: [[intervention]]"),
        control=_parts(whole.control, f"{path}: [[control]]"),
        candidates=candidates,
        objective=objective,
        maximise=maximise,
        budget_tokens=whole.budget.tokens,
    )


def unknown(where: str, what: str, name: str, known: Iterable[str]) -> DataError:
    """What to say of a name that is none of those that can be."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return DataError(f"{where}: {name!r} is no {what}; {meant}there are {', '.join(names)}")


def _model(values: Mapping[str, Any], where: str) -> CascadeTable | FactoryTable:
    kind: type[CascadeTable] | type[FactoryTable] = FactoryTable if "factory" in values else CascadeTable
    table = _checked(kind, values, where)
    for field, known in kind.choices.items():
        if (value := getattr(table, field)) not in known:
            raise unknown(f"{where}: {field}", field, value, known)
    return table


def _parts(tables: Iterable[Mapping[str, Any]], where: str) -> tuple[Part, ...]:
    return tuple(
        _part(table, INTERVENTIONS, "kind of intervention", f"{where} number {number}")
        for number, table in enumerate(tables, 1)
    )


def _objective(values: Mapping[str, Any] | None, where: str) -> tuple[Part | None, bool]:
    if values is None:
        return None, True
    left = dict(values)
    maximise = left.pop("maximise", True)
    if not isinstance(maximise, bool):
        raise DataError(f"{where}: maximise must be true or false, got {maximise!r}")
    return _part(left, OBJECTIVES, "kind of objective", where, "maximise"), maximise


def _part(values: Mapping[str, Any], kinds: Mapping[str, Any], what: str, where: str, *more: str) -> Part:
    left = dict(values)
    kind = left.pop("kind", None)
    known = (*kinds, FUNCTION)
    if kind is None:
        raise DataError(f"{where}: kind is missing; there are {', '.join(known)}")
    if kind not in known:
        raise unknown(where, what, str(kind), known)
    table = Call if kind == FUNCTION else _table_of(kinds[kind])
    read = _checked(table, left, f"{where} ({kind})", "kind", *more)
    return Part(f"{where} ({kind})", kind, {name: getattr(read, name) for name in left})


def _table_of(kind: Any) -> type[Table]:  # Any: a dataclass
    """The table with a dataclass's own fields, so that a plan file and Python say the same."""
    written = {"reach": float | str, "who": float | str, "script": str | Said | list[Said], "change": str | Named}
    hints = get_type_hints(kind)
    columns: dict[str, Any] = {}
    for one in fields(kind):
        given = one.default is not MISSING or one.default_factory is not MISSING
        columns[one.name] = (written.get(one.name, hints[one.name]), None if given else ...)
    return create_model(kind.__name__, __base__=Table, **columns)


def _checked(kind: type[_Known], values: Mapping[str, Any], where: str, *more: str) -> _Known:
    """A table's values, checked.

    Raises:
        DataError: They are not as they should be; tells of the first that is not, of unknown names before others.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
    found.sort(key=lambda one: one["type"] != "extra_forbidden")
    one, known = found[0], [*more, *kind.model_fields]
    name = str(one["loc"][0])
    field = ".".join(map(str, one["loc"]))
    if one["type"] == "extra_forbidden" and len(one["loc"]) == 1:
        if kind is not Whole and name in Whole.model_fields and not get_close_matches(name, known, 1):
            raise DataError(f"{where}: {name} belongs to the whole plan: write it above the first table")
        raise unknown(where, "field", name, known)
    if name in _EXPECTED and one["type"] != "missing":
        raise DataError(f"{where}: {name} must be {_EXPECTED[name]}, got {values[name]!r}")
    if one["type"] == "missing":
        table = kind is Whole and name == "model"
        raise DataError(f"{where}: {'the table [model]' if table else field} is missing")
    raise DataError(f"{where}: {field}: {one['msg']}, got {one['input']!r}")
