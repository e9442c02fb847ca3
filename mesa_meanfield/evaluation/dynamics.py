"""Two classical curves of opinion and contagion, fitted to warm-ups: the rivals with dynamics of their own.

Both start from the prior of training data and from what the warm-up's actors did, and are iterated in
expectation: nobody is sampled. Functions take many cascades at once, since the fit to training cascades
asks for all their curves a hundred times over. Shapes: C cascades, W warm-up actions, n roll-out slots, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import rel_entr

from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Indices, Rows

_HALVINGS = 40  # of [0, 1]: more than the digits that any fit to tens of actions has
_NEWTON_STEPS = 100  # a bound that is never met: ten do, twenty after 20,000 actions
_MOST_CASES, _MOST_ACTIONS = 200, 1000  # in a fit; more change its result little and cost memory and minutes
_SEARCHES = 150

Ranges = tuple[tuple[float, float, float], ...]
"""For each number that is fitted: the least it can be, where the search starts, the largest."""


class Dynamics(Protocol):
    """A curve with its few numbers that training cascades are fitted by."""

    ranges: ClassVar[Ranges]
    """Of the numbers that `searched` takes, all above zero."""

    @classmethod
    def searched(cls, *values: float) -> Self:
        """From the numbers that `ranges` is about."""

    def curves(self, seen: Rows, prior: Rows, slots: int) -> Rows:
        """Expected shares in each roll-out slot, shape (C, n, K).

        Args:
            seen: The warm-ups, as `stacked` gives them, shape (C, W, K).
            prior: Shares of the labels in training data, all above zero, shape (K,).
            slots: How many roll-out slots, n.
        """


@dataclass(frozen=True)
class DeGroot:
    """A well-mixed population of learners with opinions of their own.

    Every newcomer takes its label from the shares so far with probability w, else from the prior, its
    innate opinion: DeGroot (1974), Reaching a consensus, JASA 69:118-121, where all listen to all alike,
    with the stubbornness 1 - w of Friedkin and Johnsen (1990), Social influence and opinions, Journal of
    Mathematical Sociology 15:193-206. The expectation is exact, since the process is linear. With w = 1 it is
    Polya's urn, whose expected shares stay where they are: `persistence_shrunk`.
    """

    start: float
    """How many actions of the prior the shares so far begin with."""
    weight: float
    """The w that each cascade's is drawn to, in [0, 1]."""
    firmness: float
    """How firmly: the weight of a Beta density's exponents, in actions."""

    ranges: ClassVar[Ranges] = ((0.5, 10, 500), (1 / 50, 2, 150), (0.5, 3, 500))

    @classmethod
    def searched(cls, *values: float) -> Self:
        """From the start, the odds of the weight, and the firmness."""
        start, odds, firmness = values
        return cls(start, odds / (1 + odds), firmness)

    def weights(self, seen: Rows, prior: Rows) -> Rows:
        """Each warm-up's w of maximum posterior density, shape (C,): the one zero of a falling slope."""
        before = np.cumsum(seen, axis=1) - seen
        shares = (self.start * prior + before) / (self.start + np.arange(seen.shape[1]))[:, None]
        played = _total(seen) > 0
        innate = np.where(played, seen @ prior, 1.0)  # P(label | w = 0), shape (C, W)
        social = np.where(played, _total(seen * shares), 1.0)  # P(label | w = 1)
        low, high = np.zeros(len(seen)), np.ones(len(seen))
        for _ in range(_HALVINGS):
            w = (low + high) / 2
            slope = ((social - innate) / (innate + w[:, None] * (social - innate))).sum(axis=1)
            slope += self.firmness * (self.weight / w - (1 - self.weight) / (1 - w))
            low, high = np.where(slope > 0, w, low), np.where(slope > 0, high, w)
        return (low + high) / 2

    def curves(self, seen: Rows, prior: Rows, slots: int) -> Rows:
        """Expected shares in each roll-out slot, shape (C, n, K)."""
        return degroot_curves(seen, prior, slots, start=self.start, weights=self.weights(seen, prior))


@dataclass(frozen=True)
class SIR:
    """Contagions that compete for the same susceptibles.

    Every label is a strain of the epidemic of Kermack and McKendrick (1927), A contribution to the
    mathematical theory of epidemics, Proc. R. Soc. A 115:700-721. All strains draw on one pool of people
    who have not acted yet, so that its size cancels from the shares: the next actor takes label k with
    probability beta_k I_k / sum_j beta_j I_j. I_k grows by each adopter of k, of whom a share recovers with each
    further action. The post itself never recovers: it adds the prior's pressure throughout, so that no
    label dies out for good.
    """

    start: float
    """How many actions of the prior the post's own pressure is worth."""
    recovery: float
    """Share of the adopters whose pressure ends with each action."""
    penalty: float
    """What draws log beta to 0: the precision of a normal density."""

    ranges: ClassVar[Ranges] = ((0.5, 10, 500), (0.001, 0.03, 0.5), (0.5, 5, 500))

    @classmethod
    def searched(cls, *values: float) -> Self:
        """From its fields."""
        return cls(*values)

    def pressures(self, seen: Rows, prior: Rows) -> tuple[Rows, Rows]:
        """I before each warm-up action, shape (C, W, K), and after the last of each cascade, shape (C, K)."""
        cascades, length, k = seen.shape
        adopters = np.zeros((cascades, length + 1, k))
        played = _total(seen)[:, :, None]
        for t in range(length):
            # What pads a shorter warm-up is no action, and nobody recovers.
            adopters[:, t + 1] = (1 - self.recovery * played[:, t]) * adopters[:, t] + seen[:, t]
        pressures = adopters + self.start * prior
        return pressures[:, :-1], pressures[:, -1]

    def log_betas(self, seen: Rows, prior: Rows) -> Rows:
        """Each warm-up's log beta of maximum posterior density, shape (C, K).

        The likelihood is that of a multinomial logit with offsets log I, which is concave. Damped Newton
        steps climb it without a line search: Sun and Tran-Dinh (2019), Generalized self-concordant
        functions, Math. Programming 178:145-213, for nu = 2.
        """
        return self._climbed(self.pressures(seen, prior)[0], seen)

    def _climbed(self, pressures: Rows, seen: Rows) -> Rows:
        played, counts = _total(seen)[:, :, None], seen.sum(axis=1)
        found: Rows = np.zeros_like(counts)
        for _ in range(_NEWTON_STEPS):
            expected = _shares(pressures * np.exp(found)[:, None, :]) * played
            sums = expected.sum(axis=1)
            slope = counts - sums - self.penalty * found
            curvature = -np.swapaxes(expected, 1, 2) @ expected  # (C, K, K)
            curvature += (sums + self.penalty)[:, :, None] * np.eye(seen.shape[2])
            step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
            span = np.maximum(np.ptp(step, axis=1, keepdims=True), 1e-12)
            found = found + step * (np.log1p(span) / span)
            if np.abs(step).max(initial=0) < 1e-7:
                break
        return found

    def curves(self, seen: Rows, prior: Rows, slots: int) -> Rows:
        """Expected shares in each roll-out slot, shape (C, n, K)."""
        before, after = self.pressures(seen, prior)
        betas = np.exp(self._climbed(before, seen))
        source = self.start * prior
        adopters = after - source
        rows = np.empty((len(seen), slots, seen.shape[2]))
        for i in range(slots):
            rows[:, i] = _shares(betas * (source + adopters))
            adopters = (1 - self.recovery) * adopters + rows[:, i]
        return rows


def degroot_curves(seen: Rows, prior: Rows, slots: int, *, start: float, weights: Rows) -> Rows:
    """`DeGroot`'s curves for known weights, shape (C,); the result has shape (C, n, K).

    With x the shares of t actions (the ``start`` among them), x - prior shrinks by the factor
    1 - (1 - w) / (t + 1) with each newcomer.
    """
    counts = seen.sum(axis=1)
    t = start + counts.sum(axis=1, keepdims=True)  # (C, 1)
    apart = (start * prior + counts) / t - prior  # (C, K)
    shrinks = 1 - (1 - weights)[:, None] / (t + np.arange(1, slots))
    lasts = np.cumprod(np.concatenate([np.ones_like(t), shrinks], axis=1), axis=1)[:, :slots]
    return np.asarray(prior + (weights[:, None] * lasts)[:, :, None] * apart[:, None, :])


def stacked(warm_ups: Sequence[Indices], k: int) -> Rows:
    """Warm-ups one-hot, shape (C, W, K); a shorter one ends in rows of zeros. What has no label is passed over."""
    known = [indices[indices != UNLABELLED] for indices in warm_ups]
    seen = np.zeros((len(known), max(map(len, known), default=0), k))
    for c, indices in enumerate(known):
        seen[c, np.arange(len(indices)), indices] = 1
    return seen


D = TypeVar("D", bound=Dynamics)


def fitted(kind: type[D], cases: Sequence[Case], prior: Rows) -> D:
    """The dynamics with the least mean KL(real || expected shares) over the roll-outs of training cases.

    The least is searched for with Nelder and Mead's simplex in the logarithms of the numbers. Of more than
    200 cases evenly spread ones take part, of longer cases the first 1,000 actions.

    Args:
        kind: `DeGroot` or `SIR`.
        cases: Recorded ones other than those reported on, at least one with labels after the warm-up.
        prior: What the dynamics start from, all above zero, shape (K,).

    Raises:
        ValueError: No case has a label after the warm-up.
    """
    some = [_first(case) for case in cases[:: max(1, math.ceil(len(cases) / _MOST_CASES))]]
    some = [case for case in some if case.counts.any()]
    if not some:
        raise ValueError("No case has a label after its warm-up; there is nothing to fit to")
    seen = stacked([case.warm_up for case in some], len(prior))
    slots = np.array([len(case.roll_out) for case in some])
    real = _shares(np.array([case.counts for case in some], dtype=np.float64))

    def loss(logs: Rows) -> float:
        curves = kind.searched(*np.exp(logs).tolist()).curves(seen, prior, int(slots.max()))
        expected = np.cumsum(curves, axis=1)[np.arange(len(some)), slots - 1] / slots[:, None]
        return float(rel_entr(real, expected).sum(axis=1).mean())

    return kind.searched(*np.exp(_least(loss, np.log(kind.ranges))).tolist())


def _least(loss: Callable[[Rows], float], ranges: Rows) -> Rows:
    low, first, high = ranges.T
    simplex = np.vstack([first, first + np.eye(len(first))])
    found = minimize(
        loss,
        first,
        method="Nelder-Mead",
        bounds=list(zip(low, high, strict=True)),
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-5, "maxfev": _SEARCHES},
    )
    return np.clip(np.asarray(found.x), low, high)


def _first(case: Case) -> Case:
    """The case, or its first actions cut at the same share of them."""
    every = np.concatenate([case.warm_up, case.roll_out])
    if len(every) <= _MOST_ACTIONS:
        return case
    played = len(case.warm_up) * _MOST_ACTIONS // len(every)
    kept = every[:_MOST_ACTIONS]
    return replace(case, warm_up=kept[:played], roll_out=kept[played:])


def _shares(weights: Rows) -> Rows:
    return np.asarray(weights / _total(weights)[..., None])


def _total(weights: Rows) -> Rows:
    """The sum over labels; numpy's own takes ten times as long over so few."""
    return np.asarray(weights @ np.ones(weights.shape[-1]))
