"""Interventions in whole runs: their order, faults in the middle of a tick, records, and cascades."""

from __future__ import annotations

from dataclasses import replace

import pytest
from crowds import YES_NO, Crowd, labels
from guarded_runs import Asked, model, record, run

from mesa_meanfield import Decision, LLMPolicy, LLMSummarizer, NoField, RecentActions, RulePolicy, ScriptedBackend
from mesa_meanfield.choosers import most_influential
from mesa_meanfield.errors import BackendError, LeakError
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace, check_ticks
from mesa_meanfield.provenance import guarded

YES = RulePolicy(lambda agent, field: "yes", YES_NO)
NO = Decision(labels={"action": "no"})


# --- Several at once -------------------------------------------------------------------------------


def test_interventions_act_in_the_order_of_their_list():
    first, second = Persuade(0, "It is late."), Persuade(0, str.upper)
    told = []
    for interventions in ([first, second], [second, first]):
        crowd = Crowd(1, interventions=interventions)
        crowd.step()
        told.append(crowd.crowd.last.states[0].text)
        assert crowd.crowd.last.interventions == tuple(map(repr, interventions))
    assert told == ["I AM VOTER 1.\nIT IS LATE.", "I AM VOTER 1.\nIt is late."]


def test_the_later_script_wins_and_muted_agents_follow_none():
    first = Replace(0, NO)
    second = Replace(0, Decision(labels={"action": "yes"}), who=lambda agents: ["2", "3"])
    crowd = Crowd(3, interventions=[first, second, Mute(0, who=lambda agents: ["3"])])
    crowd.step()
    assert labels(crowd.crowd.last) == {"1": "no", "2": "yes"}


def test_one_that_changes_nothing_is_not_told_as_active():
    idle = [Mute(0, who=0), Replace(0, NO, who=lambda agents: []), lambda scene: replace(scene)]
    crowd = Crowd(2, interventions=[*idle, Inject(0, "Hm.", "@a")])
    crowd.step()
    assert crowd.crowd.last.interventions == ("Inject(at=0, text='Hm.', account='@a')",)


def test_interventions_may_be_set_between_two_ticks():
    crowd = Crowd(3, policy=YES)
    crowd.step()
    crowd.crowd.interventions = [Replace(0, NO)]
    crowd.step()
    crowd.crowd.interventions = []
    crowd.step()
    assert [agent.done[i].labels["action"] for agent in crowd.agents for i in range(3)] == ["yes", "no", "yes"] * 3


def test_leaders_and_followers_hear_a_post_once():
    crowd = Crowd(4, policy=YES, interventions=[Inject(0, "Hm.", "@a"), Mute(0, who=lambda agents: ["1"])])
    agents = list(crowd.agents)
    crowd.crowd.decide(agents[:2])
    crowd.crowd.decide(agents[2:])
    tick = crowd.crowd.update()
    assert [state.agent for state in tick.states] == ["2", "3", "4", "@a"]
    assert [name.split("(")[0] for name in tick.interventions] == ["Inject", "Mute"]


# --- Faults ----------------------------------------------------------------------------------------

FAULTS = [Inject(0, "Hm.", "@a", {"action": "no"}), Persuade(0, "Hurry."), Mute(0, who=lambda agents: ["2"])]


def whole():
    crowd = Crowd(5, interventions=FAULTS, summarizer=RecentActions(9))
    crowd.step()
    return crowd.crowd


def test_an_error_of_the_model_applies_nothing_twice():
    backend = ScriptedBackend()
    crowd = Crowd(5, backend=backend, interventions=FAULTS, summarizer=RecentActions(9))

    def down(requests, candidates):
        raise BackendError("down")

    score, backend.score = backend.score, down
    for _ in range(2):
        with pytest.raises(BackendError):
            crowd.crowd.step(crowd.agents)
    backend.score = score
    crowd.crowd.step(crowd.agents)
    assert (crowd.crowd.last, crowd.crowd.field) == (whole().last, whole().field)


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_while_acting_applies_nothing_twice(failing):
    crowd = Crowd(5, interventions=FAULTS, summarizer=RecentActions(9))
    agent = list(crowd.agents)[failing]
    act, agent.act = agent.act, lambda decision: 1 / 0
    with pytest.raises(ZeroDivisionError):
        crowd.step()
    agent.act = act
    crowd.crowd.step(crowd.agents)
    assert (crowd.crowd.last, crowd.crowd.field) == (whole().last, whole().field)
    assert [len(agent.done) for agent in crowd.agents] == [1, 0, 1, 1, 1]


def test_an_error_of_the_summary_applies_nothing_twice():
    backend = ScriptedBackend()
    crowd = Crowd(5, interventions=FAULTS, summarizer=LLMSummarizer(backend))

    def down(requests):
        raise BackendError("down")

    generate, backend.generate = backend.generate, down
    with pytest.raises(BackendError):
        crowd.step()
    backend.generate = generate
    crowd.crowd.step(crowd.agents)
    assert crowd.crowd.last == whole().last
    assert crowd.crowd.field.size == 5


def test_what_was_taken_back_after_an_error_is_not_told_as_active():
    crowd = Crowd(2, policy=YES, interventions=[Persuade(0, "Hurry."), lambda scene: None])
    with pytest.raises(TypeError):
        crowd.step()
    crowd.crowd.interventions = []
    tick = crowd.crowd.step(crowd.agents)
    assert (tick.interventions, tick.states[0].text) == ((), "I am voter 1.")


def test_an_intervention_that_fails_leaves_the_tick_unplayed():
    crowd = Crowd(2, policy=YES, interventions=[lambda scene: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        crowd.step()
    assert (crowd.crowd.tick, [agent.done for agent in crowd.agents]) == (0, [[], []])


# --- Pairs -----------------------------------------------------------------------------------------


def test_equal_prompts_give_equal_decisions_after_an_intervention_has_begun():
    """Only those whom the statement reaches are asked anything else, as the field says nothing."""
    done = []
    for interventions in ([], [Announce(5, "It is safe.", "the city", reach=lambda agents: agents[:10])]):
        crowd = Crowd(20, summarizer=NoField(), interventions=interventions)
        done.append([])
        for _ in range(8):
            crowd.step()
            done[-1].append(crowd.crowd.last)
    control, treated = done
    assert treated[:5] == control[:5]
    for one, other in zip(treated[5:], control[5:], strict=True):
        assert one.decisions[10:] == other.decisions[10:]
        assert [d.seed for d in one.decisions] == [d.seed for d in other.decisions]
        assert all(
            a.prompt_hash != b.prompt_hash for a, b in zip(one.decisions[:10], other.decisions[:10], strict=True)
        )


# --- Cascades --------------------------------------------------------------------------------------


def test_a_cascade_goes_on_with_interventions_and_posts_are_no_actions_of_it():
    backend = Asked()
    many = [
        Announce(3, "It is a seal.", "the zoo"),
        Inject(3, "Told you.", "@me", {"stance": "deny"}),
        Mute(4, who=0.5),
    ]
    one = run(model(backend=backend, summarizer=RecentActions(9), interventions=many))
    plain = run(model(backend=Asked(), summarizer=RecentActions(9))).simulated
    told = ["It is a seal." in request.prefix for request in backend.prompts]
    assert told == sorted(told)
    assert {request.prefix.count("[deny] Told you.") for request in backend.prompts} == {0, 1}
    assert {action.id for action in one.simulated.actions} < {action.id for action in plain.actions}
    assert one.simulated.actions[:10] == plain.actions[:10]


def test_a_declared_post_of_the_record_is_put_in_and_one_that_was_read_in_secret_is_a_leak():
    plain = record()
    later = plain.actions[-1]
    declared = Inject(3, later.text, later.author.key, {"stance": "deny"})
    assert declared.text == later.text
    run(model(plain, interventions=[declared]))
    view = guarded(plain)
    with pytest.raises(LeakError, match="the text of action a20, which comes after the warm-up"):
        run(model(view, interventions=[Inject(3, view.actions[-1].text, "@me")]))


def test_an_intervention_that_reads_the_future_is_named():
    one = model()

    def oracle(scene):
        return replace(scene, topic=one.cascade.actions[-1].text) if scene.tick == 3 else scene

    one.crowd.interventions = [oracle]
    told = r"^The prompts of the intervention \S*oracle at tick 3 were made from the text of action a20, which comes"
    with pytest.raises(LeakError, match=told):
        run(one)
    assert one.crowd.tick == 3


def test_whom_an_intervention_concerns_may_go_by_who_the_readers_are():
    one = model(interventions=[Mute(0, who=most_influential(3, by=lambda reader: int(reader.key[1:])))])
    assert [a.id for a in run(one).simulated.actions[-2:]] == ["a16", "a17"]


def test_an_intervention_after_the_end_of_a_cascade_is_told():
    ticks = len(model().ticks)
    told = rf"^Mute\(at={ticks}\) begins after the end of the run, whose last tick is {ticks - 1}$"
    with pytest.raises(ValueError, match=told):
        model(interventions=[Mute(ticks)])
    check_ticks([Mute(ticks - 1), lambda scene: scene], ticks)


def test_a_summarizing_model_hears_posts_and_knows_their_labels():
    backend = Asked()
    crowd = Crowd(2, policy=LLMPolicy(backend, YES_NO), summarizer=LLMSummarizer(backend), interventions=[FAULTS[0]])
    crowd.step()
    assert "- [no] Hm." in backend.prompts[-1].suffix
