"""A guarded record is read like any other, and every reading of its content is noted."""

import copy
import dataclasses
import pickle
import threading

import pytest
from worlds import STANCES, action, cascade, tick

from mesa_meanfield.cascades.dimensions import BEHAVIOUR, counts_of, dimension_of, label_of
from mesa_meanfield.cascades.jsonl import read_cascades, to_json, write_cascades
from mesa_meanfield.data import Action, Cascade, MeanField, Popularity, Source, State, Topic
from mesa_meanfield.errors import LeakError
from mesa_meanfield.provenance import CONTENT, LeakGuard, Ledger, guarded

POPULAR = Popularity(reposts=3, likes=141)


def record():
    """Two actions, the second with something in every field."""
    full = action("a2", "deny", "Seen it.", parent="a1", after=9, distribution={"deny": 1.0})
    return cascade(actions=[action(), dataclasses.replace(full, popularity=POPULAR)])


def fields_of(ledger, key="a2"):
    return {source.field for source in ledger.elsewhere if source.action == key}


def test_a_guarded_record_equals_the_plain_one_and_is_of_its_types():
    plain = record()
    view = Ledger(plain).view
    assert isinstance(view, Cascade)
    assert isinstance(view.topic, Topic)
    assert all(isinstance(one, Action) for one in view.actions)
    assert (view == plain, plain == view, view == guarded(record())) == (True, True, True)
    assert list(view.actions) == list(plain.actions)
    assert view.actions[1] != dataclasses.replace(plain.actions[1], text="Not seen it.")
    assert view.actions[0] != "a1"


def test_a_guarded_record_is_counted_and_written_like_the_plain_one(tmp_path):
    plain = record()
    view = guarded(plain)
    assert [label_of(a, "stance") for a in view.actions] == ["support", "deny"]
    assert [label_of(a, BEHAVIOUR) for a in view.actions] == ["comment", "comment"]
    assert counts_of(view.actions, "stance", STANCES) == counts_of(plain.actions, "stance", STANCES)
    assert dimension_of(view) == "stance"
    assert to_json(view) == to_json(plain)
    write_cascades(tmp_path / "view.jsonl", [view])
    assert read_cascades(tmp_path / "view.jsonl") == [plain]


def test_who_acts_and_what_the_topic_says_is_free():
    ledger = Ledger(record())
    view = ledger.view
    assert [(a.id, a.author.key) for a in view.actions] == [("a1", "u1"), ("a2", "u1")]
    assert (view.topic.text, view.topic.author.key, view.language) == ("A walrus sits in the canal.", "op", "en")
    assert (view.topic.time, view.domain, view.id, len(view.actions)) == (record().topic.time, "news", "c1", 2)
    assert ledger.elsewhere == set()


@pytest.mark.parametrize("field", CONTENT)
def test_each_field_of_an_action_is_noted_when_it_is_read(field):
    ledger = Ledger(record())
    assert getattr(ledger.view.actions[1], field) == getattr(record().actions[1], field)
    assert ledger.elsewhere == {Source("a2", field)}
    assert object.__getattribute__(ledger.view.actions[0], field) == getattr(record().actions[0], field)
    assert Source("a1", field) in ledger.elsewhere


def test_what_is_said_of_the_cascade_as_a_whole_is_noted():
    ledger = Ledger(dataclasses.replace(record(), veracity="false"))
    assert ledger.view.veracity == "false"
    assert ledger.view.topic.label == {}
    assert ledger.elsewhere == {Source(None, "veracity"), Source(None, "topic label")}


def matched(one):
    match one:
        case Action(_, parent, time, _, text, labels, popularity, trace):
            return Action(one.id, parent, time, one.author, text, labels, popularity, trace)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda one: pickle.loads(pickle.dumps(one)),
        lambda one: dataclasses.replace(one, id="a2"),
        lambda one: type(one)(**{f.name: getattr(one, f.name) for f in dataclasses.fields(one)}),
        matched,
    ],
)
def test_a_copy_is_plain_and_to_make_it_every_field_was_read(copied):
    ledger = Ledger(record())
    one = copied(ledger.view.actions[1])
    assert type(one) is Action
    assert fields_of(ledger) == set(CONTENT)
    assert one == record().actions[1]


@pytest.mark.parametrize("told", [dataclasses.asdict, dataclasses.astuple, repr, str, lambda one: f"{one}"])
def test_an_action_that_is_told_was_read(told):
    ledger = Ledger(record())
    assert "Seen it." in str(told(ledger.view.actions[1]))
    assert fields_of(ledger) == set(CONTENT)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)), dataclasses.asdict, to_json]
)
def test_to_copy_a_cascade_is_to_read_all_its_actions(copied):
    ledger = Ledger(record())
    copied(ledger.view)
    assert fields_of(ledger, "a1") == fields_of(ledger, "a2") == set(CONTENT)
    assert fields_of(ledger, None) == {"veracity", "topic label"}


def test_a_part_of_a_cascade_stays_guarded():
    ledger = Ledger(record())
    part = dataclasses.replace(ledger.view, actions=ledger.view.actions[:1])
    ledger.elsewhere.clear()
    assert part.actions[0].text == "Hm, well."
    assert ledger.elsewhere == {Source("a1", "text")}


def test_a_field_that_is_replaced_was_not_read():
    ledger = Ledger(record())
    dataclasses.replace(ledger.view.actions[1], text="Not seen it.")
    assert fields_of(ledger) == set(CONTENT) - {"text"}


def test_actions_with_different_ids_differ_unread():
    ledger = Ledger(record())
    assert ledger.view.actions[0] != ledger.view.actions[1]
    assert ledger.elsewhere == set()


def test_guarded_values_are_frozen_and_have_no_hash():
    one = guarded(record()).actions[0]
    for field in ("id", "text"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field, "other")
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_a_view_leads_to_its_ledger_and_is_guarded_once():
    ledger = Ledger(record())
    assert Ledger.of(ledger.view) is ledger
    assert guarded(ledger.view) is ledger.view
    assert Ledger.of(record()) is not ledger


def test_of_a_simulation_only_the_time_is_of_the_record():
    ledger = Ledger(record())
    first, second = record().actions
    so_far = cascade(actions=[first, dataclasses.replace(second, text="I say.")])
    view = ledger.guarded(so_far, recorded=1)
    assert (view.actions[1].text, view.actions[1].popularity) == ("I say.", POPULAR)
    assert ledger.elsewhere == set()
    assert view.actions[1].time == record().actions[1].time
    assert view.actions[0].text == "Hm, well."
    assert ledger.elsewhere == {Source("a2", "time"), Source("a1", "text")}
    assert Ledger.of(view).record == so_far


def test_a_guard_allows_the_content_of_its_actions_but_never_their_popularity():
    guard = LeakGuard(Ledger(record()), ["a1"])
    allowed = [field for field in CONTENT if not guard.forbids(Source("a1", field))]
    assert allowed == ["parent", "time", "text", "labels", "trace"]
    assert all(guard.forbids(Source("a2", field)) for field in CONTENT)
    assert guard.forbids(Source(None, "veracity"))


def test_what_an_agent_read_once_stays_among_its_sources():
    ledger = Ledger(record())
    guard = LeakGuard(ledger, ["a1"])
    assert guard.observe(lambda: ledger.view.actions[0].text, "x", 0) == ("Hm, well.", {Source("a1", "text")})
    assert guard.observe(lambda: "as I said", "x", 1) == ("as I said", {Source("a1", "text")})
    assert guard.observe(lambda: "I say", "y", 1) == ("I say", frozenset())
    assert ledger.elsewhere == set()


def test_what_another_thread_reads_belongs_to_no_agent():
    ledger = Ledger(record())
    guard = LeakGuard(ledger, ["a1"])

    def observe():
        thread = threading.Thread(target=lambda: ledger.view.actions[0].text)
        thread.start()
        thread.join()
        return "I see"

    assert guard.observe(observe, "x", 0) == ("I see", frozenset())
    assert ledger.elsewhere == {Source("a1", "text")}


def test_twins_are_equal_whatever_they_were_made_from():
    sources = frozenset({Source("a1", "text")})
    assert State("x", "I see.", sources=sources) == State("x", "I see.")
    assert MeanField("Calm.", sources=sources) == MeanField("Calm.")


def test_a_field_keeps_its_sources_when_a_tick_is_counted():
    sources = frozenset({Source("a1", "text")})
    assert MeanField(sources=sources).counted(tick("deny")).sources == sources


def test_two_records_do_not_mix():
    mine, other = Ledger(record()), Ledger(record())
    guard = LeakGuard(mine, [])
    assert guard.observe(lambda: other.view.actions[1].text, "x", 0) == ("Seen it.", frozenset())
    with pytest.raises(LeakError, match=r"^The state of agent x at tick 0 was made from the text of action a2, "):
        guard.observe(lambda: mine.view.actions[1].text, "x", 0)
    assert not LeakError.retryable
