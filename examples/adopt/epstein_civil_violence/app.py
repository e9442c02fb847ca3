"""Epstein's civil violence among citizens who decide, in the browser. Run: solara run app.py"""

from mesa.examples.advanced.epstein_civil_violence.agents import CitizenState, Cop
from mesa.visualization import Slider, make_plot_component
from mesa.visualization.components import AgentPortrayalStyle
from model import DecidedViolence

from mesa_meanfield.viz import backend_choice, page_of

COLOURS = {CitizenState.ACTIVE: "#D55E00", CitizenState.QUIET: "#56B4E9", CitizenState.ARRESTED: "#8C564B"}


def portray(agent):
    colour = "#000000" if isinstance(agent, Cop) else COLOURS[agent.state]
    return AgentPortrayalStyle(color=colour, marker="s", size=40)


page = page_of(
    DecidedViolence,
    {
        "backend": backend_choice("scripted", "embedded"),
        "summarizer": {"type": "Select", "label": "Summarizer", "value": "tally", "values": ["tally", "none", "llm"]},
        "deciding": Slider("Share of citizens who decide", 1.0, 0.0, 1.0, 0.1),
        "legitimacy": Slider("Acceptance of the government", 0.8, 0.0, 1.0, 0.1),
        "width": 16,
        "height": 16,
        "rng": {"type": "InputInt", "label": "Seed", "value": 42},
    },
    name="Civil violence",
    portrayal=portray,
    legend={"protests": "#D55E00", "quiet": "#56B4E9", "in jail": "#8C564B", "police": "#000000"},
    components=[make_plot_component({"active": "#D55E00", "quiet": "#56B4E9", "arrested": "#8C564B"})],
)
