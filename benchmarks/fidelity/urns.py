"""Invented crowds whose shares tell what comes next: a first lesson in reading the mean field.

    python benchmarks/fidelity/urns.py --out urns.jsonl [--cascades 400] [--concentration 2]

Recorded threads differ little from each other, so that what the field says is worth some hundredths of a nat per
decision, and a short training learns the overall shares alone (docs/LOG.md). Here each thread's shares are drawn from
a Dirichlet distribution around the middle, and its labels from those: a Polya urn. Whoever reads the tally gains
tenths of nats. Every text is made of a few words of ours; nothing is known of the readers but how many follow them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mesa_meanfield.cascades.dimensions import known_labels
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.data import Action, Cascade, Profile, Topic

WHO = ("The ferry company", "The town council", "A night nurse", "The football club", "A bakery", "The school board")
WHAT = ("closes the old bridge", "gives away free tickets", "found a strange letter", "will paint every door blue",
        "lost the keys of the library", "bought a second fire engine", "hides a leak in the cellar")  # fmt: skip
WHEN = ("since this morning", "from Monday on", "says my neighbour", "and nobody was asked", "if the rain stops")
START = datetime(2025, 3, 1, 8, 0, tzinfo=UTC)


def urn(number: int, rng: np.random.Generator, labels: Sequence[str], size: int, concentration: float) -> Cascade:
    """One thread.

    Args:
        number: Names it and its event.
        rng: Where its shares, its labels and its words come from.
        labels: What can be decided.
        size: Actions.
        concentration: The Dirichlet distribution's, over all labels together; small ones give one-sided threads.
    """
    shares = rng.dirichlet([concentration / len(labels)] * len(labels))
    text = f"{rng.choice(WHO)} {rng.choice(WHAT)}, {rng.choice(WHEN)}."
    actions = tuple(
        Action(
            id=f"urn{number}-{i}",
            parent=None,
            time=START + timedelta(minutes=i + 1),
            author=Profile(key=f"urn{number}-u{i}", followers=int(10 ** rng.uniform(0.5, 5))),
            text="",
            labels={"stance": str(rng.choice(labels, p=shares))},
        )
        for i in range(size)
    )
    topic = Topic(Profile(key=f"urn{number}-op"), text, START)
    return Cascade(f"urn{number}", "urns", f"urn{number % 20}", "news", "en", None, topic, actions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cascades", type=int, default=400)
    parser.add_argument("--actions", type=int, default=24, help="of each (default 24)")
    parser.add_argument("--concentration", type=float, default=2.0, help="of the Dirichlet distribution (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    labels, rng = known_labels("stance"), np.random.default_rng(given.seed)
    write_cascades(
        given.out, [urn(n, rng, labels, given.actions, given.concentration) for n in range(given.cascades)]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
