"""Share curves after the warm-up, real and foreseen: their distance, their windows, and bands over replicas.

Only the slots of the roll-out whose recorded action has a label take part, on both sides, so that a real and a
foreseen share always stand for the same actions, and a replica's share is a sample of the same size as the real one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Guess, Indices, Rows, counts_in, pairs
from mesa_meanfield.evaluation.scorecard import Coverage

WINDOWS = 5
"""How many windows a roll-out is cut into."""

SMALLEST = 4
"""The fewest actions of a window: the share of fewer is mostly noise."""

WIDE = 20
"""From so many replicas on, the band is their central 90 % instead of their range."""


def running_shares(case: Case, guess: Guess) -> tuple[Rows, Rows]:
    """The share of each label among all actions so far, after each labelled slot: real and foreseen, shape (m, K).

    Both start from the warm-up's counts. A foreseen action counts with its probabilities, the mean over the
    replicas; one that failed in every replica adds nothing. Slots before anything is known are left out.
    """
    slots = _labelled(case)
    steps = np.eye(len(case.labels))[case.roll_out[slots]], np.nan_to_num(guess.expected[slots])
    real, foreseen = (case.warm_up_counts + np.cumsum(each, axis=0) for each in steps)
    known = foreseen.sum(axis=1) > 0
    return shares_of(real[known]), shares_of(foreseen[known])


def dtw(case: Case, guess: Guess) -> float | None:
    """Dynamic-time-warping distance of the two share curves, divided by the root of their length.

    The warped distance is the root of a sum of squares along the curves (Sakoe and Chiba 1978; Euclidean between
    the shares of all labels), so curves that stay a constant distance apart have that distance, whatever their
    length. None where nothing was foreseen.
    """
    from dtaidistance import dtw as library
    from dtaidistance import dtw_ndim

    real, foreseen = running_shares(case, guess)
    if not len(real):
        return None
    compiled = library.dtw_cc is not None  # asked for in vain, it logs a warning at every call
    return float(dtw_ndim.distance(real, foreseen, use_c=compiled)) / math.sqrt(len(real))


def windows(case: Case) -> list[Indices]:
    """The labelled slots of each window, in their order; none where the roll-out has no label.

    `WINDOWS` windows of equal numbers of actions, to within one; fewer where they would have less than `SMALLEST`
    actions each. So 20 actions and more make five windows (of 4 to 60, in cascades of 30 to 430 actions), 8 to 19
    make two to four, and fewer make one. The first window of a long roll-out holds more actions than that of a
    short one, and short ones have no late windows: compare entries within a window, not one window with the next.
    """
    slots = _labelled(case)
    return np.array_split(slots, max(1, min(WINDOWS, len(slots) // SMALLEST))) if len(slots) else []


def shares_of(counts: Indices | Rows) -> Rows:
    """Counts -> shares along the last axis; NaN where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    shares: Rows = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    return shares


def telling(labels: Sequence[str]) -> range:
    """Which labels' shares are looked at one by one: of two, the first share says both."""
    return range(1 if len(labels) == 2 else len(labels))


def coverage(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Coverage | None:
    """How often a window's real share lies within the band over the replicas' sampled shares.

    If the real roll-out and the R replicas were draws from one process, given the warm-up, their R + 1 shares would
    be exchangeable: each as likely as another to be the lowest or the highest. So the replicas' range would cover
    the real one with probability (R - 1)/(R + 1). From `WIDE` replicas on, the band lies between the quantiles at
    ranks .05 (R + 1) and .95 (R + 1), which by the same argument cover about .9. The real share is a sample, so the
    replicas' must be samples, too; exact distributions would make the band too narrow.

    Shares of few actions often tie, and the ends of the band count as covered, so a perfect simulation covers more
    than that ``nominal`` share: by itself it is conservative. ``expected`` takes the ties into account: how
    many of the R + 1 shares at hand lie within the band of the R others, which is what exchangeability expects
    of the real one. Covering less speaks against a simulation; covering more says that its replicas disagree
    more than they should.

    Args:
        cases: Recorded cascades.
        guesses: One entry's guess for each; cascades without one are left out.

    Returns:
        Over all cascades, windows and labels. ``nominal`` is the mean where failures leave some windows fewer
        replicas. None where no window has two.
    """
    covered, expected, nominal = 0, list[float](), list[float]()
    for case, guess in pairs(cases, guesses):
        looked_at, k = telling(case.labels), len(case.labels)
        for window in windows(case) if guess.simulated else []:
            counts = np.array([counts_in(labels[window], k) for labels in (case.roll_out, *guess.sampled)])
            shares = shares_of(counts[counts.any(axis=1)])[:, looked_at]  # the real one, then the replicas (R + 1, .)
            if len(shares) < 3:
                continue
            within = _within_the_others(shares)
            covered += int(within[0].sum())
            expected += within.mean(axis=0).tolist()
            nominal += [_nominal(len(shares) - 1)] * len(looked_at)
    if not nominal:
        return None
    of = len(nominal)
    return Coverage(nominal=math.fsum(nominal) / of, expected=math.fsum(expected) / of, covered=covered, of=of)


def _within_the_others(shares: Rows) -> npt.NDArray[np.bool_]:
    """Whether each share lies in the band over the others, its ends included; both (R + 1, K)."""
    size = len(shares)
    first = np.arange(size - 1)
    others = shares[first + (first >= np.arange(size)[:, None])]  # (R + 1, R, K): in row j all but the j-th
    if size - 1 < WIDE:
        low, high = others.min(axis=1), others.max(axis=1)
    else:
        # numpy's default would put the quantiles at ranks of R - 1, a band that covers .81 at 20 replicas.
        low, high = np.quantile(others, (0.05, 0.95), axis=1, method="weibull")
    within: npt.NDArray[np.bool_] = (low <= shares) & (shares <= high)
    return within


def _nominal(replicas: int) -> float:
    return (replicas - 1) / (replicas + 1) if replicas < WIDE else 0.9


def _labelled(case: Case) -> Indices:
    return np.flatnonzero(case.roll_out != UNLABELLED)
