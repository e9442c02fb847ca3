"""How sure a mean over cascades is: 95 % bootstrap intervals, of one entry and of two on the same cascades."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap, norm, t

from mesa_meanfield.evaluation.cases import Rows
from mesa_meanfield.evaluation.scorecard import Interval

LEVEL = 0.95
FEWEST = 5
"""With fewer values there is no interval: resampling so few says little of those that were not seen."""

_RESAMPLES = 9999
_NUMBERS = 2_000_000  # drawn at once, 16 MB: thousands of cascades would ask for gigabytes


def mean_interval(values: Sequence[float], *, seed: int, clusters: Sequence[str] | None = None) -> Interval:
    """The 95 % bootstrap interval of a mean over cascades.

    It is bias-corrected and accelerated: Efron (1987), Better bootstrap confidence intervals, JASA
    82:171-185; where that is not defined, a percentile interval. Both are widened as Student's are, without
    which those of few values are too narrow: Hesterberg (2015), What teachers should know about the bootstrap,
    The American Statistician 69:371-386. Of very skewed values they still are.

    Cascades of one event have people, news and wording in common. An interval that resamples cascades takes
    them for independent: it says what other cascades of *these events* would give. Give ``clusters`` to
    resample whole events, each with all its cascades (Davison and Hinkley (1997), Bootstrap Methods and their
    Application, section 3.8), for what other *events* would give: wherever a result is to hold beyond the events
    at hand.

    Args:
        values: One for each cascade.
        seed: Of the resampling.
        clusters: Each cascade's event.

    Returns:
        The lower and the upper end: twice the value where all are equal; nulls where there are fewer than
        `FEWEST` values or events, or one is not finite.

    Raises:
        ValueError: There are not as many clusters as values.
    """
    given = np.asarray(values, dtype=np.float64)
    names = np.arange(len(given)) if clusters is None else np.asarray(clusters)
    if names.shape != given.shape:
        raise ValueError(f"clusters must name one event for each of the {len(given)} values, got {len(names)}")
    _, of = np.unique(names, return_inverse=True)
    sizes = np.bincount(of).astype(np.float64)
    if len(sizes) < FEWEST or not np.isfinite(given).all():
        return None, None
    if np.ptp(given) == 0:
        return float(given[0]), float(given[0])
    sums = np.bincount(of, weights=given).astype(np.float64)
    ends = _ends(sums, sizes, seed, "BCa")
    if not np.isfinite(ends).all():
        ends = _ends(sums, sizes, seed, "percentile")
    return float(ends[0]), float(ends[1])


def paired(
    a: Sequence[float], b: Sequence[float], *, seed: int, clusters: Sequence[str] | None = None
) -> tuple[float | None, Interval]:
    """The mean of a - b over the cascades where both are finite, and its interval as of `mean_interval`.

    A cascade where one of the two is infinite takes no part, which spares whoever was infinitely wrong there.

    Args:
        a: One value for each cascade.
        b: Those of the same cascades.
        seed: Of the resampling.
        clusters: Each cascade's event, to resample events.

    Returns:
        The difference, null where no cascade has both, and the interval.

    Raises:
        ValueError: The arguments differ in length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or (clusters is not None and len(clusters) != len(first)):
        raise ValueError("a, b and clusters must be of the same cascades, but they differ in length")
    both = np.isfinite(first) & np.isfinite(second)
    if not both.any():
        return None, (None, None)
    difference = first[both] - second[both]
    events = None if clusters is None else np.asarray(clusters)[both].tolist()
    return float(difference.mean()), mean_interval(difference.tolist(), seed=seed, clusters=events)


def _ends(sums: Rows, sizes: Rows, seed: int, method: Literal["BCa", "percentile"]) -> tuple[float, float]:
    """Of the interval of the mean, from clusters' sums and sizes; each cascade is one where none are given."""
    n = len(sums)
    widened = 1 - 2 * float(norm.cdf(math.sqrt(n / (n - 1)) * t.ppf((1 - LEVEL) / 2, n - 1)))
    # Where values hardly differ, BCa divides nothing by nothing: its ends are NaN, which the caller sees.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (sums, sizes),
            lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
            paired=True,
            vectorized=True,
            confidence_level=widened,
            n_resamples=_RESAMPLES,
            batch=max(1, _NUMBERS // n),
            method=method,
            random_state=np.random.default_rng(seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
