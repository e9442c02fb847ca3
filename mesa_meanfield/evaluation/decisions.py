"""How well single decisions were foreseen: F1, likelihood and calibration, over all decisions of all cascades.

Only slots whose recorded action has a label and that have a prediction count. Everything works on probabilities,
so there is no sampling noise and a rule's guess is treated like a simulation's; where a simulation has no exact
distributions, its rows are the labels that it drew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Guess, Indices, Rows, pairs
from mesa_meanfield.evaluation.scorecard import Bin

BINS = 10


@dataclass(frozen=True)
class Decided:
    """One entry's figures over all decisions; None where there is nothing they could be computed from."""

    f1_macro: float | None
    f1_micro: float | None
    nll: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]


def decided(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Decided:
    """How well one entry foresaw the decisions of all cascades.

    Likelihood and calibration need exact distributions in every cascade. The negative log-likelihood is infinite
    where something real was impossible.

    Args:
        cases: Recorded cascades of one dimension.
        guesses: The entry's guess for each; cascades without one are left out.
    """
    macro, micro = f1(confusion(cases, guesses))
    known = list(pairs(cases, guesses))
    if not known or not all(guess.exact for _, guess in known):
        return Decided(macro, micro, None, None, ())
    lost = np.concatenate([surprisals(case, guess) for case, guess in known])
    bins = reliability(cases, guesses)
    return Decided(macro, micro, float(lost.mean()) if len(lost) else None, calibration_error(bins), bins)


def confusion(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Rows:
    """Expected counts of (real label, foreseen label), shape (K, K); each slot weighs 1, whatever the replicas."""
    k = len(cases[0].labels)
    total = np.zeros((k, k))
    for case, guess in pairs(cases, guesses):
        expected = guess.expected
        known = (case.roll_out != UNLABELLED) & ~np.isnan(expected).any(axis=1)
        np.add.at(total, case.roll_out[known], expected[known])
    return total


def f1(confusion: Rows) -> tuple[float | None, float | None]:
    """F1 of expected counts: macro, the mean over the labels that really occur, and micro, the accuracy.

    Labels that never occur are left out of the mean for every entry alike; foreseeing them costs the others'
    recall. None where there is no decision.

    Args:
        confusion: Expected counts of (real label, foreseen label), shape (K, K).
    """
    from sklearn.metrics import f1_score  # takes a second to import

    real, foreseen = np.indices(confusion.shape).reshape(2, -1)
    occurring = np.flatnonzero(confusion.sum(axis=1) > 0)
    if not len(occurring):
        return None, None
    weights = confusion.ravel()
    macro = f1_score(real, foreseen, labels=occurring, average="macro", sample_weight=weights, zero_division=0)
    return float(macro), float(f1_score(real, foreseen, average="micro", sample_weight=weights))


def surprisals(case: Case, guess: Guess) -> npt.NDArray[np.float64]:
    """-log P(real label) in nats of every slot and replica with a prediction; infinite where it was impossible."""
    rows, real = _predictions(case, guess)
    with np.errstate(divide="ignore"):
        found: npt.NDArray[np.float64] = 0 - np.log(rows[np.arange(len(rows)), real])  # 0 - 0, not -0
    return found


def reliability(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> tuple[Bin, ...]:
    """How often labels of about the same probability were real: `BINS` bins of equal width, without empty ones.

    Every probability of every label, slot and replica is one member of its bin; a bin has its upper end, the first
    one has 0, too. Calibration is not skill: equal probabilities for all labels are always perfectly calibrated.
    """
    found = [_predictions(case, guess) for case, guess in pairs(cases, guesses)]
    if not found:
        return ()
    predicted = np.concatenate([rows.ravel() for rows, _ in found])
    observed = np.concatenate([(real[:, None] == np.arange(rows.shape[1])).ravel() for rows, real in found])
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], predicted)
    return tuple(
        Bin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            predicted=float(predicted[place == index].mean()),
            observed=float(observed[place == index].mean()),
            size=int((place == index).sum()),
        )
        for index in np.unique(place)
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error: mean of |predicted - observed|, weighted by the bins' sizes; None without bins."""
    size = sum(one.size for one in bins)
    return math.fsum(one.size * abs(one.predicted - one.observed) for one in bins) / size if size else None


def _predictions(case: Case, guess: Guess) -> tuple[Rows, Indices]:
    """The rows of all slots and replicas that have a real label and a prediction, and that label: (m, K) and (m,)."""
    known = (case.roll_out != UNLABELLED) & ~np.isnan(guess.rows).any(axis=-1)  # (R, n)
    return guess.rows[known], np.broadcast_to(case.roll_out, known.shape)[known]
