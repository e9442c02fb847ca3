"""Scenario files: what stands in them becomes a story, and what is wrong is one clear line."""

from __future__ import annotations

import pytest
from towns import STORY, story

from mesa_meanfield import Announce, Inject, Mute, Persuade, most_influential
from mesa_meanfield.actions import ChoiceThenText
from mesa_meanfield.errors import DataError
from mesa_meanfield_models.town import SCENARIOS, Town, read_scenario
from mesa_meanfield_models.town.scenario import InCommunity

WORK = """
[personas.work]
school = {weight = 1, only = {mood = ["glad"]}}
"""


def test_a_file_becomes_a_story(tmp_path):
    one = story(tmp_path)
    assert (one.name, one.title, one.topic, one.ticks) == ("bridge", "The bridge", "The bridge is closed.", 4)
    assert one.choice.options == ("good", "bad")
    assert one.choice.meanings == {"good": "I am glad of it", "bad": "I am against it"}
    assert one.choice.letters
    assert [value.weight for value in one.traits[0].values] == [3, 1]
    assert [community.name for community in one.communities] == ["North", "South"]
    assert one.threshold == (0.5, 0.5)
    assert isinstance(one.actions(), ChoiceThenText)
    assert one.actions(texts=False) == one.choice


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ('kind = "announce"\nat = 1\nsource = "a"\ntext = "b"\nreach = 0.5\nchannel = "media"\nuntil = 3',
         Announce(1, "b", "a", reach=0.5, until=3, channel="media")),
        ('kind = "announce"\nat = 1\nsource = "a"\ntext = "b"\nreach = "most_influential:2"',
         Announce(1, "b", "a", reach=most_influential(2, "friends"))),
        ('kind = "inject"\nat = 1\naccount = "a"\ntext = "b"\nlabels = {view = "bad"}\ngroup = "South"\ncopies = 2',
         Inject(1, "b", "a", {"view": "bad"}, copies=2, group="South")),
        ('kind = "mute"\nat = 2\nwho = "community:North"', Mute(2, InCommunity("North"))),
        ('kind = "persuade"\nat = 2\nwho = 1\nchange = "You are tired."', Persuade(2, "You are tired.", who=1)),
    ],
)  # fmt: skip
def test_what_happens_stands_in_the_timeline(tmp_path, table, wanted):
    one = story(tmp_path, f"{STORY}\n[[timeline]]\n{table}\n")
    assert one.timeline == (wanted,)
    town = Town(one, citizens=10)
    while town.running:
        town.step()
    assert town.crowd.tick == 4


def changed(before, after):
    assert STORY.count(before) == 1
    return STORY.replace(before, after)


def timeline(table):
    return f"{STORY}\n[[timeline]]\n{table}\n"


ANNOUNCE = 'kind = "announce"\nat = 1\nsource = "a"\ntext = "b"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "is no TOML"),
        (changed('title = "The bridge"', ""), "title is missing"),
        (changed("ticks = 4", "tick = 4"), "'tick' is no field; did you mean 'ticks'"),
        (changed("ticks = 4", "ticks = 0"), "ticks: Input should be greater than or equal to 1, got 0"),
        (changed("ticks = 4", 'language = "xx"'), "language: 'xx' is no language of prompts; there are en, zh"),
        ('title = "t"\ntopic = "t"\n[personas.a]\n', r"the table \[decision\] is missing"),
        ('title = "t"\ntopic = "t"\n[decision.labels]\na = "x"\nb = "y"\n', r"the table \[personas\] is missing"),
        (changed('bad = "I am against it"', ""), r"\[decision\]: labels must be lines LABEL"),
        (changed('bad = "I am against it"', 'calls = "I call"'), r"labels: 'calls' is the name of a column"),
        (changed('dimension = "view"', 'dimension = "view"\nsilent = ["goood"]'),
         r"\[decision\]: silent: 'goood' is no label; did you mean 'good'"),
        (changed('dimension = "view"', 'dimension = "view"\nticks = 3'),
         r"\[decision\]: ticks belongs to the whole scenario: write it above the first table"),
        (changed("share = 0.0", "share = 2.0"), r"\[rules\]: share: Input should be less than or equal to 1"),
        (changed("[0.5, 0.5]", "[0.5]"), r"\[rules\]: threshold must be two numbers from 0 to 1"),
        (changed("[0.5, 0.5]", "[0.5, 0.4]"), r"\[rules\]: threshold must be two numbers from 0 to 1"),
        (changed("weight = 3", "wieght = 3"), r"\[personas.mood\] glad: 'wieght' is no field; did you mean 'weight'"),
        (changed("weight = 3", "weight = -3"), r"\[personas.mood\] glad: weight: Input should be greater"),
        (changed("{weight = 3, says = \"You are glad.\"}", "3"), "personas must be tables"),
        (STORY.replace("weight = 3", "weight = 0").replace("weight = 1", "weight = 0"),
         r"\[personas.mood\]: no value is possible for anybody in 'North'"),
        (STORY + WORK, r"\[personas.work\]: no value is possible for mood sad in 'North'; give one"),
        (STORY + WORK.replace("mood", "age"), r"\[personas.work\] school: only: 'age' is no trait above this one"),
        (STORY + WORK.replace('"glad"', '"gald"'), "only: 'gald' is no value of mood; did you mean 'glad'"),
        (changed('name = "South"', 'name = "North"'), "number 2: there is a community 'North' above"),
        (changed('name = "South"', 'name = "South"\nweights.moon = {glad = 1}'),
         r"number 2: weights: 'moon' is no trait of \[personas\]; did you mean 'mood'"),
        (changed('name = "South"', 'name = "South"\nweights.mood = {mad = 1}'), "'mad' is no value of mood"),
        (changed('name = "South"', 'name = "South"\nweights.mood = {sad = -1.0}'),
         "weights.mood.sad must be at least 0, got -1.0"),
        (timeline("at = 1"), r"\[\[timeline\]\] number 1: kind is missing; there are announce, inject, mute"),
        (timeline('kind = "anounce"'), "'anounce' is no kind of happening; did you mean 'announce'"),
        (timeline(ANNOUNCE.replace("at = 1", "at = 9")), r"number 1 \(announce\): Announce\(at=9, .* begins after"),
        (timeline(ANNOUNCE.replace('source = "a"', "")), r"number 1 \(announce\): source is missing"),
        (timeline(ANNOUNCE + "reach = []"), "reach must be a share from 0 to 1, \"community:NAME\" or"),
        (timeline(ANNOUNCE + 'reach = "everyone"'), "reach must be a share from 0 to 1, \"community:NAME\" or"),
        (timeline(ANNOUNCE + 'reach = "community:Nort"'), "'Nort' is no community; did you mean 'North'"),
        (timeline('kind = "inject"\nat = 1\naccount = "a"\ntext = "b"\nlabels = {veiw = "bad"}'),
         "labels: 'veiw' is no dimension of this scenario; did you mean 'view'"),
        (timeline('kind = "inject"\nat = 1\naccount = "a"\ntext = "b"\nlabels = {view = "bda"}'),
         "labels: 'bda' is no label; did you mean 'bad'"),
        (timeline('kind = "inject"\nat = 1\naccount = "a"\ntext = "b"\ngroup = "Soth"'),
         "group: 'Soth' is no community; did you mean 'South'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as raised:
        story(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'bridge.toml'}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere\.toml: cannot be read: No such file .*; give a scenario file in TOML"
    ):
        read_scenario(tmp_path / "nowhere.toml")
    with pytest.raises(
        DataError, match=r"'helth' is no scenario and no file ending in \.toml; did you mean 'health'"
    ):
        read_scenario("helth")


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_people_of_a_story_are_told_of_in_whole_sentences(name):
    for agent in Town(name, citizens=100).agents:
        sentences = agent.persona.split(". ")
        assert len(sentences) >= 4
        assert all(
            one.startswith(("You ", "What ", "Your ", "If ", "For ", "Without ", "Nothing ", "It ", "Her "))
            for one in sentences
        ), agent.persona
