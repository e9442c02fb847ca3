"""`adopt`: agents that a model made itself take part, and are otherwise as they were."""

from __future__ import annotations

import mesa
import pytest
from crowds import Crowd, Voter
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid

from mesa_meanfield import MeanFieldAgent, adopt


class Walker(CellAgent):
    """As models make them: with arguments of its own, in a cell."""

    def __init__(self, model, cell, name="W"):
        super().__init__(model)
        self.cell = cell
        self.name = name


class Thinker(MeanFieldAgent, Walker):
    """A walker that takes part."""

    def observe(self):
        return f"You are {self.name}."


class Street(Crowd):
    """Four walkers in a row of cells, made as a model does that knows nothing of thinkers."""

    def __init__(self):
        super().__init__(0)
        self.grid = OrthogonalMooreGrid((4, 1), random=self.random)
        Walker.create_agents(self, 4, list(self.grid.all_cells), list("abcd"))


def test_adopted_agents_keep_their_number_attributes_cell_and_place_in_the_order():
    street = Street()
    before = [(id(a), a.unique_id, a.name, a.cell.coordinate) for a in street.agents]
    chance = street.random.getstate()
    adopted = adopt(street.agents.select(lambda a: a.name in "bd"), Thinker)
    assert [(id(a), a.unique_id, a.name, a.cell.coordinate) for a in street.agents] == before
    assert [type(a) for a in street.agents] == [Walker, Thinker, Walker, Thinker]
    assert [a.name for a in adopted] == ["b", "d"]
    assert street.random.getstate() == chance


def test_mesa_knows_adopted_agents_by_their_new_class():
    street = Street()
    adopt([a for a in street.agents if a.name == "c"], Thinker)
    assert {kind.__name__: [a.name for a in found] for kind, found in street.agents_by_type.items()} == {
        "Walker": ["a", "b", "d"],
        "Thinker": ["c"],
    }
    assert [a.name for a in street.agents.select(agent_type=Thinker)] == ["c"]


def test_agents_made_after_an_adoption_have_numbers_of_their_own():
    street = Street()
    adopt(street.agents, Thinker)
    Walker(street, None)
    numbers = [a.unique_id for a in street.agents]
    assert len(set(numbers)) == 5
    assert numbers[:4] == [1, 2, 3, 4]


def test_only_adopted_agents_decide_and_they_remember_it():
    street = Street()
    (thinker,) = adopt([a for a in street.agents if a.name == "b"], Thinker)
    street.step()
    assert [s.text for s in street.crowd.last.states] == ["You are b."]
    assert thinker.decision is street.crowd.last.decisions[0]
    for _ in range(4):
        street.step()
    assert len(thinker.memory) == 3


def test_an_adopted_agent_can_be_removed():
    street = Street()
    (thinker,) = adopt([a for a in street.agents if a.name == "a"], Thinker)
    cell = thinker.cell
    thinker.remove()
    assert [a.name for a in street.agents] == ["b", "c", "d"]
    assert list(cell.agents) == []
    street.remove_all_agents()
    assert len(street.agents) == 0


def test_agents_of_several_models_are_adopted_each_in_its_own():
    one, other = Street(), Street()
    adopt([*one.agents, *other.agents], Thinker)
    for street in (one, other):
        assert [type(a) for a in street.agents] == [Thinker] * 4
        assert all(a.model is street for a in street.agents)


def test_a_class_that_is_no_subclass_is_refused_before_anything_changes():
    street = Street()
    stranger = Voter(street)
    with pytest.raises(TypeError, match=r"^Voter 5 cannot become a Thinker: that must be a subclass of its class$"):
        adopt([*street.agents.select(agent_type=Walker), stranger], Thinker)
    assert [type(a) for a in street.agents] == [Walker] * 4 + [Voter]


def test_an_agent_that_was_removed_is_refused():
    street = Street()
    gone = next(iter(street.agents))
    gone.remove()
    with pytest.raises(ValueError, match=r"^Walker 1 cannot become a Thinker: it was removed from its model$"):
        adopt([gone], Thinker)


def test_a_mean_field_agent_stands_before_another_class_and_passes_its_arguments_on():
    street = Street()
    (thinker,) = Thinker.create_agents(street, 1, next(iter(street.grid.all_cells)), name="e", memory=1)
    assert thinker.name == "e"
    assert thinker.cell.coordinate == (0, 0)
    street.step()
    street.step()
    assert len(thinker.memory) == 1


def test_agents_of_one_class_do_not_share_their_memory():
    street = Street()
    first, second = adopt([a for a in street.agents if a.name in "ab"], Thinker)
    street.crowd.step([first])
    assert (len(first.memory), len(second.memory)) == (1, 0)


def test_an_adopted_agent_is_still_mesas():
    street = Street()
    (thinker,) = adopt([a for a in street.agents if a.name == "a"], Thinker)
    assert isinstance(thinker, mesa.Agent)
    thinker.move_to(list(street.grid.all_cells)[3])
    assert thinker.cell.coordinate == (3, 0)
