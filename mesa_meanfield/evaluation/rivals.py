"""What a simulation must beat: simple forecasts from the warm-up and from training cascades.

None sees more of a roll-out than its length. The names are those of a scorecard's entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from mesa_meanfield.cascades.dimensions import counts_of
from mesa_meanfield.data import Cascade, cut, event_of, normalise
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.cases import Case, Guess, Rows, case_of
from mesa_meanfield.evaluation.dynamics import SIR, DeGroot, Dynamics, fitted, stacked
from mesa_meanfield.evaluation.metrics import kl, smoothed

Counts = Mapping[str, int]
Shares = Mapping[str, float]

UNTRAINED_STRENGTH = 0.5
"""Counts per label towards uniform where there is no training data."""


@dataclass(frozen=True)
class Trained:
    """What the rivals know from training cascades."""

    prior: dict[str, float]
    strength: float
    """How many actions of the prior the warm-up is shrunk with."""
    degroot: DeGroot
    sir: SIR


def rivals(case: Case, trained: Trained | None = None) -> list[Guess]:
    """What each rival says of a case, in the order in which a scorecard lists them.

    - uniform: every label alike.
    - prior: the shares in training data; left out without any.
    - persistence: the warm-up's shares, half a count added to each label. It knows nothing but the warm-up,
      so that an empty one leaves the half counts: uniform, as for any count of nothing.
    - persistence_shrunk: the warm-up's shares, drawn to the prior; the prior where the warm-up is empty.
      Without training data it is drawn to uniform by half a count per label, and equals persistence.
    - degroot, sir: see `DeGroot` and `SIR`; without training data from uniform, with round numbers.

    Args:
        case: Its warm-up is looked at, and how long its roll-out is.
        trained: What was learnt from other cascades than the case's.

    Raises:
        ValueError: It was learnt with other labels than the case's.
    """
    known = trained or untrained(case.labels)
    if known.prior.keys() != set(case.labels):
        raise ValueError(f"The rivals were trained on the labels {', '.join(known.prior)}, not {case.labels}")
    counts = dict(zip(case.labels, case.warm_up_counts.tolist(), strict=True))
    shares = {"uniform": uniform(case.labels)}
    if trained is not None:
        shares["prior"] = trained.prior
    shares["persistence"] = smoothed(counts)
    shares["persistence_shrunk"] = persistence_shrunk(counts, known.prior, known.strength)
    still = [_guess(name, case, np.array([of[label] for label in case.labels])) for name, of in shares.items()]
    return [*still, _moving("degroot", case, known.degroot, known), _moving("sir", case, known.sir, known)]


def uniform(labels: Sequence[str]) -> dict[str, float]:
    """Every label alike."""
    return {label: 1 / len(labels) for label in labels}


def prior(train: Iterable[Cascade], dimension: str, labels: Sequence[str]) -> dict[str, float]:
    """The shares of all training actions, with half a count added to each label.

    Half a count keeps a label that the training data lacks possible.
    """
    total = dict.fromkeys(labels, 0.5)
    for cascade in train:
        for label, count in counts_of(cascade.actions, dimension, labels).items():
            total[label] += count
    return normalise(total)


def persistence_shrunk(warm_up: Counts, prior: Shares, strength: float) -> dict[str, float]:
    """The warm-up's shares, drawn to the prior as if ``strength`` actions had come from it."""
    return normalise({label: count + strength * prior[label] for label, count in warm_up.items()})


def train(
    cascades: Sequence[Cascade],
    dimension: str,
    labels: Sequence[str],
    *,
    warm_up: float = 0.3,
    min_actions: int = 15,
) -> Trained:
    """The prior of training cascades, and the strength and the dynamics that fit them best.

    Args:
        cascades: Recorded cascades other than those reported on.
        dimension: What the labels are about.
        labels: All labels.
        warm_up: Share of the actions that comes before the roll-out.
        min_actions: Nothing is fitted to smaller cascades, counted before the warm-up; the prior is of all.

    Raises:
        DataError: No training cascade is large enough.
    """
    known = prior(cascades, dimension, labels)
    cases = _large(cascades, dimension, labels, warm_up, min_actions)
    start = np.array([known[label] for label in labels])
    return Trained(known, _strength(cases, known), fitted(DeGroot, cases, start), fitted(SIR, cases, start))


def untrained(labels: Sequence[str]) -> Trained:
    """What rivals go by without training data: uniform, half a count per label, and round numbers."""
    few = UNTRAINED_STRENGTH * len(labels)
    return Trained(uniform(labels), few, DeGroot(few, weight=0.5, firmness=2), SIR(few, recovery=0.1, penalty=10))


def fit_strength(
    train: Iterable[Cascade],
    dimension: str,
    labels: Sequence[str],
    prior: Shares,
    *,
    warm_up: float = 0.3,
    min_actions: int = 15,
) -> float:
    """The strength with the least mean KL over training cascades.

    Args:
        train: Recorded cascades other than those reported on.
        dimension: What the labels are about.
        labels: All labels.
        prior: What is drawn to.
        warm_up: Share of the actions that comes before the roll-out.
        min_actions: Smaller cascades are left out, counted before the warm-up.

    Returns:
        Between 0.5 and 500 actions.

    Raises:
        DataError: No training cascade is large enough.
    """
    return _strength(_large(train, dimension, labels, warm_up, min_actions), prior)


def _large(
    train: Iterable[Cascade], dimension: str, labels: Sequence[str], warm_up: float, min_actions: int
) -> list[Case]:
    """The training cascades that something can be fitted to."""
    some = (cascade for cascade in train if len(cascade.actions) >= min_actions)
    cases = [case_of(cascade, cut(cascade, warm_up), dimension, labels) for cascade in some]
    labelled = [case for case in cases if case.counts.any()]
    if not labelled:
        raise DataError(f"no training cascade has {min_actions} actions and labels of {dimension!r} to fit on")
    return labelled


def _strength(cases: Sequence[Case], prior: Shares) -> float:
    pairs = [
        (
            dict(zip(case.labels, case.warm_up_counts.tolist(), strict=True)),
            normalise(dict(zip(case.labels, case.counts.tolist(), strict=True))),
        )
        for case in cases
    ]

    def loss(log_strength: float) -> float:
        strength = math.exp(log_strength)
        return math.fsum(kl(real, persistence_shrunk(first, prior, strength)) for first, real in pairs) / len(pairs)

    found = minimize_scalar(loss, bounds=(math.log(0.5), math.log(500)), method="bounded")
    return float(math.exp(found.x))


def _moving(name: str, case: Case, dynamics: Dynamics, trained: Trained) -> Guess:
    start = np.array([trained.prior[label] for label in case.labels])
    seen = stacked([case.warm_up], len(case.labels))
    return _guess(name, case, dynamics.curves(seen, start, len(case.roll_out))[0])


def _guess(name: str, case: Case, shares: Rows) -> Guess:
    """The same shares of shape (K,) in every slot, or each slot's own of shape (n, K)."""
    n = len(case.roll_out)
    rows = np.broadcast_to(shares, (1, n, len(case.labels))).copy()
    return Guess(name, rows, np.empty((0, n), dtype=np.int64))


# --- Folds: what may be learnt from, event by event ---------------------------------------------------


def folds(
    cascades: Sequence[Cascade], extra_training: Iterable[Cascade] = (), *, among: bool = True
) -> dict[str, tuple[Cascade, ...]]:
    """For each event, the cascades that its rivals may learn from: those of all other events.

    A cascade without event is one of its own, named by its id, as in `Case`. A cascade that stands in both
    arguments counts once; what has an event's name or an id of one of its cascades never trains for it, even
    where it comes from another data set.

    Args:
        cascades: Those that are reported on.
        extra_training: Others to learn from.
        among: Whether the reported ones are learnt from, too, each for the other events.
    """
    every = {(one.dataset, one.id): one for one in (*extra_training, *(cascades if among else ()))}
    held: dict[str, set[str]] = {}
    for one in cascades:
        held.setdefault(event_of(one), set()).add(one.id)
    return {
        event: tuple(one for one in every.values() if event_of(one) != event and one.id not in ids)
        for event, ids in held.items()
    }


def train_folds(
    folds: Mapping[str, Sequence[Cascade]],
    dimension: str,
    labels: Sequence[str],
    *,
    warm_up: float = 0.3,
    min_actions: int = 15,
) -> dict[str, Trained]:
    """`train` for each event; what has the same training cascades is fitted once.

    Raises:
        DataError: For an event no training cascade is large enough.
    """
    known: dict[tuple[tuple[str, str], ...], Trained] = {}
    found: dict[str, Trained] = {}
    for event, cascades in folds.items():
        key = tuple((one.dataset, one.id) for one in cascades)
        if key not in known:
            try:
                known[key] = train(cascades, dimension, labels, warm_up=warm_up, min_actions=min_actions)
            except DataError as error:
                raise DataError(f"other events than {event!r}: {error}") from None
        found[event] = known[key]
    return found
