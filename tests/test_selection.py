from collections import Counter
from dataclasses import replace

import pytest
from worlds import action, cascade

from mesa_meanfield.evaluation.selection import comparable, stratified


def several(**sizes):
    return [replace(cascade(4, key=f"{event}{i}"), event=event) for event, n in sizes.items() for i in range(n)]


def test_small_cascades_and_those_without_labels_are_left_out_with_the_reason():
    late = [action(f"a{i}", "deny" if i < 3 else None, after=i) for i in range(10)]
    cascades = [cascade(10, key="good"), cascade(9, key="small"), cascade(actions=late, key="bare")]
    kept, left_out = comparable(cascades, "stance", min_actions=10, warm_up=0.3)
    assert [one.id for one in kept] == ["good"]
    assert left_out == {"small": "has 9 actions", "bare": "has no label of 'stance' after its warm-up"}


def test_labels_behind_the_first_agents_do_not_count():
    late = [action(f"a{i}", "deny" if i == 9 else None, after=i) for i in range(10)]
    cascades = [cascade(actions=late)]
    assert not comparable(cascades, "stance", min_actions=1, warm_up=0.3, agents=6)[0]
    assert comparable(cascades, "stance", min_actions=1, warm_up=0.3, agents=7)[0]


def test_a_part_is_taken_in_turn_from_each_event():
    cascades = several(flood=9, fire=5, storm=1)
    part = stratified(cascades, 7, seed=3)
    assert Counter(one.event for one in part) == {"flood": 3, "fire": 3, "storm": 1}
    assert part == [one for one in cascades if one in part]


def test_the_seed_chooses_and_the_order_of_the_file_does_not_matter_for_how_many():
    cascades = several(flood=9, fire=9)
    parts = [tuple(one.id for one in stratified(cascades, 4, seed)) for seed in range(8)]
    assert len(set(parts)) > 1
    assert parts == [tuple(one.id for one in stratified(cascades, 4, seed)) for seed in range(8)]


def test_without_events_it_goes_by_domain():
    cascades = [replace(cascade(4, key=f"c{i}"), domain="news" if i < 8 else "health") for i in range(10)]
    assert Counter(one.domain for one in stratified(cascades, 4, 0)) == {"news": 2, "health": 2}


@pytest.mark.parametrize("limit", [10, 99])
def test_a_limit_above_all_takes_all(limit):
    cascades = several(flood=9, fire=1)
    assert stratified(cascades, limit, 0) == cascades
