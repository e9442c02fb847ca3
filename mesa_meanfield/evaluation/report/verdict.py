"""What an evaluation's figures say, in a sentence that claims no more than they do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesa_meanfield.evaluation.report.table import figure, interval, known, lowest
from mesa_meanfield.evaluation.scorecard import Agreement, Card, Entry, Paired

LOW_KAPPA = 0.4
"""Below it agreement is fair at best (Landis and Koch 1977, doi 10.2307/2529310)."""


@dataclass(frozen=True)
class Difference:
    """One simulation against one rival on the same cascades; below zero the simulation has the lower KL."""

    simulation: str
    rival: str
    mean: float | None
    ci: tuple[float | None, float | None]

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        low, high = (known(end) for end in self.ci)
        return low is not None and high is not None and (low > 0 or high < 0)

    @property
    def won(self) -> bool:
        """Whether the simulation is better, with an interval that excludes zero."""
        return self.decided and (known(self.ci[1]) or 0) < 0


def winner(pair: Paired) -> str | None:
    """The better one of a pair, where it is named and the interval does exclude zero."""
    low, high = (known(end) for end in pair.ci)
    if low is None or high is None or low <= 0 <= high:
        return None
    return pair.winner


def against(card: Card, rival: str) -> list[Difference]:
    """The paired differences in KL of all simulations that were compared with a rival."""
    simulations = {entry.name for entry in card.entries if entry.kind == "simulation"}
    found = []
    for pair in card.paired:
        if pair.metric != "kl":
            continue
        if pair.b == rival and pair.a in simulations:
            found.append(Difference(pair.a, rival, pair.difference, pair.ci))
        elif pair.a == rival and pair.b in simulations:
            low, high = (None if end is None else -end for end in pair.ci)
            mean = None if pair.difference is None else -pair.difference
            found.append(Difference(pair.b, rival, mean, (high, low)))
    return found


def verdict(card: Card) -> str:
    """Which entry has the lowest KL, how far it is from the noise floor, and whether the best rival is beaten."""
    first = lowest(card)
    if first is None:
        return f"No entry has a KL, so nothing can be said about {card.dimension}."
    simulation, rival = lowest(card, "simulation"), lowest(card, "rival")
    return f"{_nearest(card, first)}; {_beaten(card, simulation, rival)}."


def agreement_warning(agreement: Sequence[Agreement]) -> str:
    """What a reader must know of labels that an annotator gave; empty where it agrees well with gold labels."""
    if not agreement:
        return "The annotator was not compared with gold labels: nobody knows how far its labels can be trusted."
    unknown = [one for one in agreement if known(one.kappa) is None]
    low = [one for one in agreement if (kappa := known(one.kappa)) is not None and kappa < LOW_KAPPA]
    said = []
    if low:
        figures = _list(f"{one.dimension} {figure(one.kappa, 2)}" for one in low)
        said.append(
            f"Cohen's kappa with gold labels is low ({figures}; below {LOW_KAPPA} agreement is fair at best): "
            "figures on annotated labels say as much about the annotator as about the crowd."
        )
    if unknown:
        said.append(f"Agreement with gold labels is unknown for {_list(one.dimension for one in unknown)}.")
    return " ".join(said)


def _nearest(card: Card, first: Entry) -> str:
    kl, floor = first.kl or 0.0, card.noise_floor
    gap = kl - floor
    where = (
        f"{figure(gap)} above the noise floor of {figure(floor)}"
        if gap > 0
        else f"not above the noise floor of {figure(floor)}"
    )
    what = "simulation" if first.kind == "simulation" else "rival"
    among = f"Of {len(card.entries)} entries the {what} {first.name}" if len(card.entries) > 1 else first.name
    return f"{among} has the lowest KL on {card.dimension}, {figure(kl)} nats, {where}"


def _beaten(card: Card, simulation: Entry | None, rival: Entry | None) -> str:
    if simulation is None:
        return "no simulation has a KL, so none can be compared with a rival"
    if rival is None:
        return "there is no rival with a KL to compare it with"
    compared = {difference.simulation: difference for difference in against(card, rival.name)}
    if not compared:
        return f"no simulation was compared with the best rival ({rival.name}) cascade by cascade"
    best = f"the best rival ({rival.name})"
    won = [difference for difference in compared.values() if difference.won]
    if won:
        verb = "beats" if len(won) == 1 else "beat"
        return f"{_list(_told(one) for one in won)} {verb} {best}, intervals excluding zero"
    if all(known(end) is None for one in compared.values() for end in one.ci):
        return f"whether any simulation beats {best} is open: there are too few cascades for an interval"
    shown = compared.get(simulation.name)
    beyond = ", worse beyond chance" if shown is not None and shown.decided else ""
    return f"no simulation beats {best} with an interval that excludes zero" + (
        "" if shown is None else f": {_told(shown)}{beyond}"
    )


def _told(one: Difference) -> str:
    ends = interval(one.ci, sign=True)
    return f"{one.simulation} ({figure(one.mean, sign=True)} nats, 95\N{NO-BREAK SPACE}% interval {ends})"


def _list(texts: Iterable[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last
