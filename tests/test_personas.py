"""What an agent hears about itself."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import action, cascade

from mesa_meanfield import write_cascades
from mesa_meanfield.cascades.personas import PERSONAS, persona
from mesa_meanfield.cli import main
from mesa_meanfield.data import Profile

USER = {"en": "You are a user of a social network.", "zh": "你是一个社交网络用户。"}
LANGUAGES = pytest.mark.parametrize("language", USER)
COUNTS = ("followers", "friends", "statuses")
FULL = Profile("secret", "I bake.", "Pellmere", 5, 5, 5, True, "m")


def told(language="en", **known):
    """What is told beside that one is a user."""
    first, *rest = persona(Profile("u1", **known), language).splitlines()
    assert first == USER[language]
    return rest


@LANGUAGES
def test_of_an_unknown_profile_nothing_is_invented(language):
    assert told(language) == []


def test_a_persona_tells_what_is_known_and_leaves_out_the_rest():
    known = {"description": "Likes &amp; eats\n cake.", "location": "Pellmere", "followers": 5, "gender": "f"}
    assert told(**known, verified=True) == [
        "You are a woman.",
        "You describe yourself so: Likes & eats cake.",
        "Your place: Pellmere",
        "You have hardly any followers.",
        "Your account is verified.",
    ]


def test_a_whole_persona_in_chinese_is_chinese():
    whole = Profile("u1", "爱吃蛋糕。", "云水镇", 2_000, 200, 20_000, False, "f")
    assert persona(whole, "zh", again=True).splitlines() == [
        "你是一个社交网络用户。",
        "你是女性。",
        "你的自我介绍：爱吃蛋糕。",
        "你的所在地：云水镇",
        "你有一些粉丝。",
        "你关注了一些人。",
        "你发帖非常频繁。",
        "你的账号未经认证。",
        "你已经在这个话题下发过言。",
    ]


def test_another_language_is_spoken_to_in_english():
    assert persona(FULL, "fr", again=True) == persona(FULL, "en", again=True)


@LANGUAGES
def test_whether_an_account_is_verified_is_told_where_it_is_known(language):
    yes, no, unknown = (told(language, verified=verified) for verified in (True, False, None))
    assert (len(yes), len(no), unknown) == (1, 1, [])
    assert yes != no


@LANGUAGES
def test_an_unknown_gender_is_left_out(language):
    assert told(language, gender="x") == []


@LANGUAGES
@pytest.mark.parametrize("field", COUNTS)
def test_counts_are_told_in_five_grades_from_power_of_ten_to_power_of_ten(language, field):
    counts = [0, 99, 100, 999, 1000, 9999, 10_000, 99_999, 100_000, 10**9]
    grades = [told(language, **{field: count})[0] for count in counts]
    assert grades[::2] == grades[1::2]
    assert len(set(grades)) == 5


@pytest.mark.parametrize("place", ["其他", "其它", " 其他 ", "other", "Other", "  ", "-"])
def test_a_place_that_is_none_is_left_out(place):
    assert told("zh", location=place) == []


@pytest.mark.parametrize(
    ("place", "kept"),
    [
        ("海外 其他", "海外"),
        ("北京 海淀区", "北京 海淀区"),
        ("Overseas Other", "Overseas"),
        ("Another Castle", "Another Castle"),
        ("Somewhere or other", "Somewhere or other"),
        ("其他人的家", "其他人的家"),
        ("🌊", "🌊"),
    ],
)
def test_of_a_place_only_the_remainder_of_a_list_is_trimmed(place, kept):
    assert told(location=place) == [f"Your place: {kept}"]


@pytest.mark.parametrize(
    "default",
    [
        "",
        " \n",
        ".",
        "...",
        "暂无简介",
        "暂无简介。",
        "还没有个人介绍",
        "这个人很懒，什么都没有留下",
        "这家伙很懒，什么也没写～",
        "This user has not written anything yet.",
        "No description",
        "null",
    ],
)
def test_a_description_that_is_a_platforms_default_is_left_out(default):
    assert told(description=default) == []


@pytest.mark.parametrize(
    "own", ["懒人一枚", "这个人很懒，但是爱吃蛋糕，也爱在海边散步看书", "No nonsense.", "18+", "没有简介的人"]
)
def test_a_description_in_ones_own_words_is_told(own):
    assert told(description=own) == [f"You describe yourself so: {own}"]


def test_a_description_that_is_very_long_is_cut():
    (line,) = told(description="ha " * 200)
    assert line.endswith("…")
    assert len(line) == len("You describe yourself so: ") + 200


def test_braces_in_a_description_are_text():
    assert "{0} {followers}" in told(description="{0} {followers}")[0]


@LANGUAGES
@pytest.mark.parametrize("level", PERSONAS)
def test_a_repeat_author_is_told_so_at_every_level(language, level):
    once, twice = (persona(FULL, language, again=again, level=level).splitlines() for again in (False, True))
    assert twice[:-1] == once


@LANGUAGES
def test_without_a_persona_nothing_of_the_profile_is_told(language):
    assert persona(FULL, language, level="none") == USER[language]


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match=r"^persona must be one of graded, none, got 'all'$"):
        persona(FULL, level="all")


def test_a_persona_does_not_name_the_key_of_its_author():
    assert "secret" not in persona(FULL, again=True)


@LANGUAGES
@given(
    counts=st.tuples(*[st.none() | st.integers(0, 10**12)] * 3),
    verified=st.none() | st.booleans(),
    gender=st.sampled_from([None, "m", "f"]),
    again=st.booleans(),
    level=st.sampled_from(PERSONAS),
)
def test_no_count_is_ever_told(language, counts, verified, gender, again, level):
    profile = Profile("u7", None, None, *counts, verified, gender)
    said = persona(profile, language, again=again, level=level)
    assert not re.search(r"\d", said)
    if language == "zh":
        assert not re.search("[A-Za-z{}]", said)


@pytest.mark.parametrize("level", PERSONAS)
def test_the_command_line_chooses_how_much_is_told(level, tmp_path, capsys):
    authored = [replace(action(f"a{i}"), author=replace(FULL, key=f"u{i}")) for i in range(12)]
    write_cascades(tmp_path / "data.jsonl", [cascade(actions=authored)])
    out = tmp_path / "run"
    asked = ["--data", tmp_path / "data.jsonl", "--backend", "scripted", "--persona", level, "--out", out]
    assert main(["run", *map(str, asked), "--json"]) == 0
    states = {json.loads(line)["state"] for line in (out / "decisions.jsonl").read_text().splitlines()}
    assert states == {persona(FULL, level=level)}
    assert json.loads((out / "config.json").read_text())["persona"] == level
