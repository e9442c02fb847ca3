"""Means over replicas and how sure they are: Student's intervals, paired and unpaired, and how many it takes.

Replicas are independent draws of one process, few in number and of bounded values, so Student's interval is the
natural one; evaluation/intervals.py has bootstrap intervals, for means over recorded cascades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from mesa_meanfield.evaluation.quantiles import check_confidence
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.runs import Values

_SAME = 1e-6  # relative: what differs by less differs by rounding, that of models in other batches included


def mean(values: Sequence[float] | Values) -> float | None:
    """The mean of the values that are known; None where none is."""
    known = _known(values)
    return float(known.mean()) if len(known) else None


def student(values: Sequence[float] | Values, confidence: float) -> Interval:
    """Student's interval of the mean of the known values; nulls for fewer than two.

    Values that are all equal have an interval without width: of few replicas it promises more than it can keep.
    """
    known = _known(values)
    if len(known) < 2:
        return None, None
    reach = float(t.ppf((1 + confidence) / 2, len(known) - 1)) * math.sqrt(_variance(known) / len(known))
    return float(known.mean()) - reach, float(known.mean()) + reach


def differences(a: Values, b: Values) -> Values:
    """The paired a - b, in which what is rounding alone is 0."""
    apart: Values = np.where(np.isclose(a, b, rtol=_SAME, atol=0), 0.0, a - b)
    return apart


def welch(a: Values, b: Values, confidence: float) -> Interval:
    """The interval of mean(a) - mean(b) as if the two were unrelated; nulls for fewer than two values in either.

    Welch (1947), The generalization of "Student's" problem when several different population variances are
    involved, Biometrika 34:28-35.
    """
    a, b = _known(a), _known(b)
    if min(len(a), len(b)) < 2:
        return None, None
    parts = np.array([_variance(a) / len(a), _variance(b) / len(b)])
    difference, variance = float(a.mean() - b.mean()), float(parts.sum())
    if variance == 0:
        return difference, difference
    freedom = variance**2 / float((parts**2 / [len(a) - 1, len(b) - 1]).sum())
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return difference - reach, difference + reach


def variance_ratio(a: Values, b: Values) -> float | None:
    """var(a - b) / (var(a) + var(b)) of paired values; None for fewer than two, or where nothing varies.

    Below 1, pairing saves replicas: so many unpaired ones, times this, say as much. About 1 means that the arms
    have nothing in common, and above 1 that chance moves them apart.
    """
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 2:
        return None
    apart = _variance(a) + _variance(b)
    return _variance(differences(a, b)) / apart if apart > 0 else None


def needed(values: Sequence[float] | Values, width: float, confidence: float) -> int | None:
    """How many replicas give the mean an interval of the wanted width, judged by those that are there.

    n = max(R, ceil((2 t_{R-1} s / width)^2)): Stein (1945), A two-sample test for a linear hypothesis whose power
    is independent of the variance, Annals of Mathematical Statistics 16:243-258. Its t has the freedom of the R
    values at hand, so that the promise holds in spite of their uncertain s.

    Args:
        values: Of the R replicas at hand.
        width: From the lower to the upper end.
        confidence: Of the interval.

    Returns:
        The whole number, those at hand included; None for fewer than two values.
    """
    check_confidence(confidence)
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width}")
    known = _known(values)
    if len(known) < 2:
        return None
    reach = float(t.ppf((1 + confidence) / 2, len(known) - 1)) * math.sqrt(_variance(known))
    return max(len(known), math.ceil((2 * reach / width) ** 2))


def _known(values: Sequence[float] | Values) -> Values:
    given = np.asarray(values, dtype=np.float64)
    known: Values = given[np.isfinite(given)]
    return known


def _variance(known: Values) -> float:
    """With n - 1; 0 where all values are the same but for rounding."""
    return float(known.var(ddof=1)) if np.ptp(known) > _SAME * np.abs(known).max() else 0.0
