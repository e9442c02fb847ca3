"""The town in the browser. Run: solara run app.py"""

from hello_crowd import Town

from mesa_meanfield.viz import backend_choice, page_of

page = page_of(
    Town,
    {
        "backend": backend_choice("scripted", "embedded"),
        "citizens": {"type": "SliderInt", "label": "Citizens", "value": 12, "min": 3, "max": 60, "step": 3},
        "rng": {"type": "InputInt", "label": "Seed", "value": 42},
    },
    name="Hello, crowd",
)
