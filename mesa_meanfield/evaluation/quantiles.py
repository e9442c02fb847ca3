"""Bands over replicas: where one more of them would lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def check_confidence(confidence: float) -> None:
    """Check a level of confidence.

    Raises:
        ValueError: It is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be above 0 and below 1, such as 0.95, got {confidence}")


def band(shares: Values, level: float) -> tuple[Values, Values, Values]:
    """The lower end, the median and the upper end over replicas, each of shape (T,).

    If one more replica is exchangeable with R others, it lies between those of ranks a and b with probability
    (b - a)/(R + 1). So the ends lie at the ranks (1 -+ level)/2 times R + 1 (Weibull's positions: Hyndman and Fan
    (1996), Sample quantiles in statistical packages, The American Statistician 50:361-365), or at the lowest and the
    highest where R is too small.

    Args:
        shares: Of each replica at each tick, shape (R, T); NaN where there is none.
        level: The probability to lie within.
    """
    check_confidence(level)
    ends = np.full((3, shares.shape[1]), np.nan)
    known = np.isfinite(shares)
    for tick in np.flatnonzero(known.any(axis=0)):
        at = shares[known[:, tick], tick]
        ends[:, tick] = np.quantile(at, [(1 - level) / 2, 0.5, (1 + level) / 2], method="weibull")
    low, median, high = ends
    return low, median, high


def nominal(replicas: int, level: float) -> float:
    """The probability that one more replica lies within the band of so many; 0 without any."""
    return min(level, max(0, replicas - 1) / (replicas + 1))
