"""What a simulation must beat: simple guesses at the shares of the roll-out.

Each is a function of counts; none sees the roll-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.optimize import minimize_scalar

from mesa_meanfield.cascades.dimensions import counts_of
from mesa_meanfield.data import Cascade, cut, normalise
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.metrics import kl

Counts = Mapping[str, int]
Shares = Mapping[str, float]

UNTRAINED_STRENGTH = 0.5
"""Counts per label towards uniform where there is no training data."""


def uniform(labels: Sequence[str]) -> dict[str, float]:
    """Every label alike."""
    return {label: 1 / len(labels) for label in labels}


def prior(train: Iterable[Cascade], dimension: str, labels: Sequence[str]) -> dict[str, float]:
    """The shares of all training actions, with half a count added to each label.

    Half a count keeps a label that the training data lacks possible.
    """
    total = dict.fromkeys(labels, 0.5)
    for cascade in train:
        for label, count in counts_of(cascade.actions, dimension, labels).items():
            total[label] += count
    return normalise(total)


def persistence_shrunk(warm_up: Counts, prior: Shares, strength: float) -> dict[str, float]:
    """The warm-up's shares, drawn to the prior as if ``strength`` actions had come from it."""
    return normalise({label: count + strength * prior[label] for label, count in warm_up.items()})


@dataclass(frozen=True)
class Trained:
    """What the rivals know from training cascades."""

    prior: dict[str, float]
    strength: float
    """How many actions of the prior the warm-up is shrunk with."""


def train(cascades: Sequence[Cascade], dimension: str, labels: Sequence[str], *, warm_up: float = 0.3) -> Trained:
    """The prior of training cascades, and the strength that fits them best.

    Raises:
        DataError: No training cascade is large enough.
    """
    known = prior(cascades, dimension, labels)
    return Trained(known, fit_strength(cascades, dimension, labels, known, warm_up=warm_up))


def fit_strength(
    train: Iterable[Cascade],
    dimension: str,
    labels: Sequence[str],
    prior: Shares,
    *,
    warm_up: float = 0.3,
    min_actions: int = 15,
) -> float:
    """The strength with the least mean KL over training cascades.

    Args:
        train: Recorded cascades other than those reported on.
        dimension: What the labels are about.
        labels: All labels.
        prior: What is drawn to.
        warm_up: Share of the actions that comes before the roll-out.
        min_actions: Smaller cascades are left out, counted before the warm-up.

    Returns:
        Between 0.5 and 500 actions.

    Raises:
        DataError: No training cascade is large enough.
    """
    pairs: list[tuple[dict[str, int], dict[str, float]]] = []
    for cascade in train:
        parts = cut(cascade, warm_up)
        first, rest = (
            counts_of((a for tick in ticks for a in tick), dimension, labels)
            for ticks in (parts.warm_up, parts.roll_out)
        )
        if len(cascade.actions) >= min_actions and any(rest.values()):
            pairs.append((first, normalise(rest)))
    if not pairs:
        raise DataError(f"no training cascade has {min_actions} actions and labels of {dimension!r} to fit on")

    def loss(log_strength: float) -> float:
        strength = math.exp(log_strength)
        return math.fsum(kl(real, persistence_shrunk(first, prior, strength)) for first, real in pairs) / len(pairs)

    found = minimize_scalar(loss, bounds=(math.log(0.5), math.log(500)), method="bounded")
    return float(math.exp(found.x))
