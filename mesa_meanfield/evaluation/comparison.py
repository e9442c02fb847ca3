"""One simulated cascade against the real one, with the noise floor and the rivals beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesa_meanfield.cascades.dimensions import counts_of
from mesa_meanfield.data import Action, Cut, normalise
from mesa_meanfield.errors import DataError, ReplyError
from mesa_meanfield.evaluation import rivals
from mesa_meanfield.evaluation.cases import guess_of
from mesa_meanfield.evaluation.metrics import guessed_shares, js, kl, noise_floor


@dataclass(frozen=True)
class Entry:
    """One guess at the real shares."""

    name: str
    shares: dict[str, float]
    kl: float
    """KL(real || guess) in nats."""
    js: float
    """Jensen-Shannon distance."""


@dataclass(frozen=True)
class Comparison:
    """How close the simulated roll-out came to the real one."""

    labels: tuple[str, ...]
    real: dict[str, float]
    """Shares of the real roll-out, not smoothed."""
    simulated: Entry
    noise_floor: float
    """The KL in nats that even a perfect simulation gets at this number of actions."""
    rivals: tuple[Entry, ...]
    failures: int
    """Simulated decisions that failed and count nowhere."""


def real_counts(cut: Cut, dimension: str, labels: Sequence[str]) -> dict[str, int]:
    """How often each label stands in the recorded roll-out.

    Raises:
        DataError: It has none, so that there is nothing to compare.
    """
    counts = counts_of((action for tick in cut.roll_out for action in tick), dimension, labels)
    if not sum(counts.values()):
        raise DataError(f"no action after the warm-up has a label of dimension {dimension!r}; nothing to compare")
    return counts


def compare(
    cut: Cut,
    simulated: Sequence[Action],
    dimension: str,
    labels: Sequence[str],
    *,
    name: str = "simulated",
    trained: rivals.Trained | None = None,
) -> Comparison:
    """Compare a roll-out with the record.

    Args:
        cut: The recorded cascade, cut into warm-up and roll-out.
        simulated: The simulated roll-out actions.
        dimension: What is compared.
        labels: All its labels.
        name: Of the simulation.
        trained: What the rivals know from training cascades; without it they shrink to uniform.

    Raises:
        DataError: There is nothing to compare.
        ReplyError: Every simulated decision failed.
    """
    counts = real_counts(cut, dimension, labels)
    real = normalise(counts)
    warm_up_counts = counts_of((action for tick in cut.warm_up for action in tick), dimension, labels)
    even = rivals.uniform(labels)
    guesses = {"uniform": even}
    if trained is not None:
        known, strength = trained.prior, trained.strength
        guesses["prior"] = known
    else:
        known, strength = even, rivals.UNTRAINED_STRENGTH * len(labels)
    guesses["persistence_shrunk"] = rivals.persistence_shrunk(warm_up_counts, known, strength)
    return Comparison(
        labels=tuple(labels),
        real=real,
        simulated=_entry(name, real, simulated_shares(simulated, dimension, labels)),
        noise_floor=noise_floor(counts, known),
        rivals=tuple(_entry(rival, real, shares) for rival, shares in guesses.items()),
        failures=sum(one.failed for one in simulated),
    )


def simulated_shares(simulated: Sequence[Action], dimension: str, labels: Sequence[str]) -> dict[str, float]:
    """What a simulation says the shares are: the mean of its exact distributions.

    A decision without one, where the model could not be scored, is certain of its label. Where no
    decision has one, the labels' counts with half a count added to each.

    Raises:
        ReplyError: There is no decision without failure.
    """
    shares = guessed_shares(guess_of("", [simulated], dimension, labels), labels)
    if shares is None:
        raise ReplyError(
            f"None of the {len(simulated)} simulated decisions can be used; see failure in decisions.jsonl"
        )
    return shares


def _entry(name: str, real: dict[str, float], shares: dict[str, float]) -> Entry:
    return Entry(name, shares, kl(real, shares), js(real, shares))
