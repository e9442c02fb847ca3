"""One tick, top to bottom: its order, its field, its seeds and what it costs."""

from __future__ import annotations

import gc
import weakref

import mesa
import pytest
from crowds import YES_NO, Crowd, Log, Voter, labels

from mesa_meanfield import (
    FreeText,
    LLMPolicy,
    LLMSummarizer,
    MeanFieldScheduler,
    NoField,
    RandomShare,
    RulePolicy,
    ScriptedBackend,
)


def test_a_tick_observes_all_then_asks_one_batch_then_acts_then_summarizes():
    events: list[str] = []

    class Noting(Voter):
        def observe(self):
            events.append("observe")
            return "x"

        def act(self, decision):
            events.append("act")

    backend = Log(events)
    model = Crowd(0, backend=backend, summarizer=LLMSummarizer(backend))
    Noting.create_agents(model, 3)
    model.step()
    assert events == ["observe"] * 3 + ["batch of 3"] + ["act"] * 3 + ["replies to 1"]


def test_everyone_of_a_tick_sees_the_same_field_and_the_next_tick_sees_the_new_one():
    prompts: list[str] = []
    backend = ScriptedBackend(probability=lambda r, c: prompts.append(r.prefix) or 1.0)
    model = Crowd(3, backend=backend)
    model.step()
    assert len(set(prompts)) == 1
    first = prompts[0]
    prompts.clear()
    model.step()
    assert len(set(prompts)) == 1
    assert prompts[0] != first
    assert "all 3 so far" in prompts[0]


def test_decisions_keep_agent_order_and_reach_their_agents():
    model = Crowd(4, policy=LLMPolicy(ScriptedBackend(lambda r: r.suffix.splitlines()[0]), FreeText()))
    model.step()
    assert [v.done[0].text for v in model.agents] == [f"I am voter {v.unique_id}." for v in model.agents]


def test_the_field_counts_exactly_what_was_done():
    model = Crowd(7)
    for _ in range(3):
        model.step()
    done = [d.labels["action"] for v in model.agents for d in v.done]
    assert model.crowd.field.size == len(done) == 21
    assert model.crowd.field.shares["action"] == {"yes": done.count("yes") / 21, "no": done.count("no") / 21}
    latest = [v.done[-1].labels["action"] for v in model.agents]
    assert model.crowd.field.latest["action"]["yes"] == latest.count("yes") / 7


def test_same_entropy_same_run_and_another_entropy_another_run():
    def run(rng):
        model = Crowd(12, rng=rng)
        for _ in range(3):
            model.step()
        return [d for v in model.agents for d in v.done]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_an_agents_decision_does_not_depend_on_who_else_is_asked():
    def run(model):
        model.crowd.step(model.agents)
        return labels(model.crowd.last)

    def step_some(keep):
        model = Crowd(10)
        model.crowd.step([a for a in model.agents if a.unique_id in keep])
        return labels(model.crowd.last)

    everyone = run(Crowd(10))
    some = step_some({2, 5, 9})
    assert some == {key: everyone[key] for key in ("2", "5", "9")}


def test_the_models_own_random_stream_is_never_drawn_from():
    model = Crowd(5, activation=RandomShare(0.5))
    before = model.rng.bit_generator.state, model.random.getstate()
    model.step()
    assert (model.rng.bit_generator.state, model.random.getstate()) == before


def test_two_schedulers_in_one_model_have_their_own_random_numbers():
    flat = ScriptedBackend(probability=lambda r, c: 1.0)
    one, two = (Crowd(40, backend=flat, name=name) for name in ("one", "two"))
    one.step()
    two.step()
    assert labels(one.crowd.last) != labels(two.crowd.last)


def test_what_agents_share_has_a_seed_of_the_tick_whoever_is_asked():
    seeds = []

    class Noting(RulePolicy):
        def decide(self, turns, field, **known):
            seeds.append({turn.tick_seed for turn in turns})
            return super().decide(turns, field, **known)

    def step(voters, **known):
        model = Crowd(voters, policy=Noting(lambda agent, field: "yes", YES_NO), **known)
        for _ in range(2):
            model.step()

    step(2)
    step(5)
    step(2, rng=2)
    step(2, name="other")
    assert all(len(of) == 1 for of in seeds)
    assert seeds[:2] == seeds[2:4]
    assert len(set.union(*seeds)) == 6


def test_leaders_act_before_followers_observe_within_one_tick():
    class Leader(Voter):
        def act(self, decision):
            self.model.said = decision.labels["action"]

    class Follower(Voter):
        def observe(self):
            return f"The leader says {self.model.said}."

    model = Crowd(0)
    Leader.create_agents(model, 1)
    Follower.create_agents(model, 2)
    assert model.crowd.decide(model.agents.select(agent_type=Leader))[0].labels["action"] == model.said
    model.crowd.decide(model.agents.select(agent_type=Follower))
    assert model.crowd.tick == 0
    tick = model.crowd.update()
    assert (model.crowd.tick, len(tick.states)) == (1, 3)
    assert tick.states[1].text == f"The leader says {model.said}."


def test_decide_with_advance_is_a_whole_step():
    one, two = Crowd(5), Crowd(5)
    one.crowd.decide(one.agents, advance=True)
    two.crowd.step(two.agents)
    assert (one.crowd.tick, one.crowd.last, one.crowd.field) == (1, two.crowd.last, two.crowd.field)


def test_an_agent_that_decides_twice_in_a_tick_uses_another_seed_each_time():
    model = Crowd(1)
    first, second = (model.crowd.decide(model.agents)[0].seed for _ in range(2))
    assert first != second


def test_nobody_active_asks_nobody_and_the_tick_advances():
    model = Crowd(0)
    model.step()
    assert (model.crowd.tick, model.crowd.usage.calls, model.crowd.field.size) == (1, 0, 0)


def test_groups_have_a_field_each_beside_the_global_one():
    prompts: dict[str, str] = {}
    backend = ScriptedBackend(probability=lambda r, c: prompts.update({r.suffix.splitlines()[0]: r.prefix}) or 1.0)
    model = Crowd(4, backend=backend, group=lambda agent: "odd" if agent.unique_id % 2 else "even")
    model.step()
    odd = [d for v in model.agents for d in v.done if v.unique_id % 2]
    assert model.crowd.fields["odd"].counts["action"]["yes"] == sum(d.labels["action"] == "yes" for d in odd)
    assert model.crowd.field.size == sum(f.size for f in model.crowd.fields.values()) == 4
    model.step()
    assert prompts["I am voter 1."] == prompts["I am voter 3."] != prompts["I am voter 2."]
    assert model.crowd.field.text
    assert prompts["I am voter 1."].count("so far: yes") == 2


def test_usage_counts_this_scheduler_alone_though_the_backend_is_shared():
    backend = ScriptedBackend()
    one, two = Crowd(3, backend=backend), Crowd(4, backend=backend)
    one.step()
    two.step()
    two.step()
    assert (one.crowd.usage.calls, two.crowd.usage.calls) == (3, 8)
    assert one.crowd.usage.tokens_asked > 0


def test_a_recorder_gets_every_tick_with_its_field():
    kept = []

    class Keeper:
        def record(self, tick, field, groups):
            kept.append((tick.number, field.size, set(groups)))

    model = Crowd(2, recorder=Keeper(), group=lambda agent: str(agent.unique_id))
    model.step()
    model.step()
    assert kept == [(0, 2, {"1", "2"}), (1, 4, {"1", "2"})]


def test_mesas_counters_are_its_own():
    model = Crowd(2)
    model.step()
    model.crowd.step(model.agents)
    assert (model.steps, model.crowd.tick) == (1, 2)


def test_nothing_of_ours_keeps_a_model_alive():
    model = Crowd(3)
    model.step()
    model.remove_all_agents()
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 itself keeps every model there
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_an_empty_tick_leaves_the_field_as_it_is():
    model = Crowd(3)
    model.step()
    before = model.crowd.field
    model.crowd.step([])
    assert (model.crowd.tick, model.crowd.field) == (2, before)


def test_two_schedulers_of_one_model_need_two_names():
    model = Crowd(1)
    with pytest.raises(ValueError, match="has a scheduler 'crowd' already"):
        MeanFieldScheduler(model, policy=model.crowd.policy, summarizer=NoField())
