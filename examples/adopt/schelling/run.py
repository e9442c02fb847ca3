"""Schelling's town with and without residents who decide. Run: python run.py [BACKEND] (scripted, embedded, ...)."""

import sys
from pathlib import Path
from statistics import fmean

from agents import alike
from model import DecidedSchelling, mesas, seeded

sys.path.append(str(Path(__file__).parents[1]))
from side_by_side import BLUE, GREEN, GREY, ORANGE, PINK, arguments, both, curves, grid, page, save

TOWN = {"width": 14, "height": 14, "density": 0.85}


def alike_on_average(model):
    return fmean(share for agent in model.agents if (share := alike(agent)) is not None)


if __name__ == "__main__":
    given = arguments(__doc__, ticks=20)
    before, after = both(
        lambda seed: mesas.Schelling(**seeded(seed, **TOWN)),
        lambda seed: DecidedSchelling(given.backend, given.summarizer, rng=seed, **TOWN),
        given,
        {"neighbours who are alike": alike_on_average, "happy by Mesa's rule": lambda m: m.happy / len(m.agents)},
    )
    figure, panels = page(given.backend, "Schelling's town")
    colours = {"neighbours who are alike": PINK, "happy by Mesa's rule": GREEN}
    for column, (model, tables) in enumerate((before, after)):
        grid(panels[0, column], model, lambda agent: (BLUE, ORANGE)[agent.type])
        curves(panels[1, column], tables, colours)
        panels[0, column].set_xlabel("the first seed at the end", color=GREY)
    moving = [table.rename(columns={"moving": "decide to move"}) for table in after[1]]
    curves(panels[1, 1], moving, {"decide to move": "black"}, ls="--")
    panels[1, 0].set_ylabel("share")
    panels[1, 0].set_ylim(0, 1.02)
    save(figure, panels, given)
