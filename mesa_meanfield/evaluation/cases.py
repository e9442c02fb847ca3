"""What every metric sees: the labels of a recorded cascade, and what somebody says they are.

A simulation and a rival are the same type, `Guess`, so that every metric treats them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action, Cascade, Cut, event_of

Indices = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float64]

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Case:
    """One dimension of a recorded cascade, cut into warm-up and roll-out. Labels are indices into ``labels``."""

    cascade: str
    event: str
    """What splits and folds go by: the cascade's event, else its own id."""
    domain: str
    language: str
    dimension: str
    labels: tuple[str, ...]
    warm_up: Indices
    """The played actions' labels in their order, shape (w,); `UNLABELLED` where there is none."""
    roll_out: Indices
    """Those of the recorded actions in whose place others were simulated, shape (n,)."""

    @property
    def warm_up_counts(self) -> Indices:
        """How often each label was played, shape (K,)."""
        return counts_in(self.warm_up, len(self.labels))

    @property
    def counts(self) -> Indices:
        """How often each label stands in the recorded roll-out, shape (K,)."""
        return counts_in(self.roll_out, len(self.labels))


@dataclass(frozen=True, eq=False)
class Guess:
    """What a simulation or a rival says of a case's roll-out, action by action."""

    name: str
    rows: Rows
    """The probability of each label, shape (R, n, K) for R replicas; NaN where a decision failed."""
    sampled: Indices
    """The labels that were drawn, shape (R, n); `UNLABELLED` where there is none. Shape (0, n) for a rival."""
    exact: bool = True
    """Whether the rows are the exact distributions; False where they only repeat what was drawn."""
    without: int = 0
    """How many decisions did not fail and yet have no such label, as a bare repost has no text to be labelled."""

    @property
    def failures(self) -> int:
        """How many decisions failed."""
        return int((self.sampled == UNLABELLED).sum()) - self.without

    @property
    def simulated(self) -> bool:
        """Whether somebody was simulated, or a rule gave probabilities alone."""
        return len(self.sampled) > 0

    @property
    def expected(self) -> Rows:
        """The mean row of each slot over the replicas, shape (n, K); NaN where the decision failed in all of them."""
        known = ~np.isnan(self.rows).any(axis=-1, keepdims=True)  # (R, n, 1)
        size = np.broadcast_to(known.sum(axis=0), self.rows.shape[1:])
        total = np.where(known, self.rows, 0).sum(axis=0)
        mean: Rows = np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)
        return mean


def case_of(cascade: Cascade, cut: Cut, dimension: str, labels: Sequence[str]) -> Case:
    """A recorded cascade as metrics see it."""
    return Case(
        cascade=cascade.id,
        event=event_of(cascade),
        domain=cascade.domain,
        language=cascade.language,
        dimension=dimension,
        labels=tuple(labels),
        warm_up=indices_of((action for tick in cut.warm_up for action in tick), dimension, labels),
        roll_out=indices_of((action for tick in cut.roll_out for action in tick), dimension, labels),
    )


def guess_of(name: str, replicas: Sequence[Sequence[Action]], dimension: str, labels: Sequence[str]) -> Guess:
    """What the simulated roll-outs of one cascade say.

    A decision whose distribution is not known is certain of its label; where no decision of any replica
    has a distribution over these labels, the guess is not exact.

    Args:
        name: Of the simulation.
        replicas: The simulated roll-out actions of each replica, all of one length.
        dimension: Whose labels.
        labels: All of them.
    """
    sampled = np.stack([indices_of(actions, dimension, labels) for actions in replicas])
    rows = np.full((*sampled.shape, len(labels)), np.nan)
    exact = False
    for r, actions in enumerate(replicas):
        for i, action in enumerate(actions):
            if sampled[r, i] == UNLABELLED:
                continue
            known = action.trace.distribution if action.trace else None
            if known is not None and known.keys() == set(labels):
                rows[r, i] = [known[label] for label in labels]
                exact = True
            else:
                rows[r, i] = np.arange(len(labels)) == sampled[r, i]
    failed = sum(one.failed for actions in replicas for one in actions)
    return Guess(name, rows, sampled, exact, int((sampled == UNLABELLED).sum()) - failed)


def pairs(cases: Sequence[Case], guesses: Sequence[Guess | None]) -> Iterator[tuple[Case, Guess]]:
    """The cases that have a guess, each with it."""
    return ((case, guess) for case, guess in zip(cases, guesses, strict=True) if guess is not None)


def indices_of(actions: Iterable[Action], dimension: str, labels: Sequence[str]) -> Indices:
    """The actions' labels as indices, `UNLABELLED` where there is none."""
    place: dict[str | None, int] = {label: index for index, label in enumerate(labels)}
    return np.array([place.get(label_of(action, dimension), UNLABELLED) for action in actions], dtype=np.int64)


def counts_in(indices: Indices, k: int) -> Indices:
    """How often each of k labels stands there, shape (k,)."""
    return np.bincount(indices[indices != UNLABELLED], minlength=k).astype(np.int64)
