"""Values that fit a JSON schema, drawn by a seed: what a model without a model answers.

It knows what pydantic emits, patterns of strings left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from mesa_meanfield.seeds import derive, unit

_Json = dict[str, Any]  # Any: a JSON schema holds whatever JSON holds
_DEEP = 3  # how many named parts stand inside each other before the shortest way out is taken
_FORMATS = {
    "date": "2025-03-01",
    "date-time": "2025-03-01T08:00:00Z",
    "time": "08:00:00Z",
    "duration": "P1D",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "uri": "https://example.org/",
}


def draw_json(schema: str, seed: int, words: Callable[[int], str]) -> str:
    """A JSON value that fits a JSON schema, as JSON; equal arguments give equal values.

    Args:
        schema: The JSON schema, as JSON.
        seed: What decides.
        words: A seed -> a few words, for the strings.

    Raises:
        ValueError: The schema asks for something that cannot be drawn.
    """
    whole = json.loads(schema)
    drawn = _Drawn(whole.get("$defs", {}), seed, words)
    if math.isinf(drawn.height(whole)):
        raise ValueError("No value fits the JSON schema: it contains itself without an end")
    return json.dumps(drawn.of(whole), ensure_ascii=False)


class _Drawn:
    """Draws the parts of one value; ``where`` tells the draws apart."""

    def __init__(self, parts: dict[str, _Json], seed: int, words: Callable[[int], str]) -> None:
        self._parts, self._seed, self._words = parts, seed, words

    def of(self, part: _Json, where: str = "", depth: int = 0) -> Any:  # Any: a JSON value
        """A value for a part that so many named parts stand around."""
        if "$ref" in part:
            return self.of(self._named(part), where, depth + 1)
        if "const" in part or "enum" in part:
            return self._one_of(part.get("enum", [part.get("const")]), where)
        if among := part.get("anyOf") or part.get("oneOf"):
            return self.of(self._branch(among, f"{where}|", depth), where, depth)
        match part.get("type"):
            case "null":
                return None
            case "boolean":
                return self._one_of([False, True], where)
            case "integer" | "number" as kind:
                return self._number(part, where, kind == "integer")
            case "array":
                return self._array(part, where, depth)
            case "object":
                return self._object(part, where, depth)
        return self._string(part, where)

    def height(self, part: _Json, inside: frozenset[str] = frozenset()) -> float:
        """How deep the flattest value of a part is; infinite where none ends."""
        if "$ref" in part:
            name = part["$ref"]
            return math.inf if name in inside else self.height(self._named(part), inside | {name})
        if among := part.get("anyOf") or part.get("oneOf"):
            return min(self.height(one, inside) for one in among)
        needed = [part["properties"][name] for name in part.get("required", ()) if name in part["properties"]]
        if part.get("minItems"):
            needed += part.get("prefixItems") or [part.get("items", {})]
        return 1 + max((self.height(one, inside) for one in needed), default=0)

    def _branch(self, among: list[_Json], where: str, depth: int) -> _Json:
        if any(one.get("type") == "number" for one in among):  # the string beside it is a Decimal's, no words
            among = [one for one in among if one.get("type") != "string"]
        among = [one for one in among if "pattern" not in one] or among
        heights = [self.height(one) for one in among]
        if depth >= _DEEP:
            return among[heights.index(min(heights))]
        finite: _Json = self._one_of([a for a, h in zip(among, heights, strict=True) if math.isfinite(h)], where)
        return finite

    def _array(self, part: _Json, where: str, depth: int) -> list[Any]:
        if fixed := part.get("prefixItems"):
            return [self.of(item, f"{where}[{i}]", depth) for i, item in enumerate(fixed)]
        least = part.get("minItems", 0)
        count = least if depth >= _DEEP else self._between(least, part.get("maxItems", least + 3), where)
        items: list[Any] = []
        for attempt in range(50 * count):  # equal ones are drawn anew
            if len(items) == count:
                break
            item = self.of(part.get("items", {}), f"{where}[{attempt}]", depth)
            if not (part.get("uniqueItems") and item in items):
                items.append(item)
        return items

    def _object(self, part: _Json, where: str, depth: int) -> dict[str, Any]:
        made = {}
        for name, one in part.get("properties", {}).items():
            optional = name not in part.get("required", ())
            if not optional or (depth < _DEEP and self._between(0, 1, f"{where}.{name}?")):
                made[name] = self.of(one, f"{where}.{name}", depth)
        values = part.get("additionalProperties")
        if not made and isinstance(values, dict):
            least = part.get("minProperties", 0)
            count = least if depth >= _DEEP else self._between(least, part.get("maxProperties", least + 2), where)
            names = part.get("propertyNames", {"enum": [str(i) for i in range(count)]})  # a number is a word, too
            keys = self._array({"items": names, "minItems": count, "maxItems": count, "uniqueItems": True}, where, 0)
            made = {key: self.of(values, f"{where}.{key}", depth) for key in keys}
        return made

    def _number(self, part: _Json, where: str, whole: bool) -> int | float:
        lows = [part[name] for name in ("minimum", "exclusiveMinimum") if name in part]
        highs = [part[name] for name in ("maximum", "exclusiveMaximum") if name in part]
        low = max(lows) if lows else min(highs) - 100 if highs else 0
        high = min(highs) if highs else low + 100
        step = part.get("multipleOf") or (1 if whole else None)
        if step is None:
            # Never at the ends, which may be excluded.
            value = low + (high - low) * (0.01 + 0.98 * unit(self._seed, f"number {where}"))
            return round(value, 2) if low < round(value, 2) < high else value
        first, last = -(-low // step), high // step
        first += first * step <= part.get("exclusiveMinimum", -math.inf)
        last -= last * step >= part.get("exclusiveMaximum", math.inf)
        value = self._between(int(first), int(last), where) * step
        return value if isinstance(value, int) else round(value, 9)

    def _string(self, part: _Json, where: str) -> str:
        if "pattern" in part:
            raise ValueError(
                f"No text is drawn for the pattern {part['pattern']}; give the ScriptedBackend a reply function"
            )
        if part.get("format") in _FORMATS:
            return _FORMATS[part["format"]]
        text, least = self._words(derive(self._seed, where)), part.get("minLength", 0)
        while len(text) < least:
            text = f"{text} {self._words(derive(self._seed, where, len(text)))}"
        text = text[: part.get("maxLength")]
        return text[:-1] + "." if text.endswith(" ") else text  # a blank at the end may be stripped

    def _named(self, part: _Json) -> _Json:
        name: str = part["$ref"]
        return self._parts[name.removeprefix("#/$defs/")]

    def _one_of(self, values: list[Any], where: str) -> Any:  # Any: a JSON value, or a part of the schema
        return values[self._between(0, len(values) - 1, where)]

    def _between(self, low: int, high: int, where: str) -> int:
        if low > high:
            raise ValueError(f"No value fits the JSON schema at {where or 'its top'}: its bounds exclude all")
        return low + derive(self._seed, "json", where) % (high - low + 1)
