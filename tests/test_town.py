"""A town: its people, its network, its rule-based part, and how it runs in Mesa."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections import Counter
from itertools import product

import mesa
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from towns import STORY, Asked, story

from mesa_meanfield import BatchingBackend, ScriptedBackend, run_replicas
from mesa_meanfield.backends import kept
from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.errors import BackendError
from mesa_meanfield_models.town import NETWORKS, SCENARIOS, SEE, Citizen, Follower, Town, positions, town_of
from mesa_meanfield_models.town.agents import follow
from mesa_meanfield_models.town.network import social_network
from mesa_meanfield_models.town.personas import Community, Trait, Value, draw_persona, sizes

PEOPLE = ["North"] * 30 + ["South"] * 20


def run(town: Town) -> Town:
    while town.running:
        town.step()
    return town


def labels(town: Town) -> dict[str, str]:
    return {s.agent: d.labels[town.story.choice.dimension] for s, d in town.crowd.last.valid}


# --- The stories that are shipped -----------------------------------------------------------------------


def test_there_is_a_story_for_each_domain():
    assert SCENARIOS == ("crime", "culture", "health", "news", "politics", "sports", "technology")


@pytest.mark.parametrize(("name", "see"), list(product(SCENARIOS, SEE)))
def test_each_story_runs_to_its_end_in_each_way(name, see):
    town = run(Town(name, see=see, citizens=24, network="communities"))
    assert town.crowd.tick == town.story.ticks == len(town.datacollector.get_model_vars_dataframe())
    assert town.story.domain == name
    assert {a.community for a in town.agents} == {one.name for one in town.story.communities}
    citizens = town.agents_by_type[Citizen]
    assert all(agent.label in town.story.choice.options for agent in citizens)
    assert all(bool(a.decision.text) == (a.label not in town.story.silent) for a in citizens)
    assert town.crowd.usage.failures == 0
    assert len(town.agents_by_type[Follower]) == round(24 * town.story.rules) > 0


# --- People ----------------------------------------------------------------------------------------------


def test_people_are_drawn_by_the_weights_of_their_community():
    age = Trait("age", (Value("young", 3), Value("old", 1)))
    rng = np.random.default_rng(1)
    plain, grey = Community("plain"), Community("grey", weights={"age": {"young": 1}})
    young = [
        [draw_persona([age], one, rng).traits["age"] for _ in range(4000)].count("young") for one in (plain, grey)
    ]
    assert young == pytest.approx([3000, 2000], abs=4 * 32)  # four standard deviations of 4000 draws


def test_a_value_goes_only_with_what_it_fits():
    age = Trait("age", (Value("young", 1, "You are young."), Value("old", 1, "You are old.")))
    work = Trait("work", (Value("school", 1, "You go to school.", {"age": ("young",)}), Value("none", 1)))
    rng = np.random.default_rng(1)
    texts = Counter(draw_persona([age, work], Community("here", says="You live here."), rng).text for _ in range(400))
    assert set(texts) == {
        "You live here. You are young. You go to school.",
        "You live here. You are young.",
        "You live here. You are old.",
    }
    assert texts["You live here. You are old."] == pytest.approx(200, abs=40)


def test_communities_get_their_shares_of_the_people():
    three = [Community("a", 45), Community("b", 30), Community("c", 25)]
    assert sizes(three, 60) == [27, 18, 15]
    assert sizes(three, 10) == [5, 3, 2]  # 4.5, 3 and 2.5: of equal remainders the first gets it
    assert sizes(three, 1) == [1, 0, 0]


def test_the_same_people_live_in_every_network_and_way_of_seeing(tmp_path):
    one = story(tmp_path)

    def people(**given):
        return [(a.persona, a.community, a.name, type(a)) for a in Town(one, rules=0.3, citizens=20, **given).agents]

    first = people()
    assert all(people(see=see, network=network) == first for see, network in product(SEE, NETWORKS))
    assert people(rng=43) != first


def test_the_language_model_is_not_told_names():
    backend = Asked()
    town = Town("health", backend, citizens=12, rng=1)
    town.step()
    assert len({agent.name for agent in town.agents}) == 12
    assert not any(a.name in r.prefix + r.suffix for a in town.agents for r in backend.choices)


# --- The network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_has_a_node_for_each_person_in_order(kind):
    graph = social_network(kind, PEOPLE, 1)
    assert list(graph) == list(range(50))
    assert [community for _, community in graph.nodes(data="community")] == PEOPLE
    assert sum(degree for _, degree in graph.degree) / 50 == pytest.approx(6, abs=1)
    assert nx.utils.graphs_equal(graph, social_network(kind, PEOPLE, 1))
    assert not nx.utils.graphs_equal(graph, social_network(kind, PEOPLE, 2))


def inside(kind: str) -> float:
    """The share of ties within a community."""
    graph = social_network(kind, PEOPLE, 1)
    return sum(PEOPLE[a] == PEOPLE[b] for a, b in graph.edges) / graph.number_of_edges()


def test_networks_follow_communities_more_or_less():
    assert inside("communities") == pytest.approx(0.8, abs=0.1)
    assert inside("small-world") > 0.8
    assert inside("scale-free") == pytest.approx(0.5, abs=0.1)  # 30 and 20 people: by chance .51


def test_in_a_scale_free_network_few_know_many():
    most = {kind: max(degree for _, degree in social_network(kind, PEOPLE, 1).degree) for kind in NETWORKS}
    assert most["scale-free"] >= 15 > most["small-world"]


@pytest.mark.parametrize(("kind", "n"), list(product(NETWORKS, (2, 3, 7))))
def test_the_smallest_towns_have_a_network(kind, n):
    town = Town(network=kind, citizens=n, see="neighbours")
    town.step()
    assert town.grid.G.number_of_nodes() == n == len(town.agents)


def test_everyone_lives_in_a_cell_of_its_own():
    town = Town(citizens=20)
    assert [agent.cell.coordinate for agent in town.agents] == list(range(20))
    for agent in town.agents:
        assert {a.cell.coordinate for a in agent.neighbours()} == set(town.grid.G[agent.cell.coordinate])
        assert agent.friends == town.grid.G.degree[agent.cell.coordinate]


@pytest.mark.parametrize("kind", NETWORKS)
def test_nodes_are_drawn_apart_from_each_other_and_always_at_the_same_place(kind):
    town = Town(network=kind, citizens=200)
    places = positions(town.grid.G, seed=0)
    assert list(places) == list(range(200))
    points = np.array(list(places.values()))
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(200)
    assert distances.min() > 0.01
    for cell in town.grid.all_cells:  # Mesa 3.5 keeps them; without them it would lay the network out by itself
        if (position := getattr(cell, "position", None)) is not None:
            assert tuple(position) == places[cell.coordinate]


# --- Rule-based people -----------------------------------------------------------------------------------


def three(tmp_path, see):
    """Two citizens and a follower with threshold .5, all of whom know each other; nobody has decided yet."""
    town = Town(story(tmp_path), see=see, citizens=3, rules=1 / 3, rng=3)
    (follower,), citizens = town.agents_by_type[Follower], list(town.agents_by_type[Citizen])
    assert len(follower.neighbours()) == 2
    return town, follower, citizens


def decide(agent, label):
    agent.act(Decision(labels={"view": label}))


def test_a_follower_does_nothing_before_it_saw_anything(tmp_path):
    for see in SEE:
        town, follower, _ = three(tmp_path, see)
        town.step()
        assert follower.decision is None
        assert town.crowd.field.size == 2
        town.step()
        assert town.crowd.field.size == 2 + 2 + (follower.decision is not None)


def test_a_follower_does_what_enough_neighbours_do(tmp_path):
    _, follower, (a, b) = three(tmp_path, "neighbours")
    decide(a, "bad")
    assert follow(follower, MeanField()) == "bad"  # one of one
    decide(b, "good")
    assert follow(follower, MeanField()) == "good"  # a tie at .5: the first label
    decide(follower, "bad")
    assert follow(follower, MeanField()) == "bad"  # a tie: its own
    decide(a, "good")
    assert follow(follower, MeanField()) == "good"
    follower.threshold = 1.01
    assert follow(follower, MeanField()) == "bad"  # it stays with what it did


def test_a_follower_sees_the_town_or_its_community_as_the_others_do(tmp_path):
    def field(good, bad):
        return MeanField(latest_counts={"view": {"good": good, "bad": bad}})

    _, follower, _ = three(tmp_path, "global")
    assert follow(follower, field(1, 3)) == "bad"
    town, follower, _ = three(tmp_path, "community")
    town.crowd.fields[follower.community] = field(3, 1)
    assert follow(follower, field(1, 3)) == "good"


def test_rule_based_and_language_model_people_count_alike_in_the_field():
    likely = ScriptedBackend(probability=lambda request, letter: 9.0 if letter == "A" else 1.0)
    town = Town(backend=likely, citizens=20, rules=0.5)
    town.step()
    town.step()
    assert {type(agent) for agent in town.agents} == {Citizen, Follower}
    counted = Counter(labels(town).values())
    assert +Counter(town.crowd.field.latest_counts["spray"]) == counted
    followed = [agent for agent in town.agents_by_type[Follower] if agent.label is not None]
    assert {agent.label for agent in followed} == {"wait"}
    assert all(str(agent.unique_id) in labels(town) for agent in followed)


def test_a_town_can_be_without_rule_based_people_or_of_them_alone():
    assert {type(a) for a in Town(citizens=6, rules=0).agents} == {Citizen}
    town = Town(citizens=6, rules=1)
    town.step()
    assert town.crowd.usage.calls == 0


# --- In Mesa ---------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_town_again_and_may_be_text():
    first = labels(run(Town(citizens=20, rng=5)))
    assert labels(run(Town(citizens=20, rng="5"))) == first
    assert labels(run(Town(citizens=20, rng=6))) != first


def test_what_is_collected_are_the_last_ticks_shares_the_field_the_cost_and_failures():
    town = Town(citizens=20)
    town.step()
    town.step()
    row = town.datacollector.get_model_vars_dataframe().iloc[-1]
    said = Counter(labels(town).values())
    for label in town.story.choice.options:
        assert row[label] == pytest.approx(said[label] / said.total())
    assert row["field"] == town.crowd.field.text != ""
    assert row["calls"] == town.crowd.usage.calls > 0
    assert row["failures"] == 0


def test_without_texts_only_labels_are_asked_for():
    backend = Asked()
    town = Town(backend=backend, citizens=10, texts=False)
    town.step()
    assert len(backend.choices) == len(town.agents_by_type[Citizen])
    assert backend.texts == []


def test_a_reply_that_cannot_be_read_is_counted_and_is_no_decision():
    town = Town(backend=ScriptedBackend(reply=lambda request: "  "), citizens=10, rules=0)
    town.step()
    quiet = [agent for agent in town.agents if agent.decision is not None]
    assert all(agent.label == "shrug" for agent in quiet)  # the label that needs no text
    assert town.crowd.usage.failures == 10 - len(quiet) > 0
    assert town.datacollector.get_model_vars_dataframe()["failures"].tolist() == [10 - len(quiet)]


def test_people_may_leave(tmp_path):
    town = Town(story(tmp_path), Asked(), see="neighbours", citizens=8, network="communities", rng=2)
    town.step()
    gone = next(agent for agent in town.agents if agent.friends > 1)
    friends, post = gone.neighbours(), gone.decision.text
    assert all(post in friend.observe() for friend in friends)
    gone.remove()
    assert not any(post in friend.observe() for friend in friends)
    town.step()
    assert len(town.crowd.last.states) == 7


@pytest.mark.parametrize("see", SEE)
def test_a_town_is_forgotten_when_nobody_lives_there(see):
    town = Town(citizens=10, see=see)
    for _ in range(3):
        town.step()
    seen = weakref.ref(town)
    town.remove_all_agents()
    getattr(mesa.Agent, "_ids", {}).pop(town, None)  # Mesa 3.3 itself keeps every model that ever had an agent
    del town
    gc.collect()
    assert seen() is None


def batch_run(processes: int) -> pd.DataFrame:
    parameters = {"story": "sports", "see": list(SEE), "citizens": 12, "network": "scale-free"}
    by_name = "rng" in inspect.signature(mesa.batch_run).parameters
    given = {"parameters": parameters, "rng": [5, 6]} if by_name else {"parameters": {**parameters, "rng": [5, 6]}}
    rows = mesa.batch_run(Town, **given, number_processes=processes, data_collection_period=1, display_progress=False)
    return pd.DataFrame(rows).sort_values(["see", "rng", "Step"], ignore_index=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_towns_run_under_batch_run(processes):
    frame = batch_run(processes)
    assert len(frame) == 3 * 2 * 8
    shares = frame[["protest", "support", "bargain", "quiet"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    alone = run(Town("sports", see="global", citizens=12, network="scale-free", rng=5))
    found = frame.query("see == 'global' and rng == 5")["protest"].tolist()
    assert found == alone.datacollector.get_model_vars_dataframe()["protest"].tolist()


def test_replicas_are_made_by_their_seed_and_share_batches():
    backend = BatchingBackend(ScriptedBackend())
    made = run_replicas(lambda seed: town_of(seed, backend=backend, citizens=8, texts=False), 2, 3, seed=1)
    assert [len(one.ticks) for one in made.runs] == [3, 3]
    assert made.runs[0].share("take") != made.runs[1].share("take")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"see": "nobody"}, "see must be one of global, community, neighbours, got 'nobody'"),
        ({"network": "grid"}, "network must be one of small-world, scale-free, communities, got 'grid'"),
        ({"summarizer": "poet"}, "summarizer must be one of llm, tally, none, recent, popular, got 'poet'"),
        ({"citizens": 1}, "needs at least 2 people, got 1"),
        ({"rules": 1.5}, "rules is a share from 0 to 1, got 1.5"),
        ({"shown": 0}, "got shown=0"),
        ({"rng": "five"}, "rng must be a whole number, got 'five'"),
    ],
)
def test_an_argument_out_of_its_range_is_told(given, said):
    with pytest.raises(ValueError, match=said):
        Town(**given)


# --- Models that are kept --------------------------------------------------------------------------------


def test_a_local_model_is_loaded_once_in_a_process(monkeypatch):
    loaded = []

    def load(spec):
        if spec == "hf:gone":
            raise BackendError("gone")
        loaded.append(spec)
        return ScriptedBackend(name=spec)

    monkeypatch.setattr(kept, "load_backend", load)
    kept._local.cache_clear()
    try:
        assert kept_backend("hf:here") is kept_backend("hf:here")
        assert kept_backend("hf:other") is not kept_backend("hf:here")
        assert kept_backend("scripted") is not kept_backend("scripted")
        assert loaded == ["hf:here", "hf:other", "scripted", "scripted"]
        for _ in range(2):
            with pytest.raises(BackendError, match="gone"):
                kept_backend("hf:gone")
        own = ScriptedBackend()
        assert kept_backend(own) is own
    finally:
        kept._local.cache_clear()


def test_a_story_of_ones_own_is_loaded_by_its_path(tmp_path):
    one = story(tmp_path, STORY.replace("The bridge is closed.", "The bridge is open."))
    backend = Asked()
    town = run(Town(str(tmp_path / "bridge.toml"), backend, citizens=6))
    assert town.story == one
    assert town.crowd.tick == 4
    assert all("The bridge is open." in request.prefix for request in backend.choices)
