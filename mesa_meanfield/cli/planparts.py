"""The parts of a plan file as values: interventions, objectives, and the functions that they name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from mesa_meanfield.choosers import Who, most_influential
from mesa_meanfield.cli.planfile import FUNCTION, INTERVENTIONS, OBJECTIVES, Part
from mesa_meanfield.cli.plantables import Named, Said
from mesa_meanfield.data import Decision
from mesa_meanfield.errors import DataError
from mesa_meanfield.experiments.objectives import Objective
from mesa_meanfield.interventions import Replace
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.rules import RulePolicy

Function = Callable[..., Any]  # a user's own
INFLUENTIAL = "most_influential"


class Functions:
    """Finds the functions that a plan file names; each module is imported once.

    Args:
        folder: The plan file's, where files lie and modules are looked for first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def find(self, name: str, where: str) -> Function:
        """A function as ``module:name`` or ``file.py:name``.

        Raises:
            DataError: There is none, or its module cannot be imported.
        """
        module, colon, path = name.rpartition(":")
        if not (module and colon and path):
            raise DataError(f"{where}: {name!r} names no function; write 'module:name' or 'file.py:name'")
        found: Any = self._module(module, where)
        for part in path.split("."):
            if not hasattr(found, part):
                raise DataError(f"{where}: {module} has no {path!r}; there are {', '.join(_own(found)) or 'nothing'}")
            found = getattr(found, part)
        if not callable(found):
            raise DataError(f"{where}: {name} is no function but {found!r}")
        function: Function = found
        return function

    def _module(self, name: str, where: str) -> ModuleType:
        try:
            with self._at_hand():
                return _of_file(self._folder / name) if name.endswith(".py") else importlib.import_module(name)
        except Exception as error:  # whatever a user's module does while it is imported
            raise DataError(f"{where}: {name} cannot be imported: {type(error).__name__}: {error}") from error

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        sys.path.insert(0, str(self._folder))
        try:
            yield
        finally:
            sys.path.remove(str(self._folder))


def _own(place: Any) -> list[str]:  # Any: a module or a class
    """The public names of what is defined there; what is imported only where nothing is."""
    public = {name: one for name, one in vars(place).items() if not name.startswith("_")}
    home = getattr(place, "__module__", getattr(place, "__name__", None))
    return [name for name, one in public.items() if getattr(one, "__module__", None) == home] or list(public)


def _of_file(file: Path) -> ModuleType:
    """The module in a file, under the file's own name where no other module has it."""
    known = sys.modules.get(file.stem)
    ours = known is None or getattr(known, "__file__", None) == str(file)
    name = file.stem if ours else f"plan_{file.stem}"
    if (loaded := sys.modules.get(name)) is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # of a file that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def interventions_of(
    parts: Sequence[Part], functions: Functions, by: str | Callable[[Any], float]
) -> tuple[Intervention, ...]:
    """The interventions of a list of tables.

    Args:
        parts: As they stand in the file.
        functions: Finds those that are named.
        by: What makes an agent influential where nothing else is said: an attribute, or a function.

    Raises:
        DataError: One of them cannot be; says table and field.
    """
    return tuple(_intervention(part, functions, by) for part in parts)


def objective_of(part: Part, functions: Functions) -> Objective:
    """The objective of a table.

    Raises:
        DataError: A function is named that there is not.
    """
    if part.kind == FUNCTION:
        return functions.find(part.values["call"], f"{part.where}: call")
    objective: Objective = OBJECTIVES[part.kind](**part.values)
    return objective


def _intervention(part: Part, functions: Functions, by: str | Callable[[Any], float]) -> Intervention:
    if part.kind == FUNCTION:
        return functions.find(part.values["call"], f"{part.where}: call")
    values = {name: _value(name, one, part, functions, by) for name, one in part.values.items()}
    try:
        made: Intervention = INTERVENTIONS[part.kind](**values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{part.where}: {error}") from error
    return made


def _value(name: str, given: Any, part: Part, functions: Functions, by: str | Callable[[Any], float]) -> Any:
    """A field's value as the class has it."""
    where = f"{part.where}: {name}"
    if name in ("reach", "who"):
        return _who(given, where, functions, by)
    if isinstance(given, Named):
        return functions.find(given.function, where)
    if name == "script" and INTERVENTIONS[part.kind] is Replace:
        if isinstance(given, str):
            return RulePolicy(functions.find(given, where))
        return [_said(one) for one in given] if isinstance(given, list) else _said(given) or Decision()
    return given


def _said(one: Said) -> Decision | None:
    return Decision(text=one.text, labels=one.labels) if one.text or one.labels else None


def _who(given: float | str, where: str, functions: Functions, by: str | Callable[[Any], float]) -> Who:
    if not isinstance(given, str):
        return given
    kind, *asked = given.split(":")
    if kind != INFLUENTIAL:
        return functions.find(given, where)
    count, attribute = (asked[0] if asked else ""), (asked[1] if len(asked) > 1 else by)
    if not count.isdecimal() or int(count) < 1 or len(asked) > 2 or not attribute:
        raise DataError(f"{where}: write '{INFLUENTIAL}:N' or '{INFLUENTIAL}:N:ATTRIBUTE', got {given!r}")
    return most_influential(int(count), attribute)


def named_labels(parts: Sequence[Part]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The labels that interventions give by themselves, with where they stand."""
    for part in parts:
        said = part.values.get("script")
        scripts = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, Said)]
        for labels in (part.values.get("labels", {}), *(one.labels for one in scripts)):
            yield part.where, labels
