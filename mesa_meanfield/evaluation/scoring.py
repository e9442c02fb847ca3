"""From cases and guesses to the scorecard: every entry's figures, and paired differences over cascades."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mesa_meanfield.data import normalise
from mesa_meanfield.evaluation.cases import Case, Guess
from mesa_meanfield.evaluation.conformal import widened
from mesa_meanfield.evaluation.curves import coverage, dtw
from mesa_meanfield.evaluation.decisions import decided, surprisals
from mesa_meanfield.evaluation.forecasts import forecast
from mesa_meanfield.evaluation.intervals import mean_interval, paired
from mesa_meanfield.evaluation.metrics import guessed_shares, js, kl, noise_floor, wasserstein
from mesa_meanfield.evaluation.scorecard import Card, CascadeRow, Domain, Entry, Interval, Paired, Spent
from mesa_meanfield.seeds import derive

RIVALS = ("uniform", "prior", "persistence", "persistence_shrunk", "degroot", "sir")
"""The order of the rivals on the scorecard; others follow, then the simulations as they were given."""

PAIRED = ("kl", "js", "wasserstein", "nll")
"""What pairs of entries are compared by; less is better in each."""

Guesses = Mapping[str, Sequence[Guess | None]]
"""Entry -> its guess at each case, None where it has none."""


@dataclass(frozen=True)
class Figures:
    """One guess at one cascade."""

    shares: dict[str, float]
    kl: float
    """Infinite where something real was impossible."""
    js: float
    wasserstein: float
    nll: float | None
    """Mean over slots and replicas, infinite where something real was impossible; None without exact rows."""
    dtw: float | None


def card(
    cases: Sequence[Case],
    guesses: Guesses,
    *,
    priors: Sequence[Mapping[str, float]],
    positions: Mapping[str, float] | None = None,
    spent: Mapping[str, Spent] | None = None,
    nll_token: Mapping[str, float | None] | None = None,
    seed: int = 0,
) -> Card:
    """Score all entries on the same cascades. The order of the cascades changes nothing.

    Args:
        cases: One dimension of the recorded cascades, each with a label after its warm-up.
        guesses: Entry -> its guess at each case, in the order of the cases. Where it is None or every decision
            failed, the cascade has no figure for that entry: it enters none of its means, and none of its paired
            differences. Whatever has sampled labels is a simulation, and so is an entry without any guess.
        priors: For each case, what its noise floor is shrunk to: label -> share in its training data, or uniform.
        positions: Label -> where it lies on its scale, where the dimension has one.
        spent: Entry -> what its roll-outs cost.
        nll_token: Entry -> -log P(token) per token of the real texts.
        seed: Of the bootstrap and of the noise floor's samples.

    Raises:
        ValueError: There is no case, one has no label after its warm-up, or sizes do not match.
    """
    _check(cases, guesses, priors)
    order = sorted(range(len(cases)), key=lambda place: (cases[place].event, cases[place].cascade))
    cases, priors = [cases[place] for place in order], [priors[place] for place in order]
    guesses = {name: [guesses[name][place] for place in order] for name in _names(guesses)}
    scored = [_Scored.of(name, cases, given, positions) for name, given in guesses.items()]
    floors = [
        noise_floor(_counts(case), prior, seed=derive(seed, "noise floor", case.cascade))
        for case, prior in zip(cases, priors, strict=True)
    ]
    return Card(
        dimension=cases[0].dimension,
        labels=cases[0].labels,
        cascades=len(cases),
        actions=sum(int(case.counts.sum()) for case in cases),
        noise_floor=math.fsum(floors) / len(floors),
        entries=tuple(
            _entry(one, cases, (spent or {}).get(one.name), (nll_token or {}).get(one.name), seed) for one in scored
        ),
        paired=tuple(_all_paired(scored, seed)),
    )


def rows(
    cases: Sequence[Case], guesses: Guesses, positions: Mapping[str, float] | None = None
) -> Iterator[CascadeRow]:
    """Every entry on every cascade, cascade by cascade in the order given; arguments as in `card`."""
    for place, case in enumerate(cases):
        real, n = normalise(_counts(case)), int(case.counts.sum())
        for name in _names(guesses):
            found = figures(case, guesses[name][place], positions)
            yield CascadeRow(
                cascade=case.cascade,
                event=case.event,
                name=name,
                kl=_mean([found.kl]) if found else None,
                n=n,
                js=found.js if found else None,
                nll=_mean([found.nll]) if found and found.nll is not None else None,
                shares=found.shares if found else None,
                real=real,
            )


def figures(case: Case, guess: Guess | None, positions: Mapping[str, float] | None = None) -> Figures | None:
    """One guess at one cascade; None where there is no guess or every decision failed.

    Args:
        case: The recorded cascade, with a label after its warm-up.
        guess: What is said of it.
        positions: Label -> where it lies on its scale, where the dimension has one.
    """
    shares = None if guess is None else guessed_shares(guess, case.labels)
    if guess is None or shares is None:
        return None
    real = normalise(_counts(case))
    lost = surprisals(case, guess) if guess.exact else ()
    return Figures(
        shares=shares,
        kl=kl(real, shares),
        js=js(real, shares),
        wasserstein=wasserstein(real, shares, positions),
        nll=math.fsum(lost) / len(lost) if len(lost) else None,
        dtw=dtw(case, guess),
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """One entry on all cases."""

    name: str
    kind: Literal["rival", "simulation"]
    guesses: Sequence[Guess | None]
    """None where every decision failed, too."""
    figures: Sequence[Figures | None]
    failures: int

    @classmethod
    def of(
        cls, name: str, cases: Sequence[Case], guesses: Sequence[Guess | None], positions: Mapping[str, float] | None
    ) -> _Scored:
        given = [guess for guess in guesses if guess is not None]
        found = [figures(case, guess, positions) for case, guess in zip(cases, guesses, strict=True)]
        return cls(
            name=name,
            kind="simulation" if _simulated(guesses) else "rival",
            guesses=[guess if one else None for guess, one in zip(guesses, found, strict=True)],
            figures=found,
            failures=sum(guess.failures for guess in given),
        )

    def values(self, figure: str) -> dict[int, float]:
        """Place of the case -> the figure, where there is one."""
        found = {place: getattr(one, figure) for place, one in enumerate(self.figures) if one is not None}
        return {place: value for place, value in found.items() if value is not None}


def _entry(one: _Scored, cases: Sequence[Case], spent: Spent | None, nll_token: float | None, seed: int) -> Entry:
    mean = {name: _mean(list(one.values(name).values())) for name in ("kl", "js", "wasserstein", "dtw")}
    foreseen = decided(cases, one.guesses)
    by_domain: dict[str, list[float]] = {}
    for place, value in one.values("kl").items():
        by_domain.setdefault(cases[place].domain, []).append(value)
    return Entry(
        name=one.name,
        kind=one.kind,
        cascades=len(one.values("kl")),
        **mean,
        kl_ci=_interval(list(one.values("kl").values()), seed),
        f1_macro=foreseen.f1_macro,
        f1_micro=foreseen.f1_micro,
        nll=None if foreseen.nll is None else _mean([foreseen.nll]),
        nll_token=nll_token,
        calibration_error=foreseen.calibration_error,
        reliability=foreseen.reliability,
        forecast=forecast(cases, one.guesses),
        coverage=coverage(cases, one.guesses),
        widened=widened(cases, one.guesses),
        failures=one.failures,
        spent=spent,
        by_domain=tuple(
            Domain(domain=domain, cascades=len(values), kl=_mean(values), kl_ci=_interval(values, seed))
            for domain, values in sorted(by_domain.items())
        ),
    )


def _all_paired(scored: Sequence[_Scored], seed: int) -> Iterator[Paired]:
    """Each simulation against each rival and each later simulation, wherever they share a cascade."""
    simulations = [one for one in scored if one.kind == "simulation"]
    rivals = [one for one in scored if one.kind == "rival"]
    for place, a in enumerate(simulations):
        for b in (*rivals, *simulations[place + 1 :]):
            for figure in PAIRED:
                first, second = a.values(figure), b.values(figure)
                if common := sorted(first.keys() & second.keys()):
                    values = [first[i] for i in common], [second[i] for i in common]
                    yield _paired(a.name, b.name, figure, *values, seed)


def _paired(a: str, b: str, figure: str, first: list[float], second: list[float], seed: int) -> Paired:
    difference: float | None = None
    ends: Interval = (None, None)
    if math.isfinite(math.fsum(first) + math.fsum(second)):
        difference, ends = paired(first, second, seed=seed)
    low, high = ends
    winner = None
    if low is not None and high is not None and not low <= 0 <= high:
        winner = a if high < 0 else b
    return Paired(a=a, b=b, metric=figure, cascades=len(first), difference=difference, ci=ends, winner=winner)


def _mean(values: Sequence[float]) -> float | None:
    """None where there is nothing, or something infinite."""
    mean = math.fsum(values) / len(values) if values else math.inf
    return mean if math.isfinite(mean) else None


def _interval(values: Sequence[float], seed: int) -> Interval:
    return (None, None) if _mean(values) is None else mean_interval(values, seed=seed)


def _counts(case: Case) -> dict[str, int]:
    return dict(zip(case.labels, case.counts.tolist(), strict=True))


def _simulated(guesses: Sequence[Guess | None]) -> bool:
    """A rule always says something, so an entry that never does is a simulation that failed."""
    return all(guess is None or guess.simulated for guess in guesses)


def _names(guesses: Guesses) -> list[str]:
    """The rivals in their order, then the simulations in that given."""

    def place(name: str) -> int:
        if _simulated(guesses[name]):
            return len(RIVALS) + 1
        return RIVALS.index(name) if name in RIVALS else len(RIVALS)

    return sorted(guesses, key=place)


def _check(cases: Sequence[Case], guesses: Guesses, priors: Sequence[Mapping[str, float]]) -> None:
    if not cases:
        raise ValueError("There is no case to score")
    if len(priors) != len(cases):
        raise ValueError(f"{len(cases)} cases but {len(priors)} priors; give one for each")
    for case in cases:
        if (case.dimension, case.labels) != (cases[0].dimension, cases[0].labels):
            raise ValueError(f"Cascade {case.cascade!r} has other labels than {cases[0].cascade!r}; score them apart")
        if not case.counts.any():
            raise ValueError(f"Cascade {case.cascade!r} has no label after its warm-up; leave it out")
    for name, given in guesses.items():
        if len(given) != len(cases):
            raise ValueError(f"{len(cases)} cases but {len(given)} guesses of {name!r}; give one or None for each")
        for case, guess in zip(cases, given, strict=True):
            size = (len(case.roll_out), len(case.labels))
            if guess is not None and (came := guess.rows.shape[1:]) != size:
                raise ValueError(f"{name!r} at cascade {case.cascade!r}: rows of {came}, expected {size}")
