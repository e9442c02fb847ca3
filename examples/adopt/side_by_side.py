"""What the run.py of each model here shares: its arguments, the runs, and the picture of before and after."""

import argparse
import time
from collections import Counter
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mesa_meanfield.summarizers import SUMMARIZERS

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "0.45"
BESIDE = ("Mesa's model, as it ships", "Adopted: agents decide under a mean field")


def arguments(doc, ticks, runs=5):
    """What the command line says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("backend", nargs="?", default="scripted", help="scripted (a rule, the default), embedded, http://..., hf:...")
    add("--summarizer", choices=SUMMARIZERS, default="tally", help="who writes the mean field (default tally)")
    add("--ticks", type=int, default=ticks, help=f"default {ticks}")
    add("--runs", type=int, default=runs, help=f"how many seeds, for both models (default {runs})")
    add("--rng", type=int, default=1, help="the first seed (default 1)")
    add("--out", type=Path, default=Path("before_after.png"), help="the picture (default before_after.png)")
    return parser.parse_args()


def run(make, given, measures=None):
    """Run a model once for each seed.

    Args:
        make: A seed -> a model.
        given: The arguments.
        measures: Name -> a function of the model: columns beside those that the model itself collects.

    Returns:
        The model of the first seed at its end, and a table for each seed with a row for each tick from 0 on.
    """
    first, tables = None, []
    for seed in range(given.rng, given.rng + given.runs):
        model = make(seed)
        measured = {name: [of(model)] for name, of in (measures or {}).items()}
        while model.running and model.steps < given.ticks:
            model.step()
            for name, of in (measures or {}).items():
                measured[name].append(of(model))
        table = model.datacollector.get_model_vars_dataframe().assign(**measured)
        tables.append(table.reindex(range(given.ticks + 1)).ffill())  # a model that ended stays as it is
        first = first or model
    return first, tables


def both(original, adopted, given, measures=None):
    """The models and tables of both, with what the adopted ones cost said on the screen."""
    start = time.perf_counter()
    before, after = run(original, given, measures), run(adopted, given, measures)
    crowd = after[0].crowd
    print(f"The mean field at the end of the first of {given.runs} adopted runs:\n{crowd.field.text}\n")
    print("What its agents saw in the last tick, how many of them, and how probable that made each decision:")
    pairs = zip(crowd.last.states, crowd.last.decisions, strict=True)
    seen = Counter((state.text, told(decision.distribution)) for state, decision in pairs)
    for (state, distribution), agents in sorted(seen.items()):
        print(f"  {agents:3}  {state}  {distribution}")
    used = crowd.usage
    print(f"\n{used.calls} questions, {used.tokens_computed} tokens computed, {used.failures} failed in this run;")
    print(f"{time.perf_counter() - start:.0f} s for all runs of both models")
    return before, after


def told(distribution):
    """Probabilities in words; a server may give none."""
    return ", ".join(f"{label} {100 * p:.0f}%" for label, p in (distribution or {}).items())


def page(backend, what):
    """A figure of two columns and two rows, worlds above and curves below, and its panels by row."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, 7.2), layout="constrained")
        panels = figure.subplots(2, 2, height_ratios=(1.25, 1))
    figure.suptitle(f"{what}: the same seeds before and after (decisions by: {backend})", fontsize=11)
    for panel, title in zip(panels[0], BESIDE, strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_color("0.85")
    panels[1, 1].sharey(panels[1, 0])
    return figure, panels


def curves(panel, tables, colours, ls="-"):
    """Each run as a thin line, their mean as a thick one.

    Args:
        panel: Where.
        tables: One for each run.
        colours: Column -> its colour.
        ls: How the lines are drawn.
    """
    for column, colour in colours.items():
        for table in tables if len(tables) > 1 else ():
            panel.plot(table.index, table[column], color=colour, lw=0.6, alpha=0.5, ls=ls)
        mean = sum(table[column] for table in tables) / len(tables)
        panel.plot(mean.index, mean, color=colour, lw=2.2, label=column, ls=ls)
    panel.set(xlabel="tick", xlim=(0, len(tables[0]) - 1))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.spines[["top", "right"]].set_visible(False)


def grid(panel, model, colour_of):
    """The agents of a grid as squares.

    Args:
        panel: Where.
        model: With a grid of two dimensions.
        colour_of: Agent -> colour.
    """
    cells = [cell for cell in model.grid.all_cells if cell.agents]
    width, height = model.grid.dimensions
    for cell in cells:
        x, y = cell.coordinate
        panel.add_patch(Rectangle((x, y), 0.92, 0.92, color=colour_of(cell.agents[0]), lw=0))
    panel.set(xlim=(-0.5, width + 0.5), ylim=(-0.5, height + 0.5), aspect="equal")


def save(figure, panels, given):
    """Write the picture, with one legend for the curves."""
    handles, labels = panels[1, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(given.out, dpi=110)
    print(f"Picture: {given.out}")
