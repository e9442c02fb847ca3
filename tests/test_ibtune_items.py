"""What training shows is what inference shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibtune_worlds import RECIPE, crowd, items
from worlds import STANCES, action, cascade

from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.data import Trace
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.items import Recipe, items_of, split
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts, prompt_hash
from mesa_meanfield.protocols import Reply, Request
from mesa_meanfield.summarizers import LLMSummarizer, NoField, PopularActions, RecentActions, TallySummarizer
from mesa_meanfield_models.cascade.model import CascadeModel


class AsRecorded(LLMPolicy):
    """Asks for decisions, then does what was recorded."""

    def __init__(self, backend, space, decisions):
        super().__init__(backend, space)
        self.recorded = decisions
        self.seen = []

    def decide(self, turns, field, *, topic, groups):
        asked = super().decide(turns, field, topic=topic, groups=groups)
        self.seen.append((tuple(turn.state for turn in turns), field, [one.prompt_hash for one in asked]))
        return [self.recorded[turn.state.agent] for turn in turns]


def echo(request: Request) -> Reply:
    return Reply(f"Summary {prompt_hash(request.prefix, request.suffix)}")


SUMMARIZERS = {
    "none": NoField,
    "tally": TallySummarizer,
    "recent": RecentActions,
    "popular": PopularActions,
    "llm": lambda: LLMSummarizer(ScriptedBackend(echo)),
}


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("name", SUMMARIZERS)
@pytest.mark.parametrize("per_tick", [None, 3])
def test_ticks_states_and_fields_are_those_of_the_cascade_model(name, texts, per_tick):
    recorded = crowd(17)
    recipe = replace(RECIPE, texts=texts, per_tick=per_tick)
    found = items_of([recorded], recipe, {"en": SUMMARIZERS[name]()})
    space = space_of("stance", STANCES, "en", texts=texts)
    done = {state.agent: replace(decision, recorded=False) for item in found for state, decision in item.taught}
    policy = AsRecorded(ScriptedBackend(), space, done)
    run = CascadeModel(
        recorded, policy=policy, summarizer=SUMMARIZERS[name](), dimension="stance", warm_up=0.3, per_tick=per_tick
    )
    while run.running:
        run.step()
    assert len(found) == len(policy.seen) > 1
    for item, (states, field, _) in zip(found, policy.seen, strict=True):
        assert item.tick.states == states
        assert item.field == field
        assert item.topic == run.crowd.topic


def test_summaries_of_many_cascades_are_written_in_one_batch_and_are_those_of_each_alone():
    class Counting(ScriptedBackend):
        sizes = ()

        def generate(self, requests):
            self.sizes += (len(requests),)
            return super().generate(requests)

    cascades = [crowd(n, f"c{n}") for n in (6, 17, 9)]
    backend = Counting(echo)
    found = items_of(cascades, RECIPE, {"en": LLMSummarizer(backend)})
    assert backend.sizes[0] == 3
    alone = [items_of([one], RECIPE, {"en": LLMSummarizer(ScriptedBackend(echo))}) for one in cascades]
    assert [item.field for item in found] == [item.field for items_ in alone for item in items_]


def test_a_failed_summary_leaves_the_old_text_with_new_shares():
    silent = LLMSummarizer(ScriptedBackend(lambda request: Reply(failure="no")))
    item = items_of([crowd(12)], RECIPE, {"en": silent})[-1]
    assert item.field.text == ""
    assert item.field.size > item.previous.size > 0


def test_a_cascade_without_labels_teaches_nothing():
    silent = cascade(actions=[action(f"a{i}", None, "Hm.", after=i) for i in range(8)])
    with pytest.raises(DataError, match="nothing to learn"):
        items([silent])


def test_failed_decisions_of_a_simulated_cascade_teach_nothing():
    simulated = crowd(8)
    failed = replace(simulated.actions[5], trace=Trace(0, "", failure="no"))
    actions = (*simulated.actions[:5], failed, *simulated.actions[6:])
    found = items([replace(simulated, actions=actions)])
    agents = [state.agent for item in found for state, _ in item.taught]
    assert "c1-5" not in agents
    assert "c1-6" in agents
    assert "c1-5" in [state.agent for item in found for state in item.tick.states]


def test_texts_are_learned_without_html():
    found = items([crowd(8)], replace(RECIPE, texts=True))
    assert found[0].taught[0][1].text == "Remark 2 & more."


def test_no_field_blanks_the_text_and_keeps_the_rest():
    item = items([crowd(12)])[-1]
    assert item.field.text
    assert item.without_field().field.text == ""
    assert item.without_field().field.counts == item.field.counts
    assert item.without_field().tick == item.tick


def test_every_item_has_the_tick_before_it():
    for item in items([crowd(12)]):
        assert item.last.number == item.tick.number - 1
        tally = TallySummarizer(Prompts("en"))
        again = tally.update(item.previous, item.last, topic=item.topic, actions=(item.space,), seed=0)
        assert again == item.field


@given(st.integers(0, 2**32), st.floats(0, 0.4), st.floats(0, 0.5))
def test_warm_up_shares_lie_in_their_range(seed, low, width):
    recipe = Recipe("stance", STANCES, warm_up=(low, low + width), seed=seed)
    assert low <= recipe.share(crowd(2)) <= low + width


@given(st.lists(st.sampled_from(["e1", "e2", None]), min_size=2, max_size=6))
def test_no_event_is_on_both_sides(events):
    cascades = [crowd(2, f"c{i}", event) for i, event in enumerate(events)]
    held = events[0] or "c0"
    others = {e or f"c{i}" for i, e in enumerate(events)} - {held}
    if not others:
        with pytest.raises(DataError, match="nothing is left"):
            split(cascades, {held})
        return
    left, right = split(cascades, {held})
    assert {c.event or c.id for c in left} == others
    assert {c.event or c.id for c in right} == {held}


PERMUTED = replace(RECIPE, permute_labels=True)


def test_drawn_orders_are_a_function_of_seed_and_cascade():
    crowds = [crowd(8, f"c{n}") for n in range(20)]
    orders = [PERMUTED.options(one) for one in crowds]
    assert orders == [PERMUTED.options(replace(one, actions=one.actions[:3])) for one in crowds]
    assert all(sorted(order) == sorted(STANCES) for order in orders)
    assert len(set(orders)) > 10
    other = replace(PERMUTED, seed=1)
    assert orders != [other.options(one) for one in crowds]
    assert {RECIPE.options(one) for one in crowds} == {STANCES}


def test_every_label_stands_at_every_place_about_as_often():
    orders = [PERMUTED.options(crowd(2, f"c{n}")) for n in range(400)]
    for label in STANCES:
        for place in range(4):
            assert sum(order[place] == label for order in orders) == pytest.approx(100, abs=30)


def test_prompts_show_the_drawn_order_and_decisions_stay():
    own = crowd(12, "c7")
    order = PERMUTED.options(own)
    assert order != STANCES
    for item, plain in zip(items([own], PERMUTED), items([own]), strict=True):
        assert item.space.choice.options == order
        asked = item.prompts.policy_prefix(item.space, item.field, topic=item.topic)
        asked += item.prompts.policy_suffix(item.space, "I fish.")
        places = [asked.index(f"- {item.space.choice.word(label)}: ") for label in order]
        assert places == sorted(places)
        assert item.taught == plain.taught
        assert item.field.counts == plain.field.counts


def test_an_unknown_event_is_told_with_the_known_ones():
    with pytest.raises(DataError, match=r"no event 'e9'.*e1"):
        split([crowd(2)], {"e9"})


def test_a_warm_up_range_is_checked():
    with pytest.raises(ValueError, match="warm_up"):
        Recipe("stance", STANCES, warm_up=(0.5, 0.2))
