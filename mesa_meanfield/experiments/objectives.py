"""What a plan looks for: a number for each run. Any function of a `RunResult` is an objective, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mesa_meanfield.experiments.runs import RunResult, Values

Objective = Callable[[RunResult], float]
"""A run -> how good it is; NaN where that cannot be said."""


@runtime_checkable
class Censored(Protocol):
    """An objective whose value is only a bound where a run was too short to see it."""

    def censored(self, run: RunResult) -> bool:
        """Whether the run ended before it could be seen."""
        ...


@dataclass(frozen=True, slots=True)
class ShareAt:
    """A label's share at one tick."""

    label: str
    tick: int = -1
    """-1 for the last."""
    dimension: str | None = None
    cumulative: bool = False
    """Of all decisions up to the tick, else of the tick's alone."""
    expected: bool = True
    """The exact expectation where distributions are known; else what was sampled."""

    def __call__(self, run: RunResult) -> float:
        """The share; NaN where nobody decided, or the run stopped before."""
        curve = _curve(run, self.label, self.dimension, self.cumulative, self.expected)
        return float(curve[self.tick]) if -len(curve) <= self.tick < len(curve) else float("nan")


@dataclass(frozen=True, slots=True)
class TimeToReversal:
    """The first tick in which one label's share exceeds another's; the number of ticks where that never happens.

    Where it never happens the time is censored: it is at least that long. A mean over runs with such times is too
    small, and the ranking says how many there are.
    """

    label: str
    """The one that is to win."""
    over: str
    """The one that is to be overtaken."""
    since: int = 0
    """Earlier ticks are not looked at."""
    dimension: str | None = None
    cumulative: bool = False
    expected: bool = True

    def __call__(self, run: RunResult) -> float:
        """The tick, or how many ticks there were."""
        reversed_at = self._ticks(run)
        return float(reversed_at[0]) if len(reversed_at) else float(len(run.ticks))

    def censored(self, run: RunResult) -> bool:
        """Whether it never happened."""
        return not len(self._ticks(run))

    def _ticks(self, run: RunResult) -> Values:
        first, second = (
            _curve(run, label, self.dimension, self.cumulative, self.expected) for label in (self.label, self.over)
        )
        over: Values = self.since + np.flatnonzero(first[self.since :] > second[self.since :]).astype(np.float64)
        return over


@dataclass(frozen=True, slots=True)
class AreaUnder:
    """The area under a label's share curve, in ticks times share, by the trapezoidal rule.

    A tick without decisions is bridged by a straight line.
    """

    label: str
    since: int = 0
    """The curve's first tick."""
    dimension: str | None = None
    cumulative: bool = False
    expected: bool = True

    def __call__(self, run: RunResult) -> float:
        """The area; NaN where no two ticks have decisions."""
        curve = _curve(run, self.label, self.dimension, self.cumulative, self.expected)[self.since :]
        known = np.flatnonzero(np.isfinite(curve))
        if len(known) < 2:
            return float("nan")
        heights = curve[known]
        return float((np.diff(known) * (heights[1:] + heights[:-1]) / 2).sum())


def _curve(run: RunResult, label: str, dimension: str | None, cumulative: bool, expected: bool) -> Values:
    """A label's curve.

    Raises:
        ValueError: The run knows no such label.
    """
    if not any(label in labels for tick in run.ticks for d, labels in tick.counts.items() if dimension in (None, d)):
        known = sorted({one for tick in run.ticks for labels in tick.counts.values() for one in labels})
        where = "" if dimension is None else f" in dimension {dimension!r}"
        raise ValueError(
            f"The objective's label {label!r} is not known{where}; labels are {', '.join(known) or 'none'}"
        )
    return run.curve(label, dimension, expected=expected, cumulative=cumulative)
