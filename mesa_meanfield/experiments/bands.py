"""Where shares go, with how much chance there is: quantile bands over replicas, and how many replicas it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mesa_meanfield.evaluation.quantiles import band, nominal
from mesa_meanfield.experiments.comparison import Comparison
from mesa_meanfield.experiments.estimates import needed
from mesa_meanfield.experiments.runs import Ensemble, Values

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Band:
    """One label's share over time, all arrays of shape (T,); NaN where no replica has any decision."""

    dimension: str
    label: str
    low: Values
    median: Values
    high: Values
    mean: Values
    replicas: Values
    """How many replicas have a share."""
    nominal: Values
    """How probable it is that one more replica lies within the band: at most what was asked for, as few replicas
    reach no further than from the lowest to the highest."""


def bands(
    ensemble: Ensemble, level: float = 0.9, *, expected: bool = False, cumulative: bool = False
) -> tuple[Band, ...]:
    """The central band over the replicas, for every label at every tick.

    Args:
        ensemble: The replicas of one arm.
        level: The share of replicas that lie within.
        expected: Exact expectations instead of sampled shares. They have less noise than any share that will be
            counted, so compare a real share with a band of sampled ones.
        cumulative: Of all decisions so far, else of the tick alone.

    Raises:
        ValueError: The level is out of its range, or the replicas are of several arms.
    """
    arms = {run.arm for run in ensemble.runs}
    if len(arms) > 1:
        raise ValueError(f"A band is of one arm, but these are replicas of {', '.join(sorted(arms))}: use .arm(NAME)")
    found = []
    for dimension, labels in ensemble.labels.items():
        for label in labels:
            curves = ensemble.curves(label, dimension, expected=expected, cumulative=cumulative)
            low, median, high = band(curves, level)
            size = np.isfinite(curves).sum(axis=0)
            average = np.divide(np.nansum(curves, axis=0), size, out=np.full(len(size), np.nan), where=size > 0)
            promised = np.array([nominal(int(n), level) for n in size])
            found.append(Band(dimension, label, low, median, high, average, size.astype(np.float64), promised))
    return tuple(found)


def band_frame(of: tuple[Band, ...]) -> pd.DataFrame:
    """Bands as a tidy table, one row for each label and tick."""
    import pandas as pd

    columns = ("low", "median", "high", "mean", "replicas", "nominal")
    parts = [
        pd.DataFrame(
            {"tick": range(len(one.low)), "dimension": one.dimension, "label": one.label}
            | {name: getattr(one, name) for name in columns}
        )
        for one in of
    ]
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["tick", "dimension", "label", *columns])
    )


def replicas_needed(
    result: Ensemble | Comparison,
    width: float,
    *,
    label: str | None = None,
    tick: int | None = None,
    confidence: float = 0.95,
    expected: bool = True,
    cumulative: bool = False,
) -> int | None:
    """How many replicas make the interval of a mean share, or of a mean effect, as narrow as wanted.

    Args:
        result: Replicas of one arm, for a mean share; or a comparison, for the effect of its paired differences.
        width: From the lower to the upper end, in shares.
        label: Whose share; without it the one that takes most.
        tick: In which tick; without it the one that takes most.
        confidence: Of the interval.
        expected: Exact expectations where they are known; else what was sampled.
        cumulative: Of all decisions so far, else of the tick alone.

    Returns:
        How many in all, those at hand included (Stein's two stages, see `estimates.needed`); None where no tick has
        two replicas, from which it could be judged.

    Raises:
        ValueError: Width or confidence is out of its range, or there is no such label or tick.
    """
    ensemble = result if isinstance(result, Ensemble) else result.ensemble
    names = [(d, one) for d, labels in ensemble.labels.items() for one in labels]
    if label is not None:
        names = [(ensemble.dimension(label), label)]
    if tick is not None and not -ensemble.ticks <= tick < ensemble.ticks:
        raise ValueError(f"tick must be below {ensemble.ticks}, or count from the end, got {tick}")
    found = []
    for dimension, one in names:
        of = result.curves if isinstance(result, Ensemble) else result.differences
        values = of(one, dimension, expected=expected, cumulative=cumulative)
        found += [
            needed(values[:, t], width, confidence) for t in (range(ensemble.ticks) if tick is None else [tick])
        ]
    return max((n for n in found if n is not None), default=None)
