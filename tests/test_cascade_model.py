from __future__ import annotations

from worlds import action, cascade

from mesa_meanfield import Choice, LLMPolicy, NoField, RecentActions, ScriptedBackend, TallySummarizer
from mesa_meanfield.cascades.dimensions import space_of
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


def test_a_failed_decision_stays_in_the_cascade_without_label_or_text():
    backend = ScriptedBackend(lambda r: "")
    policy = LLMPolicy(backend, space_of("stance", STANCE.options, "en"), on_failure="skip")
    one = run(CascadeModel(cascade(10), policy=policy, summarizer=NoField(), dimension="stance"))
    failed = one.simulated.actions[3:]
    assert all((a.text, a.labels) == ("", {}) and a.trace.failure == "The reply is empty" for a in failed)
