"""What an intervention changed: paired effects, with the unpaired interval and the variance ratio beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mesa_meanfield.display import Shown, counted
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.estimates import differences, mean, student, variance_ratio, welch
from mesa_meanfield.experiments.runs import Ensemble, RunResult, Values, curves_of

if TYPE_CHECKING:
    import pandas as pd

CONTROL, TREATMENT = "control", "treatment"
COLUMNS = (
    "tick",
    "dimension",
    "label",
    "treatment",
    "control",
    "effect",
    "low",
    "high",
    "unpaired_low",
    "unpaired_high",
    "variance_ratio",
    "replicas",
)
"""Of a comparison's table."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the treatment changed in one label's share."""

    dimension: str
    label: str
    tick: int | None
    """None for all decisions from the fork on."""
    treatment: float | None
    """The mean share with the intervention, over the pairs."""
    control: float | None
    """The mean share without."""
    effect: float | None
    """The mean of the paired differences; None where no pair has both."""
    ci: Interval
    """Student's interval of that mean; nulls for fewer than two pairs."""
    effect_unpaired_ci: Interval
    """Welch's interval of the same difference, as if the arms were unrelated."""
    variance_ratio: float | None
    """var(paired difference) / (var(treatment) + var(control)); None where nothing varies."""
    replicas: int
    """How many pairs it is the mean of."""


@dataclass(frozen=True)
class Comparison(Shown):
    """An intervention and its counterfactual, replica by replica.

    Shares are exact expectations where distributions are known, which have less noise than what was sampled:
    ask for ``expected=False`` to see that.
    """

    _shown_by: ClassVar = "mesa_meanfield.experiments.report.notebook:comparison_html"
    ensemble: Ensemble
    """The runs of both arms, `TREATMENT` and `CONTROL`."""
    fork_at: int
    """The first tick in which the arms may differ."""
    confidence: float

    def __repr__(self) -> str:
        of = f"{counted(len(self.pairs), 'pair')} of runs over {counted(self.ensemble.ticks, 'tick')}"
        return f"<Comparison of {of}, fork at tick {self.fork_at}, {len(self.ensemble.failed)} failed>"

    @cached_property
    def pairs(self) -> tuple[tuple[RunResult, RunResult], ...]:
        """Treatment and control of each replica in which both ran to their end."""
        control = {run.replica: run for run in self.ensemble.arm(CONTROL).runs}
        treatment = self.ensemble.arm(TREATMENT).runs
        return tuple((run, control[run.replica]) for run in treatment if run.replica in control)

    def effect(
        self,
        label: str,
        tick: int | None = None,
        *,
        dimension: str | None = None,
        expected: bool = True,
        cumulative: bool = False,
    ) -> Effect:
        """The effect on a label's share.

        Args:
            label: Whose share.
            tick: In which tick, -1 for the last; without it of all decisions from the fork on.
            dimension: Of which dimension; without it the first one that has the label.
            expected: Exact expectations where they are known; else what was sampled.
            cumulative: Of all decisions up to the tick.

        Raises:
            ValueError: There is no such label or tick.
        """
        dimension = self.ensemble.dimension(label, dimension)
        if tick is None:
            if cumulative:
                raise ValueError("A cumulative effect is one up to a tick: give the tick, -1 for the last")
            shares = [
                [run.share(label, dimension, expected=expected, since=self.fork_at) for run in pair]
                for pair in self.pairs
            ]
            return self._effect(label, dimension, None, np.array(shares).reshape(-1, 2).T)
        ticks = self.ensemble.ticks
        if not -ticks <= tick < ticks:
            raise ValueError(f"tick must be at least 0 and below {ticks}, or count from the end, got {tick}")
        shares_of_both = self._curves(label, dimension, expected, cumulative)[:, :, tick]
        return self._effect(label, dimension, tick % ticks, shares_of_both)

    def effects(self, *, expected: bool = True, cumulative: bool = False) -> tuple[Effect, ...]:
        """The effect on every label at every tick; each interval is for its own label and tick alone."""
        found = []
        for dimension, labels in self.ensemble.labels.items():
            for label in labels:
                curves = self._curves(label, dimension, expected, cumulative)
                found += [self._effect(label, dimension, t, curves[:, :, t]) for t in range(self.ensemble.ticks)]
        return tuple(found)

    def frame(self, *, expected: bool = True, cumulative: bool = False) -> pd.DataFrame:
        """`effects` as a tidy table, one row for each label and tick; ends of intervals are columns."""
        import pandas as pd

        rows = []
        for one in self.effects(expected=expected, cumulative=cumulative):
            ends = (*one.ci, *one.effect_unpaired_ci)
            figures = (one.treatment, one.control, one.effect, *ends, one.variance_ratio)
            known = [math.nan if figure is None else figure for figure in figures]
            rows.append((one.tick, one.dimension, one.label, *known, one.replicas))
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def differences(
        self, label: str, dimension: str | None = None, *, expected: bool = True, cumulative: bool = False
    ) -> Values:
        """Treatment less control of each pair at every tick, shape (R, T)."""
        both = self._curves(label, self.ensemble.dimension(label, dimension), expected, cumulative)
        return differences(*both)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        made, failed = len(self.pairs), self.ensemble.failed
        notes = []
        if failed:
            first = failed[0]
            lost = len({one.replica for one in failed})
            notes.append(
                f"{lost} of {lost + made} pairs of replicas are left out, as a run failed; the first, {first.arm} "
                f"{first.replica}, in its tick {first.ticks}: {first.error}"
            )
        if made == 1:
            notes.append("One pair of replicas has no interval: how much chance there is in it cannot be said")
        control = [[(tick.counts, tick.expected) for tick in run.ticks] for _, run in self.pairs]
        if made > 1 and all(ticks == control[0] for ticks in control):
            notes.append("All replicas are the same run, so intervals have no width: does the model use its seed?")
        if missed := sum(run.failures for pair in self.pairs for run in pair):
            notes.append(f"{missed} decisions failed and count in no share")
        return tuple(notes)

    def as_dict(
        self, label: str, tick: int | None = None, *, dimension: str | None = None
    ) -> dict[str, Any]:  # Any: JSON values
        """The effect on a label as JSON values: what ``mesa-meanfield compare`` prints."""
        one = self.effect(label, tick, dimension=dimension)
        return {
            "label": one.label,
            "effect": one.effect,
            "ci": list(one.ci),
            "effect_unpaired_ci": list(one.effect_unpaired_ci),
            "variance_ratio": one.variance_ratio,
            "replicas": one.replicas,
            "dimension": one.dimension,
            "tick": one.tick,
            "fork_at": self.fork_at,
            "treatment": one.treatment,
            "control": one.control,
            "confidence": self.confidence,
            "failed": len(self.ensemble.failed),
            "notes": list(self.notes),
        }

    def _curves(self, label: str, dimension: str, expected: bool, cumulative: bool) -> Values:
        """Of treatment and control, shape (2, R, T)."""
        of = [(treatment for treatment, _ in self.pairs), (control for _, control in self.pairs)]
        ticks = self.ensemble.ticks
        both = np.stack([curves_of(a, ticks, label, dimension, expected=expected, cumulative=cumulative) for a in of])
        both[0, :, : self.fork_at] = both[1, :, : self.fork_at]  # seen to be the same, but for a model's rounding
        return both

    def _effect(self, label: str, dimension: str, tick: int | None, shares: Values) -> Effect:
        """From the shares of treatment and control, shape (2, R)."""
        treatment, control = shares[:, np.isfinite(shares).all(axis=0)]
        difference = differences(treatment, control)
        return Effect(
            dimension=dimension,
            label=label,
            tick=tick,
            treatment=mean(treatment),
            control=mean(control),
            effect=mean(difference),
            ci=student(difference, self.confidence),
            effect_unpaired_ci=welch(treatment, control, self.confidence),
            variance_ratio=variance_ratio(treatment, control),
            replicas=len(difference),
        )
