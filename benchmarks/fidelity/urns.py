"""Invented crowds whose shares tell what comes next: a first lesson in reading the mean field.

    python benchmarks/fidelity/urns.py --out urns.jsonl [--cascades 400] [--concentration 2]
    python benchmarks/fidelity/urns.py --like FILE --times 2 --concentration 12 --not-like EVENTS --out mixed.jsonl

Recorded threads differ little from each other, so that what the field says is worth some hundredths of a nat per
decision, and a short training learns the overall shares alone (docs/LOG.md). Here each thread's shares are drawn from
a Dirichlet distribution around the middle, and its labels from those: a Polya urn. Whoever reads the tally gains
tenths of nats. Every text is made of a few words of ours; nothing is known of the readers but how many follow them.

With ``--like`` the recorded cascades of a file are kept and stand there again, ``--times`` each, with labels drawn
anew: each copy's shares from a Dirichlet distribution around those of the file. What topics and readers seem to tell
in so few threads is then contradicted by the copies; what the shares tell is not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mesa_meanfield.cascades.dimensions import known_labels
from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
from mesa_meanfield.data import Action, Cascade, Profile, Topic, event_of, normalise

WHO = ("The ferry company", "The town council", "A night nurse", "The football club", "A bakery", "The school board")
WHAT = ("closes the old bridge", "gives away free tickets", "found a strange letter", "will paint every door blue",
        "lost the keys of the library", "bought a second fire engine", "hides a leak in the cellar")  # fmt: skip
WHEN = ("since this morning", "from Monday on", "says my neighbour", "and nobody was asked", "if the rain stops")
CONCENTRATION = 12.0
"""Of the shares of copies with labels drawn anew; about as recorded threads differ."""
LESSON = ("--batch", "4", "--learning-rate", "1e-3", "--steps", "120", "--every", "60", "--warm-up", "0", "0.3",
          "--held-out", "urn0", "--roll-outs", "0")  # fmt: skip
"""How a policy learns to read invented crowds: options of ``mesa-meanfield tune``."""
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


def redrawn(cascade: Cascade, number: int, rng: np.random.Generator, shares: Mapping[str, float]) -> Cascade:
    """A recorded cascade with other labels and without its texts.

    Args:
        cascade: The record.
        number: Of the copy; part of its name and of its actions' names.
        rng: Where the labels come from.
        shares: Label -> the Dirichlet distribution's concentration for it.
    """
    of = rng.dirichlet(list(shares.values()))
    labels = rng.choice(list(shares), size=len(cascade.actions), p=of)
    return replace(
        cascade,
        id=f"{cascade.id}-again{number}",
        actions=tuple(
            replace(action, id=f"{action.id}-again{number}", parent=None, text="", labels={"stance": str(label)})
            for action, label in zip(cascade.actions, labels, strict=True)
        ),
    )


def with_copies(
    recorded: Sequence[Cascade],
    rng: np.random.Generator,
    *,
    times: int,
    concentration: float,
    not_like: Collection[str] = (),
) -> list[Cascade]:
    """Recorded cascades and behind them copies with stances drawn anew, around the shares of all that are copied.

    Args:
        recorded: All cascades; they stay as they are.
        rng: Where the copies' labels come from.
        times: Copies of each.
        concentration: The Dirichlet distribution's, over all labels together.
        not_like: Events that are not copied, such as those held out.
    """
    cascades = [one for one in recorded if event_of(one) not in not_like]
    counts = Counter(dict.fromkeys(known_labels("stance"), 0))
    counts.update(label for one in cascades for a in one.actions if (label := a.labels.get("stance")) is not None)
    shares = {label: concentration * max(share, 1e-3) for label, share in normalise(counts).items()}
    return [*recorded, *(redrawn(one, number, rng, shares) for number in range(times) for one in cascades)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cascades", type=int, default=400)
    parser.add_argument("--actions", type=int, default=24, help="of each (default 24)")
    parser.add_argument("--concentration", type=float, default=2.0, help="of the Dirichlet distribution (default 2)")
    parser.add_argument("--like", type=Path, help="a file of recorded cascades, to keep and to copy")
    parser.add_argument("--times", type=int, default=2, help="copies of each (default 2)")
    parser.add_argument("--not-like", default="", help="events that are kept and not copied, such as those held out")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    labels, rng = known_labels("stance"), np.random.default_rng(given.seed)
    if given.like is not None:
        how = {"times": given.times, "concentration": given.concentration}
        write_cascades(
            given.out, with_copies(read_cascades(given.like), rng, **how, not_like=given.not_like.split(","))
        )
        return 0
    write_cascades(
        given.out, [urn(n, rng, labels, given.actions, given.concentration) for n in range(given.cascades)]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
