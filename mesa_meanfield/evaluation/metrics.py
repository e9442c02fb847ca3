"""Distances between shares, and how small they can be for a sample of a given size.

Shares are mappings label -> share; both sides have the same labels. Divergences are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from mesa_meanfield.data import normalise
from mesa_meanfield.evaluation.cases import Guess

Shares = Mapping[str, float]


def kl(real: Shares, simulated: Shares) -> float:
    """KL(real || simulated) in nats; infinite where something real was impossible in the simulation.

    The real shares are never smoothed.
    """
    p, q = _aligned(real, simulated)
    return float(rel_entr(p, q).sum())


def js(real: Shares, simulated: Shares) -> float:
    """Jensen-Shannon distance: the root of the divergence in nats, between 0 and sqrt(ln 2)."""
    p, q = _aligned(real, simulated)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum() / 2
    return math.sqrt(max(0.0, float(divergence)))  # rounding makes it slightly negative for nearly equal shares


def total_variation(real: Shares, simulated: Shares) -> float:
    """Half the sum of the absolute differences: the share that would have to change its label, 0 to 1."""
    p, q = _aligned(real, simulated)
    return float(np.abs(p - q).sum() / 2)


def wasserstein(real: Shares, simulated: Shares, positions: Mapping[str, float] | None = None) -> float:
    """How far shares must be carried along the labels' positions, in their unit, to turn one side into the other.

    Args:
        real: Label -> share.
        simulated: Label -> share.
        positions: Label -> where it lies on its dimension's scale. Without them no label is nearer to one than
            to another, every move counts 1, and the distance is the total variation.

    Raises:
        ValueError: A label has no position.
    """
    if positions is None:
        return total_variation(real, simulated)
    from scipy.stats import wasserstein_distance  # takes half a second to import

    p, q = _aligned(real, simulated)
    if missing := sorted(set(real) - set(positions)):
        raise ValueError(f"Labels {missing} have no position; give one for each label or none at all")
    places = [positions[label] for label in real]
    return float(wasserstein_distance(places, places, p, q))


def smoothed(counts: Mapping[str, float], add: float = 0.5) -> dict[str, float]:
    """Shares of something that has counts only, with half a count added to each label."""
    return normalise({label: count + add for label, count in counts.items()})


def guessed_shares(guess: Guess, labels: Sequence[str]) -> dict[str, float] | None:
    """What a guess says the shares of the roll-out are; None where every decision failed.

    The mean of its rows over slots and replicas. Where the rows only repeat what was drawn they are counts, and
    half a count is added to each label, so that a label nobody drew stays possible.
    """
    rows = guess.rows.reshape(-1, len(labels))
    rows = rows[~np.isnan(rows).any(axis=1)]
    if not len(rows):
        return None
    if guess.exact:
        return dict(zip(labels, rows.mean(axis=0).tolist(), strict=True))
    return smoothed(dict(zip(labels, rows.sum(axis=0).tolist(), strict=True)))


def noise_floor(counts: Mapping[str, int], prior: Shares, *, draws: int = 1000, seed: int = 0) -> float:
    """The KL that even a perfect simulation gets, since the real shares come from few actions.

    The mean of KL(multinomial(n, p) / n || p) over seeded draws, with p = (counts + 8 prior) / (n + 8).

    Args:
        counts: Label -> count in the real roll-out; n is their sum, at least 1.
        prior: Label -> share, from training data or uniform.
        draws: How many samples.
        seed: Of the draws.
    """
    n = sum(counts.values())
    if n < 1:
        raise ValueError("The noise floor of no actions is not defined")
    p = np.array([(count + 8 * prior[label]) / (n + 8) for label, count in counts.items()])
    p /= p.sum()  # rounding
    samples = np.random.default_rng(seed).multinomial(n, p, size=draws) / n  # (draws, K)
    return float(rel_entr(samples, p).sum(axis=1).mean())


def _aligned(real: Shares, simulated: Shares) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if set(real) != set(simulated):
        raise ValueError(f"The labels differ: {sorted(real)} and {sorted(simulated)}")
    return np.array([real[label] for label in real]), np.array([simulated[label] for label in real])
