"""Whom an intervention concerns: everyone, a share, or those whom a function chooses."""

from __future__ import annotations

import random

import mesa
import networkx as nx
import pytest
from crowds import Crowd, Stone, Voter

from mesa_meanfield import MeanFieldScheduler, NoField, RandomShare, RulePolicy
from mesa_meanfield.activation import agent_key
from mesa_meanfield.choosers import community, most_influential
from mesa_meanfield.interventions import Announce, Mute, Persuade, Replace


def speakers(model):
    model.step()
    return {state.agent for state in model.crowd.last.states}


def muted(model):
    return {agent_key(a) for a in model.agents if isinstance(a, Voter)} - speakers(model)


def test_a_share_chooses_about_so_many():
    assert 70 < len(muted(Crowd(400, interventions=[Mute(0, who=0.25)]))) < 130


def test_a_share_of_none_and_of_all():
    assert muted(Crowd(5, interventions=[Mute(0, who=0)])) == set()
    assert muted(Crowd(5, interventions=[Mute(0, who=1)])) == set("12345")


def test_a_share_is_the_same_at_every_tick_and_in_every_run_of_the_seed_and_another_in_others():
    model = Crowd(40, interventions=[Mute(0, who=0.5)])
    first, later = muted(model), muted(model)
    assert first == later == muted(Crowd(40, interventions=[Mute(3, who=0.1), Mute(0, who=0.5)]))
    assert first != muted(Crowd(40, rng=2, interventions=[Mute(0, who=0.5)]))


def test_a_share_goes_by_each_agents_key_whoever_else_is_there():
    small, large = (muted(Crowd(n, interventions=[Mute(0, who=0.5)])) for n in (20, 40))
    assert small == {key for key in large if int(key) <= 20}


def test_a_smaller_share_is_a_part_of_a_larger_one():
    small, large = (muted(Crowd(60, interventions=[Mute(0, who=share)])) for share in (0.2, 0.6))
    assert small < large


def test_kinds_draw_apart():
    model = Crowd(60, interventions=[Mute(0, who=0.5), Persuade(0, "Hm.", who=0.5)])
    model.step()
    persuaded = {"Hm." in state.text for state in model.crowd.last.states}
    assert persuaded == {True, False}


def test_a_share_is_of_everyone_and_not_of_those_who_are_active():
    quiet = Crowd(60, interventions=[Mute(0, who=0.5)], activation=RandomShare(0.5))
    heard = set.union(*(speakers(quiet) for _ in range(8)))
    assert not heard & muted(Crowd(60, interventions=[Mute(0, who=0.5)]))


# --- Functions -------------------------------------------------------------------------------------


def test_a_function_is_shown_all_who_take_part_active_or_not_and_gives_agents_or_keys():
    shown = []

    def pick(agents):
        shown.append([agent.unique_id for agent in agents])
        return [agents[0], "3"]

    model = Crowd(4, interventions=[Mute(0, who=pick)], activation=lambda agents, *, tick, seed: agents[1:])
    Stone.create_agents(model, 2)
    assert speakers(model) == {"2", "4"}
    assert shown == [[1, 2, 3, 4]]


def test_a_function_is_shown_all_in_each_part_of_a_tick():
    shown = []
    model = Crowd(4, interventions=[Mute(0, who=lambda agents: shown.append(len(agents)) or ["1", "3"])])
    agents = list(model.agents)
    model.crowd.decide(agents[:2])
    model.crowd.decide(agents[2:])
    assert [state.agent for state in model.crowd.update().states] == ["2", "4"]
    assert shown == [4, 4]


class Known(Voter):
    def __init__(self, model, followers):
        super().__init__(model)
        self.followers = followers


def known(*followers, **more):
    model = Crowd(0, **more)
    for count in followers:
        Known(model, count)
    return model


@pytest.mark.parametrize("by", ["followers", lambda agent: agent.followers])
def test_the_most_influential_are_those_with_most_of_something_ties_by_key(by):
    model = known(5, 9, 1, 5, interventions=[Mute(0, who=most_influential(2, by))])
    assert muted(model) == {"1", "2"}


def test_of_fewer_agents_all_are_the_most_influential():
    assert muted(known(5, 9, interventions=[Mute(0, who=most_influential(3, by="followers"))])) == {"1", "2"}


def test_an_influence_that_is_no_number_is_told():
    told = r"^MostInfluential\(n=1, by='fame'\): the influence of Known 1 must be a number, got None$"
    with pytest.raises(ValueError, match=told):
        known(5, interventions=[Mute(0, who=most_influential(1, "fame"))]).step()
    with pytest.raises(ValueError, match=r"^most_influential must choose at least 1 agent, got 0$"):
        most_influential(0, "fame")


def town():
    graph = nx.Graph([(0, 1), (1, 2), (2, 3)])
    nx.set_node_attributes(graph, {0: "north", 1: "north", 2: "south"}, "community")
    return graph


def test_a_community_is_found_by_the_cells_of_a_mesa_network():
    from mesa.discrete_space import CellAgent, Network

    class Resident(CellAgent):
        def __init__(self, model, cell):
            super().__init__(model)
            self.cell = cell

        def observe(self):
            return "I live here."

        def act(self, decision):
            pass

    model = Crowd(0, interventions=[Mute(0, who=community(town(), "north"))])
    network = Network(town(), random=random.Random(1))
    for node in (3, 2, 1, 0):
        Resident(model, network[node])
    assert speakers(model) == {"1", "2"}


@pytest.mark.parametrize("where", ["pos", "key"])
def test_a_community_is_found_by_positions_or_keys(where):
    model = Crowd(4, interventions=[Mute(0, who=community(town(), "north"))])
    for node, agent in enumerate(model.agents):
        setattr(agent, where, node)
    model.step()
    assert [len(agent.done) for agent in model.agents] == [0, 0, 1, 1]


def test_a_community_may_go_by_another_attribute_and_is_a_value():
    graph = town()
    nx.set_node_attributes(graph, {1: 7, 3: 7}, "class")
    one = community(graph, 7, attribute="class")
    assert one == community(graph, 7, attribute="class") != community(graph, "north")
    assert repr(Mute(0, who=one)) == "Mute(at=0, who=Community(name=7, nodes=['1', '3']))"


def test_a_community_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ValueError, match=r"has the community 'east'; there are 'north', 'south'$"):
        community(town(), "east")


@pytest.mark.parametrize("one", [Announce, Replace, Mute, Persuade])
def test_a_function_that_chooses_whom_there_is_not_is_told(one):
    def pick(agents):
        return ["1", "99"]

    given = {Announce: ("Hm.", "x"), Replace: ([None],), Mute: (), Persuade: ("Hm.",)}[one]
    whom = {"reach" if one is Announce else "who": pick}
    told = rf"^{one.__name__}\(at=0, .*pick\): test_\S*pick chose '99', which is no agent of the model$"
    with pytest.raises(ValueError, match=told):
        Crowd(3, interventions=[one(0, *given, **whom)]).step()


def test_a_function_that_chooses_another_models_agent_or_gives_no_agents_is_told():
    strange = next(iter(Crowd(1).agents))
    with pytest.raises(ValueError, match=r"chose <crowds\.Voter .*>, which is no agent of the model$"):
        Crowd(1, interventions=[Mute(0, who=lambda agents: [strange])]).step()
    with pytest.raises(TypeError, match=r"must choose by an iterable of agents, got None$"):
        Crowd(1, interventions=[Mute(0, who=lambda agents: None)]).step()


def test_two_schedulers_of_one_model_draw_apart():
    class Two(mesa.Model):
        def __init__(self):
            super().__init__(rng=1)
            self.crowds = [
                MeanFieldScheduler(
                    self,
                    name=name,
                    policy=RulePolicy(lambda agent, field: 1),
                    summarizer=NoField(),
                    interventions=[Mute(0, who=0.5)],
                )
                for name in ("a", "b")
            ]
            Voter.create_agents(self, 40)

    model = Two()
    heard = [{s.agent for s in crowd.step(model.agents).states} for crowd in model.crowds]
    assert heard[0] != heard[1]
