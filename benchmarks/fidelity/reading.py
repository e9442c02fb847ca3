"""Does a policy read the mean field? Its probabilities against what the shares that it sees would tell.

    python benchmarks/fidelity/reading.py --data FILE.jsonl --event EVENT [--adapter PATH] [--ticks 40]

On recorded ticks of an event, behind the exact shares of what came before: the correlation between log P of a label
and the log of its share so far, drawn to the prior of all other events as shrunk persistence draws it. Who does not
read has 0; shrunk persistence itself has slope 1. NLL per decision stands beside that of these two rivals.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from mesa_meanfield import load_backend
from mesa_meanfield.cascades.dimensions import counts_of, known_labels
from mesa_meanfield.cascades.jsonl import read_cascades
from mesa_meanfield.cli.output import print_table
from mesa_meanfield.ibtune.calibration import score_items
from mesa_meanfield.ibtune.items import Item, Recipe, items_of, split
from mesa_meanfield.prompts import LANGUAGES
from mesa_meanfield.summarizers import TallySummarizer

WARM_UP, LEAST, STRENGTH, AGENTS = 0.3, 15, 16.0, 2
Rows = npt.NDArray[np.float64]


def short(item: Item) -> Item:
    """The tick with its first agents only: others see the same field."""
    states, decisions = zip(*item.taught[:AGENTS], strict=True)
    return replace(item, tick=replace(item.tick, states=states, decisions=decisions))


def main(arguments: Sequence[str] | None = None) -> int:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--event", required=True, help="which it must not have been trained on")
    parser.add_argument("--adapter", type=Path, help="a policy's; without it the bare model")
    parser.add_argument("--backend", default="embedded")
    parser.add_argument("--ticks", type=int, default=40, help="drawn by the seed (default 40)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    labels = known_labels("stance")
    others, own = split(read_cascades(given.data), {given.event})
    known = counts_of([action for one in others for action in one.actions], "stance", labels)
    prior = (np.array(list(known.values())) + 0.5) / (sum(known.values()) + 0.5 * len(known))  # (K,)
    field = {language: TallySummarizer() for language in LANGUAGES}
    recipe = Recipe("stance", labels, warm_up=(WARM_UP, WARM_UP))
    items = items_of([one for one in own if len(one.actions) >= LEAST], recipe, field)
    random.Random(given.seed).shuffle(items)  # noqa: S311 - no secret
    items = [short(one) for one in items[: given.ticks]]
    backend = load_backend(given.backend)
    (scored,) = score_items(backend if given.adapter is None else backend.adapted(given.adapter), items)
    said: Rows = log_softmax(scored.log_probabilities, axis=1)  # (N, K)
    seen = np.array([[i.field.counts["stance"][label] for label in labels] for i in items for _ in i.taught])
    drawn: Rows = np.log((seen + STRENGTH * prior) / (seen.sum(axis=1, keepdims=True) + STRENGTH))

    def nll(rows: Rows) -> float:
        return float(-rows[np.arange(len(rows)), scored.answers].mean())

    rows = []
    for k, label in enumerate(labels):
        reads = np.ptp(said[:, k]) > 0 and np.ptp(drawn[:, k]) > 0
        correlation = np.corrcoef(said[:, k], drawn[:, k])[0, 1] if reads else 0.0
        slope = np.polyfit(drawn[:, k], said[:, k], 1)[0] if reads else 0.0
        figures = (correlation, slope, np.exp(said[:, k]).mean(), prior[k], (scored.answers == k).mean())
        rows.append([label, *(f"{figure:.2f}" for figure in figures)])
    print_table(f"{given.event}, {given.adapter or 'bare model'}",
                ["", "correlation", "slope", "mean P", "prior", "real"], rows)  # fmt: skip
    print(
        f"NLL of {len(said)} decisions: {nll(said):.3f}; prior {nll(np.tile(np.log(prior), (len(said), 1))):.3f}, "
        f"shrunk persistence {nll(drawn):.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
