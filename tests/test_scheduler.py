from __future__ import annotations

import gc
import pickle
import threading
import weakref

import mesa
import pytest
from crowds import YES_NO, Crowd, Stone, Voter, labels

from mesa_meanfield import (
    ArrivalOrder,
    Choice,
    ChoiceThenText,
    Decision,
    FreeText,
    LLMPolicy,
    LLMSummarizer,
    MeanFieldAgent,
    MeanFieldScheduler,
    NoField,
    RandomShare,
    RecordedPolicy,
    RulePolicy,
    ScriptedBackend,
)
from mesa_meanfield.errors import (
    BackendError,
    BackendUnavailable,
    Cancelled,
    MeanFieldError,
    ReentryError,
    ReplyError,
)
from mesa_meanfield.protocols import Reply


class Log(ScriptedBackend):
    """A scripted backend that notes the order of everything."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def score(self, requests, candidates):
        self.events.append(f"batch of {len(requests)}")
        return super().score(requests, candidates)

    def generate(self, requests):
        self.events.append(f"replies to {len(requests)}")
        return super().generate(requests)


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


def test_agents_without_both_methods_are_left_alone():
    model = Crowd(2)
    Stone.create_agents(model, 3)
    model.step()
    assert len(model.crowd.last.states) == 2


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


def test_each_agent_type_has_its_policy_and_rules_count_in_the_field():
    class Bot(Voter):
        pass

    class LoudBot(Bot):
        pass

    model = Crowd(
        2,
        policy={Voter: LLMPolicy(ScriptedBackend(), YES_NO), Bot: RulePolicy(lambda agent, field: "yes", YES_NO)},
    )
    Bot.create_agents(model, 1)
    LoudBot.create_agents(model, 1)
    model.step()
    assert [b.done[0].labels["action"] for b in model.agents.select(agent_type=Bot)] == ["yes", "yes"]
    assert model.crowd.field.size == 4


def test_a_type_without_policy_is_an_error_that_names_it():
    class Guest(mesa.Agent):
        observe = Voter.observe
        act = Voter.act

    model = Crowd(0, policy={Voter: LLMPolicy(ScriptedBackend(), YES_NO)})
    Guest.create_agents(model, 1)
    with pytest.raises(ValueError, match="Guest 1 has no policy; there are policies for Voter"):
        model.step()


def test_a_rule_sees_its_agent_and_the_field_and_may_abstain():
    def rule(agent, field):
        return None if agent.unique_id == 1 else ("yes" if field.size else "no")

    model = Crowd(3, policy=RulePolicy(rule, YES_NO))
    model.step()
    model.step()
    assert [[d.labels["action"] for d in v.done] for v in model.agents] == [[], ["no", "yes"], ["no", "yes"]]
    assert model.crowd.field.size == 4


def test_rules_may_give_numbers_whose_mean_and_quantiles_the_field_has():
    model = Crowd(5, policy=RulePolicy(lambda agent, field: float(agent.unique_id)))
    model.step()
    numbers = model.crowd.field.numbers
    assert (numbers.size, numbers.mean, numbers.latest_quantiles["0.5"]) == (5, 3.0, 3.0)


def test_an_agents_own_action_space_overrides_the_policys():
    class Juror(Voter):
        actions = Choice(("guilty", "innocent"), dimension="verdict")

    model = Crowd(1)
    Juror.create_agents(model, 2)
    model.step()
    assert set(model.crowd.field.shares) == {"action", "verdict"}
    assert sum(model.crowd.field.shares["verdict"].values()) == 1


def test_an_own_action_space_of_a_wrong_kind_is_told():
    model = Crowd(1)
    next(iter(model.agents)).actions = ["yes", "no"]
    with pytest.raises(TypeError, match="Voter 1: actions must be an action space such as Choice"):
        model.step()


def test_equal_action_spaces_of_many_agents_make_one_batch():
    events: list[str] = []
    model = Crowd(6, backend=Log(events))
    for voter in model.agents:
        voter.actions = Choice(("yes", "no"))
    model.step()
    assert events == ["batch of 6"]


def test_who_sees_nothing_abstains():
    model = Crowd(3)
    next(iter(model.agents)).observe = lambda: None
    model.step()
    assert [s.agent for s in model.crowd.last.states] == ["2", "3"]


def test_what_is_seen_must_be_text():
    model = Crowd(1)
    next(iter(model.agents)).observe = lambda: 3
    with pytest.raises(TypeError, match="Voter 1: observe\\(\\) must return a str or None, got int"):
        model.step()


def test_nobody_active_asks_nobody_and_the_tick_advances():
    model = Crowd(0)
    model.step()
    assert (model.crowd.tick, model.crowd.usage.calls, model.crowd.field.size) == (1, 0, 0)


def test_agents_removed_before_they_act_are_skipped_and_counted():
    class Assassin(Voter):
        def act(self, decision):
            super().act(decision)
            list(self.model.agents)[-1].remove()

    model = Crowd(0)
    Assassin.create_agents(model, 1)
    Voter.create_agents(model, 2)
    victim = list(model.agents)[-1]
    model.step()
    assert (model.crowd.removed, victim.done, model.crowd.field.size) == (1, [], 2)


def test_agents_added_while_acting_join_at_the_next_tick():
    class Parent(Voter):
        def act(self, decision):
            Voter(self.model)

    model = Crowd(0)
    Parent.create_agents(model, 1)
    model.step()
    assert model.crowd.field.size == 1
    model.crowd.step(model.agents.select(agent_type=Voter))
    assert "2" in labels(model.crowd.last)


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


def test_a_random_share_is_active_and_newcomers_do_not_shift_the_others():
    def active(voters):
        model = Crowd(voters, activation=RandomShare(0.3))
        model.step()
        return {int(s.agent) for s in model.crowd.last.states}

    few, many = active(200), active(300)
    assert {agent for agent in many if agent <= 200} == few
    assert 35 <= len(few) <= 90


def test_arrival_order_activates_the_agents_of_the_tick_in_its_order():
    model = Crowd(4, activation=ArrivalOrder([["3", "1"], ["4"]]))
    seen = []
    for _ in range(3):
        model.step()
        seen.append([s.agent for s in model.crowd.last.states])
    assert seen == [["3", "1"], ["4"], []]


def test_a_recorded_policy_plays_through_the_same_path():
    record = RecordedPolicy({str(i): Decision(labels={"action": "yes"}) for i in (1, 2)}, YES_NO)
    model = Crowd(2)
    tick = model.crowd.step(model.agents, policy=record)
    assert tick.recorded
    assert model.crowd.field.shares["action"] == {"yes": 1.0, "no": 0.0}
    assert model.crowd.usage.calls == 0
    assert not model.crowd.step(model.agents).recorded


def test_a_missing_record_is_told():
    model = Crowd(2)
    with pytest.raises(ValueError, match="no decision of agent 2"):
        model.crowd.step(model.agents, policy=RecordedPolicy({"1": Decision(labels={"action": "yes"})}))


def test_act_must_not_step_the_same_scheduler():
    class Impatient(Voter):
        def act(self, decision):
            self.model.crowd.step(self.model.agents)

    model = Crowd(0)
    Impatient.create_agents(model, 1)
    with pytest.raises(ReentryError, match="inside a tick"):
        model.step()


def test_two_threads_step_one_after_the_other():
    inside = threading.Event()
    overlap = []

    class Slow(Voter):
        def act(self, decision):
            overlap.append(inside.is_set())
            inside.set()
            super().act(decision)
            inside.clear()

    model = Crowd(0)
    Slow.create_agents(model, 5)
    threads = [threading.Thread(target=model.crowd.step, args=(model.agents,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.crowd.tick == 4
    assert not any(overlap)
    assert all(len(v.done) == 4 for v in model.agents)


def test_cancel_stops_before_anyone_acts_and_the_tick_can_be_stepped_again():
    backend = ScriptedBackend(batch=2)
    model = Crowd(6, backend=backend)
    plain = Crowd(6)
    original = backend.score

    def cancelling(requests, candidates):
        model.crowd.cancel()
        return original(requests, candidates)

    backend.score = cancelling
    with pytest.raises(Cancelled):
        model.step()
    assert (model.crowd.tick, [v.done for v in model.agents]) == (0, [[]] * 6)
    with pytest.raises(Cancelled):
        model.crowd.step(model.agents)
    backend.score = original
    model.crowd.resume()
    model.crowd.step(model.agents)
    plain.step()
    assert model.crowd.last == plain.crowd.last


def test_a_cancelled_summary_is_made_up_for_without_deciding_again():
    backend = ScriptedBackend()
    model = Crowd(3, backend=backend, summarizer=LLMSummarizer(backend))
    original = backend.generate

    def cancelling(requests):
        model.crowd.cancel()
        return original(requests)

    backend.generate = cancelling
    with pytest.raises(Cancelled):
        model.step()
    backend.generate = original
    model.crowd.resume()
    model.crowd.step(model.agents)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (1, 3, [1, 1, 1])


@pytest.mark.parametrize("failing", [lambda r: "", lambda r: Reply(failure="HTTP 500")])
def test_a_failed_summary_keeps_the_old_text_with_new_shares_and_is_counted(failing):
    good = ScriptedBackend(lambda r: "People nod.")
    summarizer = LLMSummarizer(good)
    model = Crowd(3, summarizer=summarizer)
    model.step()
    summarizer.backend = ScriptedBackend(failing)
    model.step()
    assert model.crowd.field.text == "People nod."
    assert model.crowd.field.size == 6
    assert model.crowd.usage.failures == 1


def test_a_server_that_is_down_for_the_summary_keeps_the_old_text_and_is_counted():
    class Down(NoField):
        def update(self, field, tick, **known):
            raise BackendUnavailable("down")

    model = Crowd(3, summarizer=Down())
    model.step()
    assert (model.crowd.field.size, model.crowd.usage.failures, model.crowd.tick) == (3, 1, 1)


def test_a_summarizer_that_cannot_be_used_at_all_is_an_error():
    class Wrong(NoField):
        def update(self, field, tick, **known):
            raise BackendError("no such model")

    with pytest.raises(BackendError, match="no such model"):
        Crowd(3, summarizer=Wrong()).step()


def unreadable(on_failure):
    return LLMPolicy(
        ScriptedBackend(lambda r: "" if "voter 2" in r.suffix else "fine"), FreeText(), on_failure=on_failure
    )


def test_a_failed_decision_raises_where_nothing_else_is_declared():
    model = Crowd(3, policy=unreadable("raise"))
    with pytest.raises(ReplyError, match="Agent 2 has no usable decision, asked 2 times again"):
        model.step()
    assert [v.done for v in model.agents] == [[], [], []]


def test_a_skipped_agent_does_not_act_and_counts_nowhere():
    model = Crowd(3, policy=unreadable("skip"))
    model.step()
    assert [len(v.done) for v in model.agents] == [1, 0, 1]
    assert (model.crowd.field.size, model.crowd.usage.failures, model.crowd.usage.retries) == (2, 1, 2)
    assert model.crowd.last.decisions[1].failure == "The reply is empty"


def test_a_fallback_decision_moves_its_agent_but_counts_nowhere():
    model = Crowd(3, policy=unreadable(Decision(text="(silence)", labels={"action": "yes"})))
    model.step()
    assert [v.done[0].text for v in model.agents] == ["fine", "(silence)", "fine"]
    assert model.crowd.field.size == 2
    assert model.crowd.field.shares == {}


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


def test_memory_agents_keep_their_last_decisions():
    class Rememberer(MeanFieldAgent):
        def observe(self):
            return f"{len(self.memory)} before"

    model = Crowd(0)
    Rememberer.create_agents(model, 1, memory=2)
    for _ in range(3):
        model.step()
    (agent,) = model.agents
    assert len(agent.memory) == 2
    assert agent.decision is agent.memory[-1]
    assert model.crowd.last.states[0].text == "2 before"


def test_an_agent_that_does_not_say_what_it_sees_is_told_so():
    model = Crowd(0)
    MeanFieldAgent.create_agents(model, 1)
    with pytest.raises(NotImplementedError, match="MeanFieldAgent must say what it sees"):
        model.step()


def test_nothing_of_ours_keeps_a_model_alive():
    model = Crowd(3)
    model.step()
    model.remove_all_agents()
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 itself keeps every model there
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_after_an_error_in_act_those_who_have_acted_do_not_act_again():
    class Shy(Voter):
        def act(self, decision):
            if self.unique_id == 3 and not getattr(self, "brave", False):
                self.brave = True
                raise RuntimeError("not yet")
            super().act(decision)

    model, calm = Crowd(0), Crowd(4)
    Shy.create_agents(model, 4)
    with pytest.raises(RuntimeError, match="not yet"):
        model.crowd.step(model.agents)
    model.crowd.step(model.agents)
    calm.step()
    assert [len(v.done) for v in model.agents] == [1, 1, 1, 1]
    assert (model.crowd.tick, model.crowd.last.decisions) == (1, calm.crowd.last.decisions)


def test_a_missing_summary_is_made_first_however_the_tick_was_decided():
    class Failing(NoField):
        broken = True

        def update(self, field, tick, **known):
            if self.broken:
                raise BackendError("no such model")
            return super().update(field, tick, **known)

    summarizer = Failing()
    model = Crowd(3, summarizer=summarizer)
    with pytest.raises(BackendError):
        model.crowd.decide(model.agents, advance=True)
    with pytest.raises(MeanFieldError, match=r"still lacks its summary: call update\(\)"):
        model.crowd.decide(model.agents)
    summarizer.broken = False
    model.crowd.decide(model.agents, advance=True)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (1, 3, [1, 1, 1])


def test_agents_removed_while_the_crowd_observes_or_decides_are_counted_and_do_not_act():
    class Guard(Voter):
        def observe(self):
            list(self.model.agents)[-1].remove()
            return "on guard"

    def expel(agent, field):
        if isinstance(agent, Guard):
            list(model.agents)[-1].remove()
        return "yes"

    model = Crowd(0, policy=RulePolicy(expel, YES_NO))
    Guard.create_agents(model, 1)
    Voter.create_agents(model, 3)
    one, two, three = list(model.agents)[1:]
    model.step()
    assert [len(v.done) for v in (one, two, three)] == [1, 0, 0]
    assert (model.crowd.removed, model.crowd.field.size) == (2, 2)


def test_an_empty_tick_leaves_the_field_as_it_is():
    model = Crowd(3)
    model.step()
    before = model.crowd.field
    model.crowd.step([])
    assert (model.crowd.tick, model.crowd.field) == (2, before)


def test_recorded_and_simulated_decisions_of_one_tick_are_told_apart():
    model = Crowd(2)
    leader, follower = model.agents
    model.crowd.decide([leader], policy=RecordedPolicy({1: Decision(labels={"action": "yes"})}, YES_NO))
    model.crowd.decide([follower])
    tick = model.crowd.update()
    assert [d.recorded for d in tick.decisions] == [True, False]
    assert not tick.recorded


def test_a_recorded_action_without_label_and_text_still_takes_place():
    model = Crowd(1)
    model.crowd.step(model.agents, policy=RecordedPolicy({"1": Decision()}, YES_NO))
    assert (len(model.crowd.last.states), model.crowd.field.size) == (1, 1)


def test_a_tick_that_cannot_be_recorded_is_not_over():
    class Full:
        space = 1

        def record(self, tick, field, groups):
            if not self.space:
                raise OSError("disk full")
            self.space -= 1

    model = Crowd(2, recorder=Full())
    model.step()
    with pytest.raises(OSError, match="disk full"):
        model.step()
    assert model.crowd.tick == 1
    model.crowd.recorder.space = 1
    model.crowd.step(model.agents)
    assert (model.crowd.tick, model.crowd.field.size, [len(v.done) for v in model.agents]) == (2, 4, [2, 2])


def test_keys_must_name_their_agents():
    model = Crowd(2)
    for voter in model.agents:
        voter.key = "same"
    with pytest.raises(ValueError, match="Voter same: another agent has the same key"):
        model.step()
    for voter in model.agents:
        voter.key = voter.observe
    with pytest.raises(TypeError, match="key must be a str or an int, got method"):
        model.crowd.step(model.agents)  # Mesa 3.5 runs no step() again after one that raised


def test_two_schedulers_of_one_model_need_two_names():
    model = Crowd(1)
    with pytest.raises(ValueError, match="has a scheduler 'crowd' already"):
        MeanFieldScheduler(model, policy=model.crowd.policy, summarizer=NoField())


def test_an_action_space_can_be_pickled_as_batch_runs_do():
    space = ChoiceThenText(Choice(("a", "b"), meanings={"a": "first"}), silent=("a",))
    assert pickle.loads(pickle.dumps(space)) == space


def test_agents_with_different_texts_still_make_one_batch():
    events: list[str] = []
    model = Crowd(3, policy=LLMPolicy(Log(events), FreeText()))
    for voter in model.agents:
        voter.actions = FreeText(question=f"What does voter {voter.unique_id} write?")
    model.step()
    assert events == ["replies to 3"]


def test_a_models_step_made_again_after_an_error_lets_nobody_act_twice():
    down = [True]

    def probability(request, candidate):
        if down[0] and "voter 3" in request.suffix:
            raise BackendUnavailable("server down")
        return 1.0

    def step(model):
        leader, *followers = model.agents
        model.crowd.decide([leader])
        model.crowd.decide(followers)
        return model.crowd.update()

    model, calm = (Crowd(4, backend=ScriptedBackend(probability=probability)) for _ in range(2))
    with pytest.raises(BackendUnavailable):
        step(model)
    down[0] = False
    assert step(model) == step(calm)
    assert [len(v.done) for v in model.agents] == [1, 1, 1, 1]
    assert step(model) == step(calm)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"policy": "llm"}, "policy must be an object with decide"),
        ({"policy": {"Voter": None}}, "policy's keys must be agent types, got 'Voter'"),
        ({"policy": LLMPolicy}, "policy must be an object with decide"),
        ({"summarizer": "tally"}, "summarizer must be an object with update"),
        ({"summarizer": NoField}, "summarizer must be an object with update"),
    ],
)
def test_parts_of_a_wrong_kind_are_told_at_once(parts, said):
    with pytest.raises(TypeError, match=said):
        Crowd(1, **parts)


def test_results_of_a_wrong_kind_are_told_in_their_tick():
    class Wordy(NoField):
        def update(self, field, tick, **known):
            return "People nod."

    class Plain(RulePolicy):
        def decide(self, turns, field, **known):
            return ["yes"] * len(turns)

    with pytest.raises(TypeError, match=r"Wordy\.update\(\) must return a MeanField, got 'People nod\.'"):
        Crowd(1, summarizer=Wordy()).step()
    with pytest.raises(TypeError, match="Plain must decide by Decision or None, got 'yes'"):
        Crowd(1, policy=Plain(lambda agent, field: None)).step()
    with pytest.raises(TypeError, match=r"Voter 1: group\(\) must return a str, got int"):
        Crowd(1, group=lambda agent: 7).step()
