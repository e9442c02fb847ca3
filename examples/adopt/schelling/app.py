"""Schelling's town among residents who decide, in the browser. Run: solara run app.py"""

from mesa.visualization import Slider, make_plot_component
from mesa.visualization.components import AgentPortrayalStyle
from model import DecidedSchelling

from mesa_meanfield.viz import backend_choice, page_of

COLOURS = ("#0072B2", "#E69F00")


def portray(resident):
    return AgentPortrayalStyle(color=COLOURS[resident.type], marker="s" if resident.happy else "^", size=45)


page = page_of(
    DecidedSchelling,
    {
        "backend": backend_choice("scripted", "embedded"),
        "summarizer": {"type": "Select", "label": "Summarizer", "value": "tally", "values": ["tally", "none", "llm"]},
        "deciding": Slider("Share of residents who decide", 1.0, 0.0, 1.0, 0.1),
        "density": Slider("Share of houses with residents", 0.85, 0.5, 0.95, 0.05),
        "width": 14,
        "height": 14,
        "rng": {"type": "InputInt", "label": "Seed", "value": 42},
    },
    name="Schelling's town",
    portrayal=portray,
    legend={"blue": COLOURS[0], "orange": COLOURS[1]},
    components=[make_plot_component({"happy": "#009E73"})],
)
