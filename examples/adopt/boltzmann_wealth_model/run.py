"""Boltzmann's economy with and without people who decide. Run: python run.py [BACKEND] (scripted, embedded, ...)."""

import sys
from collections import Counter
from pathlib import Path

from matplotlib.ticker import MaxNLocator
from model import DecidedWealth, mesas, seeded

sys.path.append(str(Path(__file__).parents[1]))
from side_by_side import BLUE, GREY, ORANGE, arguments, both, curves, page, save

TOWN = {"n": 80, "width": 6, "height": 6}


def draw(panel, model):
    """How many people have how many coins."""
    people = Counter(agent.wealth for agent in model.agents)
    panel.bar(list(people), list(people.values()), color=BLUE, width=0.8)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("coins, the first seed at the end", color=GREY)


if __name__ == "__main__":
    given = arguments(__doc__, ticks=40)
    before, after = both(
        lambda seed: mesas.BoltzmannWealth(**seeded(seed, **TOWN)),
        lambda seed: DecidedWealth(given.backend, given.summarizer, rng=seed, **TOWN),
        given,
    )
    figure, panels = page(given.backend, "Boltzmann's economy")
    panels[0, 1].sharex(panels[0, 0])
    panels[0, 1].sharey(panels[0, 0])
    for column, (model, tables) in enumerate((before, after)):
        draw(panels[0, column], model)
        named = [table.rename(columns={"Gini": "inequality (Gini)"}) for table in tables]
        curves(panels[1, column], named, {"inequality (Gini)": ORANGE})
    panels[0, 0].set_ylabel("people")
    giving = [table.rename(columns={"giving": "decide to give"}) for table in after[1]]
    curves(panels[1, 1], giving, {"decide to give": "black"}, ls="--")
    panels[1, 0].set_ylim(0, 1)
    save(figure, panels, given)
