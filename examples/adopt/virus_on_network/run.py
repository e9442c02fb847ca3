"""The flu with and without people who decide. Run: python run.py [BACKEND] (scripted, embedded, ...)."""

import sys
from pathlib import Path

import networkx as nx
from mesa.examples.basic.virus_on_network.agents import State
from mesa.examples.basic.virus_on_network.model import VirusOnNetwork
from model import SEED, CautiousVirus, network_of

sys.path.append(str(Path(__file__).parents[1]))
from side_by_side import BLUE, GREEN, GREY, ORANGE, arguments, both, curves, page, save

TOWN = {"num_nodes": 60, "avg_node_degree": 4, "initial_outbreak_size": 3}
COLOURS = {State.SUSCEPTIBLE: BLUE, State.INFECTED: ORANGE, State.RESISTANT: GREEN}


def original(seed):
    with network_of(seed):
        return VirusOnNetwork(**TOWN, **{SEED: seed})


def draw(panel, model):
    """The network; squares with a rim are at home."""
    places = nx.spring_layout(model.grid.G, seed=1, k=0.35)
    nx.draw_networkx_edges(model.grid.G, places, ax=panel, edge_color="0.85", width=0.7)
    people = {cell.coordinate: one for cell in model.grid.all_cells for one in cell.agents}
    for home in (False, True):
        nodes = [node for node, one in people.items() if getattr(one, "at_home", False) == home]
        nx.draw_networkx_nodes(
            model.grid.G, places, nodes, ax=panel, node_size=55 if home else 45,
            node_color=[COLOURS[people[node].state] for node in nodes],
            node_shape="s" if home else "o", edgecolors="black" if home else "none",
        )  # fmt: skip


if __name__ == "__main__":
    given = arguments(__doc__, ticks=20)
    counted = {"well": "Susceptible", "ill": "Infected", "immune": "Resistant"}
    measures = {
        name: lambda m, c=c: m.datacollector.model_vars[c][-1] / TOWN["num_nodes"] for name, c in counted.items()
    }
    before, after = both(
        original,
        lambda seed: CautiousVirus(given.backend, given.summarizer, rng=seed, **TOWN),
        given,
        measures,
    )
    figure, panels = page(given.backend, "Virus on a network")
    for column, (model, tables) in enumerate((before, after)):
        draw(panels[0, column], model)
        curves(panels[1, column], tables, dict(zip(counted, (BLUE, ORANGE, GREEN), strict=True)))
    at_home = [table.assign(**{"at home": 1 - table["out"]}) for table in after[1]]
    curves(panels[1, 1], at_home, {"at home": "black"}, ls="--")
    panels[1, 0].set_ylabel("share of the people")
    panels[1, 0].set_ylim(0, 1)
    panels[0, 1].set_xlabel("the first seed at the end; squares: at home", color=GREY)
    panels[0, 0].set_xlabel("the first seed at the end", color=GREY)
    save(figure, panels, given)
