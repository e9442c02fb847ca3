"""Plan files: what ``compare`` and ``plan`` are asked, in TOML, every table checked before anything else happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.cli.plantables import Call, CascadeTable, FactoryTable, Named, Said, Whole
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.objectives import AreaUnder, ShareAt, TimeToReversal
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace
from mesa_meanfield.tomlfile import TomlForm, table_of, unknown

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
_WRITTEN = {"reach": float | str, "who": float | str, "script": str | Said | list[Said], "change": str | Named}
"""How fields of interventions and objectives are written, where Python has objects."""
_FORM = TomlForm("plan", Whole, _EXPECTED, tables=("model",))


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
    content, values = _FORM.read(path)
    whole = _FORM.checked(Whole, values, f"{path}")
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


def _model(values: Mapping[str, Any], where: str) -> CascadeTable | FactoryTable:
    kind: type[CascadeTable] | type[FactoryTable] = FactoryTable if "factory" in values else CascadeTable
    table = _FORM.checked(kind, values, where)
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
    table = Call if kind == FUNCTION else table_of(kinds[kind], _WRITTEN)
    read = _FORM.checked(table, left, f"{where} ({kind})", "kind", *more)
    return Part(f"{where} ({kind})", kind, {name: getattr(read, name) for name in left})
