"""Cases and guesses spelt as letters: each letter is an action with that label, a dot one without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mesa_meanfield.evaluation.cases import UNLABELLED, Case, Guess, Indices


def spelt(letters: str, labels: str = "ab") -> Indices:
    """Indices of labels."""
    return np.array([UNLABELLED if letter == "." else labels.index(letter) for letter in letters], dtype=np.int64)


def case(warm_up: str, roll_out: str, labels: str = "ab", *, key: str = "c1", domain: str = "news") -> Case:
    """A recorded cascade."""
    return Case(
        cascade=key,
        event=key,
        domain=domain,
        language="en",
        dimension="letter",
        labels=tuple(labels),
        warm_up=spelt(warm_up, labels),
        roll_out=spelt(roll_out, labels),
    )


def rule(*rows: Sequence[float], name: str = "rule") -> Guess:
    """A rival's guess: one row of probabilities for each slot."""
    return Guess(name, np.array([rows], dtype=float), np.empty((0, len(rows)), dtype=np.int64))


def steady(row: Sequence[float], n: int, name: str = "steady") -> Guess:
    """A rival's guess: the same row for each of n slots."""
    return rule(*[row] * n, name=name)


def drawn(*replicas: str, labels: str = "ab", exact: bool = False, name: str = "drawn") -> Guess:
    """A simulation certain of what it drew, replica by replica; a dot is a decision that failed."""
    sampled = np.stack([spelt(letters, labels) for letters in replicas])
    rows = np.eye(len(labels))[sampled]
    rows[sampled == UNLABELLED] = np.nan
    return Guess(name, rows, sampled, exact)
