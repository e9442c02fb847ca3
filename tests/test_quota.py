"""A few that stand for all."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mesa_meanfield.data import normalise
from mesa_meanfield.quota import in_proportion


def test_labels_stand_as_often_as_their_shares_say_and_apart():
    assert in_proportion({"a": 2 / 3, "b": 1 / 3}, 6) == ["a", "b", "a", "a", "b", "a"]


def test_the_largest_remainders_get_what_is_left():
    assert Counter(in_proportion({"a": 0.55, "b": 0.25, "c": 0.2}, 4)) == {"a": 2, "b": 1, "c": 1}
    assert Counter(in_proportion({"a": 0.5, "b": 0.5}, 3)) == {"a": 2, "b": 1}


def test_a_label_that_nobody_chose_does_not_appear():
    assert in_proportion({"a": 0.0, "b": 1.0}, 3) == ["b", "b", "b"]


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 40))
def test_every_label_has_its_share_rounded_down_or_up(counts, size):
    shares = normalise(counts)
    if shares:
        found = Counter(in_proportion(shares, size))
        assert sum(found.values()) == size
        for label, share in shares.items():
            assert math.floor(share * size - 1e-6) <= found[label] <= math.ceil(share * size + 1e-6)
