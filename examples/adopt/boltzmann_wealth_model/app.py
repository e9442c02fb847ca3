"""Boltzmann's economy among people who decide, in the browser. Run: solara run app.py"""

from mesa.visualization import Slider, make_plot_component
from model import DecidedWealth

from mesa_meanfield.viz import backend_choice, page_of

page = page_of(
    DecidedWealth,
    {
        "backend": backend_choice("scripted", "embedded"),
        "summarizer": {"type": "Select", "label": "Summarizer", "value": "tally", "values": ["tally", "none", "llm"]},
        "deciding": Slider("Share of people who decide", 1.0, 0.0, 1.0, 0.1),
        "n": Slider("People", 80, 10, 200, 10),
        "width": 6,
        "height": 6,
        "rng": {"type": "InputInt", "label": "Seed", "value": 42},
    },
    name="Boltzmann's economy",
    components=[make_plot_component({"Gini": "#0072B2"})],
)
