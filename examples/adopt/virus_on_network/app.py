"""The flu among people who decide, in the browser. Run: solara run app.py"""

from mesa.examples.basic.virus_on_network.agents import State
from mesa.visualization import Slider, make_plot_component
from mesa.visualization.components import AgentPortrayalStyle
from model import CautiousVirus

from mesa_meanfield.viz import backend_choice, page_of

COLOURS = {State.SUSCEPTIBLE: "#0072B2", State.INFECTED: "#D55E00", State.RESISTANT: "#009E73"}


def portray(person):
    at_home = getattr(person, "at_home", False)
    return AgentPortrayalStyle(color=COLOURS[person.state], marker="s" if at_home else "o", size=70)


page = page_of(
    CautiousVirus,
    {
        "backend": backend_choice("scripted", "embedded"),
        "summarizer": {"type": "Select", "label": "Summarizer", "value": "tally", "values": ["tally", "none", "llm"]},
        "deciding": Slider("Share of people who decide", 1.0, 0.0, 1.0, 0.1),
        "num_nodes": Slider("People", 60, 20, 150, 10),
        "avg_node_degree": 4,
        "initial_outbreak_size": 3,
        "rng": {"type": "InputInt", "label": "Seed", "value": 42},
    },
    name="A flu in town",
    portrayal=portray,
    legend={"well": "#0072B2", "ill": "#D55E00", "immune": "#009E73"},
    components=[make_plot_component({"Susceptible": "#0072B2", "Infected": "#D55E00", "Resistant": "#009E73"})],
)
