"""Forecast bands widened until they cover recorded cascades as often as they say.

Bands over replicas know the chance inside a model, not how wrong it is. Split-conformal prediction adds that
from training cascades, whatever the model is like: Vovk, Gammerman and Shafer (2005), Algorithmic Learning in a
Random World; Romano, Patterson and Candès (2019), Conformalized quantile regression, NeurIPS. All it asks for is
that a new cascade is exchangeable with the training ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mesa_meanfield.evaluation.cases import Case, Guess, counts_in, pairs
from mesa_meanfield.evaluation.curves import shares_of, telling, windows
from mesa_meanfield.evaluation.quantiles import Values, band, check_confidence
from mesa_meanfield.evaluation.scorecard import Widened

LEVEL = 0.8
"""What a scorecard's bands are widened to cover."""
FLOOR = 0.05
"""A band narrower than this is widened as one of this width: a band without width would never widen."""


@dataclass(frozen=True, eq=False)
class Foreseen:
    """One cascade's bands, and what really came; all arrays of shape (n,), one entry for each label and time."""

    cascade: str
    event: str
    """What held-out parts go by."""
    low: Values
    high: Values
    truth: Values
    """NaN where it is not known."""

    def __post_init__(self) -> None:
        if not self.low.shape == self.high.shape == self.truth.shape:
            raise ValueError(f"{self.cascade}: low, high and truth must have one shape")

    @property
    def known(self) -> Foreseen:
        """The part where there is a band and a truth."""
        at = np.isfinite(self.low) & np.isfinite(self.high) & np.isfinite(self.truth)
        return Foreseen(self.cascade, self.event, self.low[at], self.high[at], self.truth[at])


@dataclass(frozen=True, slots=True)
class Widening:
    """How bands are widened."""

    level: float
    """The coverage it is for."""
    reach: float
    """How far each end moves out, in widths of its band; below 0 it moves in, and infinite reaches everything."""
    floor: float
    """The least width that is reckoned with."""
    groups: int
    """From how many exchangeable parts it was learnt; with K of them no level above K/(K + 1) has a finite one."""

    @property
    def factor(self) -> float:
        """How many times as wide a band becomes."""
        return 1 + 2 * self.reach

    def apply(self, low: Values, high: Values) -> tuple[Values, Values]:
        """The widened ends of bands of shares, within 0 and 1."""
        if math.isinf(self.reach):
            return np.zeros_like(low), np.ones_like(high)
        moved = self.reach * np.maximum(high - low, self.floor)
        middle = (low + high) / 2
        return np.clip(np.minimum(low - moved, middle), 0, 1), np.clip(np.maximum(high + moved, middle), 0, 1)


@dataclass(frozen=True, slots=True)
class EventCoverage:
    """How often the bands of one event's cascades held the truth; cascades count alike, however long they are."""

    event: str
    cascades: int
    before: float
    """Of the bands as they were."""
    after: float
    """Of those widened by what other events taught."""
    widening: Widening


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage on events that taught nothing, and the widening that all of them teach together."""

    level: float
    events: tuple[EventCoverage, ...]
    widening: Widening
    """For cascades of other events: from all of these."""

    @property
    def before(self) -> float:
        """Mean over all cascades, of the bands as they were."""
        return self._mean(lambda one: one.before)

    @property
    def after(self) -> float:
        """Mean over all cascades, of the widened ones."""
        return self._mean(lambda one: one.after)

    def _mean(self, of: Callable[[EventCoverage], float]) -> float:
        return math.fsum(one.cascades * of(one) for one in self.events) / sum(one.cascades for one in self.events)


def conformal(
    training_residuals: Sequence[float] | Values, level: float, groups: Sequence[str] | None = None
) -> float:
    """The bound that a new residual keeps with probability ``level``: split-conformal, exact for few residuals, too.

    It is the ceil(level (n + 1))-th smallest of n residuals (Vovk et al. 2005; Lei et al. (2018), Distribution-free
    predictive inference for regression, JASA 113:1094-1111, section 2.2), and infinite where n is too small for
    that. Residuals of one group depend on each other: with K groups each weighs 1/(K + 1) in all, shared out
    evenly among its residuals, and the rest stands for the new group (Lee, Barber and Willett (2023),
    Distribution-free inference with hierarchical data, arXiv 2306.06342, HCP), which promises it for a random
    residual of a new group.

    Args:
        training_residuals: How far each was off.
        level: The coverage, above 0 and below 1.
        groups: What each residual is of, a cascade or an event; without it each is a group of its own.

    Raises:
        ValueError: There is no residual, one is NaN, or the level or the number of groups is wrong.
    """
    check_confidence(level)
    residuals = np.asarray(training_residuals, dtype=np.float64)
    names = np.arange(len(residuals)) if groups is None else np.asarray(groups)
    if not len(residuals) or np.isnan(residuals).any() or names.shape != residuals.shape:
        raise ValueError(f"Residuals must be numbers, with one group each where groups are given, got {residuals}")
    _, of, sizes = np.unique(names, return_inverse=True, return_counts=True)
    weights = 1 / (sizes[of] * (len(sizes) + 1))
    order = np.argsort(residuals, kind="stable")
    enough = weights[order].cumsum() >= level - 1e-12  # nine times a tenth are a bit less than nine tenths
    return float(residuals[order][enough.argmax()]) if enough.any() else math.inf


def widening(
    training: Sequence[Foreseen], level: float, *, by: Literal["cascade", "event"] = "cascade", floor: float = FLOOR
) -> Widening:
    """Learn from training cascades how far bands must be widened to cover as often as ``level`` says.

    A truth's residual is how far it lies outside its band, below 0 inside, in widths of the band: CQR-r of Sesia and
    Candès (2020), A comparison of some conformal quantile regression methods, Stat 9:e261.

    Args:
        training: Cascades that what is widened has nothing to do with.
        level: The coverage wanted.
        by: What is exchangeable: cascades, also those of one event, or only whole events, of which it takes many:
            nine for a level of .9.
        floor: The least width that is reckoned with.

    Raises:
        ValueError: No training cascade has a band with its truth, or the level is wrong.
    """
    if not floor > 0:
        raise ValueError(f"floor must be a width above 0, got {floor}")
    parts = [known for one in training if len((known := one.known).truth)]
    if not parts:
        raise ValueError("No training cascade has a band with its truth: there is nothing to learn from")
    residuals = np.concatenate(
        [np.maximum(p.low - p.truth, p.truth - p.high) / np.maximum(p.high - p.low, floor) for p in parts]
    )
    names = [p.cascade if by == "cascade" else p.event for p in parts for _ in p.truth]
    return Widening(level, conformal(residuals, level, names), floor, len(set(names)))


def coverage_by_event(
    foreseen: Sequence[Foreseen], level: float, *, by: Literal["cascade", "event"] = "cascade", floor: float = FLOOR
) -> Coverage:
    """Hold out each event in turn: widen its bands by what the others teach, and count what they cover.

    Args:
        foreseen: Cascades of two events at least; those without band or truth take no part.
        level: The coverage wanted.
        by: What is taken for exchangeable; see `widening`.
        floor: The least width that is reckoned with.

    Raises:
        ValueError: There are fewer than two events.
    """
    parts = [known for one in foreseen if len((known := one.known).truth)]
    events = dict.fromkeys(one.event for one in parts)
    if len(events) < 2:
        raise ValueError(f"It takes two events to hold one out, got {', '.join(events) or 'none'}")
    rows = []
    for event in events:
        learnt = widening([one for one in parts if one.event != event], level, by=by, floor=floor)
        own = [one for one in parts if one.event == event]
        before = [_covered(one.low, one.high, one.truth) for one in own]
        after = [_covered(*learnt.apply(one.low, one.high), one.truth) for one in own]
        rows.append(EventCoverage(event, len(own), float(np.mean(before)), float(np.mean(after)), learnt))
    return Coverage(level, tuple(rows), widening(parts, level, by=by, floor=floor))


def foreseen_of(case: Case, guess: Guess, level: float) -> Foreseen:
    """The bands of a simulated cascade, window by window, and the recorded shares.

    Bands are over the replicas' sampled shares of the same actions as the recorded one's: see
    `evaluation.curves`. A replica of which every decision of a window failed has none there.

    Args:
        case: The recorded cascade.
        guess: What was simulated in its place.
        level: Of the bands.
    """
    looked_at, k = telling(case.labels), len(case.labels)
    counts = [
        [counts_in(labels[window], k) for labels in (case.roll_out, *guess.sampled)] for window in windows(case)
    ]
    shares = shares_of(np.array(counts, dtype=np.float64).reshape(-1, 1 + len(guess.sampled), k))[..., looked_at]
    truth, replicas = shares[:, 0].reshape(-1), shares[:, 1:].transpose(1, 0, 2).reshape(len(guess.sampled), -1)
    low, _, high = band(replicas, level)
    return Foreseen(case.cascade, case.event, low, high, truth)


def widened(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Widened | None:
    """How often the bands of one entry hold the real share, each event's widened by what the others teach.

    Args:
        cases: Recorded cascades.
        guesses: The entry's guess for each; cascades without one, or with a single replica, are left out.

    Returns:
        None where fewer than two events have a band.
    """
    foreseen = [foreseen_of(case, guess, LEVEL) for case, guess in pairs(cases, guesses) if len(guess.sampled) > 1]
    events = {one.event for one in foreseen if len(one.known.truth)}
    if len(events) < 2:
        return None
    found = coverage_by_event(foreseen, LEVEL)
    factor = found.widening.factor
    return Widened(
        level=LEVEL,
        before=found.before,
        after=found.after,
        factor=factor if math.isfinite(factor) else None,
        events=len(events),
    )


def _covered(low: Values, high: Values, truth: Values) -> float:
    return float(((low <= truth) & (truth <= high)).mean())
