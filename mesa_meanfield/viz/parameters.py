"""The parameters of a model on a page: Mesa's ``model_params``, or what its signature says."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mesa_meanfield.errors import DataError
from mesa_meanfield.summarizers import SUMMARIZERS

Input = Mapping[str, Any]
"""What Mesa's pages take: ``{"type": "SliderInt", "value": 3, "min": 1, ...}``; beside Mesa's types InputInt and
InputFloat."""

_TYPES = ("SliderInt", "SliderFloat", "Select", "Checkbox", "InputText", "InputInt", "InputFloat")
_SEEDS = ("rng", "seed")


def backend_choice(*specs: str, label: str = "Backend") -> dict[str, Any]:
    """An input with which a page chooses the model's backend.

    Args:
        specs: What `load_backend` takes, the first one chosen; without any ``scripted`` and, where torch is
            installed, ``embedded``.
        label: Above the input.
    """
    values = list(dict.fromkeys(specs)) or ["scripted"]
    if not specs and importlib.util.find_spec("torch") is not None:
        values.append("embedded")
    return {"type": "Select", "label": label, "value": values[0], "values": values}


@dataclass(frozen=True)
class Parameters:
    """What can be chosen on a page, and what cannot."""

    inputs: Mapping[str, Input]
    """Parameter -> how it is chosen."""
    fixed: Mapping[str, Any]
    """Parameter -> its value."""
    seeded: str | None
    """The parameter that is the seed; None where the model has none."""

    @property
    def values(self) -> dict[str, Any]:
        """All parameters as they are at first."""
        return {**self.fixed, **{name: one.get("value") for name, one in self.inputs.items()}}

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the model takes them: a text where a number was is read as one.

        Raises:
            DataError: A text is no number.
        """
        return {name: self._read(name, value) for name, value in values.items()}

    def differ(self, values: Mapping[str, Any], used: Mapping[str, Any]) -> bool:
        """Whether values are other ones than those that a model was made with; a seed left open never is."""
        try:
            read = self.read(values)
        except DataError:
            return True
        return any(
            value != used.get(name) for name, value in read.items() if not (name == self.seeded and value is None)
        )

    def _read(self, name: str, value: Any) -> Any:
        usual = self.inputs.get(name, {}).get("value")
        number = isinstance(usual, int | float) and not isinstance(usual, bool)
        if not isinstance(value, str) or not (number or name in _SEEDS):
            return value
        if not value.strip() and name in _SEEDS:
            return None
        try:
            return float(value) if isinstance(usual, float) else int(value)
        except ValueError:
            raise DataError(f"{name} must be a number, not {value!r}") from None


def parameters_of(make: Callable[..., Any], given: Mapping[str, Any] | None) -> Parameters:
    """The parameters of a model.

    Args:
        make: The model class, or what makes the model.
        given: Mesa's ``model_params``: inputs, and fixed values. Without them all that the signature has defaults
            for which a page has an input.

    Raises:
        ValueError: A parameter is not the model's, is missing, or has an input that there is not.
    """
    signature = inspect.signature(make).parameters
    known = {name: one for name, one in signature.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
    open_ended = any(one.kind is one.VAR_KEYWORD for one in signature.values())
    if given is None:
        guessed = {name: _guess(name, one.default) for name, one in known.items()}
        given = {name: one for name, one in guessed.items() if one is not None}
    inputs = {name: as_input(name, value) for name, value in given.items() if _is_input(value)}
    fixed = {name: value for name, value in given.items() if name not in inputs}
    what = getattr(make, "__name__", "the model")
    if not open_ended and (unknown := [name for name in given if name not in known]):
        raise ValueError(f"{what} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    missing = [name for name, one in known.items() if one.default is one.empty and name not in given]
    if missing:
        raise ValueError(f"{what} needs {missing[0]!r}: give it in params")
    seeded = next((name for name in _SEEDS if name in known or name in given), None)
    if seeded is not None and seeded not in given and known[seeded].default is not None:
        seeded = None  # the model's own default is a seed already
    return Parameters(inputs, fixed, seeded)


def as_input(name: str, value: Any) -> Input:
    """An input as a mapping; Mesa's own ``Slider`` becomes one.

    Raises:
        ValueError: There is no such input.
    """
    if not isinstance(value, Mapping):
        kind = "SliderFloat" if value.is_float_slider else "SliderInt"
        return {"type": kind, **{key: getattr(value, key) for key in ("label", "value", "min", "max", "step")}}
    if value["type"] not in _TYPES:
        raise ValueError(f"Parameter {name!r}: there is no input {value['type']!r}; there are {', '.join(_TYPES)}")
    return value


def _is_input(value: Any) -> bool:
    return hasattr(value, "is_float_slider") or (isinstance(value, Mapping) and "type" in value)


def _guess(name: str, default: Any) -> Input | None:
    """An input for a default; None where a page has none for it, and the model takes its default."""
    label = "Seed" if name in _SEEDS else name.replace("_", " ").capitalize()
    if name == "backend" and isinstance(default, str):
        return backend_choice(*dict.fromkeys((default, *backend_choice()["values"])))
    if name == "summarizer" and default in SUMMARIZERS:
        return {"type": "Select", "label": label, "value": default, "values": list(SUMMARIZERS)}
    if name in _SEEDS and default is None:
        return {"type": "InputText", "label": "Seed (empty: a new one each time)", "value": ""}
    kinds = {bool: "Checkbox", int: "InputInt", float: "InputFloat", str: "InputText"}
    kind = kinds.get(type(default))
    return None if kind is None else {"type": kind, "label": label, "value": default}
