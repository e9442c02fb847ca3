from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model
from worlds import tick

from mesa_meanfield import (
    Choice,
    ChoiceThenText,
    Decision,
    FreeText,
    LLMPolicy,
    MeanField,
    Prompts,
    Schema,
    ScriptedBackend,
)
from mesa_meanfield import State as AgentState
from mesa_meanfield.errors import DataError
from mesa_meanfield.prompts import LANGUAGES, TEMPLATES, prompt_hash
from mesa_meanfield.protocols import Turn

TOPIC = "A walrus sits in the canal."
EN = Choice(
    ("believe", "doubt"), dimension="trust", meanings={"doubt": "you want proof"}, question="Is there a walrus?"
)
ZH = Choice(("believe", "doubt"), words={"believe": "相信", "doubt": "怀疑"}, meanings={"doubt": "你想看证据"})
SPACES = {"en": EN, "zh": ZH}
BY_LANGUAGE = pytest.mark.parametrize("language", ["en", "zh"])
SHIPPED = Prompts()
HOSTILE = "{{ 7 * 191 }}{% for x in range(9) %}spam{% endfor %}{# gone #}${{ self }}"


def own(folder, **templates):
    for name, text in templates.items():
        (folder / f"{name}.j2").write_text(text, encoding="utf-8")
    return folder


def test_english_and_chinese_are_shipped():
    assert LANGUAGES == ("en", "zh")


def test_an_unknown_language_is_told_with_those_there_are():
    with pytest.raises(ValueError, match="'fr'; there are en, zh"):
        Prompts("fr")


@BY_LANGUAGE
def test_the_prefix_holds_instructions_topic_field_and_choices_in_this_order(language):
    prefix = Prompts(language).policy_prefix(
        SPACES[language],
        MeanField("Most of them laugh."),
        topic=TOPIC,
        group_field=MeanField("The north is silent."),
        instructions="You are a resident.",
    )
    words = [SPACES[language].word(label) for label in ("believe", "doubt")]
    parts = ["You are a resident.", TOPIC, "Most of them laugh.", "The north is silent.", *words]
    places = [prefix.index(part) for part in parts]
    assert places == sorted(places)
    assert SPACES[language].meanings["doubt"] in prefix


@BY_LANGUAGE
def test_what_is_empty_leaves_no_heading_behind(language):
    prompts = Prompts(language)
    bare = prompts.policy_prefix(FreeText(), MeanField(), topic="")
    full = prompts.policy_prefix(SPACES[language], MeanField("Calm."), topic=TOPIC, group_field=MeanField("Calm."))
    assert len(bare.splitlines()) == 1
    assert bare == full.splitlines()[0]


def test_chinese_prompts_are_chinese():
    prompts = Prompts("zh")
    shown = [
        prompts.policy_prefix(ZH, MeanField("大家都在笑。"), topic="运河里有海象"),
        prompts.policy_suffix(ChoiceThenText(ZH), "你是读者。", chosen="doubt"),
        prompts.policy_suffix(FreeText(), "你是读者。"),
        prompts.policy_suffix(Schema(create_model("表", 立场=(bool, ...))), "你是读者。").replace("JSON", ""),
        prompts.summary_prefix(topic="运河里有海象"),
        prompts.summary_suffix(before="笑。", shares="相信 50%", latest="怀疑 50%", lines=["真的？"], total=2),
        prompts.tally(MeanField().counted(tick("相信", Decision(value=3), dimension="信任"))),
    ]
    assert [text for text in shown if any(c.isascii() and c.isalpha() for c in text)] == []


@BY_LANGUAGE
def test_all_agents_share_the_prefix_and_each_has_a_suffix_of_its_own(language):
    asked = []
    backend = ScriptedBackend(probability=lambda request, word: asked.append(request) or 1.0)
    states = ["I live by the canal.", "I sell sofas.", "I am a vet."]
    turns = [Turn(AgentState(str(i), text), seed=i) for i, text in enumerate(states)]
    policy = LLMPolicy(backend, SPACES[language], prompts=Prompts(language))
    policy.decide(turns, MeanField("Calm."), topic=TOPIC, groups={})
    assert len({request.prefix for request in asked}) == 1
    suffixes = list(dict.fromkeys(request.suffix for request in asked))
    for state, suffix in zip(states, suffixes, strict=True):
        assert suffix.startswith(state)
        assert state not in asked[0].prefix
        assert TOPIC not in suffix
        assert "Calm." not in suffix


@BY_LANGUAGE
def test_the_question_names_every_word_and_its_own_wording_wins(language):
    space = SPACES[language]
    suffix = Prompts(language).policy_suffix(space, "I am a vet.")
    assert all(space.word(label) in suffix for label in space.options)
    assert ("Is there a walrus?" in suffix) == (language == "en")
    assert "Say it loud." in Prompts(language).policy_suffix(FreeText(question="Say it loud."), "I am a vet.")


@BY_LANGUAGE
def test_letters_are_shown_with_their_words_and_asked_for(language):
    space, prompts = replace(SPACES[language], letters=True), Prompts(language)
    prefix, suffix = prompts.policy_prefix(space, MeanField(), topic=""), prompts.policy_suffix(space, "I am a vet.")
    for letter, label in zip("AB", space.options, strict=True):
        assert f"{letter}. {space.word(label)}" in prefix
        assert space.word(label) not in suffix
    assert suffix.endswith({"en": "A, B.", "zh": "A、B。"}[language])


@BY_LANGUAGE
def test_the_text_prompt_names_the_chosen_label_and_no_other(language):
    space = ChoiceThenText(SPACES[language])
    suffix = Prompts(language).policy_suffix(space, "I am a vet.", chosen="doubt")
    assert space.choice.word("doubt") in suffix
    assert space.choice.meanings["doubt"] in suffix
    assert space.choice.word("believe") not in suffix
    assert suffix != Prompts(language).policy_suffix(space, "I am a vet.")


class Offer(BaseModel):
    good: Literal["wheat", "wood"] = Field(description="what you sell")
    price: int = Field(ge=1, le=9)


@BY_LANGUAGE
def test_the_form_stands_in_the_prefix_and_the_question_asks_for_its_keys(language):
    prompts, space = Prompts(language), Schema(Offer, question="What do you offer?")
    prefix, suffix = (
        prompts.policy_prefix(space, MeanField("Calm."), topic=TOPIC),
        prompts.policy_suffix(space, "Hm."),
    )
    form = '{\n  "good": "wheat" | "wood",  // what you sell\n  "price": integer (1..9)\n}'
    assert prefix.endswith(form)
    assert prefix.index("Calm.") < prefix.index(form)
    assert suffix.startswith("Hm.\n\nWhat do you offer?\n")
    assert "JSON" in suffix.splitlines()[-1]
    assert suffix.endswith({"en": '"good", "price".', "zh": '"good"、"price"。'}[language])
    assert "wheat" not in suffix
    default = prompts.policy_suffix(replace(space, question=""), "Hm.")
    assert default.splitlines()[1:] == [
        "",
        {"en": "What do you do?", "zh": "你会怎么做？"}[language],
        suffix.splitlines()[-1],
    ]


@BY_LANGUAGE
def test_a_form_can_be_asked_for_after_a_choice(language):
    @dataclass(frozen=True)
    class Both:
        choice: Choice
        text: Schema
        labels: dict = field(default_factory=dict, hash=False)

    prompts, space = Prompts(language), Both(SPACES[language], Schema(Offer))
    assert "JSON" not in prompts.policy_suffix(space, "Hm.")
    chosen = prompts.policy_suffix(space, "Hm.", chosen="doubt")
    assert space.choice.word("doubt") in chosen
    assert '"good"' in chosen.splitlines()[-1]


def test_a_template_from_before_there_were_forms_still_works(tmp_path):
    mine = Prompts("en", own(tmp_path, policy_suffix="{{ state }} {{ text.question or 'Well?' }}"))
    assert mine.policy_suffix(Schema(Offer), "Hm.") == "Hm. Well?"


@BY_LANGUAGE
def test_the_summary_prompt_shows_all_that_is_given_and_how_much_is_left_out(language):
    prompts = Prompts(language)
    told = {"before": "All laughed.", "shares": "doubt 60%", "latest": "doubt 90%"}
    suffix = prompts.summary_suffix(**told, lines=["[doubt] Prove it.", "[believe] Wow."], total=37)
    parts = [*told.values(), "37", "- [doubt] Prove it.", "- [believe] Wow."]
    assert [part for part in parts if part not in suffix] == []
    assert "37" not in prompts.summary_suffix(**told, lines=["x"] * 37, total=37)
    assert TOPIC in prompts.summary_prefix(topic=TOPIC)


def test_a_folder_of_ones_own_replaces_one_template_and_keeps_the_others(tmp_path):
    mine = Prompts("en", own(tmp_path, policy_suffix="Hear me: {{ state }}"))
    assert mine.policy_suffix(EN, "I am a vet.") == "Hear me: I am a vet."
    field = MeanField("Calm.").counted(tick("doubt", dimension="trust"))
    assert mine.policy_prefix(EN, field, topic=TOPIC) == SHIPPED.policy_prefix(EN, field, topic=TOPIC)
    assert mine.summary_prefix(topic=TOPIC) == SHIPPED.summary_prefix(topic=TOPIC)
    assert mine.tally(field) == SHIPPED.tally(field)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_broken_template_is_told_with_file_and_line(tmp_path, name):
    own(tmp_path, **{name: "Fine.\n{% if topic %}\nnever ended"})
    with pytest.raises(DataError) as caught:
        Prompts("en", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}.j2: line ")
    assert len(message.splitlines()) == 1


def test_a_template_that_is_not_utf_8_is_broken(tmp_path):
    (tmp_path / "tally.j2").write_bytes(b"\xff\xfe caf\xe9")
    with pytest.raises(DataError, match=r"tally\.j2"):
        Prompts("en", tmp_path)


def test_a_folder_without_any_template_is_told_with_the_names_expected(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"no template found there; there can be policy_prefix\.j2"):
            Prompts("en", folder)


def test_a_misspelt_template_or_one_without_the_state_is_told(tmp_path):
    with pytest.raises(DataError, match=r"policy_prefx\.j2 is no template; there can be policy_prefix"):
        Prompts("en", own(tmp_path, policy_prefx="x", tally="x"))
    (tmp_path / "policy_prefx.j2").unlink()
    with pytest.raises(DataError, match="does not show the agent's state"):
        Prompts("en", own(tmp_path, policy_suffix="What now?"))


def test_a_variable_that_no_template_has_is_told_with_those_it_may_use(tmp_path):
    with pytest.raises(DataError, match=r"policy_suffix\.j2: parent is unknown; it may use .*state"):
        Prompts("en", own(tmp_path, policy_suffix="{{ state }}{{ parent }}"))


@pytest.mark.parametrize("attack", ["{{ state.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}"])
def test_a_template_cannot_reach_behind_what_it_is_told(tmp_path, attack):
    mine = Prompts("en", own(tmp_path, policy_suffix="{{ state }}" + attack))
    with pytest.raises(DataError, match=r"policy_suffix\.j2"):
        mine.policy_suffix(EN, "I am a vet.")


@pytest.mark.parametrize("fault", ["{{ 1 / 0 }}", "{{ state + 1 }}", "{{ '%d'|format(state) }}"])
def test_a_template_that_fails_while_it_is_rendered_is_told(tmp_path, fault):
    mine = Prompts("en", own(tmp_path, policy_suffix="{{ state }}" + fault))
    with pytest.raises(DataError, match=r"policy_suffix\.j2"):
        mine.policy_suffix(EN, "I am a vet.")


@BY_LANGUAGE
def test_template_syntax_in_a_text_is_text(language):
    prompts, field = Prompts(language), MeanField(HOSTILE)
    space = FreeText(question=HOSTILE)
    assert prompts.policy_prefix(space, field, topic=HOSTILE, instructions=HOSTILE).count(HOSTILE) == 3
    assert prompts.policy_suffix(space, HOSTILE).count(HOSTILE) == 2
    assert HOSTILE in prompts.summary_suffix(before="", shares="", latest="", lines=[HOSTILE], total=1)
    counted = MeanField().counted(tick(HOSTILE, dimension=HOSTILE))
    assert prompts.tally(counted).count(HOSTILE) >= 2


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text == text.strip()))
def test_any_text_stands_in_the_prompt_as_it_is(text):
    assert SHIPPED.policy_suffix(FreeText(), text).startswith(text)
    assert f"\n{text}\n" in SHIPPED.policy_prefix(EN, MeanField(), topic=text)


def test_a_prompt_hash_tells_prompts_apart_and_is_stable():
    assert prompt_hash("ab", "c") == prompt_hash("ab", "c")
    assert len({prompt_hash("ab", "c"), prompt_hash("a", "bc"), prompt_hash("abc", "")}) == 3
