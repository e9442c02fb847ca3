"""Pydantic models of every kind that a modeler may ask a language model to fill in."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field


class Mood(StrEnum):
    CALM = "calm"
    ANGRY = "angry and loud"


class Rank(IntEnum):
    FIRST = 1
    LAST = 20


class Order(BaseModel):
    good: Literal["wheat", "wood"]
    amount: int = Field(ge=1, le=9)


class Vote(BaseModel):
    reason: str = Field(max_length=80)
    stance: Literal["support", "deny"]
    certainty: int = Field(ge=0, le=10)
    mood: Mood | None = None
    leaves: bool = False
    orders: list[Order] = []


class Plain(BaseModel):
    name: str
    count: int
    share: float
    leaves: bool
    nothing: None


class Nested(BaseModel):
    first: Order
    orders: list[Order] = Field(min_length=2, max_length=4)
    note: str | None


class Either(BaseModel):
    one: int | str | Order | list[int]
    two: Annotated[Order, Field()] | Mood


class Numbers(BaseModel):
    above: float = Field(gt=0)
    between: float = Field(ge=-1.5, lt=2.25)
    large: int = Field(gt=100, lt=100_000)
    negative: int = Field(ge=-10, le=-2)


class Strings(BaseModel):
    least: str = Field(min_length=3)
    both: str = Field(min_length=5, max_length=7)
    word: Literal['say "no"', "back\\slash", "new\nline", "{[,]}"]
    plate: str = Field(pattern="^[A-Z]{3}-[0-9]{4}$")
    key: UUID


class Chinese(BaseModel):
    stance: Literal["支持", "否认"] = Field(alias="立场")
    reason: str = Field(alias="理由")


class Stock(BaseModel):
    amounts: dict[str, int]
    orders: dict[str, list[Order]] = {}
    pair: tuple[int, str]


class Bag(BaseModel):
    numbers: set[int]
    words: frozenset[Literal["a", "b"]]
    uniqueItems: bool  # noqa: N815 - a keyword of JSON schemas, but here the modeler's own name


class Optionals(BaseModel):
    name: str | None = None
    rank: Rank | None = None
    value: Literal[1, "a", True, None] = None


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Pets(BaseModel):
    best: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: list[Cat | Dog]


FORMS = (Vote, Plain, Nested, Either, Numbers, Strings, Chinese, Stock, Bag, Optionals, Tree, Pets)
