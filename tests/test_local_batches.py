"""Prompts are cut into batches, and candidates into a tree, without losing or mixing anything."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from mesa_meanfield.backends.local.batches import Ask, batches
from mesa_meanfield.backends.local.trie import trie

pytestmark = pytest.mark.torch

ids = st.lists(st.integers(0, 2), max_size=6).map(tuple)


@st.composite
def calls(draw):
    """Asks as a backend makes them: those of one group have one adapter and one beginning."""
    groups = draw(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), ids), min_size=1, max_size=5))
    found = []
    for number, (adapter, prefix) in enumerate(groups):
        suffixes = draw(st.lists(ids.filter(len), min_size=1, max_size=9))
        found += [((adapter, number), (*prefix, *suffix), adapter) for suffix in suffixes]
    order = draw(st.permutations(found))
    return [Ask(index, prompt, group, adapter) for index, (group, prompt, adapter) in enumerate(order)]


def cut(asks, most=16, window=1000):
    return list(batches(asks, lambda longest: most, lambda width: width <= window))


def check(batch):
    """What must be true of every batch and of every part of one."""
    for place, ask in enumerate(batch.asks):
        stem, leaf = batch.stems[batch.stem_of[place]], batch.leaf(place)
        assert (*batch.root, *stem, *leaf) == ask.prompt
        assert leaf
    assert set(batch.stem_of) == set(range(len(batch.stems)))
    for stem in range(len(batch.stems)):  # what two adapters make of the same tokens differs
        of_it = {ask.adapter for ask, other in zip(batch.asks, batch.stem_of, strict=True) if other == stem}
        assert len(of_it) == 1 or not (batch.root or batch.stems[stem])
    assert not batch.root or len(set(batch.adapters)) == 1


@settings(deadline=None, max_examples=300)
@given(calls(), st.integers(1, 20), st.sampled_from([0, 3, 6, 9, 1000]))
def test_every_ask_is_in_one_batch_and_is_root_stem_and_leaf(asks, most, window):
    found = cut(asks, most, window)
    assert sorted(ask.index for batch in found for ask in batch.asks) == list(range(len(asks)))
    for batch in found:
        check(batch)
        assert 0 < len(batch.asks) <= most
        assert batch.width <= window or not (batch.root or any(batch.stems))


@settings(deadline=None)
@given(calls(), st.integers(2, 20))
def test_halves_hold_the_same_asks_and_no_stem_of_others(asks, most):
    for batch in cut(asks, most):
        if len(batch.asks) > 1:
            halves = batch.halves()
            assert halves[0].asks + halves[1].asks == batch.asks
            for half in halves:
                check(half)
                assert 2 * len(half.asks) - len(batch.asks) in (-1, 0, 1)
                assert half.width <= batch.width


def asks_of(*prompts, group="g", adapter=None):
    return [Ask(n, tuple(prompt), (adapter, group), adapter) for n, prompt in enumerate(prompts)]


def test_one_prefix_is_a_root():
    (batch,) = cut(asks_of((1, 2, 3, 4), (1, 2, 5), (1, 2, 6, 7, 8)))
    assert (batch.root, batch.stems, batch.width) == ((1, 2), ((),), 5)


def test_several_prefixes_are_stems_behind_what_they_share():
    asks = [*asks_of((1, 2, 3), (1, 2, 4)), *asks_of((1, 5, 6, 7), (1, 5, 6, 8), group="h")]
    (batch,) = cut(asks)
    assert (batch.root, batch.stems, batch.stem_of) == ((1,), ((2,), (5, 6)), (0, 0, 1, 1))
    assert batch.width == 1 + 2 + 1


def test_a_prompt_that_another_begins_with_keeps_a_token_of_its_own():
    (batch,) = cut(asks_of((1, 2), (1, 2, 3), (1, 2)))
    assert batch.root == (1,)
    (twins,) = cut(asks_of((1, 2), (1, 2)))
    assert (twins.root, twins.leaf(0), twins.leaf(1)) == ((1,), (2,), (2,))


def test_similar_lengths_go_together():
    found = cut(asks_of(*[(1, *[2] * n) for n in (9, 1, 8, 2, 7, 3)]), most=2)
    assert [[len(ask.prompt) for ask in batch.asks] for batch in found] == [[2, 3], [4, 8], [9, 10]]
    assert {batch.root for batch in found} == {(1,)}  # which is computed once for all of them


def test_padding_that_a_window_would_count_is_not_made():
    wide = [*asks_of((1, 2, 2, 2, 3), (1, 2, 2, 2, 4)), *asks_of((1, 5, 5, 5, 5), (1, 6, 6, 6, 6), group="h")]
    (shared,) = cut(wide, window=8)
    (flat,) = cut(wide, window=7)
    assert (shared.width, len(shared.stems)) == (1 + 3 + 4, 2)
    assert (flat.root, flat.stems, flat.width) == ((), ((),), 5)


def test_adapters_share_a_batch_only_where_all_fits_into_one():
    asks = [*asks_of((1, 2), (1, 3)), *asks_of((1, 2), (1, 3), adapter="a")]
    (both,) = cut(asks, most=4)
    assert (both.root, both.adapters) == ((), (None, None, "a", "a"))
    assert [set(batch.adapters) for batch in cut(asks, most=3)] == [{None}, {"a"}]


def test_the_longest_prompt_says_how_many_fit():
    heard = []
    list(batches(asks_of((1, 2), (1, 2, 3)), lambda longest: heard.append(longest) or 1, lambda width: True))
    assert heard == [3]
    assert cut([]) == []


# --- Candidates ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(st.lists(ids.filter(len), min_size=1, max_size=8))
def test_each_candidate_can_be_read_off_the_tree(candidates):
    tree = trie(candidates)
    beginnings = {candidate[:end] for candidate in candidates for end in range(1, len(candidate))}
    paths = [tuple(tree.tokens[node] for node in ancestors) for ancestors in tree.ancestors]
    assert sorted(paths) == sorted(beginnings)  # each once, and no last token
    assert [ancestors[-1] for ancestors in tree.ancestors] == list(range(len(tree.tokens)))
    for candidate, terms in zip(candidates, tree.terms, strict=True):
        assert tuple(token for _, token in terms) == candidate
        assert [node < 0 for node, _ in terms] == [True] + [False] * (len(candidate) - 1)
        assert [paths[node] for node, _ in terms[1:]] == [candidate[:end] for end in range(1, len(candidate))]


def test_a_tree_by_hand():
    tree = trie([(1,), (2, 3), (2, 3, 4), (2, 5)])
    assert tree.tokens == (2, 3)
    assert tree.ancestors == ((0,), (0, 1))
    assert tree.terms == (((-1, 1),), ((-1, 2), (0, 3)), ((-1, 2), (0, 3), (1, 4)), ((-1, 2), (0, 5)))


def test_words_of_one_token_need_no_pass():
    assert trie([(1,), (2,)]).tokens == ()
    assert len(trie(list(product((1, 2), repeat=4))).tokens) == 2 + 4 + 8
