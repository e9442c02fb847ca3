"""Planted leaks: whoever makes a prompt from what comes after the warm-up is caught before a model is asked."""

import dataclasses
import threading

import pytest
from crowds import Crowd
from guarded_runs import STANCE, Asked, model, record, run

from mesa_meanfield import LLMPolicy, LLMSummarizer, NoField, ScriptedBackend
from mesa_meanfield.data import Decision, MeanField, Source
from mesa_meanfield.errors import LeakError
from mesa_meanfield.provenance import LeakGuard, Ledger, guarded
from mesa_meanfield.rules import RecordedPolicy
from mesa_meanfield_models.cascade.agents import Reader

LATER = "which comes after the warm-up"
HERE = r"\(read in test_leaks\.py line \d+\)$"


class Keeps(Reader):
    """Has its own action at hand."""

    def __init__(self, model, action, **known):
        super().__init__(model, action, **known)
        self.action = action


def caught(one, message, ticks=None):
    """Run into the leak; as often as it is tried again."""
    with pytest.raises(LeakError, match=message):
        run(one)
    if ticks is not None:
        assert one.crowd.tick == ticks
    with pytest.raises(LeakError):
        one.crowd.step(one.agents)


@pytest.mark.parametrize("field", ["text", "labels", "parent", "time", "trace", "popularity"])
def test_a_state_made_from_its_own_future_is_caught(field):
    class Spoiled(Keeps):
        def observe(self):
            return f"{self.persona} {getattr(self.action, field) if self.model.crowd.tick > 1 else ''}"

    backend = Asked()
    told = f"^The state of agent a7 at tick 2 was made from the {field} of action a7, {LATER} {HERE}"
    caught(model(reader=Spoiled, backend=backend), told, ticks=2)
    assert backend.prompts == []


def test_a_state_made_from_a_later_action_that_was_read_beforehand_is_caught():
    class Prepared(Reader):
        def __init__(self, model, action, **known):
            super().__init__(model, action, **known)
            self.end = model.cascade.actions[-1].text

        def observe(self):
            return f"{self.persona} It will end so: {self.end}"

    caught(model(reader=Prepared), f"^Any prompt of tick 0 may be made from the text of action a20, {LATER} {HERE}")


def test_a_state_made_from_a_leak_that_it_kept_is_caught_again():
    class Remembers(Keeps):
        memory_of_it = None

        def observe(self):
            if self.memory_of_it is None:
                self.memory_of_it = "I know."
                self.memory_of_it += self.model.cascade.actions[9].text
            return self.memory_of_it

    caught(model(reader=Remembers), "^The state of agent a1 at tick 0 was made from the text of action a10")


def test_an_error_that_is_caught_in_between_hides_nothing():
    class Sly(Keeps):
        def observe(self):
            try:
                return self.action.text
            except LeakError:
                return self.persona

    caught(model(reader=Sly), f"^The state of agent a7 at tick 2 was made from the text of action a7, {LATER}")


def in_a_thread(read):
    def peek():
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    return peek


def despite_the_error(read):
    def peek():
        with pytest.raises(LeakError):
            read()

    return peek


HOW = [lambda read: read, in_a_thread, despite_the_error]


class Gossip(NoField):
    """Tells what a function reads."""

    def __init__(self, tell):
        self.tell = tell

    def update(self, field, tick, **known):
        return dataclasses.replace(super().update(field, tick, **known), text=str(self.tell()))


@pytest.mark.parametrize(
    ("tell", "what"),
    [
        (lambda view: view.actions[-1].text, f"the text of action a20, {LATER}"),
        (lambda view: [a.labels for a in view.actions], f"the labels of action a7, {LATER}"),
        (lambda view: view.actions[0].popularity, "the popularity of action a1, which is that of the end of the rec"),
        (lambda view: view.veracity, "the veracity of the cascade, which nobody in it knows"),
        (lambda view: view.topic.label, "the topic label of the cascade, which nobody in it knows"),
    ],
)
def test_a_summary_made_from_what_nobody_can_know_is_caught(tell, what):
    view = guarded(record())
    caught(
        model(view, summarizer=Gossip(lambda: tell(view))), f"^The summary of tick 0 was made from {what}", ticks=0
    )


@pytest.mark.parametrize("how", HOW)
def test_a_summarizer_cannot_hide_that_it_reads_the_record(how):
    view = guarded(record())
    summarizer = Gossip(how(lambda: view.actions[11].text))
    caught(
        model(view, summarizer=summarizer), f"^The summary of tick 0 was made from the text of action a12, {LATER}"
    )


def test_popularity_in_a_state_is_caught_even_of_a_played_action():
    class Popular(Keeps):
        def observe(self):
            return f"Your last post had {self.model.cut.warm_up[0][0].popularity.likes} likes."

    told = "^The state of agent a1 at tick 0 was made from the popularity of action a1, which is that of the end of"
    caught(model(reader=Popular), told)


class Peeking:
    """A policy that looks up the answer."""

    def __init__(self, policy, peek):
        self.policy, self.peek, self.actions = policy, peek, policy.actions

    @property
    def usage(self):
        return self.policy.usage

    def decide(self, turns, field, **known):
        self.peek()
        return self.policy.decide(turns, field, **known)


@pytest.mark.parametrize("how", HOW)
def test_a_policy_that_reads_the_record_is_caught_and_nobody_acts(how):
    view = guarded(record())
    policy = Peeking(LLMPolicy(ScriptedBackend(), STANCE), how(lambda: view.actions[11].labels))
    one = model(view, policy=policy)
    caught(one, f"^The prompts of Peeking at tick 2 were made from the labels of action a12, {LATER} {HERE}", ticks=2)
    assert [agent.decision is not None for agent in one.agents] == [True] * 6 + [False] * 14


def test_what_is_read_between_the_ticks_is_taken_to_be_told():
    one = model()
    one.step()
    assert sum(action.labels["stance"] == "deny" for action in one.real) == 5
    with pytest.raises(LeakError, match=r"^Any prompt of tick 1 may be made from the labels of action a10, "):
        one.step()


def test_what_an_agent_reads_when_it_acts_is_in_the_summary_of_its_tick():
    class Late(Keeps):
        def act(self, decision):
            super().act(decision)
            assert self.action.popularity.likes == 900

    backend = Asked()
    one = model(reader=Late, summarizer=LLMSummarizer(backend))
    caught(one, "^The summary of tick 0 was made from the popularity of action a1, ")
    assert backend.prompts == []


def test_what_a_summarizer_declares_as_its_sources_is_checked():
    class Retrieves(NoField):
        def update(self, field, tick, **known):
            return dataclasses.replace(super().update(field, tick, **known), sources={Source("a9", "text")})

    caught(model(summarizer=Retrieves()), f"^The mean field at tick 1 was made from the text of action a9, {LATER}$")


def test_playing_the_record_after_the_warm_up_is_caught():
    oracle = RecordedPolicy({a.id: Decision(a.text) for a in record().actions}, STANCE)
    caught(model(policy=oracle), f"^The summary of tick 2 was made from the text of action a10, {LATER}$", ticks=2)


@pytest.mark.parametrize(("index", "field"), [(0, "popularity"), (7, "time")])
def test_what_was_simulated_so_far_holds_no_way_around(index, field):
    class Looks(NoField):
        def update(self, f, tick, **known):
            if tick.number == 3:
                getattr(one.simulated.actions[index], field)
            return super().update(f, tick, **known)

    one = model(summarizer=Looks())
    caught(one, f"^The summary of tick 3 was made from the {field} of action a{index + 1}, ", ticks=3)


def test_the_field_of_a_group_is_guarded_like_the_one_of_all():
    ledger = Ledger(record())
    guard = LeakGuard(ledger, [])
    crowd = Crowd(2, guard=guard, group=lambda agent: "north", summarizer=Gossip(lambda: ledger.view.actions[0].text))
    with pytest.raises(LeakError, match=r"^The summary of tick 0 for group 'north' was made from the text of "):
        crowd.step()
    crowd = Crowd(2, guard=LeakGuard(Ledger(record()), []), group=lambda agent: "north")
    crowd.crowd.fields["north"] = MeanField("I know.", sources=frozenset({Source("a1", "text")}))
    with pytest.raises(LeakError, match=r"^The mean field of group 'north' at tick 0 was made from the text of "):
        crowd.step()
