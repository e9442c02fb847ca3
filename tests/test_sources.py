"""What a prompt was made from is known; who is honest passes the guard."""

import json

import pytest
from crowds import Crowd, Voter
from guarded_runs import STANCE, model, record, run

from mesa_meanfield import LLMPolicy, LLMSummarizer, NoField, ScriptedBackend, TallySummarizer
from mesa_meanfield.data import MeanField, Popularity, Source
from mesa_meanfield.provenance import LeakGuard, Ledger, guarded
from mesa_meanfield.store import RunDirectory
from mesa_meanfield.summarizers import BASELINES
from mesa_meanfield_models.cascade.agents import Reader
from mesa_meanfield_models.cascade.model import simulate


@pytest.mark.parametrize("name", ["llm", "tally", *BASELINES])
def test_the_honest_model_passes_and_its_fields_know_the_warm_up_they_were_made_from(name):
    backend = ScriptedBackend(lambda r: "People nod.")
    summarizer = {"llm": LLMSummarizer(backend), "tally": TallySummarizer()}.get(name) or BASELINES[name]()
    one = run(model(backend=backend, summarizer=summarizer))
    played = {f"a{i}" for i in range(1, 7)}
    assert one.crowd.field.sources == {Source(key, field) for key in played for field in ("text", "labels")}
    assert all(state.sources == frozenset() for state in one.crowd.last.states)
    policy = LLMPolicy(backend, STANCE)
    assert simulate(guarded(record()), policy, summarizer, 0, dimension="stance") == one.simulated


def test_the_warm_up_may_be_told_and_the_run_directory_says_where_it_went(tmp_path):
    class Quotes(Reader):
        def observe(self):
            first = self.model.cascade.actions[0]
            return f"{self.persona} You replied to: {first.text}" if self.key == "a8" else self.persona

    directory = RunDirectory(tmp_path / "run", {})
    run(model(reader=Quotes, recorder=directory))
    path = directory.finish({})
    decisions, fields = (
        [json.loads(line) for line in (path / name).read_text().splitlines()]
        for name in ("decisions.jsonl", "fields.jsonl")
    )
    assert {row["agent"]: row["sources"] for row in decisions if row["sources"]} == {"a8": ["a1"]}
    played = [f"a{i}" for i in range(1, 7)]
    assert [row["sources"] for row in fields] == [played[:4], *[played] * 5]


def test_a_field_that_a_summarizer_begins_anew_was_still_made_from_the_old_one():
    class Anew(NoField):
        def update(self, field, tick, **known):
            return MeanField("All is new.")

    assert {source.action for source in run(model(summarizer=Anew())).crowd.field.sources} == {
        f"a{i}" for i in range(1, 7)
    }


def test_the_states_of_simulated_decisions_go_on_into_the_field():
    ledger, fields = Ledger(record()), []

    class Notes(LLMPolicy):
        def decide(self, turns, field, **known):
            fields.append(field)
            return super().decide(turns, field, **known)

    class Quoting(Voter):
        def observe(self):
            return ledger.view.actions[1].text if self.unique_id == 1 else "I see."

    policy = Notes(ScriptedBackend(), STANCE)
    one = Crowd(0, policy=policy, guard=LeakGuard(ledger, ["a1", "a2"]))
    Quoting.create_agents(one, 2)
    assert ledger.view.actions[0].time is not None  # read elsewhere: it may be in any prompt
    one.step()
    assert fields[0].sources == {Source("a1", "time")}
    assert [state.sources for state in one.crowd.last.states] == [{Source("a2", "text")}, frozenset()]
    assert one.crowd.field.sources == {Source("a2", "text"), Source("a1", "time")}


def test_once_a_run_is_over_the_record_can_be_compared_with_it():
    one = run(model())
    assert one.real == list(record().actions)
    assert one.simulated.veracity == "false"
    assert [a.popularity for a in one.simulated.actions[5:7]] == [Popularity(likes=900), Popularity()]
    assert type(one.simulated.actions[0]) is type(one.simulated.actions[-1]) is type(record().actions[0])


def test_the_guard_changes_no_decision():
    def ticks(guard):
        one = Crowd(4, guard=guard)
        one.step()
        one.step()
        return one.crowd.last, one.crowd.field

    assert ticks(LeakGuard(Ledger(record()), [])) == ticks(None)
