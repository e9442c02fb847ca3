import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import action, cascade, tick

from mesa_meanfield.data import Decision, MeanField, State, Tick, cut, normalise


@pytest.mark.parametrize("thing", [Decision(), State("a", "x"), MeanField(), Tick(0), cascade(1), action()])
def test_values_are_frozen(thing):
    name = dataclasses.fields(thing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, name, None)


def test_a_tick_needs_one_decision_per_state():
    with pytest.raises(ValueError, match="2 states but 1 decisions in tick 3"):
        Tick(3, (State("a", ""), State("b", "")), (Decision(),))


def test_shares_are_exact_over_all_ticks_and_over_the_latest():
    field = MeanField().counted(tick("deny", "support", "support")).counted(tick("deny"))
    assert field.shares == {"stance": {"deny": 0.5, "support": 0.5}}
    assert field.latest == {"stance": {"deny": 1.0}}
    assert field.size == 4


def test_a_label_nobody_chose_stands_there_with_zero():
    field = MeanField().counted(tick("deny"), {"stance": ("support", "deny")})
    assert field.counts == {"stance": {"support": 0, "deny": 1}}
    assert field.shares == {"stance": {"support": 0.0, "deny": 1.0}}


def test_counting_keeps_text_and_memory_and_leaves_the_old_field_alone():
    before = MeanField("Calm so far.", {"stance": {"deny": 2}}, size=2, carried=("x",))
    after = before.counted(tick("deny"))
    assert (after.text, after.carried, after.counts) == ("Calm so far.", ("x",), {"stance": {"deny": 3}})
    assert before.counts == {"stance": {"deny": 2}}


def test_a_failed_decision_counts_nowhere_even_with_labels_and_a_number():
    fallback = Decision("Hm.", 7.0, {"stance": "deny"}, failure="unreadable")
    played = tick("support", fallback)
    field = MeanField().counted(played)
    assert field.counts == {"stance": {"support": 1}}
    assert (field.size, field.numbers) == (1, None)
    assert [state.agent for state, _ in played.valid] == ["a1"]


def test_a_decision_can_have_labels_in_several_dimensions():
    field = MeanField().counted(tick(Decision(labels={"stance": "deny", "mood": "calm"}), "deny"))
    assert field.counts == {"stance": {"deny": 2}, "mood": {"calm": 1}}


def test_without_any_count_the_shares_are_empty():
    field = MeanField().counted(tick(), {"stance": ("support", "deny")})
    assert field.shares == {"stance": {}}
    assert normalise({"a": 0}) == {}


def test_the_part_of_a_group_keeps_its_order_and_who_has_none_is_in_no_part():
    states = (State("a", "", "north"), State("b", "", "south"), State("c", "", "north"), State("d", ""))
    decisions = tuple(Decision(text=key, recorded=key in "ac") for key in "abcd")
    whole = Tick(2, states, decisions)
    assert list(whole.groups) == ["north", "south"]
    north = whole.groups["north"]
    assert [d.text for d in north.decisions] == ["a", "c"]
    assert (north.number, north.recorded, whole.recorded) == (2, True, False)


def test_a_share_can_be_collected_before_there_is_any():
    assert math.isnan(MeanField().share("yes"))
    field = MeanField().counted(tick("yes", "yes", "no", dimension="vote"))
    assert (field.share("no"), field.share("yes", "vote")) == (1 / 3, 2 / 3)
    assert math.isnan(field.share("yes", "mood"))


def test_numbers_have_mean_so_far_and_quantiles_of_the_latest():
    first = MeanField().counted(tick(*(Decision(value=v) for v in (1, 2, 3))))
    field = first.counted(tick(Decision(value=10.0), Decision(value=20)))
    assert first.numbers.mean == 2
    assert field.numbers.size == 5
    assert field.numbers.mean == pytest.approx(36 / 5)
    assert field.numbers.latest_mean == 15
    # Linear interpolation between the two sorted values.
    expected = {"0.1": 11, "0.25": 12.5, "0.5": 15, "0.75": 17.5, "0.9": 19}
    assert field.numbers.latest_quantiles == pytest.approx(expected)


def test_truth_values_and_objects_are_no_numbers():
    assert MeanField().counted(tick(Decision(value=True), Decision(value="3"))).numbers is None


def test_numbers_of_numpy_are_numbers_too():
    values = (np.int64(1), np.float32(2), np.float64(6))
    field = MeanField().counted(tick(*(Decision(value=v) for v in values)))
    assert field.numbers is not None
    assert (field.numbers.size, field.numbers.mean) == (3, 3.0)


def test_a_tick_without_numbers_keeps_those_known():
    field = MeanField().counted(tick(Decision(value=4))).counted(tick("deny"))
    assert (field.numbers.size, field.numbers.latest_mean) == (1, 4)


def test_only_a_decision_without_text_value_and_label_is_empty():
    assert Decision(seed=3, failure="unreadable").empty
    assert not Decision("Hm.").empty
    assert not Decision(value=0).empty
    assert not Decision(labels={"stance": "deny"}).empty


def test_an_action_id_stands_in_a_cascade_once():
    with pytest.raises(ValueError, match=r"actions\[1\]\.id 'a1' stands there twice"):
        cascade(actions=[action("a1"), action("a1")])


@pytest.mark.parametrize("parent", ["a2", "a3", "elsewhere"])
def test_a_parent_must_be_an_earlier_action(parent):
    with pytest.raises(ValueError, match=rf"actions\[1\]\.parent '{parent}' is no earlier action"):
        cascade(actions=[action("a1"), action("a2", parent=parent), action("a3")])


def test_actions_must_be_sorted_by_time_and_may_share_a_second():
    assert len(cascade(actions=[action("a1", after=5), action("a2", after=5)]).actions) == 2
    with pytest.raises(ValueError, match=r"actions\[1\]\.time is before"):
        cascade(actions=[action("a1", after=5), action("a2", after=4)])


def test_the_cut_is_by_order_with_floor_of_the_share():
    for n, warm_up, played in [(10, 0.3, 3), (9, 0.3, 2), (11, 0.5, 5), (10, 0.7, 7), (10, 0.0, 0), (3, 0.3, 0)]:
        parts = cut(cascade(n), warm_up)
        assert sum(map(len, parts.warm_up)) == played
        assert sum(map(len, parts.roll_out)) == n - played


@pytest.mark.parametrize(("n", "size"), [(10, 4), (80, 4), (81, 5), (200, 10), (201, 11)])
def test_a_tick_has_a_twentieth_of_the_actions_but_at_least_four(n, size):
    parts = cut(cascade(n))
    assert len(parts.roll_out[0]) == size
    assert max(map(len, (*parts.warm_up, *parts.roll_out))) == size


def test_per_tick_cuts_warm_up_and_roll_out_alike():
    parts = cut(cascade(10), 0.5, per_tick=2)
    assert [len(t) for t in parts.warm_up] == [2, 2, 1]
    assert [len(t) for t in parts.roll_out] == [2, 2, 1]


def test_agents_keeps_the_first_roll_out_actions_and_all_of_the_warm_up():
    parts = cut(cascade(10), 0.3, per_tick=2, agents=3)
    assert [a.id for t in parts.warm_up for a in t] == ["a1", "a2", "a3"]
    assert [a.id for t in parts.roll_out for a in t] == ["a4", "a5", "a6"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"warm_up": -0.1}, "warm_up"),
        ({"warm_up": 1.0}, "warm_up"),
        ({"warm_up": math.nan}, "warm_up"),
        ({"per_tick": 0}, "per_tick"),
        ({"agents": 0}, "agents"),
    ],
)
def test_a_bad_argument_of_cut_is_named(arguments, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        cut(cascade(10), **arguments)


def test_an_empty_cascade_has_no_ticks():
    parts = cut(cascade(0))
    assert (parts.warm_up, parts.roll_out) == ((), ())


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0, 0.99), st.none() | st.integers(1, 70), st.none() | st.integers(1, 70))
def test_the_cut_keeps_all_actions_in_order(n, warm_up, per_tick, agents):
    whole = cascade(n)
    parts = cut(whole, warm_up, per_tick, agents)
    played = [a for t in parts.warm_up for a in t]
    simulated = [a for t in parts.roll_out for a in t]
    assert (*played, *simulated) == whole.actions[: len(played) + len(simulated)]
    assert len(simulated) == min(n - len(played), n if agents is None else agents)
    assert all((*parts.warm_up, *parts.roll_out))
    for ticks in (parts.warm_up, parts.roll_out):
        assert len({len(t) for t in ticks[:-1]}) <= 1
