"""What the people of a town are told of each other: by a mean field, by two, or by their neighbours' posts."""

from __future__ import annotations

import re

import pytest
from towns import STORY, Asked, story

from mesa_meanfield_models.town import SEE, Town

POST = re.compile(r"post-\d+\.")
TIMELINE = """
[[timeline]]
kind = "announce"
at = 1
until = 3
source = "the mayor"
text = "It will be open on Sunday."
reach = "community:South"

[[timeline]]
kind = "inject"
at = 1
account = "a stranger"
text = "It fell down!"
labels = {view = "bad"}
"""


def told(tmp_path, see, ticks=2, text=STORY, **given):
    """A town after some ticks, and what it was asked in the last of them."""
    backend = Asked()
    town = Town(story(tmp_path, text), backend, see=see, citizens=12, network="communities", rng=4, **given)
    for _ in range(ticks):
        backend.choices.clear()
        town.step()
    return town, backend.choices


def test_in_the_first_tick_all_ways_are_the_same(tmp_path):
    asked = [[(r.prefix, r.suffix) for r in told(tmp_path, see, ticks=1)[1]] for see in SEE]
    assert asked[0] == asked[1] == asked[2]


def test_by_the_global_field_everyone_hears_of_all_and_of_no_single_post(tmp_path):
    _, asked = told(tmp_path, "global")
    (prefix,) = {request.prefix for request in asked}
    assert "view, all 12 so far" in prefix
    assert all(len(POST.findall(r.prefix + r.suffix)) == 1 for r in asked)  # what one wrote oneself


def test_by_communities_everyone_hears_of_all_and_of_its_own(tmp_path):
    town, asked = told(tmp_path, "community", ticks=1)
    own = {name: field.text for name, field in town.crowd.fields.items()}
    assert set(own) == {"North", "South"}
    assert all(text.startswith("view, all 6 so far") for text in own.values())
    assert own["North"] != own["South"] != town.crowd.field.text
    everybody = town.crowd.field.text
    asked.clear()
    town.step()
    for agent, request in zip(town.agents, asked, strict=True):
        of_all, of_its_own = request.prefix.split("What your own group has done so far:\n")
        assert everybody in of_all
        assert of_its_own.startswith(own[agent.community])
    assert all(field.size == 12 for field in town.crowd.fields.values())


def test_by_neighbours_everyone_sees_their_posts_and_no_field(tmp_path):
    town, _ = told(tmp_path, "neighbours", ticks=1, shown=50)
    posts = {agent: agent.decision.text for agent in town.agents}
    for agent in town.agents:
        friends = {posts[friend] for friend in agent.neighbours()}
        seen = agent.observe().split("What people you know did last:")
        assert set(POST.findall(seen[-1])) - {posts[agent]} == friends
    assert town.crowd.field.size == 12  # counted, and shown to nobody


def test_what_neighbours_posted_stands_in_the_prompts(tmp_path):
    town, asked = told(tmp_path, "neighbours", shown=50)
    (prefix,) = {request.prefix for request in asked}
    assert "so far" not in prefix
    assert town.crowd.field.text == ""
    for agent, request in zip(town.agents, asked, strict=True):
        lines = re.findall(r"^- \[(?:good|bad)\] post-", request.suffix, re.MULTILINE)
        assert len(lines) == agent.friends


def test_at_most_so_many_posts_are_shown_and_others_in_another_tick(tmp_path):
    town, _ = told(tmp_path, "neighbours", ticks=1, shown=2)
    agent = max(town.agents, key=lambda one: one.friends)
    assert agent.friends > 4
    posts = [friend.decision.text for friend in agent.neighbours()]
    drawn = set()
    for tick in range(20):
        town.crowd.tick = tick
        shown = tuple(post for post in POST.findall(agent.observe()) if post in posts)
        assert len(shown) == 2
        assert [posts.index(post) for post in shown] == sorted(posts.index(post) for post in shown)
        drawn |= {shown}
    assert len(drawn) > 3


def test_what_one_did_last_is_told_to_oneself(tmp_path):
    town, _ = told(tmp_path, "global", ticks=1)
    agent = next(iter(town.agents))
    assert agent.observe() == (
        f'{agent.persona}\nLast time you chose: {agent.label}. You wrote: "{agent.decision.text}"'
    )


@pytest.mark.parametrize("see", SEE)
def test_an_announcement_reaches_its_community_in_its_ticks(tmp_path, see):
    backend = Asked()
    town = Town(story(tmp_path, STORY + TIMELINE), backend, see=see, citizens=12, rng=1)
    for tick in range(4):
        backend.choices.clear()
        town.step()
        for agent, request in zip(town.agents, backend.choices, strict=True):
            reached = agent.community == "South" and 1 <= tick < 3
            assert ("An official statement by the mayor:\nIt will be open" in request.prefix) == reached


def test_a_stranger_s_post_is_heard_in_the_field_in_the_next_tick(tmp_path):
    town, _ = told(tmp_path, "global", text=STORY + TIMELINE)
    assert town.crowd.field.size == 12 + 13
    town, asked = told(tmp_path, "global", ticks=3, text=STORY + TIMELINE, summarizer="recent")
    assert all("It fell down!" in request.prefix for request in asked)


def test_by_neighbours_a_stranger_is_followed_by_all_for_one_tick(tmp_path):
    for ticks, seen in ((2, False), (3, True), (4, False)):
        _, asked = told(tmp_path, "neighbours", ticks, STORY + TIMELINE, shown=50)
        assert [("- [bad] It fell down!" in request.suffix) for request in asked] == [seen] * 12


def test_by_neighbours_a_stranger_s_post_to_a_community_reaches_it_alone(tmp_path):
    timeline = TIMELINE + 'group = "North"\n'
    town, asked = told(tmp_path, "neighbours", 3, STORY + timeline, shown=50)
    for agent, request in zip(town.agents, asked, strict=True):
        assert ("It fell down!" in request.suffix) == (agent.community == "North")


def test_a_story_in_chinese_is_told_in_chinese(tmp_path):
    text = 'language = "zh"\n' + STORY.replace("The bridge is closed.", "桥封了。")
    _, asked = told(tmp_path, "neighbours", text=text)
    assert all("你认识的人最近的做法：" in r.suffix and "上一次你选择了" in r.suffix for r in asked)
    assert all("桥封了。" in r.prefix and "The topic" not in r.prefix for r in asked)
