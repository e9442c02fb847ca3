"""A pydantic model as the decision: the language model fills in a form, and the agent acts on its values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import from_json

from mesa_meanfield.data import Decision
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import Sampling

_YES_NO = {True: "yes", False: "no"}
# A brace, or a whole JSON string, whose braces are text; one that is cut off takes all that is left.
_TOKENS = re.compile(r'[{}]|"(?:[^"\\]+|\\.?)*(?:"|\Z)', re.DOTALL)


@dataclass(frozen=True)
class Schema:
    """A JSON object that fits a pydantic model; the decision's value is the model's instance.

    The prompt shows the fields with their types and ``Field(description=...)``, in the model's order; they
    are written in that order, too. A backend that can lets nothing but such an object be written. `read`
    converts nothing ("3" is no integer) and passes over keys that the model does not have.
    """

    model: type[BaseModel]
    """Its fields are what is decided."""
    sampling: Sampling = Sampling(max_tokens=200)
    """How the object is sampled; one that is cut off by ``max_tokens`` cannot be read."""
    text_field: str = ""
    """The str field that others get to see as the decision's text; without it they see the values."""
    label_fields: tuple[str, ...] | None = None
    """The fields that are labels, each a dimension of its name: a Literal of strings, a str Enum or a bool
    (its labels are "yes" and "no"), or one of these or None (None is no label). Default: all such fields."""
    question: str = ""
    """What is asked; without it the prompt asks for the action."""
    schema: str = field(init=False, repr=False, compare=False)
    """The model's JSON schema, as JSON, with no other keys than its fields."""
    labels: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    """Dimension -> all its labels."""

    def __post_init__(self) -> None:
        if not (isinstance(self.model, type) and issubclass(self.model, BaseModel)):
            raise TypeError(f"A Schema needs a pydantic model, a subclass of BaseModel, got {self.model!r}")
        name, known = self.model.__name__, tuple(self.model.model_fields)
        if issubclass(self.model, RootModel) or not known:
            raise ValueError(f"{name} has no named fields; a Schema needs a model with at least one")
        if isinstance(self.label_fields, str):
            raise ValueError(f"label_fields must be a tuple of names, got {self.label_fields!r}")
        if self.label_fields is not None:
            object.__setattr__(self, "label_fields", tuple(self.label_fields))
        for wanted in (*filter(None, [self.text_field]), *(self.label_fields or ())):
            if wanted not in known:
                raise ValueError(f"{name} has no field {wanted!r}; there are {', '.join(known)}")
        try:
            # The model writes the aliases, where there are any; labels and text go by the fields' own names.
            written, own = (self.model.model_json_schema(by_alias=by_alias) for by_alias in (True, False))
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            raise ValueError(f"{name} has no JSON schema: {_line(error.message)}") from error
        fields = _resolved(own, own).get("properties", {})
        if self.text_field and _types(fields.get(self.text_field, {}), own) - {"null"} != {"string"}:
            raise ValueError(f"text_field must name a str field, but {name}.{self.text_field} is none")
        found = {one: _labels(fields[one], own) for one in known if one in fields}
        for wanted in self.label_fields or ():
            if not found.get(wanted):
                raise ValueError(
                    f"{name}.{wanted} has no labels; those of a Literal of strings, a str Enum or a bool are known"
                )
        chosen = known if self.label_fields is None else self.label_fields
        object.__setattr__(self, "labels", {one: found[one] for one in chosen if found.get(one)})
        object.__setattr__(self, "schema", json.dumps(_closed(written), ensure_ascii=False, separators=(",", ":")))

    @property
    def choice(self) -> None:
        """No choice: the labels come from the object."""
        return

    @property
    def text(self) -> Schema:
        """Itself."""
        return self

    def read(self, reply: str) -> Decision:
        """The first JSON object of the reply, fences and talk around it left away.

        Raises:
            ReplyError: There is none, or it does not fit the model.
        """
        for found in _objects(reply):
            try:
                from_json(found, allow_inf_nan=False)
            except (ValueError, TypeError):  # TypeError: half a surrogate pair, which UTF-8 cannot hold
                continue  # braces around something else
            try:
                return self.decision(self.model.model_validate_json(found, strict=True))
            except ValidationError as error:
                raise ReplyError(f"Reply {found[:60]!r} is no {self.model.__name__}: {_told(error)}") from error
        raise ReplyError(
            f"Reply {reply[:60]!r} holds no whole JSON object; one that was cut off needs more max_tokens"
        )

    def decision(self, value: BaseModel) -> Decision:
        """The decision that an instance of the model is; for rules, and for ``on_failure``.

        Raises:
            ReplyError: A label is none of the dimension's, since a validator of the model changed it.
            TypeError: The value is no instance of the model.
        """
        if not isinstance(value, self.model):
            raise TypeError(f"Expected an instance of {self.model.__name__}, got {value!r}")
        labels = {}
        for dimension, options in self.labels.items():
            raw = getattr(value, dimension)
            label = raw.value if isinstance(raw, Enum) else raw
            if label is None:
                continue
            labels[dimension] = _YES_NO[label] if isinstance(label, bool) else label
            if labels[dimension] not in options:
                raise ReplyError(f"{dimension} is {label!r}, which is not one of {', '.join(options)}")
        said = getattr(value, self.text_field) if self.text_field else None
        return Decision("" if said is None else str(said).strip(), value, labels)


def _objects(reply: str) -> Iterator[str]:
    """Every outermost balanced {...} of a reply, in order; braces inside JSON strings do not count."""
    start = reply.find("{")
    while start >= 0:
        depth, end = 0, -1
        for token in _TOKENS.finditer(reply, start):
            depth += {"{": 1, "}": -1}.get(token[0], 0)
            if not depth:
                end = token.end()
                yield reply[start:end]
                break
        # What is never closed may have been cut off: an object inside it is not the one that was meant.
        start = reply.find("{", end) if end > 0 else -1


def _told(error: ValidationError) -> str:
    """What is wrong with the first field that is, on one line."""
    first, *others = error.errors(include_url=False, include_context=False)
    where = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"]).removeprefix(".")
    said = _line(first["msg"])
    said = said.replace("Input", where, 1) if where and said.startswith("Input ") else f"{where}: {said}".lstrip(": ")
    got = "" if first["type"] == "missing" or not where else f", got {first['input']!r:.60}"
    return said + got + (f" (and {len(others)} more)" if others else "")


def _line(said: object) -> str:
    return " ".join(str(said).split())


# --- What a JSON schema says -----------------------------------------------------------------------

_Json = dict[str, Any]  # Any: a JSON schema holds whatever JSON holds


def _closed(part: Any) -> Any:  # Any: whatever JSON holds
    """The same without keys of the writer's own, on which it would spend its tokens; `read` lets them pass."""
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {"additionalProperties": False} if part.get("type") == "object" and "properties" in part else {}
    return closed | {name: _closed(one) for name, one in part.items()}


def _resolved(part: _Json, whole: _Json) -> _Json:
    """The part itself, not the name that stands for it."""
    while "$ref" in part:
        part = whole["$defs"][part["$ref"].removeprefix("#/$defs/")]
    return part


def _branches(part: _Json, whole: _Json) -> list[_Json]:
    """The part's alternatives; itself where there is only one."""
    part = _resolved(part, whole)
    among = part.get("anyOf") or part.get("oneOf")
    return [branch for one in among for branch in _branches(one, whole)] if among else [part]


def _types(part: _Json, whole: _Json) -> set[str | None]:
    return {branch.get("type") for branch in _branches(part, whole)}


def _labels(part: _Json, whole: _Json) -> tuple[str, ...]:
    """The labels of a part whose values are all known, and all words or truth values; else none."""
    values: list[object] = []
    for branch in _branches(part, whole):
        if "enum" in branch or "const" in branch:
            values += branch.get("enum", [branch.get("const")])
        elif branch.get("type") == "boolean":
            values += [True, False]
        elif branch.get("type") != "null":
            return ()
    values = [value for value in values if value is not None]
    if not all(isinstance(value, str | bool) for value in values):
        return ()
    return tuple(dict.fromkeys(_YES_NO[v] if isinstance(v, bool) else str(v) for v in values))
