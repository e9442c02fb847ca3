from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from mesa_meanfield.forms import json_form


class Good(StrEnum):
    """For programmers only."""

    WHEAT = "wheat"
    WOOD = "wood"


class Order(BaseModel):
    """For programmers only."""

    good: Good = Field(description="what you buy")
    amount: int = Field(ge=1, le=9)


class Comment(BaseModel):
    text: str
    answers: list[Comment] = []


def form(model: type[BaseModel]) -> str:
    return json_form(json.dumps(model.model_json_schema()))[0]


def of_type(kind, **known) -> str:
    """How a type is shown."""
    shown = form(create_model("One", x=(kind, Field(**known))))
    return shown.removeprefix('{\n  "x": ').removesuffix("\n}")


def test_a_form_looks_like_the_object_with_the_meanings_as_comments():
    class Offer(BaseModel):
        reason: str = Field(max_length=80, description="why,\nin a few words")
        orders: list[Order] = Field(description="what you buy today", max_length=3)
        leaves: bool

    assert form(Offer) == (
        "{\n"
        '  "reason": string (length <= 80),  // why, in a few words\n'
        '  "orders": [{\n'
        '    "good": "wheat" | "wood",  // what you buy\n'
        '    "amount": integer (1..9)\n'
        "  }, ...] (length <= 3),  // what you buy today\n"
        '  "leaves": true | false\n'
        "}"
    )


def test_the_keys_are_those_of_the_object():
    assert json_form(json.dumps(Order.model_json_schema()))[1] == ("good", "amount")
    assert json_form(json.dumps(Comment.model_json_schema()))[1] == ("text", "answers")


def test_a_part_of_itself_is_shown_by_its_name():
    assert form(Comment) == 'Comment = {\n  "text": string,\n  "answers": [Comment, ...]\n}'


@pytest.mark.parametrize(
    ("kind", "known", "shown"),
    [
        (Literal["支持", 1, None], {}, '"支持" | 1 | null'),
        (Literal["only"], {}, '"only"'),
        (Good | None, {}, '"wheat" | "wood" | null'),
        (float, {"gt": 0, "lt": 1}, "number (> 0, < 1)"),
        (float, {"ge": 0.5}, "number (>= 0.5)"),
        (int, {"le": -2}, "integer (<= -2)"),
        (int, {"ge": 0, "lt": 5}, "integer (>= 0, < 5)"),
        (str, {"min_length": 1, "max_length": 5}, "string (length 1..5)"),
        (list[str], {"min_length": 2}, "[string, ...] (length >= 2)"),
        (tuple[int, str], {}, "[integer, string]"),
        (dict[str, int], {}, "{string: integer, ...}"),
        (dict[Good, int], {}, '{"wheat" | "wood": integer, ...}'),
        (int | str, {}, "integer | string"),
        (dict, {}, "object"),
        (Any, {}, "any"),
    ],
)
def test_every_type_has_its_notation(kind, known, shown):
    assert of_type(kind, **known) == shown


def test_a_decimal_is_a_number():
    assert of_type(Decimal).startswith("number | string")
