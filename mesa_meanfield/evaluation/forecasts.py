"""How well the trend after the warm-up was foreseen: window by window, its direction, its turning points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mesa_meanfield.evaluation.cases import Case, Guess, Indices, Rows, counts_in, pairs
from mesa_meanfield.evaluation.curves import WINDOWS, shares_of, telling, windows
from mesa_meanfield.evaluation.scorecard import Forecast, Hits

LEVEL = 0.05
"""A recorded share moved by more than chance where Fisher's exact test says so at this level."""

MARGIN = 0.05
"""A foreseen share moved where it did by more than this."""


def forecast(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Forecast:
    """How well the trends of all cascades were foreseen.

    - Error by horizon: total variation between real and foreseen shares of a window, mean over cascades.
    - Direction: a label's share in a window differs from its warm-up share by more than chance. A guess hits if its
      share lies on the same side, by more than `MARGIN`, of both the counted warm-up share and the one with half a
      count added to each label: so a guess that repeats the warm-up never moves, smoothed or not. On the other
      side it is a false alarm. Without labels in the warm-up there is no direction.
    - Turning points: the curve of warm-up and window shares rose and then fell, or fell and then rose, each by more
      than chance. A guess hits if its own curve turns the same way, by more than `MARGIN` on both sides, in the
      same or a neighbouring window. Its turns that hit nothing are false alarms. The curve of a guess without
      exact distributions wavers by chance, too, so its turns have to be larger than chance as well.

    Fisher's exact test holds its level at any number of actions: at most one in twenty comparisons of shares that
    did not move passes for a move, for every entry alike. Windows in which every decision of a guess failed are left
    out, and for turning points their whole cascade.

    Args:
        cases: Recorded cascades.
        guesses: One entry's guess for each; cascades without one are left out.
    """
    errors: list[list[float]] = [[] for _ in range(WINDOWS)]
    moves, turns = list[Hits](), list[Hits]()
    for case, guess in pairs(cases, guesses):
        trend = _trend(case, guess)
        for horizon, error in enumerate(trend.errors):
            errors[horizon] += [] if np.isnan(error) else [float(error)]
        for label in telling(case.labels):
            moves.append(trend.moves(label))
            turns.append(trend.turns(label))
    return Forecast(
        error_by_horizon=tuple(math.fsum(values) / len(values) if values else None for values in errors),
        direction=_sum(moves),
        turning_points=_sum(turns),
    )


def turning_points(shares: Rows, change: Callable[[int, int], int]) -> list[tuple[int, int]]:
    """Where a curve turns: (place, 1) at a peak and (place, -1) at a trough, in their order.

    Between two turns the curve may pause, or waver by less than a change; its extreme point is the one that turns.

    Args:
        shares: The curve, shape (T,).
        change: (i, j) -> 1, 0 or -1: whether the curve is higher at j than at i, no different, or lower.
    """
    found: list[tuple[int, int]] = []
    direction = high = low = 0  # where the curve is heading, and its extremes since it last turned
    for place in range(1, len(shares)):
        high = place if shares[place] > shares[high] else high
        low = place if shares[place] < shares[low] else low
        if direction >= 0 and change(high, place) < 0:
            found += [(high, 1)] if direction else []
            direction, low = -1, place
        elif direction <= 0 and change(low, place) > 0:
            found += [(low, -1)] if direction else []
            direction, high = 1, place
    return found


@dataclass(frozen=True, eq=False)
class _Trend:
    """One cascade's warm-up and windows."""

    warm_up: Indices
    """Counts, shape (K,)."""
    real: Indices
    """Counts of each window, shape (W, K)."""
    votes: Rows
    """The guess's rows added up over the slots of each window and the replicas, shape (W, K)."""
    exact: bool
    """Whether the votes are probabilities, without chance in them, or labels that were drawn."""

    @property
    def foreseen(self) -> Rows:
        """Shares of each window, shape (W, K); NaN where every decision failed."""
        return shares_of(self.votes)

    @property
    def errors(self) -> list[float]:
        """Total variation of each window."""
        return list(np.abs(shares_of(self.real) - self.foreseen).sum(axis=1) / 2)

    def moves(self, label: int) -> Hits:
        """Whether moves away from the warm-up were foreseen."""
        played = int(self.warm_up.sum())
        if not played:
            return Hits(hits=0, of=0)
        before = int(self.warm_up[label])
        ends = before / played, (before + 0.5) / (played + 0.5 * len(self.warm_up))
        foreseen = self.foreseen[:, label]
        guessed = (foreseen > max(ends) + MARGIN).astype(int) - (foreseen < min(ends) - MARGIN)
        real = np.array([_moved(self.warm_up, window, label) for window in self.real]) * ~np.isnan(foreseen)
        return Hits(
            hits=int((real * guessed > 0).sum()),
            of=int(np.abs(real).sum()),
            false_alarms=int((real * guessed < 0).sum()),
        )

    def turns(self, label: int) -> Hits:
        """Whether turning points were foreseen."""
        start = self.warm_up[None] if self.warm_up.any() else self.real[:0]
        counts, votes = (np.concatenate([start, after]) for after in (self.real, self.votes))
        guess = shares_of(votes)[:, label]
        if np.isnan(guess).any():
            return Hits(hits=0, of=0)

        def foreseen(i: int, j: int) -> int:
            difference = guess[j] - guess[i]
            step = int(difference > MARGIN) - int(difference < -MARGIN)
            return step if self.exact or step == _moved(votes[i], votes[j], label) else 0

        real = turning_points(shares_of(counts)[:, label], lambda i, j: _moved(counts[i], counts[j], label))
        left = turning_points(guess, foreseen)
        hits = 0
        for place, kind in real:
            near = [turn for turn in left if turn[1] == kind and abs(turn[0] - place) <= 1]
            if near:
                left.remove(near[0])  # no turn is counted for two
                hits += 1
        return Hits(hits=hits, of=len(real), false_alarms=len(left))


def _trend(case: Case, guess: Guess) -> _Trend:
    parts, k = windows(case), len(case.labels)
    real = np.array([counts_in(case.roll_out[part], k) for part in parts])
    votes = np.array([np.nan_to_num(guess.rows[:, part]).sum(axis=(0, 1)) for part in parts])
    return _Trend(case.warm_up_counts, real.reshape(-1, k), votes.reshape(-1, k), guess.exact)


def _moved(first: Indices | Rows, second: Indices | Rows, label: int) -> int:
    return _change(int(first[label]), int(first.sum()), int(second[label]), int(second.sum()))


@lru_cache(maxsize=100_000)
def _change(x: int, n: int, y: int, m: int) -> int:
    """1 or -1 where y of m is a higher or lower share than x of n by more than chance, else 0."""
    from scipy.stats import fisher_exact  # takes half a second to import

    if fisher_exact(np.array([[x, n - x], [y, m - y]])).pvalue >= LEVEL:
        return 0
    return 1 if y * n > x * m else -1


def _sum(parts: Sequence[Hits]) -> Hits:
    return Hits(
        hits=sum(part.hits for part in parts),
        of=sum(part.of for part in parts),
        false_alarms=sum(part.false_alarms for part in parts),
    )
