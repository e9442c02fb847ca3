"""What replicas leave behind: counts and exact expectations of every tick, as frozen values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from mesa_meanfield.data import Counts, MeanField, Tick
from mesa_meanfield.display import Shown, counted
from mesa_meanfield.protocols import Usage

if TYPE_CHECKING:
    import pandas as pd

Values = npt.NDArray[np.float64]
Expected = Mapping[str, Mapping[str, float]]
"""Sums of probabilities: dimension -> label -> how many of the decisions are expected to have it."""

COLUMNS = ("replica", "tick", "arm", "dimension", "label", "share", "expected", "size")


@dataclass(frozen=True, slots=True)
class TickCounts:
    """One tick of one replica: what its agents decided.

    Failed decisions count nowhere but in ``failures``; what accounts outside the population posted counts nowhere,
    lest an intervention's own posts pass for its effect.
    """

    number: int
    counts: Counts
    """How often each label was chosen; 0 for those that nobody chose."""
    expected: Expected
    """The same as expected before chance chose: a decision without an exact distribution is certain of its label."""
    exact: int
    """How many decisions had an exact distribution."""
    failures: int
    recorded: bool
    """Whether it was played from data."""
    usage: Usage
    """What it cost."""

    @classmethod
    def of(cls, tick: Tick, field: MeanField, usage: Usage) -> TickCounts:
        """Count a tick.

        Args:
            tick: What happened.
            field: The mean field after it, whose counts name the labels that nobody chose.
            usage: What it cost.
        """
        zero = {dimension: dict.fromkeys(labels, 0) for dimension, labels in field.counts.items()}
        counts = {dimension: Counter(labels) for dimension, labels in zero.items()}
        expected: dict[str, dict[str, float]] = {d: dict.fromkeys(labels, 0.0) for d, labels in zero.items()}
        exact = 0
        own = [decision for decision in tick.decisions if not decision.injected]
        for decision in own:
            if decision.failure is not None:
                continue
            known = decision.distribution or {}
            # A decision has one distribution, that of the label that was scored, and names its dimension first.
            scored = next((d for d, label in decision.labels.items() if label in known), None)
            exact += scored is not None
            for dimension, label in decision.labels.items():
                counts.setdefault(dimension, Counter())[label] += 1
                of = expected.setdefault(dimension, {})
                for one, p in (known if dimension == scored else {label: 1.0}).items():
                    of[one] = of.get(one, 0.0) + p
                    counts[dimension].setdefault(one, 0)
        failures = sum(decision.failure is not None for decision in own)
        as_counted = {dimension: dict(labels) for dimension, labels in counts.items()}
        return cls(tick.number, as_counted, expected, exact, failures, tick.recorded, usage)


@dataclass(frozen=True)
class RunResult:
    """One replica that ran to its end."""

    arm: str
    """Which of the compared courses of events it followed."""
    replica: int
    seed: int
    """Of its model; replicas of the same number share it in all arms."""
    ticks: tuple[TickCounts, ...]
    usage: Usage

    def __repr__(self) -> str:
        return f"<RunResult {self.arm} {self.replica} of seed {self.seed}: {counted(len(self.ticks), 'tick')}>"

    @property
    def failures(self) -> int:
        """How many decisions failed."""
        return sum(tick.failures for tick in self.ticks)

    def sizes(self, dimension: str) -> Values:
        """How many decisions of each tick have a label of the dimension, shape (T,)."""
        return np.array([sum(tick.counts.get(dimension, {}).values()) for tick in self.ticks], dtype=np.float64)

    def curve(
        self, label: str, dimension: str | None = None, *, expected: bool = True, cumulative: bool = False
    ) -> Values:
        """A label's share at every tick, shape (T,); NaN where nobody decided.

        Args:
            label: Whose share.
            dimension: Of which dimension; without it the first one that has the label.
            expected: The exact expectation where distributions are known; else what was sampled.
            cumulative: Of all decisions so far, played ones included; else of the tick alone.
        """
        labelled, sizes = self._columns(label, dimension, expected)
        if cumulative:
            labelled, sizes = labelled.cumsum(), sizes.cumsum()
        return divided(labelled, sizes)

    def share(self, label: str, dimension: str | None = None, *, expected: bool = True, since: int = 0) -> float:
        """A label's share of all decisions from the tick ``since`` on; NaN where there are none."""
        labelled, sizes = self._columns(label, dimension, expected)
        return float(divided(labelled[since:].sum(), sizes[since:].sum()))

    def _columns(self, label: str, dimension: str | None, expected: bool) -> tuple[Values, Values]:
        dimension = dimension_of(self.ticks, label, dimension)
        columns = [(tick.expected if expected else tick.counts).get(dimension, {}) for tick in self.ticks]
        return np.array([column.get(label, 0.0) for column in columns], dtype=np.float64), self.sizes(dimension)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """One replica that did not run to its end. Nothing of it counts as data."""

    arm: str
    replica: int
    seed: int
    ticks: int
    """How many ticks were over."""
    error: str
    """What ended it."""
    usage: Usage
    """What it cost nevertheless."""


@dataclass(frozen=True)
class Ensemble(Shown):
    """The replicas of one or more arms."""

    _shown_by: ClassVar = "mesa_meanfield.experiments.report.notebook:ensemble_html"
    runs: tuple[RunResult, ...]
    """Those that ran to their end, arm by arm, in the order of their numbers."""
    failed: tuple[FailedRun, ...]
    ticks: int
    """How many ticks were asked for; a model that stops by itself has fewer."""

    def __repr__(self) -> str:
        arms = ", ".join(dict.fromkeys(run.arm for run in self.runs)) or "no arm"
        of = f"{counted(len(self.runs), 'run')} of {arms} over {counted(self.ticks, 'tick')}"
        return f"<Ensemble of {of}, {len(self.failed)} failed>"

    @property
    def usage(self) -> Usage:
        """What all of it cost, failed replicas included."""
        every: tuple[RunResult | FailedRun, ...] = (*self.runs, *self.failed)
        return reduce(add, (run.usage for run in every), Usage())

    @cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Dimension -> its labels, in the order in which they came up."""
        found: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for tick in run.ticks:
                for dimension, counts in tick.counts.items():
                    found.setdefault(dimension, {}).update(dict.fromkeys(counts))
        return {dimension: tuple(labels) for dimension, labels in found.items()}

    def dimension(self, label: str, dimension: str | None = None) -> str:
        """The label's dimension.

        Raises:
            ValueError: No dimension has the label, or the given one has not.
        """
        for name, labels in self.labels.items():
            if label in labels and dimension in (None, name):
                return name
        known = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in self.labels.items()) or "none"
        where = "" if dimension is None else f" in dimension {dimension!r}"
        raise ValueError(f"There is no label {label!r}{where}; the labels are {known}")

    def arm(self, name: str) -> Ensemble:
        """The part of one arm."""
        return Ensemble(
            tuple(run for run in self.runs if run.arm == name),
            tuple(run for run in self.failed if run.arm == name),
            self.ticks,
        )

    def curves(
        self, label: str, dimension: str | None = None, *, expected: bool = True, cumulative: bool = False
    ) -> Values:
        """Every run's `RunResult.curve`, shape (R, T); NaN from where a run stopped by itself."""
        dimension = self.dimension(label, dimension)
        return curves_of(self.runs, self.ticks, label, dimension, expected=expected, cumulative=cumulative)

    def frame(self, *, cumulative: bool = False) -> pd.DataFrame:
        """A tidy table: one row for each arm, replica, tick and label.

        Its columns are ``replica, tick, arm, dimension, label, share`` (sampled), ``expected`` (the exact
        expectation of the share) and ``size`` (how many decisions the share is of).

        Args:
            cumulative: Shares of all decisions so far, instead of each tick's.
        """
        import pandas as pd  # takes a third of a second to import

        parts = [
            pd.DataFrame(
                {
                    "replica": run.replica,
                    "tick": [tick.number for tick in run.ticks],
                    "arm": run.arm,
                    "dimension": dimension,
                    "label": label,
                    "share": run.curve(label, dimension, expected=False, cumulative=cumulative),
                    "expected": run.curve(label, dimension, cumulative=cumulative),
                    "size": (run.sizes(dimension).cumsum() if cumulative else run.sizes(dimension)).astype(int),
                }
            )
            for run in self.runs
            for dimension, labels in self.labels.items()
            for label in labels
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def curves_of(
    runs: Iterable[RunResult], ticks: int, label: str, dimension: str, *, expected: bool, cumulative: bool
) -> Values:
    """Each run's `RunResult.curve`, filled up to so many ticks with NaN, shape (R, T)."""
    curves = [run.curve(label, dimension, expected=expected, cumulative=cumulative) for run in runs]
    found = np.full((len(curves), ticks), np.nan)
    for row, curve in zip(found, curves, strict=True):
        row[: len(curve)] = curve
    return found


def divided(part: Values | float, whole: Values | float) -> Values:
    """A share; NaN where there is nothing to share out."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    share: Values = np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)
    return share


def dimension_of(ticks: Sequence[TickCounts], label: str, dimension: str | None = None) -> str:
    """The first dimension that has the label, unless one is given; empty where none has it."""
    if dimension is not None:
        return dimension
    return next((d for tick in ticks for d, labels in tick.counts.items() if label in labels), "")
