"""Whatever the posts are like, a cascade comes out: in order, each once, answering only what came before."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from worlds import START, action

from mesa_meanfield.cascades.conversion import Conversion, Draft
from mesa_meanfield.cascades.masking import Pseudonyms

IDS = st.sampled_from("abcdefgh")
POSTS = st.builds(
    lambda key, parent, after, order: Draft(action(key, parent=parent, after=after), order=order),
    IDS, st.none() | IDS | st.just("topic"), st.integers(0, 4), st.none() | st.integers(0, 3),
)  # fmt: skip
TOPIC = Draft(replace(action("topic"), time=START))


@given(st.lists(st.none() | POSTS, max_size=10), st.dictionaries(IDS, IDS | st.just("topic"), max_size=6))
def test_any_posts_make_a_cascade(posts, above):
    job = Conversion(Pseudonyms(None))
    one = job.cascade("c", TOPIC, posts, label={}, above=above)
    assert one is not None  # and it is one, or it could not have been made
    drafts = [post for post in posts if post is not None]
    kept = {post.action.id: post.action for post in reversed(drafts)}
    assert {a.id for a in one.actions} == set(kept)
    assert job.counts["duplicates"] == len(drafts) - len(kept)
    before, orphans = set(), 0
    for a in one.actions:
        wanted = kept[a.id].parent
        assert replace(a, parent=wanted) == kept[a.id]
        if wanted in before or wanted in (None, "topic"):
            assert a.parent == (None if wanted == "topic" else wanted)
        else:
            orphans += 1
            assert a.parent is None or a.parent in before
        before.add(a.id)
    assert job.counts["orphans"] == orphans


@given(st.permutations(range(8)))
def test_the_order_in_the_file_decides_nothing_but_ties(order):
    posts = [Draft(action(f"a{n}", after=n // 2), order=n % 2) for n in order]
    one = Conversion(Pseudonyms(None)).cascade("c", TOPIC, posts, label={})
    assert one is not None
    assert [a.id for a in one.actions] == [f"a{n}" for n in range(8)]
