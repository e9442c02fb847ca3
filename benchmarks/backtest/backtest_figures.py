"""Predicted against real changes over many cascades, with intervals that resample events."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from outcomes import Outcome
from scipy.stats import binom, binomtest

from mesa_meanfield.evaluation.intervals import FEWEST, LEVEL, mean_interval, paired
from mesa_meanfield.evaluation.scorecard import Interval

NO_CHANGE = "no change"
OTHERS_CHANGE = "mean change of other events"
OTHERS_LEVEL = "mean level of other events"
_SAME = 1e-9  # a change below this has no sign
_DRAWS = 9999


@dataclass(frozen=True)
class Agreement:
    """How often two changes have the same sign, where both have one."""

    agree: int
    of: int
    ci: Interval
    """Exact: Clopper and Pearson (1934), The use of confidence or fiducial limits, Biometrika 26:404-413. It takes
    cascades for independent."""


@dataclass(frozen=True)
class Score:
    """One prediction of the change of a label's share, over cascades."""

    name: str
    cascades: int
    mean: float | None
    mean_ci: Interval
    signs: Agreement
    correlation: float | None
    """Pearson's, with the real change."""
    correlation_ci: Interval
    error: float | None
    """The mean absolute error, in shares."""
    error_ci: Interval
    below_no_change: float | None
    """That of `NO_CHANGE` less this one's: above zero where the prediction is worth something."""
    below_ci: Interval


@dataclass(frozen=True)
class Noise:
    """What the small number of actions alone does to the real changes."""

    real: float | None
    """The mean absolute real change."""
    floor: float | None
    """The mean absolute change that sampling alone gives where nothing changes."""
    beyond: int
    """Cascades whose real change is beyond the 95 % of that."""
    of: int


def changes(outcomes: Sequence[Outcome], label: str, arm: str | None = None) -> list[float]:
    """The real changes, or those that an arm predicts, cascade by cascade; NaN where there is none."""
    return [one.change(label, arm) for one in outcomes]


def rivals(outcomes: Sequence[Outcome], label: str) -> dict[str, list[float]]:
    """Predictions that need no model: each cascade's from what was recorded of other events alone.

    `OTHERS_LEVEL` says that the share after the post is that of other events after theirs, so it knows regression
    to the mean and nothing else.
    """
    found: dict[str, list[float]] = {NO_CHANGE: [0.0] * len(outcomes), OTHERS_CHANGE: [], OTHERS_LEVEL: []}
    for one in outcomes:
        others = [other for other in outcomes if other.event != one.event]
        found[OTHERS_CHANGE].append(_mean([other.change(label) for other in others]))
        found[OTHERS_LEVEL].append(_mean([other.shares(label)[1] for other in others]) - one.shares(label)[0])
    return found


def score(name: str, predicted: Sequence[float], real: Sequence[float], events: Sequence[str], seed: int) -> Score:
    """How good a prediction is; cascades without it, or without a real change, are left out."""
    p, r = np.asarray(predicted, dtype=np.float64), np.asarray(real, dtype=np.float64)
    both = np.isfinite(p) & np.isfinite(r)
    p, r, of = p[both], r[both], [event for event, there in zip(events, both, strict=True) if there]
    errors, still = np.abs(p - r), np.abs(r)
    correlation, correlation_ci = correlated(p, r, of, seed)
    if name == OTHERS_CHANGE:  # the mean of all others is high where the own one is low: it correlates by that alone
        correlation, correlation_ci = None, (None, None)
    below, below_ci = paired(still.tolist(), errors.tolist(), seed=seed, clusters=of)
    return Score(
        name=name,
        cascades=len(p),
        mean=float(p.mean()) if len(p) else None,
        mean_ci=mean_interval(p.tolist(), seed=seed, clusters=of),
        signs=agreement(p, r),
        correlation=correlation,
        correlation_ci=correlation_ci,
        error=float(errors.mean()) if len(p) else None,
        error_ci=mean_interval(errors.tolist(), seed=seed, clusters=of),
        below_no_change=below,
        below_ci=below_ci,
    )


def agreement(predicted: Sequence[float], real: Sequence[float]) -> Agreement:
    """Count equal signs."""
    pairs = [(p, r) for p, r in zip(predicted, real, strict=True) if min(abs(p), abs(r)) > _SAME]
    agree = sum(bool((p > 0) == (r > 0)) for p, r in pairs)
    if not pairs:
        return Agreement(0, 0, (None, None))
    ends = binomtest(agree, len(pairs)).proportion_ci(LEVEL, "exact")
    return Agreement(agree, len(pairs), (float(ends.low), float(ends.high)))


def correlated(
    a: Sequence[float], b: Sequence[float], events: Sequence[str], seed: int
) -> tuple[float | None, Interval]:
    """Pearson's correlation and its 95 % percentile interval, of resampled events with all their cascades.

    Null where one side does not vary; no interval for fewer than `FEWEST` events.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) < 2 or min(np.ptp(x), np.ptp(y)) < _SAME:
        return None, (None, None)
    x, y = x - x.mean(), y - y.mean()  # for the rounding of the sums below
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])  # (6, n)
    names, of = np.unique(np.asarray(events), return_inverse=True)
    sums = np.stack([np.bincount(of, weights=term) for term in terms], axis=1)  # (events, 6)
    value = float(_pearson(sums.sum(axis=0)[None])[0])
    if len(names) < FEWEST:
        return value, (None, None)
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)
    drawn = _pearson(times @ sums)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn[np.isfinite(drawn)], [tail, 1 - tail])
    return value, (float(low), float(high))


def noise(outcomes: Sequence[Outcome], label: str) -> Noise:
    """The real changes beside those that sampling alone gives; exact, by the product of two binomials."""
    real, floors, beyond = [], [], 0
    for one in outcomes:
        k = one.labels.index(label)
        (before, after), change = one.real, one.change(label)
        floor, chance = by_chance(int(before[k]), int(sum(before)), int(after[k]), int(sum(after)))
        real.append(abs(change))
        floors.append(floor)
        beyond += bool(chance < 1 - LEVEL)
    return Noise(_known(real), _known(floors), beyond, len(outcomes))


def by_chance(before: int, of_before: int, after: int, of_after: int) -> tuple[float, float]:
    """What would be if nothing changed: the expected absolute change, and the probability of one as large.

    Both halves are binomial with the share of the two together, drawn in by half a count on either side.
    """
    p = (before + after + 0.5) / (of_before + of_after + 1)
    first, second = (np.arange(n + 1) for n in (of_before, of_after))
    weights = np.outer(binom.pmf(first, of_before, p), binom.pmf(second, of_after, p))
    apart = np.abs(first[:, None] / of_before - second[None, :] / of_after)
    real = abs(before / of_before - after / of_after)
    return float((weights * apart).sum()), float(weights[apart >= real - _SAME].sum())


def compared(
    a: Sequence[float], b: Sequence[float], events: Sequence[str], seed: int
) -> tuple[float | None, Interval, int]:
    """The mean of a - b over cascades that have both, its interval over events, and how many they are."""
    mean, ci = paired(a, b, seed=seed, clusters=events)
    return mean, ci, int((np.isfinite(a) & np.isfinite(b)).sum())


def events_of(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Event -> cascades."""
    return Counter(one.event for one in outcomes)


def _pearson(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _known(values: Sequence[float]) -> float | None:
    return _mean(values) if values else None
