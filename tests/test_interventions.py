"""What each kind of intervention changes, and what it leaves."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
from crowds import YES_NO, Crowd, Voter, labels

from mesa_meanfield import (
    Decision,
    FreeText,
    LLMPolicy,
    LLMSummarizer,
    Prompts,
    RecentActions,
    RecordedPolicy,
    RulePolicy,
    ScriptedBackend,
)
from mesa_meanfield.choosers import most_influential
from mesa_meanfield.data import MeanField, Notice
from mesa_meanfield.errors import DataError
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace
from mesa_meanfield.plain import describe

SAID = "The bridge is safe."
ANNOUNCED = f"An official statement by the city:\n{SAID}"
NO = Decision("Never.", labels={"action": "no"})


def odd(agents):
    return [agent for agent in agents if agent.unique_id % 2]


class Asked(ScriptedBackend):
    """Keeps every request; answers pseudo-randomly."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def score(self, requests, candidates):
        self.requests += requests
        return super().score(requests, candidates)

    def generate(self, requests):
        self.requests += requests
        return super().generate(requests)


def ticks(count, *interventions, voters=6, **known):
    """Run a crowd.

    Returns:
        Its ticks, and the requests of each.
    """
    backend = Asked()
    model = Crowd(voters, backend=backend, interventions=interventions, **known)
    done, asked = [], []
    for _ in range(count):
        before = len(backend.requests)
        model.step()
        done.append(model.crowd.last)
        asked.append(backend.requests[before:])
    return done, asked


EVERY_KIND = [
    Announce(3, SAID, "the city"),
    Inject(3, "So what?", "@outside", {"action": "no"}),
    Replace(3, NO, who=odd),
    Mute(3, who=odd),
    Persuade(3, "You are tired.", who=odd),
    lambda scene: scene if scene.tick < 3 else replace(scene, topic="Shall we not?"),
]


@pytest.mark.parametrize("one", EVERY_KIND)
def test_before_its_tick_an_intervention_changes_no_prompt_no_seed_and_no_decision(one):
    control, asked_in_control = ticks(5)
    done, asked = ticks(5, one)
    assert (done[:3], asked[:3]) == (control[:3], asked_in_control[:3])
    assert done[3] != control[3]


@pytest.mark.parametrize("one", EVERY_KIND)
def test_the_tick_says_which_interventions_changed_it(one):
    done, _ = ticks(4, one)
    assert [len(tick.interventions) for tick in done] == [0, 0, 0, 1]
    assert "0x" not in done[3].interventions[0]  # an address would be another one in the next run


# --- Announce --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "channel", "shown"),
    [
        ("en", "official", f"\n\nAn official statement by the city:\n{SAID}\n\nYou can do"),
        ("en", "media", f"\n\nA media report by the city:\n{SAID}\n\nYou can do"),
        ("zh", "official", f"\n\nthe city的官方声明：\n{SAID}\n\n你可以"),
        ("zh", "media", f"\n\nthe city的媒体报道：\n{SAID}\n\n你可以"),
    ],
)
def test_a_statement_stands_behind_the_mean_fields_and_before_the_choices(language, channel, shown):
    prompts = Prompts(language)
    field, group = MeanField("Calm."), MeanField("Angry.")
    notices = [Notice("the city", SAID, channel)]
    with_it = prompts.policy_prefix(YES_NO, field, topic="Bridge", group_field=group, notices=notices)
    assert with_it.index("Angry.") < with_it.index(shown.strip()[:20])
    assert shown in with_it
    without = prompts.policy_prefix(YES_NO, field, topic="Bridge", group_field=group)
    cut = shown[: shown.rindex("\n\n")]
    assert with_it.replace(cut, "", 1) == without


def test_a_statement_is_shown_until_its_end_and_changes_nothing_but_the_prefix():
    _, asked_in_control = ticks(4)
    _, asked = ticks(4, Announce(1, SAID, "the city", until=3))
    shown = [[ANNOUNCED in request.prefix for request in of] for of in asked]
    assert shown == [[False] * 6, [True] * 6, [True] * 6, [False] * 6]
    assert [(r.suffix, r.seed) for r in asked[1]] == [(r.suffix, r.seed) for r in asked_in_control[1]]


def test_a_statement_that_reaches_a_share_makes_two_prefixes_and_reaches_the_same_agents_at_every_tick():
    done, asked = ticks(3, Announce(0, SAID, "the city", reach=0.5), voters=20)
    assert [len({request.prefix for request in of}) for of in asked] == [2, 2, 2]
    reached = [{state.agent for state in tick.states if state.notices} for tick in done]
    assert reached[0] == reached[1] == reached[2]
    assert 0 < len(reached[0]) < 20


def test_two_sources_reach_different_agents_and_one_source_always_the_same():
    city, press = (Announce(0, SAID, source, reach=0.5) for source in ("the city", "the press"))
    done, _ = ticks(1, city, press, replace(city, text="Really."), voters=30)
    heard = {state.agent: [(n.source, n.text) for n in state.notices] for state in done[0].states}
    assert all((("the city", SAID) in of) == (("the city", "Really.") in of) for of in heard.values())
    assert len({tuple(of) for of in heard.values()}) == 4


def test_the_summarizer_does_not_see_a_statement():
    class Summarized(LLMSummarizer):
        def __init__(self):
            super().__init__(Asked())

    summarizer = Summarized()
    ticks(2, Announce(0, SAID, "the city"), summarizer=summarizer)
    assert len(summarizer.backend.requests) == 2
    assert not any(SAID in r.prefix + r.suffix for r in summarizer.backend.requests)


def test_a_template_of_ones_own_that_cannot_show_a_statement_is_told(tmp_path):
    (tmp_path / "policy_prefix.j2").write_text("{{ topic }}")
    policy = LLMPolicy(ScriptedBackend(), YES_NO, prompts=Prompts(folder=tmp_path))
    ticks(1, policy=policy)
    with pytest.raises(DataError, match=r"policy_prefix\.j2: does not show the statement by the city; write \{%"):
        ticks(1, Announce(0, SAID, "the city"), policy=policy)


# --- Inject ----------------------------------------------------------------------------------------


def test_posts_from_outside_are_in_the_tick_and_its_shares_and_seen_from_the_next_tick_on():
    post = Inject(1, "I saw cracks.", "@witness", {"action": "no"}, copies=2)
    (control, done), (asked_in_control, asked) = zip(
        *(ticks(3, *of, summarizer=RecentActions(9)) for of in ([], [post])), strict=True
    )
    assert [len(tick.decisions) for tick in done] == [6, 8, 6]
    assert done[1].decisions[:6] == control[1].decisions
    assert [(s.agent, d.text, d.labels, d.injected) for s, d in zip(done[1].states, done[1].decisions, strict=True)][
        6:
    ] == [(f"@witness {i}", "I saw cracks.", {"action": "no"}, True) for i in (1, 2)]
    assert not any(d.injected for tick in control for d in tick.decisions)
    assert asked[1] == asked_in_control[1]
    assert all(request.prefix.count("- [no] I saw cracks.") == 2 for request in asked[2])


def test_posts_count_in_the_exact_shares():
    yes = RulePolicy(lambda agent, field: "yes", YES_NO)
    model = Crowd(3, policy=yes, interventions=[Inject(0, "", "@bot", {"action": "no"})])
    model.step()
    assert model.crowd.field.shares["action"] == {"yes": 0.75, "no": 0.25}


def test_a_post_without_label_is_heard_and_counts_in_no_share():
    yes = RulePolicy(lambda agent, field: "yes", YES_NO)
    model = Crowd(3, policy=yes, summarizer=RecentActions(1), interventions=[Inject(0, "Hm.", "@bot")])
    model.step()
    assert (model.crowd.field.shares["action"], model.crowd.field.text) == ({"yes": 1.0, "no": 0.0}, "- Hm.")


def test_posts_are_heard_even_where_nobody_is_active():
    quiet = {"activation": lambda agents, *, tick, seed: []}
    model = Crowd(3, interventions=[Inject(0, "Hm.", "@bot"), Inject(1, "Hm.", "@bot")], **quiet)
    model.step()
    model.crowd.update()
    assert model.crowd.field.size == 2


def test_a_post_is_heard_in_its_group_and_in_the_whole_crowd():
    def side(agent):
        return "odd" if agent.unique_id % 2 else "even"

    post = Inject(0, "Hm.", "@bot", {"action": "no"}, group="odd")
    yes = RulePolicy(lambda agent, field: "yes", YES_NO)
    model = Crowd(4, policy=yes, group=side, interventions=[post])
    model.step()
    counts = {name: field.counts["action"] for name, field in {**model.crowd.fields, "": model.crowd.field}.items()}
    assert counts == {"odd": {"yes": 2, "no": 1}, "even": {"yes": 2, "no": 0}, "": {"yes": 4, "no": 1}}


def test_a_warm_up_tick_with_a_post_is_still_a_recorded_one():
    record = RecordedPolicy({1: Decision(labels={"action": "yes"})}, YES_NO)
    model = Crowd(1, interventions=[Inject(0, "Hm.", "@bot")])
    assert model.crowd.step(model.agents, policy=record).recorded


# --- Replace ---------------------------------------------------------------------------------------


def test_a_script_decides_for_those_chosen_and_the_others_are_asked_as_before():
    control, asked_in_control = ticks(2)
    done, asked = ticks(2, Replace(1, NO, who=odd))
    assert done[1].decisions[::2] == (NO,) * 3
    assert done[1].decisions[1::2] == control[1].decisions[1::2]
    assert asked[1] == asked_in_control[1][1::2]


def test_a_script_may_be_any_policy_and_ends():
    contrary = RulePolicy(lambda agent, field: "no" if agent.unique_id == 1 else None, YES_NO)
    done, _ = ticks(3, Replace(1, contrary, who=odd, until=2))
    assert [len(tick.states) for tick in done] == [6, 4, 6]
    assert labels(done[1])["1"] == "no"


def test_a_language_model_with_other_instructions_may_be_the_script():
    backend = Asked()
    trolls = LLMPolicy(backend, YES_NO, instructions="You contradict everybody.")
    ticks(1, Replace(0, trolls, who=most_influential(2, "unique_id")))
    assert [request.prefix.startswith("You contradict") for request in backend.requests] == [True, True]


def test_a_script_of_one_decision_a_tick_is_silent_at_none_and_over_at_its_end():
    done, asked = ticks(4, Replace(1, [NO, None], who=odd))
    assert [len(tick.states) for tick in done] == [6, 6, 3, 6]
    assert [len(of) for of in asked] == [6, 3, 3, 6]
    assert done[1].interventions[0].startswith("Replace(at=1, script=[Decision(text='Never.', labels=")
    assert done[3].interventions == ()


# --- Mute ------------------------------------------------------------------------------------------


def test_muted_agents_neither_act_nor_are_heard_and_come_back():
    control, _ = ticks(3)
    model = Crowd(6, interventions=[Mute(1, who=odd, until=2)])
    heard = []
    for _ in range(3):
        model.step()
        heard.append(labels(model.crowd.last))
    assert [sorted(of) for of in heard] == [[*"123456"], [*"246"], [*"123456"]]
    assert heard[1] == {k: v for k, v in labels(control[1]).items() if int(k) % 2 == 0}
    assert [len(agent.done) for agent in model.agents] == [2, 3] * 3
    assert model.crowd.field.size == 15


def test_when_all_are_muted_nothing_is_asked_and_the_field_stays():
    model = Crowd(3, interventions=[Mute(1)])
    model.step()
    field, calls = model.crowd.field, model.crowd.usage.calls
    model.step()
    assert (model.crowd.field, model.crowd.usage.calls, model.crowd.tick) == (field, calls, 2)


# --- Persuade --------------------------------------------------------------------------------------


def test_a_text_is_added_to_the_states_of_those_chosen():
    done, _ = ticks(3, Persuade(1, "You fell in once.", who=odd, until=2))
    told = [[state.text for state in tick.states[:2]] for tick in done]
    plain = ["I am voter 1.", "I am voter 2."]
    assert told == [plain, ["I am voter 1.\nYou fell in once.", "I am voter 2."], plain]


def test_a_function_changes_the_states():
    _, asked = ticks(1, Persuade(0, str.upper, who=lambda agents: ["2"]))
    assert [request.suffix.split("\n")[0] for request in asked[0][:2]] == ["I am voter 1.", "I AM VOTER 2."]


def test_a_function_that_gives_no_text_is_told():
    with pytest.raises(TypeError, match=r"^Persuade\(at=0, change=.*\): change must give a str, got 3 for agent 1$"):
        ticks(1, Persuade(0, lambda text: 3))


# --- Any function ----------------------------------------------------------------------------------


def test_a_function_may_change_the_shown_field_and_the_crowds_own_stays():
    def blind(scene):
        return scene if scene.tick != 1 else replace(scene, field=MeanField("Nobody knows."), topic="Well?")

    _, asked = ticks(3, blind)
    assert [["Nobody knows." in request.prefix for request in of] for of in asked] == [
        [False] * 6,
        [True] * 6,
        [False] * 6,
    ]
    assert asked[1][0].prefix.count("Well?") == 1
    assert "all 12 so far" in asked[2][0].prefix


def test_a_function_that_gives_no_scene_is_named():
    def forgetful(scene):
        replace(scene, topic="Shall we not?")

    told = r"^The intervention test_interventions\.\S*forgetful must return a Scene, got None at tick 0$"
    with pytest.raises(TypeError, match=told):
        ticks(1, forgetful)


@pytest.mark.parametrize("wrong", ["Announce", Announce, 3])
def test_what_is_no_intervention_is_told(wrong):
    with pytest.raises(TypeError, match="is no intervention: it must be a function from a Scene to a Scene"):
        ticks(1, wrong)


# --- As values -------------------------------------------------------------------------------------

WRONG = [
    (lambda: Announce(-1, SAID, "x"), r"^Announce\(at=-1, .*: at must be a tick, a whole number from 0 on$"),
    (lambda: Mute(1.5), r"^Mute\(at=1.5\): at must be a tick"),
    (lambda: Mute(True), "at must be a tick"),
    (lambda: Mute(3, until=3), r"^Mute\(at=3, until=3\): until must be a tick after 3"),
    (lambda: Announce(0, SAID, "x", reach=1.2), r"reach=1.2\): reach must be a share from 0 to 1, or a function"),
    (lambda: Announce(0, SAID, " "), "text and source must not be empty"),
    (lambda: Announce(0, SAID, "x", channel="tv"), "channel must be 'official' or 'media'"),
    (lambda: Mute(0, who=-0.1), r"^Mute\(at=0, who=-0.1\): who must be a share from 0 to 1"),
    (lambda: Mute(0, who=["1"]), "who must be a share from 0 to 1"),
    (lambda: Mute(0, who=float("nan")), "who must be a share from 0 to 1"),
    (
        lambda: Inject(0, "", "@a"),
        r"^Inject\(at=0, text='', account='@a'\): an account, and a text or labels are needed$",
    ),
    (lambda: Inject(0, "Hm.", "@a", copies=0), "copies must be at least 1"),
    (lambda: Replace(0, "no"), "script must be a policy, a Decision, or a sequence of them, one a tick"),
    (lambda: Replace(0, []), "script must be a policy"),
    (lambda: Persuade(0, " "), "change must be a text, or a function"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_value_is_told_in_one_line_that_names_the_intervention(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "one", [Inject(0, "Hm.", "@a", {"action": "nope"}), Replace(0, Decision(labels={"action": "nope"}))]
)
def test_a_label_that_nobody_can_choose_is_told(one):
    with pytest.raises(ValueError, match=r"^(Inject|Replace)\(.*\): 'nope' is not one of yes, no$"):
        ticks(1, one)


def test_any_label_will_do_where_the_labels_are_not_known():
    policy = LLMPolicy(ScriptedBackend(), FreeText())
    done, _ = ticks(1, Inject(0, "Hm.", "@a", {"action": "nope"}), policy=policy)
    assert done[0].decisions[-1].labels == {"action": "nope"}


def test_an_account_that_is_an_agent_is_told():
    with pytest.raises(
        ValueError, match=r"^Inject\(.*the account '3' is an agent of the model; give it another name$"
    ):
        ticks(1, Inject(0, "Hm.", "3"))


def test_interventions_are_values_that_are_equal_readable_and_pickled():
    many = [
        Announce(5, SAID, "the city", reach=0.3),
        Inject(2, "Hm.", "@a", {"action": "no"}),
        Replace(1, NO),
        Mute(0, who=most_influential(3, "followers")),
        Persuade(1, "You are tired."),
    ]
    assert pickle.loads(pickle.dumps(many)) == many
    assert [repr(one) for one in many] == [
        f"Announce(at=5, text='{SAID}', source='the city', reach=0.3)",
        "Inject(at=2, text='Hm.', account='@a', labels={'action': 'no'})",
        "Replace(at=1, script=Decision(text='Never.', labels={'action': 'no'}))",
        "Mute(at=0, who=MostInfluential(n=3, by='followers'))",
        "Persuade(at=1, change='You are tired.')",
    ]
    assert Announce(5, SAID, "the city") == Announce(5, SAID, "the city") != Announce(6, SAID, "the city")
    assert len({Announce(5, SAID, "the city"), Announce(5, SAID, "the city"), *many}) == 6


def test_interventions_describe_themselves_as_json():
    rule = RulePolicy(lambda agent, field: "no", YES_NO)
    many = [Replace(1, rule, who=odd), Replace(1, (NO, None)), Announce(0, SAID, "x"), EVERY_KIND[-1]]
    assert json.loads(json.dumps(describe(many))) == [
        {"kind": "Replace", "at": 1, "script": "mesa_meanfield.rules.RulePolicy", "who": "test_interventions.odd"},
        {
            "kind": "Replace",
            "at": 1,
            "script": [{"kind": "Decision", "text": "Never.", "labels": {"action": "no"}}, None],
        },
        {"kind": "Announce", "at": 0, "text": SAID, "source": "x"},
        "test_interventions.<lambda>",
    ]


def test_what_has_no_name_of_its_own_is_named_by_its_class():
    assert [describe(one) for one in (str.upper, ScriptedBackend(), Voter)] == [
        "str.upper",
        "mesa_meanfield.backends.scripted.ScriptedBackend",
        "crowds.Voter",
    ]
