from __future__ import annotations

import json
from dataclasses import replace
from enum import Enum, StrEnum
from typing import Annotated, Literal

import mesa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, RootModel, model_validator

from mesa_meanfield import Decision, Sampling, Schema
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import ActionSpace


class Mood(StrEnum):
    CALM = "calm"
    ANGRY = "angry"


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


class Walrus(BaseModel):
    size: int
    name: str = ""


VOTE = Schema(Vote, text_field="reason")
REPLY = '{"reason": " It is wet. ", "stance": "deny", "certainty": 3, "mood": "angry", "leaves": true}'


def test_it_is_an_action_space_that_writes():
    assert isinstance(VOTE, ActionSpace)
    assert (VOTE.choice, VOTE.text) == (None, VOTE)
    assert VOTE.sampling == Sampling(max_tokens=200)


def test_equal_schemas_are_equal_and_hash_alike():
    again = Schema(Vote, text_field="reason")
    assert (VOTE, hash(VOTE)) == (again, hash(again))
    assert len({VOTE, again, replace(VOTE, question="Well?"), Schema(Vote)}) == 3
    assert Schema(Vote, label_fields=["stance"]) == Schema(Vote, label_fields=("stance",))


def test_its_json_schema_is_the_models_own_in_few_characters():
    order, vote = Order.model_json_schema(), Vote.model_json_schema()
    vote["$defs"]["Order"] = order | {"additionalProperties": False}
    assert json.loads(VOTE.schema) == vote | {"additionalProperties": False}
    assert list(json.loads(VOTE.schema)["properties"]) == list(Vote.model_fields)
    assert VOTE.schema == Schema(Vote).schema
    assert ": " not in VOTE.schema


def test_other_keys_than_the_fields_are_written_only_where_the_model_wants_them():
    class Open(BaseModel, extra="allow"):
        stock: dict[str, int]

    opened = json.loads(Schema(Open).schema)
    assert opened["additionalProperties"] is True
    assert opened["properties"]["stock"]["additionalProperties"] == {"type": "integer"}
    assert Schema(Walrus).read('{"size": 3, "colour": "grey"}').value == Walrus(size=3)


def test_words_and_truth_values_are_labels():
    assert VOTE.labels == {"stance": ("support", "deny"), "mood": ("calm", "angry"), "leaves": ("yes", "no")}
    assert Schema(Vote, label_fields=("mood",)).labels == {"mood": ("calm", "angry")}
    assert Schema(Vote, label_fields=()).labels == {}
    assert Schema(Walrus).labels == {}


def test_a_reply_becomes_the_models_instance_with_labels_and_text():
    read = VOTE.read(REPLY)
    assert isinstance(read.value, Vote)
    assert read == Decision(
        "It is wet.",
        Vote(reason=" It is wet. ", stance="deny", certainty=3, mood=Mood.ANGRY, leaves=True),
        {"stance": "deny", "mood": "angry", "leaves": "yes"},
    )


def test_none_is_no_label_and_no_text():
    class Shy(BaseModel):
        mood: Mood | None
        said: str | None

    assert Schema(Shy, text_field="said").read('{"mood": null, "said": null}') == Decision(
        value=Shy(mood=None, said=None)
    )


@pytest.mark.parametrize(
    "reply",
    [
        f"```json\n{REPLY}\n```",
        f"Well, {{so}} I say: {REPLY} and that {{is}} it.",
        f"{REPLY} {REPLY.replace('deny', 'support')}",
        f'He said "no" {{but}} {REPLY}',
        f"[{REPLY}]",
        REPLY.replace(", ", ",\n\t"),
    ],
)
def test_the_first_object_of_a_reply_is_read_whatever_stands_around_it(reply):
    assert VOTE.read(reply) == VOTE.read(REPLY)


def test_braces_and_quotes_inside_strings_are_text():
    said = 'a } b { c " d \\ e'
    reply = json.dumps({"reason": said, "stance": "deny", "certainty": 3})
    assert VOTE.read(f"So: {reply}").text == said


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"stance": "maybe"}, "stance should be 'support' or 'deny', got 'maybe'"),
        ({"certainty": 11}, "certainty should be less than or equal to 10, got 11"),
        ({"certainty": "3"}, "certainty should be a valid integer, got '3'"),
        ({"leaves": "yes"}, "leaves should be a valid boolean, got 'yes'"),
        ({"reason": "x" * 81}, "reason: String should have at most 80 characters, got 'xxx"),
        (
            {"orders": [{"good": "wheat", "amount": 2}, {"good": "gold", "amount": 2}]},
            r"orders\[1\]\.good should be 'wheat'",
        ),
        ({"stance": "maybe", "certainty": 11}, r"got 'maybe' \(and 1 more\)"),
    ],
)
def test_a_wrong_value_is_told_with_its_field_and_what_was_expected(wrong, told):
    with pytest.raises(ReplyError, match=rf"is no Vote: .*{told}") as caught:
        VOTE.read(json.dumps(json.loads(REPLY) | wrong))
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_told():
    with pytest.raises(ReplyError, match="is no Vote: stance: Field required"):
        VOTE.read('{"reason": "", "certainty": 3}')


def test_a_validator_of_the_model_is_heard():
    class Even(BaseModel):
        n: int

        @model_validator(mode="after")
        def even(self):
            if self.n % 2:
                raise ValueError("n\nmust be even")
            return self

    with pytest.raises(ReplyError, match=r"is no Even: Value error, n must be even$"):
        Schema(Even).read('{"n": 3}')


def test_a_label_that_a_validator_changed_is_told():
    class Loud(BaseModel):
        mood: Annotated[Literal["calm", "angry"], AfterValidator(str.upper)]

    with pytest.raises(ReplyError, match="mood is 'CALM', which is not one of calm, angry"):
        Schema(Loud).read('{"mood": "calm"}')


@pytest.mark.parametrize(
    "reply", ["", "deny", "{", "{}{", "{so}", '["deny"]', '{"size": NaN}', "{'size': 1}", "\ud800{}"]
)
def test_what_is_no_json_object_is_told(reply):
    with pytest.raises(ReplyError, match=r"holds no whole JSON object|is no Walrus: size: Field required"):
        Schema(Walrus).read(reply)


def test_an_object_inside_one_that_was_cut_off_is_not_taken_for_it():
    class Any(BaseModel):
        name: str = "anyone"

    with pytest.raises(ReplyError, match="cut off needs more max_tokens"):
        Schema(Any).read('{"who": {"name": "me"}, "size')


@settings(deadline=None)
@given(st.text(), st.sampled_from(["", REPLY, '{"a": ', '"', "}", "{}", '{"reason": "\\ud800"}']), st.text())
def test_any_reply_is_read_or_is_a_reply_error(before, between, after):
    try:
        assert isinstance(VOTE.read(before + between + after).value, Vote)
    except ReplyError as error:
        assert "\n" not in str(error)  # noqa: PT017  # whether it raises depends on the text


TALK = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]))


@settings(deadline=None)
@given(TALK, st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(0, 10), st.booleans(), TALK)
def test_whatever_was_written_is_read_again(before, reason, certainty, leaves, after):
    vote = Vote(
        reason=reason, stance="deny", certainty=certainty, leaves=leaves, orders=[Order(good="wood", amount=1)]
    )
    read = VOTE.read(before + vote.model_dump_json() + after)
    assert read == VOTE.decision(vote)
    assert (read.value, read.text, read.labels["leaves"]) == (vote, reason.strip(), "yes" if leaves else "no")


@settings(deadline=None)
@given(st.integers(0, len(REPLY) - 1))
def test_no_beginning_of_an_object_is_read(end):
    with pytest.raises(ReplyError):
        VOTE.read(REPLY[:end])


# --- Wrong arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [dict, "Vote", None, Walrus(size=1)])
def test_only_a_pydantic_model_is_a_schema(model):
    with pytest.raises(TypeError, match="a subclass of BaseModel, got"):
        Schema(model)


def test_a_model_needs_named_fields():
    class Empty(BaseModel):
        pass

    for model in (Empty, RootModel[list[int]]):
        with pytest.raises(ValueError, match="has no named fields"):
            Schema(model)


def test_a_model_without_a_json_schema_is_told_at_once():
    class Odd(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        agent: mesa.Agent

    with pytest.raises(ValueError, match="Odd has no JSON schema: "):
        Schema(Odd)


@pytest.mark.parametrize("wrong", [{"text_field": "remark"}, {"label_fields": ("stance", "remark")}])
def test_an_unknown_field_is_told_with_those_there_are(wrong):
    with pytest.raises(ValueError, match="Vote has no field 'remark'; there are reason, stance, certainty"):
        Schema(Vote, **wrong)


@pytest.mark.parametrize("name", ["certainty", "orders", "leaves"])
def test_the_text_is_a_str(name):
    with pytest.raises(ValueError, match=rf"must name a str field, but Vote\.{name} is none"):
        Schema(Vote, text_field=name)


@pytest.mark.parametrize("name", ["certainty", "reason", "orders"])
def test_only_words_and_truth_values_can_be_labels(name):
    with pytest.raises(ValueError, match=rf"Vote\.{name} has no labels"):
        Schema(Vote, label_fields=(name,))
    with pytest.raises(ValueError, match="a tuple of names, got 'stance'"):
        Schema(Vote, label_fields="stance")


def test_numbers_are_no_labels():
    class Grade(Enum):
        GOOD = 1
        BAD = 2

    class Marked(BaseModel):
        grade: Grade
        rank: Literal[1, 2]
        either: Literal["high", 3]

    assert Schema(Marked).labels == {}


def test_a_decision_is_made_of_the_models_instances_only():
    with pytest.raises(TypeError, match="Expected an instance of Vote, got Walrus"):
        VOTE.decision(Walrus(size=1))


def test_fields_are_written_by_their_alias_and_named_by_their_own_name():
    class Zh(BaseModel):
        stance: Literal["支持", "否认"] = Field(alias="立场")

    read = Schema(Zh).read('{"立场": "支持"}')
    assert (read.labels, Schema(Zh).labels) == ({"stance": "支持"}, {"stance": ("支持", "否认")})
    assert list(json.loads(Schema(Zh).schema)["properties"]) == ["立场"]
