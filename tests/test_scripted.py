from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field

from mesa_meanfield import ScriptedBackend
from mesa_meanfield.protocols import Request


class Good(StrEnum):
    WHEAT = "wheat"
    WOOD = "wood"
    IRON = "iron"


class Comment(BaseModel):
    text: str
    above: Comment | None
    answers: list[Comment] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = Field(min_length=1, max_length=2)


class Everything(BaseModel):
    choice: Literal["a", 2, None]
    good: Good | None
    pet: Cat | Dog = Field(discriminator="kind")
    comment: Comment
    short: str = Field(max_length=3)
    exact: str = Field(min_length=30, max_length=30)
    stripped: Annotated[str, Field(min_length=6, max_length=6)]
    whole: int
    low: int = Field(gt=2, lt=4)
    huge: int = Field(ge=10**20, le=10**20 + 1)
    even: int = Field(multiple_of=2, ge=-3, lt=3)
    share: float = Field(gt=0, lt=1)
    exactly: float = Field(ge=0.5, le=0.5)
    tiny: float = Field(gt=0, lt=1e-6)
    tenth: float = Field(multiple_of=0.5, ge=0, le=2)
    price: Decimal
    true: bool
    null: None
    either: int | str
    items: list[Good] = Field(min_length=2, max_length=4)
    different: set[Good] = Field(min_length=3)
    pair: tuple[int, Good]
    stock: dict[Good, int] = Field(min_length=2)
    years: dict[int, float]
    anything: Any
    day: date
    moment: datetime
    id: UUID
    address: AnyUrl
    optional: str | None = None


def reply(model: type[BaseModel], seed: int = 0) -> str:
    schema = json.dumps(model.model_json_schema())
    return ScriptedBackend().generate([Request("p", "s", seed, schema=schema)])[0].text


@settings(deadline=None)
@given(st.integers(0, 2**62))
def test_a_request_with_a_schema_gets_an_object_that_fits_it(seed):
    Everything.model_validate_json(reply(Everything, seed), strict=True)


def test_the_seed_draws_the_object():
    assert reply(Everything, 1) == reply(Everything, 1)
    drawn = [Everything.model_validate_json(reply(Everything, seed)) for seed in range(60)]
    for name in ("choice", "good", "true", "even", "either"):
        assert len({repr(getattr(one, name)) for one in drawn}) > 1
    assert {type(one.pet) for one in drawn} == {Cat, Dog}
    assert {one.optional is None for one in drawn} == {True, False}


def test_a_part_of_itself_ends():
    def depth(comment: Comment) -> int:
        inside = [*comment.answers, *([comment.above] if comment.above else [])]
        return 1 + max(map(depth, inside), default=0)

    depths = {depth(Comment.model_validate_json(reply(Comment, seed))) for seed in range(50)}
    assert 1 < max(depths) < 6


def test_what_cannot_be_drawn_is_told():
    class Endless(BaseModel):
        inside: Endless

    class Coded(BaseModel):
        code: str = Field(pattern="^[A-Z]{3}$")

    class Nothing(BaseModel):
        n: int = Field(gt=1, lt=2)

    for model, told in ((Endless, "without an end"), (Coded, "reply function"), (Nothing, "its bounds exclude all")):
        with pytest.raises(ValueError, match=told):
            reply(model)


def test_a_reply_function_of_ones_own_goes_before_the_schema():
    backend = ScriptedBackend(lambda request: "mine")
    assert backend.generate([Request("p", "s", schema=json.dumps(Cat.model_json_schema()))])[0].text == "mine"
