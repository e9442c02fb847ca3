"""What sharing work between agents changes: some are asked again, each alone, and the two answers compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mesa_meanfield.data import Decision


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over a random sample of agents, with its standard error; two samples add up."""

    count: int = 0
    """How many agents it was taken from."""
    total: float = 0.0
    squares: float = 0.0
    """The sum of the squared values."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """The estimate from one value per agent."""
        values = list(values)
        return cls(len(values), math.fsum(values), math.fsum(value * value for value in values))

    @property
    def mean(self) -> float:
        """NaN where nobody was asked."""
        return self.total / self.count if self.count else math.nan

    @property
    def error(self) -> float:
        """The standard error of the mean; of a share p it is sqrt(p (1 - p) / (n - 1)). NaN below two agents.

        Where all agents agree it is 0, which is not certainty: of n that do not differ, up to 3 / n of the
        population still may (95 %).
        """
        if self.count < 2:
            return math.nan
        spread = max(0.0, self.squares - self.total**2 / self.count)  # rounding can take it below 0
        return math.sqrt(spread / (self.count - 1) / self.count)

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.count + other.count, self.total + other.total, self.squares + other.squares)


Shifts = Mapping[str, Mapping[str, Estimate]]
"""Dimension -> label -> how much larger its share is than it would be if each agent were asked alone."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Decisions made together against those that the same agents make alone; two audits add up.

    Both use the agent's own seed, so an agent who is asked the same and gets the same distribution gets
    the same label. A text that is shared (``texts_per_group``) differs from the agent's own as any two
    samples do: there the shifts of the labels tell whether sharing biases the crowd.
    """

    asked: int = 0
    """How many agents were asked again."""
    lost: int = 0
    """How many of them cannot be compared, since one of the two replies could not be used."""
    distance: Estimate = Estimate()
    """The total variation distance between the two distributions of an agent's label, in [0, 1]."""
    farthest: float = 0.0
    """The largest of these distances."""
    labels_differ: Estimate = Estimate()
    """The share of agents whose labels differ, of those who have any."""
    texts_differ: Estimate = Estimate()
    """The share of agents whose texts or values differ, of those who have any."""
    shifts: Shifts = field(default_factory=dict)
    """Of every label, also those that are read from texts."""

    @classmethod
    def of(cls, together: Sequence[Decision], alone: Sequence[Decision]) -> Audit:
        """Compare what the same agents decided together and alone."""
        pairs = [(a, b) for a, b in zip(together, alone, strict=True) if a.failure is None and b.failure is None]
        distances = [
            math.fsum(abs(p - b.distribution[label]) for label, p in a.distribution.items()) / 2
            for a, b in pairs
            if a.distribution is not None and b.distribution is not None
        ]
        said = [((a.text, a.value), (b.text, b.value)) for a, b in pairs]
        dimensions = dict.fromkeys(dimension for pair in pairs for one in pair for dimension in one.labels)
        return cls(
            asked=len(together),
            lost=len(together) - len(pairs),
            distance=Estimate.of(distances),
            farthest=max(distances, default=0.0),
            labels_differ=Estimate.of(a.labels != b.labels for a, b in pairs if a.labels or b.labels),
            texts_differ=Estimate.of(a != b for a, b in said if (a, b) != (("", None), ("", None))),
            shifts={d: _shift([(a.labels.get(d), b.labels.get(d)) for a, b in pairs]) for d in dimensions},
        )

    def __add__(self, other: Audit) -> Audit:
        return Audit(
            self.asked + other.asked,
            self.lost + other.lost,
            self.distance + other.distance,
            max(self.farthest, other.farthest),
            self.labels_differ + other.labels_differ,
            self.texts_differ + other.texts_differ,
            {d: _sum(self.shifts.get(d, {}), other.shifts.get(d, {})) for d in {**self.shifts, **other.shifts}},
        )


def _shift(pairs: Iterable[tuple[str | None, str | None]]) -> dict[str, Estimate]:
    """Of one dimension, from each agent's two labels; those who have none take no part."""
    labelled = [(a, b) for a, b in pairs if a is not None or b is not None]
    found = dict.fromkeys(label for pair in labelled for label in pair if label is not None)
    return {label: Estimate.of((a == label) - (b == label) for a, b in labelled) for label in found}


def _sum(one: Mapping[str, Estimate], other: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Label by label; one that a sample never met did not shift in it."""
    unmet = [Estimate(max((shift.count for shift in shifts.values()), default=0)) for shifts in (one, other)]
    return {label: one.get(label, unmet[0]) + other.get(label, unmet[1]) for label in {**one, **other}}
