import re
from dataclasses import replace

import pytest
from worlds import action, cascade, tick

from mesa_meanfield import (
    Choice,
    Decision,
    LLMPolicy,
    LLMSummarizer,
    MeanField,
    NoField,
    PopularActions,
    Prompts,
    RecentActions,
    ScriptedBackend,
    TallySummarizer,
)
from mesa_meanfield.data import Popularity
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import Reply, Usage
from mesa_meanfield.summarizers import BASELINES, action_line
from mesa_meanfield_models.cascade.model import CascadeModel

STANCE = Choice(("support", "deny"), dimension="stance", words={"support": "believe", "deny": "doubt"})
ALL = {
    "none": NoField,
    "tally": TallySummarizer,
    "recent": RecentActions,
    "popular": PopularActions,
    "llm": lambda: LLMSummarizer(ScriptedBackend(lambda request: "They mostly doubt it.")),
}


def update(summarizer, field, played, *, seed=1, actions=(STANCE,)):
    return summarizer.update(field, played, topic="A walrus sits in the canal.", actions=actions, seed=seed)


def said(text, label="deny", parent=None):
    return Decision(text, labels={"stance": label}, parent=parent)


@pytest.mark.parametrize("name", ALL)
def test_every_summarizer_carries_exact_shares_beside_its_text(name):
    summarizer = ALL[name]()
    failed = Decision("???", labels={"stance": "support"}, failure="unreadable")
    first = update(summarizer, MeanField(), tick("deny", "deny", "deny"))
    second = update(summarizer, first, tick("support", failed, number=1))
    assert first.shares == {"stance": {"support": 0.0, "deny": 1.0}}
    assert second.shares == {"stance": {"support": 0.25, "deny": 0.75}}
    assert second.latest == {"stance": {"support": 1.0, "deny": 0.0}}
    assert second.size == 4


@pytest.mark.parametrize("name", ALL)
def test_the_same_arguments_give_the_same_field_and_leave_them_alone(name):
    before = update(ALL[name](), MeanField(), tick("deny", "support"))
    copy, played = replace(before), tick("support", said("Prove it.", parent="a1"), number=1)
    assert update(ALL[name](), before, played) == update(ALL[name](), before, played)
    assert before == copy


def test_no_field_shows_nothing():
    assert update(NoField(), MeanField("Old words."), tick("deny")).text == ""


def test_the_tally_tells_shares_of_all_and_of_the_latest_in_the_words_of_the_choice():
    first = update(TallySummarizer(), MeanField(), tick("deny", "deny", "support"))
    field = update(TallySummarizer(), first, tick("support", number=1))
    assert field.text == "stance, all 4 so far: believe 50%, doubt 50%. Latest 1: believe 100%, doubt 0%."


def test_the_tally_in_chinese():
    space = Choice(("support", "deny"), dimension="立场", words={"support": "支持", "deny": "否认"})
    played = tick("deny", "deny", "support", dimension="立场")
    field = update(TallySummarizer(Prompts("zh")), MeanField(), played, actions=(space,))
    assert field.text == "立场，到目前为止共 3 条：支持 33.3%，否认 66.7%。最新 3 条：支持 33.3%，否认 66.7%。"


def test_the_tally_tells_numbers_with_mean_and_median():
    played = tick(*(Decision(value=v) for v in (1, 2, 6)))
    field = update(TallySummarizer(), MeanField(), played, actions=())
    assert field.text == "Numbers, all 3 so far: mean 3. Latest: mean 3, median 2."


def test_recent_shows_the_last_k_across_ticks_newest_last():
    recent = RecentActions(3)
    field = update(recent, MeanField(), tick(said("one"), said("two")))
    field = update(recent, field, tick(said("three"), said("four", "support"), number=1))
    assert field.text.splitlines() == ["- [doubt] two", "- [doubt] three", "- [believe] four"]
    assert update(recent, field, tick(number=2)).text == field.text


def test_recent_leaves_out_failed_decisions():
    failed = replace(said("noise"), failure="unreadable")
    assert update(RecentActions(), MeanField(), tick(said("one"), failed)).text == "- [doubt] one"


def test_popular_shows_the_most_answered_first_and_the_newer_of_equals():
    popular = PopularActions(3)
    played = tick(said("one"), said("two"), said("three", parent="a1"), said("four", parent="a1"))
    field = update(popular, MeanField(), played)
    assert field.text.splitlines() == ["- [doubt] one", "- [doubt] four", "- [doubt] three"]
    later = tick(said("five", parent="a2"), said("six", parent="a2"), said("seven", parent="a2"), number=1, first=5)
    field = update(popular, field, later)
    assert field.text.splitlines() == ["- [doubt] two", "- [doubt] one", "- [doubt] seven"]


def test_popular_counts_no_reply_that_failed_or_answers_nobody_known():
    failed = replace(said("???", parent="a1"), failure="unreadable")
    field = update(PopularActions(1), MeanField(), tick(said("one"), failed, said("three", parent="stranger")))
    assert field.text == "- [doubt] three"


def test_popular_gives_a_reply_to_the_newest_action_of_the_one_answered():
    field = update(PopularActions(1), MeanField(), tick(said("early")))
    field = update(PopularActions(1), field, tick(said("late"), said("aye", parent="a1"), number=1))
    assert field.text == "- [doubt] late"


def test_popular_never_knows_how_an_action_fared_in_the_end():
    actions = [action(f"a{i}", "deny", f"remark {i}", after=i) for i in range(1, 9)]
    actions[0] = replace(actions[0], popularity=Popularity(reposts=999, likes=999))
    actions[2] = replace(actions[2], parent="a2")
    policy = LLMPolicy(ScriptedBackend(), STANCE)
    record = cascade(actions=actions)
    model = CascadeModel(record, policy=policy, summarizer=PopularActions(1), dimension="stance", warm_up=0.5)
    model.step()
    assert model.crowd.field.text == "- [doubt] remark 2"


@pytest.mark.parametrize("kind", [RecentActions, PopularActions])
def test_at_least_one_action_is_shown(kind):
    with pytest.raises(ValueError, match="got 0"):
        kind(0)


def test_the_baselines_have_the_names_of_the_scorecards():
    assert list(BASELINES) == ["none", "recent", "popular"]


def test_an_action_is_one_line_however_it_is_written():
    assert action_line(said("  a\nlong\tline "), [STANCE]) == "[doubt] a long line"
    assert action_line(Decision(value=3.5), []) == "3.5"
    assert action_line(Decision(labels={"stance": "deny"}), [STANCE]) == "[doubt]"
    assert action_line(Decision("x" * 300), [], limit=10) == "x" * 9 + "…"


def test_the_model_is_told_exact_shares_the_summary_before_and_the_newest_actions():
    asked = []
    summarizer = LLMSummarizer(ScriptedBackend(lambda request: asked.append(request) or "Doubt\n grows. "))
    field = update(summarizer, MeanField(), tick("deny", "support", "deny"))
    field = update(summarizer, field, tick(said("Prove it."), number=1))
    assert field.text == "Doubt grows."
    first, second = asked
    assert first.prefix == second.prefix
    assert "A walrus sits in the canal." in second.prefix
    assert "stance: believe 33.3%, doubt 66.7%" in first.suffix
    assert "stance: believe 25%, doubt 75%" in second.suffix
    assert "stance: believe 0%, doubt 100%" in second.suffix
    assert "Doubt grows." not in first.suffix
    assert "Summary so far:\nDoubt grows." in second.suffix
    assert "- [doubt] Prove it." in second.suffix


def shown(seed, most=4, n=30):
    played = tick(*(said(f"remark <{i}>") for i in range(n)))
    asked = LLMSummarizer(ScriptedBackend(), max_actions=most).request(
        MeanField(), played, topic="", actions=(STANCE,), seed=seed
    )
    assert f"({most} of {n})" in asked.suffix
    assert "doubt 100%" in asked.suffix
    return [int(number) for number in re.findall(r"<(\d+)>", asked.suffix)]


def test_the_prompt_shows_at_most_so_many_actions_chosen_by_the_seed():
    assert len(shown(1)) == 4
    assert all(shown(seed) == sorted(shown(seed)) for seed in range(10))
    assert shown(1) == shown(1)
    assert len({tuple(shown(seed)) for seed in range(10)}) == 10
    assert set().union(*(shown(seed) for seed in range(60))) == set(range(30))


def test_an_empty_summary_is_asked_for_again_with_a_fresh_seed():
    seeds = []
    backend = ScriptedBackend(lambda request: seeds.append(request.seed) or ("" if len(seeds) < 3 else "At last."))
    summarizer = LLMSummarizer(backend)
    assert update(summarizer, MeanField(), tick("deny")).text == "At last."
    assert len(set(seeds)) == 3
    assert (summarizer.usage.calls, summarizer.usage.retries, summarizer.usage.failures) == (3, 2, 0)


@pytest.mark.parametrize(("reply", "why"), [(" \n", "the reply is empty"), (Reply(failure="too long"), "too long")])
def test_a_summary_that_never_comes_is_an_error_and_is_counted(reply, why):
    summarizer = LLMSummarizer(ScriptedBackend(lambda request: reply), retries=1)
    with pytest.raises(ReplyError, match=f"No summary of tick 7 in 2 tries: {why}"):
        update(summarizer, MeanField(), tick("deny", number=7))
    assert (summarizer.usage.calls, summarizer.usage.retries, summarizer.usage.failures) == (2, 1, 1)


def test_no_model_is_asked_about_a_tick_without_decisions():
    summarizer = LLMSummarizer(ScriptedBackend())
    field = update(summarizer, MeanField("Calm."), tick())
    assert (field.text, summarizer.usage) == ("Calm.", Usage())


def test_the_model_is_shown_its_own_last_summary():
    asked = []
    backend = ScriptedBackend(lambda request: asked.append(request) or "Doubt grows.")
    summarizer = LLMSummarizer(backend)
    update(summarizer, update(summarizer, MeanField(), tick("deny")), tick("deny", number=1))
    assert "Summary so far:\nDoubt grows.\n" in asked[1].suffix
