"""How far an annotator agrees with gold labels, where there are some."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mesa_meanfield.cascades.dimensions import annotated_dimensions, known_labels
from mesa_meanfield.cascades.known import ANNOTATED
from mesa_meanfield.data import Action
from mesa_meanfield.evaluation.scorecard import Agreement

GOLD: Mapping[str, Mapping[str, str]] = {
    "stance": {"support": "support", "deny": "oppose", "query": "neutral", "comment": "neutral"}
}
"""Gold dimension -> its labels -> those of the annotated dimension of the same name, where they differ.

A gold label that is neither named here nor one of the annotator's own is compared with nothing.
"""


class Pair(NamedTuple):
    """Two labels of one text."""

    dimension: str
    """Without `ANNOTATED`."""
    gold: str
    """In the annotator's words."""
    said: str


def gold_pairs(actions: Iterable[Action]) -> Counter[Pair]:
    """How often which gold and annotated labels stand together; what agents decided is no gold label."""
    pairs: Counter[Pair] = Counter()
    for dimension in annotated_dimensions():
        own = {label: label for label in known_labels(f"{ANNOTATED}{dimension}")}
        words = own | dict(GOLD.get(dimension, {}))
        for action in actions:
            gold = words.get(action.labels.get(dimension, ""))
            said = action.labels.get(f"{ANNOTATED}{dimension}")
            if action.trace is None and gold is not None and said is not None:
                pairs[Pair(dimension, gold, said)] += 1
    return pairs


def agreements(pairs: Mapping[Pair, int]) -> tuple[Agreement, ...]:
    """One figure per dimension that has gold labels."""
    return tuple(
        _agreement(dimension, {pair: count for pair, count in pairs.items() if pair.dimension == dimension})
        for dimension in dict.fromkeys(pair.dimension for pair in pairs)
    )


def _agreement(dimension: str, pairs: Mapping[Pair, int]) -> Agreement:
    golds: Counter[str] = Counter()
    for pair, count in pairs.items():
        golds[pair.gold] += count
    texts = golds.total()
    return Agreement(
        dimension=f"{ANNOTATED}{dimension}",
        gold=dimension,
        texts=texts,
        accuracy=sum(count for pair, count in pairs.items() if pair.gold == pair.said) / texts,
        chance=max(golds.values()) / texts,
        kappa=_kappa(pairs),
    )


def _kappa(pairs: Mapping[Pair, int]) -> float | None:
    """Cohen's kappa; None where both always say the same one label, so that it is 0/0."""
    if len({label for pair in pairs for label in (pair.gold, pair.said)}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score  # it takes a second to import

    golds, said = [pair.gold for pair in pairs], [pair.said for pair in pairs]
    kappa = float(cohen_kappa_score(golds, said, sample_weight=list(pairs.values())))
    return kappa if math.isfinite(kappa) else None
