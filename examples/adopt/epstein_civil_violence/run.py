"""Epstein's country with and without citizens who decide. Run: python run.py [BACKEND] (scripted, embedded, ...)."""

import sys
from pathlib import Path

from mesa.examples.advanced.epstein_civil_violence.agents import CitizenState, Cop
from model import DecidedViolence, mesas, seeded

sys.path.append(str(Path(__file__).parents[1]))
from side_by_side import BLUE, GREY, ORANGE, arguments, both, curves, grid, page, save

COUNTRY = {"width": 14, "height": 14, "legitimacy": 0.6, "citizen_vision": 3, "cop_vision": 3, "max_jail_term": 8}
COLOURS = {CitizenState.ACTIVE: ORANGE, CitizenState.QUIET: BLUE, CitizenState.ARRESTED: "0.7"}
SHARES = {"active": ORANGE, "quiet": BLUE, "arrested": "0.6"}


def shares(table):
    """Of all citizens."""
    return table.assign(**{name: table[name] / table[list(SHARES)].sum(axis=1) for name in SHARES})


if __name__ == "__main__":
    given = arguments(__doc__, ticks=25)
    before, after = both(
        lambda seed: mesas.EpsteinCivilViolence(**seeded(seed, **COUNTRY)),
        lambda seed: DecidedViolence(given.backend, given.summarizer, rng=seed, **COUNTRY),
        given,
    )
    figure, panels = page(given.backend, "Epstein's civil violence")
    for column, (model, tables) in enumerate((before, after)):
        grid(panels[0, column], model, lambda one: "black" if isinstance(one, Cop) else COLOURS[one.state])
        curves(panels[1, column], [shares(table) for table in tables], SHARES)
        panels[0, column].set_xlabel("the first seed at the end; black: cops", color=GREY)
    protesting = [table.rename(columns={"protesting": "decide to protest"}) for table in after[1]]
    curves(panels[1, 1], protesting, {"decide to protest": "black"}, ls="--")
    panels[1, 0].set_ylabel("share of the citizens")
    panels[1, 0].set_ylim(0, 1)
    save(figure, panels, given)
