"""A JSON schema as a short form that people and small models read.

It looks like the object itself with each value's type in its place, as type definitions in code do, so
that it is the same in every language::

    {
      "stance": "support" | "deny",  // what you say of it
      "certainty": integer (0..10),
      "reason": string (length <= 80)
    }
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

_Json = dict[str, Any]  # Any: a JSON schema holds whatever JSON holds


@lru_cache(maxsize=64)  # asked for once per agent
def json_form(schema: str) -> tuple[str, tuple[str, ...]]:
    """The form of a JSON schema, and the keys of its object.

    Descriptions of fields follow them as comments; those of classes are their programmer's and left out.

    Args:
        schema: The JSON schema, as JSON.
    """
    whole = json.loads(schema)
    parts = whole.get("$defs", {})
    top = whole
    while "$ref" in top:
        top = parts[_name(top)]
    return _Form(parts).of(whole), tuple(top.get("properties", ()))


class _Form:
    """Writes one JSON schema, part by part."""

    def __init__(self, parts: dict[str, _Json]) -> None:
        self._parts = parts
        self._again: set[str] = set()  # the parts that stand inside themselves

    def of(self, part: _Json, inside: tuple[str, ...] = (), pad: str = "") -> str:
        """A part that stands inside others, named there, with the blanks that its lines begin with."""
        if "$ref" in part:
            return self._named(_name(part), inside, pad)
        if "const" in part or "enum" in part:
            return " | ".join(map(_text, part.get("enum", [part.get("const")])))
        if among := part.get("anyOf") or part.get("oneOf"):
            return " | ".join(dict.fromkeys(self.of(one, inside, pad) for one in among))
        kind = part.get("type", "any")
        if kind == "array":
            fixed = [self.of(item, inside, pad) for item in part.get("prefixItems", ())]
            if fixed:
                return f"[{', '.join(fixed)}]"
            return f"[{self.of(part.get('items', {}), inside, pad)}, ...]{_limits(part, 'Items', 'length ')}"
        if kind == "object":
            return self._object(part, inside, pad)
        if kind == "string":
            return f"string ({part['format']})" if "format" in part else "string" + _limits(part, "Length", "length ")
        return "true | false" if kind == "boolean" else kind + _limits(part, "imum")

    def _named(self, name: str, inside: tuple[str, ...], pad: str) -> str:
        """In full, unless it is a part of itself: then by its name."""
        if name in inside:
            self._again.add(name)
            return name
        said = self.of(self._parts[name], (*inside, name), pad)
        return f"{name} = {said}" if name in self._again else said

    def _object(self, part: _Json, inside: tuple[str, ...], pad: str) -> str:
        if "properties" not in part:
            values = part.get("additionalProperties")
            if not isinstance(values, dict):
                return "object"
            key = self.of(part.get("propertyNames", {"type": "string"}), inside, pad)
            return f"{{{key}: {self.of(values, inside, pad)}, ...}}"
        lines, last = ["{"], len(part["properties"])
        for number, (key, one) in enumerate(part["properties"].items(), 1):
            meaning = " ".join(one.get("description", "").split())
            comma, comment = "," if number < last else "", f"  // {meaning}" if meaning else ""
            lines.append(f"{pad}  {_text(key)}: {self.of(one, inside, pad + '  ')}{comma}{comment}")
        return "\n".join([*lines, pad + "}"])


def _limits(part: _Json, ending: str, of: str = "") -> str:
    """What a number or a length may be, such as " (0..10)" or " (length <= 80)"; empty where it is free."""
    low, high = part.get(f"min{ending}"), part.get(f"max{ending}")
    if low is not None and high is not None:
        return f" ({of}{low}..{high})"
    above, below = part.get(f"exclusiveMin{ending}"), part.get(f"exclusiveMax{ending}")
    said = [f"{sign} {n}" for sign, n in ((">=", low), (">", above), ("<=", high), ("<", below)) if n is not None]
    return f" ({of}{', '.join(said)})" if said else ""


def _name(part: _Json) -> str:
    return str(part["$ref"]).removeprefix("#/$defs/")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
