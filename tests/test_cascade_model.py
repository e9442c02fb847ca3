from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import action, cascade

from mesa_meanfield import Choice, LLMPolicy, NoField, RecentActions, ScriptedBackend, TallySummarizer
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.cascades.personas import PERSONAS
from mesa_meanfield.data import Profile
from mesa_meanfield_models.cascade.agents import Reader
from mesa_meanfield_models.cascade.model import CascadeModel, simulate

STANCE = Choice(("support", "deny", "query", "comment"), dimension="stance")


def model(record, backend=None, summarizer=None, **known):
    policy = LLMPolicy(backend or ScriptedBackend(), STANCE, on_failure="skip")
    return CascadeModel(record, policy=policy, summarizer=summarizer or NoField(), dimension="stance", **known)


def run(one):
    while one.running:
        one.step()
    return one


def test_the_warm_up_is_played_and_the_rest_simulated_in_the_recorded_order():
    record = cascade(20)
    done = run(model(record)).simulated
    assert [a.id for a in done.actions] == [a.id for a in record.actions]
    assert done.actions[:6] == record.actions[:6]
    assert all(a.trace is not None and a.trace.distribution for a in done.actions[6:])
    assert [a.trace.tick for a in done.actions[6:]] == [2] * 4 + [3] * 4 + [4] * 4 + [5] * 2


def test_a_simulated_run_is_a_cascade_that_can_be_played_again():
    done = run(model(cascade(20))).simulated
    again = run(model(done, warm_up=0.9)).simulated
    assert [a.labels for a in again.actions[:18]] == [a.labels for a in done.actions[:18]]


def test_no_reader_sees_anything_of_the_record_after_the_warm_up():
    prompts = []
    backend = ScriptedBackend(probability=lambda r, c: prompts.append(r.prefix + r.suffix) or 1.0)
    actions = tuple(action(f"a{i}", text=f"recorded words <{i}>") for i in range(20))
    run(model(cascade(actions=actions), backend, RecentActions(50)))
    told = {i for i in range(20) if any(f"<{i}>" in prompt for prompt in prompts)}
    assert told == set(range(6))


def test_a_cascade_without_warm_up_is_all_simulated():
    done = run(model(cascade(8), warm_up=0.0)).simulated
    assert all(a.trace for a in done.actions)


def test_agents_keeps_the_first_roll_out_actions_only():
    one = run(model(cascade(20), agents=5))
    assert len(one.simulated.actions) == 6 + 5
    assert one.real == list(cascade(20).actions[:11])


def test_a_repeat_author_is_told_so():
    repeat = tuple(action(f"a{i}", author="the-same" if i in (1, 7) else f"u{i}") for i in range(10))
    one = model(cascade(actions=repeat))
    told = {a.key: "already spoken" in a.observe() for a in one.agents}
    assert [key for key, again in told.items() if again] == [repeat[7].id]


def test_simulate_is_the_whole_way_and_its_seed_decides():
    record = cascade(20)
    policy = LLMPolicy(ScriptedBackend(probability=lambda r, c: 1.0), STANCE)
    one, same, other = (simulate(record, policy, TallySummarizer(), seed, dimension="stance") for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_simulate_takes_what_the_model_takes():
    class Noted:
        ticks = 0

        def record(self, tick, field, groups):
            self.ticks += 1

    class Silent(Reader):
        def __init__(self, model, action, *, level, **known):
            super().__init__(model, action, level=level, **known)
            self.persona = f"You say nothing, at level {level}."

    noted = Noted()
    policy = LLMPolicy(ScriptedBackend(), STANCE)
    how = {"warm_up": 0.2, "per_tick": 2, "agents": 3, "persona": "none", "reader": Silent, "recorder": noted}
    done = simulate(cascade(20), policy, NoField(), 0, dimension="stance", **how)
    assert [a.id for a in done.actions] == [f"a{i}" for i in range(1, 8)]
    assert [a.trace.tick for a in done.actions[4:]] == [2, 2, 3]
    assert {a.trace.state for a in done.actions[4:]} == {"You say nothing, at level none."}
    assert noted.ticks == 4


def test_without_personas_all_readers_see_the_same_but_for_what_they_did():
    known = [Profile(f"u{i % 9}", f"I bake bread no. {i}.", "Pellmere", 5, 5, 5, True, "f") for i in range(10)]
    actions = [replace(action(f"a{i}"), author=author) for i, author in enumerate(known)]
    told = {level: [a.observe() for a in model(cascade(actions=actions), persona=level).agents] for level in PERSONAS}
    assert told["none"] == [*["You are a user of a social network."] * 9, told["none"][9]]
    assert told["none"][9].splitlines()[1:] == ["You have already spoken in this thread."]
    assert len(set(told["graded"])) == 10
    assert told["graded"] == [a.observe() for a in model(cascade(actions=actions)).agents]


def test_an_unknown_kind_of_persona_is_named():
    with pytest.raises(ValueError, match=r"^persona must be one of graded, none, got 'rich'"):
        model(cascade(10), persona="rich")


def test_a_failed_decision_stays_in_the_cascade_without_label_or_text():
    backend = ScriptedBackend(lambda r: "")
    policy = LLMPolicy(backend, space_of("stance", STANCE.options, "en"), on_failure="skip")
    one = run(CascadeModel(cascade(10), policy=policy, summarizer=NoField(), dimension="stance"))
    failed = one.simulated.actions[3:]
    assert all((a.text, a.labels) == ("", {}) and a.trace.failure == "The reply is empty" for a in failed)
