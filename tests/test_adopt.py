"""Models that Mesa ships, whose agents decide by subclassing: examples/adopt."""

from __future__ import annotations

import gc
import inspect
import json
import math
import random
import subprocess
import sys
import weakref

import mesa
import pytest
from adopted import ADOPT, FOLDERS, SMALL, adopted, by_rule, decided, kind, original
from mesa.examples.advanced.epstein_civil_violence.agents import Citizen, CitizenState, Cop
from mesa.examples.basic.schelling.agents import SchellingAgent
from mesa.examples.basic.virus_on_network.agents import State

from mesa_meanfield import Announce, ScriptedBackend, adopt
from mesa_meanfield.experiments.sweeps import sweep

MESAS_RULE = {
    "virus_on_network": lambda agent, field: "out",
    "schelling": lambda agent, field: "stay" if agent.happy else "move",
    "boltzmann_wealth_model": lambda agent, field: "give",
    "epstein_civil_violence": lambda agent, field: None,  # who decides nothing follows it
}


def course(model, ticks=6):
    """What Mesa's model collects, and where everybody ends."""
    for _ in range(ticks):
        model.step()
    own = [column for column in model.datacollector.model_vars if column not in model_columns(model)]
    ends = [(a.unique_id, a.cell.coordinate, str(getattr(a, "state", a.unique_id))) for a in model.agents]
    return {column: model.datacollector.model_vars[column] for column in own}, ends


def model_columns(model):
    """The columns that adoption adds."""
    added = {"out", "moving", "giving", "protesting", "field", "tokens", "failures"}
    return added if hasattr(model, "crowd") else set()


# --- Adopting changes nothing but the decision -------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_under_mesas_own_rule_an_adopted_model_runs_exactly_as_mesas(folder):
    model = by_rule(adopted(folder), MESAS_RULE[folder])
    assert course(model) == course(original(folder))


@pytest.mark.parametrize("folder", FOLDERS)
def test_where_nobody_is_to_decide_no_model_is_asked_and_mesas_model_runs(folder):
    model = adopted(folder, deciding=0.0)
    assert course(model) == course(original(folder))
    assert model.crowd.usage.calls == 0
    assert model.crowd.tick == 6


@pytest.mark.parametrize("folder", FOLDERS)
def test_half_of_the_agents_decide_and_the_others_are_mesas_own(folder):
    model = adopted(folder, deciding=0.5)
    mine = [a for a in model.agents if hasattr(a, "observe")]
    others = [a for a in model.agents if not hasattr(a, "observe") and not isinstance(a, Cop)]
    assert 0.2 < len(mine) / (len(mine) + len(others)) < 0.8
    assert {type(a).__module__.split(".")[0] for a in others} == {"mesa"}
    model.step()
    assert set(decided(model)) <= {str(a.unique_id) for a in mine}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(folder):
    first, again, other = (course(adopted(folder, rng=rng)) for rng in (3, 3, 4))
    assert first == again
    assert first != other


# --- At home in Mesa ---------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_data_collector_has_mesas_columns_and_ours_from_the_first_row(folder):
    model = adopted(folder)
    shares = []
    for _ in range(3):
        model.step()
        labels = list(decided(model).values())
        shares.append(labels.count(model.crowd.policy.actions.options[1]) / len(labels))
    frame = model.datacollector.get_model_vars_dataframe()
    assert len(frame) == 4
    assert set(original(folder).datacollector.model_vars) < set(frame.columns)
    name = next(c for c in ("out", "moving", "giving", "protesting") if c in frame)
    if name in ("out", "protesting"):  # the label that stands first
        shares = [1 - share for share in shares]
    assert math.isnan(frame[name][0])
    assert frame[name][1:].tolist() == pytest.approx(shares)
    assert frame["field"][0] == ""
    assert frame["field"].tolist()[-1] == model.crowd.field.text
    assert frame["tokens"].is_monotonic_increasing
    assert frame["failures"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_model_is_freed_after_its_agents_are_removed(folder):
    model = adopted(folder)
    for _ in range(2):
        model.step()
    model.remove_all_agents()
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 itself keeps every model there
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def batch(model, parameters, processes=1):
    """Mesa's batch_run on the seeds 3 and 4, whatever Mesa calls them."""
    by_name = "rng" in inspect.signature(mesa.batch_run).parameters
    given = {"parameters": parameters, "rng": [3, 4]} if by_name else {"parameters": {**parameters, "rng": [3, 4]}}
    return mesa.batch_run(model, **given, max_steps=2, number_processes=processes, display_progress=False)


@pytest.mark.parametrize("folder", FOLDERS)
def test_batch_run_sweeps_backend_summarizer_and_mesas_own_parameters(folder):
    rows = batch(kind(folder), {**SMALL[folder], "summarizer": ["tally", "none"]})
    fields = {(row["rng"], row["summarizer"]): row["field"] for row in rows}
    assert sorted(fields) == [(3, "none"), (3, "tally"), (4, "none"), (4, "tally")]
    assert fields[3, "none"] == ""
    assert "%" in fields[3, "tally"]


def test_batch_run_goes_over_several_processes(tmp_path):
    script = tmp_path / "many.py"
    script.write_text(
        f"import inspect, json, sys, mesa\nsys.path.insert(0, {str(ADOPT / 'virus_on_network')!r})\n"
        f"from model import CautiousVirus\n{inspect.getsource(batch)}\n"
        "if __name__ == '__main__':\n"
        f"    rows = batch(CautiousVirus, {SMALL['virus_on_network']!r}, 2)\n"
        "    print(json.dumps(sorted([row['rng'], row['field']] for row in rows)))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=True)
    rows = batch(kind("virus_on_network"), SMALL["virus_on_network"])
    assert json.loads(done.stdout) == sorted([row["rng"], row["field"]] for row in rows)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_sweep_shares_one_backend_among_adopted_models(folder):
    swept = sweep(
        kind(folder),
        {**SMALL[folder], "deciding": [0.5, 1.0]},
        replicas=2,
        ticks=2,
        backend=ScriptedBackend(),
    )
    assert swept.failed().empty
    assert set(swept.frame()["deciding"]) == {0.5, 1.0}


def test_agents_select_says_who_decides_in_a_tick():
    model = adopted("schelling")
    blue = model.agents.select(lambda agent: agent.type == 0)
    model.crowd.step(blue)
    assert set(decided(model)) == {str(agent.unique_id) for agent in blue}
    assert all(s.text.startswith("You are blue.") for s in model.crowd.last.states)


def test_agents_that_disappear_during_a_tick_are_skipped_and_newcomers_join_at_the_next():
    model = adopted("schelling")
    first, second, *_ = model.agents
    keys = {str(a.unique_id) for a in model.agents}
    newcomers = []

    class Landlord(type(first)):
        def act(self, decision):
            super().act(decision)
            if not newcomers:
                second.remove()
                free = self.model.grid.select_random_empty_cell
                newcomers.append(type(second)(self.model, free(), 1))  # made as one that takes part
                newcomers.extend(adopt([SchellingAgent(self.model, free(), 0)], type(second)))  # made as Mesa does

    adopt([first], Landlord)
    model.step()
    assert set(decided(model)) == keys - {str(second.unique_id)}
    assert model.crowd.removed == 1
    model.step()
    assert set(decided(model)) == keys - {str(second.unique_id)} | {str(a.unique_id) for a in newcomers}
    assert model.datacollector.model_vars["population"][-1] == len(keys) + 1


def test_an_announcement_reaches_adopted_agents():
    model = adopted("virus_on_network")
    model.crowd.interventions.append(Announce(at=1, text="Stay at home.", source="The town hall"))
    seen = []

    def yes(request, word):
        seen.append("Stay at home." in request.prefix)
        return 1.0

    model.crowd.policy.backend = ScriptedBackend(probability=yes)
    model.step()
    assert not any(seen)
    model.step()
    assert any(seen)


# --- What a decision does ----------------------------------------------------------------------------


def infected(model):
    return {a.unique_id for a in model.agents if a.state is State.INFECTED}


def test_nobody_catches_the_flu_while_all_are_at_home():
    model = by_rule(adopted("virus_on_network", virus_check_frequency=0.0), lambda agent, field: "home")
    before = infected(model)
    for _ in range(5):
        model.step()
    assert infected(model) == before != set()


def test_who_is_well_and_at_home_catches_nothing_from_those_who_are_out():
    model = adopted("virus_on_network", virus_spread_chance=1.0, virus_check_frequency=0.0)
    by_rule(model, lambda agent, field: "home" if agent.state is State.SUSCEPTIBLE else "out")
    before = infected(model)
    model.step()
    assert infected(model) == before != set()


def test_who_is_ill_and_at_home_passes_nothing_on_to_those_who_are_out():
    model = adopted("virus_on_network", virus_spread_chance=1.0, virus_check_frequency=0.0)
    by_rule(model, lambda agent, field: "home" if agent.state is State.INFECTED else "out")
    before = infected(model)
    model.step()
    assert infected(model) == before != set()


def test_who_recovers_at_home_becomes_well_or_immune():
    model = adopted("virus_on_network", virus_check_frequency=1.0, recovery_chance=1.0, gain_resistance_chance=1.0)
    ill = infected(by_rule(model, lambda agent, field: "home"))
    model.step()
    assert {a.unique_id for a in model.agents if a.state is State.RESISTANT} == ill != set()


def test_people_see_their_own_health_and_that_of_those_they_know():
    model = adopted("virus_on_network", virus_spread_chance=1.0)
    for one in model.agents:
        one.state = State.SUSCEPTIBLE
    person = max(model.agents, key=lambda a: len(list(a.cell.neighborhood.agents)))
    known = list(person.cell.neighborhood.agents)
    assert person.observe() == "You are well and could catch the flu. Nobody you know has the flu."
    known[0].state = State.INFECTED
    assert person.observe() == "You are well and could catch the flu. Somebody you know has the flu."
    for one in (*known, person):
        one.state = State.INFECTED
    assert person.observe() == "You have the flu. At least half of those you know have the flu."


def test_the_network_is_that_of_the_seed_and_pythons_own_generator_goes_on_undisturbed():
    random.seed(7)
    expected = random.Random(7).random()
    edges = [sorted(adopted("virus_on_network", rng=rng).grid.G.edges) for rng in (3, 3, 4)]
    assert random.random() == expected
    assert edges[0] == edges[1] != edges[2]


@pytest.mark.parametrize(("label", "moved"), [("stay", False), ("move", True)])
def test_residents_move_or_stay_as_they_decided(label, moved):
    model = by_rule(adopted("schelling"), lambda agent, field: label)
    before = {a.unique_id: a.cell for a in model.agents}
    model.step()
    assert {a.cell is not before[a.unique_id] for a in model.agents} == {moved}


def test_happiness_in_the_data_is_still_mesas():
    model = by_rule(adopted("schelling"), lambda agent, field: "stay")
    before = model.happy
    model.step()
    assert model.happy == before < len(model.agents)


def test_residents_see_how_many_of_their_neighbours_are_like_them():
    model = adopted("schelling", density=1.0)
    resident = next(a for a in model.agents if a.cell.coordinate == (3, 3))
    near = list(resident.cell.neighborhood.agents)
    told = []
    for alike in (0, 1, 3, 6, 8):
        for number, one in enumerate(near):
            one.type = resident.type if number < alike else 1 - resident.type
        told.append(resident.observe().split(". ")[1].split(" of ")[0])
    assert told == ["None", "Few", "About half", "Most", "All"]
    for one in near:
        one.remove()
    assert resident.observe().endswith("You have no neighbours.")


def test_where_all_keep_their_coin_nobody_gets_richer():
    model = by_rule(adopted("boltzmann_wealth_model"), lambda agent, field: "keep")
    for _ in range(4):
        model.step()
    assert {a.wealth for a in model.agents} == {1}


def test_who_has_nothing_is_not_asked_and_gives_what_comes_in_as_mesa_has_it():
    model = by_rule(adopted("boltzmann_wealth_model"), lambda agent, field: "give")
    for _ in range(3):
        model.step()
    poor = {str(a.unique_id) for a in model.agents if a.wealth == 0}
    by_rule(model, lambda agent, field: "keep")
    model.step()
    assert poor
    assert set(decided(model)).isdisjoint(poor)
    assert all(a.gives is None for a in model.agents)


def test_free_citizens_do_what_they_decided_and_the_cops_are_mesas():
    model = by_rule(adopted("epstein_civil_violence"), lambda agent, field: "protest")
    model.step()
    citizens = [a for a in model.agents if isinstance(a, Citizen)]
    assert {a.state for a in citizens} <= {CitizenState.ACTIVE, CitizenState.ARRESTED}
    assert {type(a) for a in model.agents if not isinstance(a, Citizen)} == {Cop}
    assert len(decided(model)) == len(citizens)
    by_rule(model, lambda agent, field: "quiet")
    model.step()
    assert CitizenState.ACTIVE not in {a.state for a in citizens}


def test_who_is_in_jail_is_not_asked():
    model = adopted("epstein_civil_violence")
    prisoner, *_ = model.agents.select(agent_type=Citizen)
    prisoner.jail_sentence, prisoner.state = 2, CitizenState.ARRESTED
    asked = []
    for _ in range(3):
        model.step()
        asked.append(str(prisoner.unique_id) in decided(model))
    assert asked == [False, False, True]


@pytest.mark.parametrize("deciding", [0.0, 0.5, 1.0])
def test_mesas_counts_are_those_of_all_citizens(deciding):
    model = adopted("epstein_civil_violence", deciding=deciding)
    model.step()
    states = [a.state for a in model.agents if isinstance(a, Citizen)]
    found = {state: model.datacollector.model_vars[state.name.lower()][-1] for state in CitizenState}
    assert found == {state: states.count(state) for state in CitizenState}


def test_citizens_see_police_and_protest_near_them():
    model = adopted("epstein_civil_violence", movement=False)
    citizen, *_ = model.agents.select(agent_type=Citizen)
    citizen.hardship, citizen.risk_aversion = 0.9, 0.2
    citizen.update_neighbors()
    near = list(citizen.neighbors)
    cops, company = [a for a in near if isinstance(a, Cop)], [a for a in near if isinstance(a, Citizen)]
    for one in cops:
        one.remove()
    for one in company:
        one.state = CitizenState.QUIET
    start = "Your life is very hard. You dare a lot. There is"
    assert citizen.observe() == f"{start} no police near you. Nobody protests near you."
    for one in company[:4]:
        one.state = CitizenState.ACTIVE
    place = company[4].cell
    company[4].remove()
    police = next(a for a in model.agents if isinstance(a, Cop))
    police.move_to(place)
    assert citizen.observe() == f"{start} a little police near you. Many people protest near you."
