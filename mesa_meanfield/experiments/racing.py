"""Candidates on their way through the rounds of a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mesa_meanfield.evaluation.intervals import FEWEST
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.estimates import differences, mean, student
from mesa_meanfield.experiments.objectives import Censored, Objective
from mesa_meanfield.experiments.replicas import Job, Setting
from mesa_meanfield.experiments.runs import Ensemble, FailedRun, RunResult, Values
from mesa_meanfield.protocols import Intervention


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate's place."""

    intervention: str
    """The candidate's name."""
    objective: float | None
    """The mean over its replicas; None where no run of it has a value."""
    ci: Interval
    """Student's interval of that mean, at the plan's confidence; nulls for fewer than two values."""
    replicas: int
    """How many runs have a value."""
    without: int
    """How many have none: they failed, or the objective said NaN."""
    censored: int
    """How many values are only a lower bound, as the run ended before what was timed."""
    behind: float | None
    """The best one's objective less this one's, over the replicas that both have; 0 for the best."""
    behind_ci: Interval
    """Student's interval of that paired difference, at the plan's ``look_confidence``; nulls for the best."""
    rounds: int
    """In how many rounds it took part: fewer than others where it was given up."""
    tokens: int
    """Asked in its runs, failed ones included."""


@dataclass
class Race:
    """Who is still in it, and what was run so far."""

    setting: Setting
    candidates: Mapping[str, Sequence[Intervention]]
    objective: Objective
    maximise: bool
    look: float
    """The confidence of a paired interval."""
    budget: int | None
    """Tokens."""
    alive: list[str] = field(default_factory=list)
    """Those who go on, after a round the best first."""
    replicas: int = 0
    """How many each of them was brought to."""
    rounds: dict[str, int] = field(default_factory=dict)
    """Candidate -> in how many rounds it ran."""
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    """Candidate -> replica -> the objective, where it is known."""
    runs: list[RunResult] = field(default_factory=list)
    failed: list[FailedRun] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    """What ended the failed ones."""

    def __post_init__(self) -> None:
        self.alive = list(self.candidates)
        self.rounds = dict.fromkeys(self.candidates, 0)
        self.values = {name: {} for name in self.candidates}

    @property
    def tokens(self) -> int:
        """How many were asked so far."""
        return _asked(self.runs) + _asked(self.failed)

    def halve(self) -> None:
        """Keep the better half, and at least two."""
        self.alive = self.alive[: max(2, math.ceil(len(self.alive) / 2))]

    def run_to(self, target: int) -> bool:
        """Bring everyone to so many replicas, or to as many as the budget allows; whether it was enough for all."""
        jobs = [
            Job(name, r, tuple(self.candidates[name])) for r in range(self.replicas, target) for name in self.alive
        ]
        if self.budget is not None and not self.runs and not self.failed:
            self._run(jobs[:1])  # nobody knows yet what a run costs
            jobs = jobs[1:]
        fitting = self._fitting(jobs)
        self._run(fitting)
        for name in {job.arm for job in fitting}:
            self.rounds[name] += 1
        self.alive.sort(key=self._goodness, reverse=True)
        self.replicas = target
        return len(fitting) == len(jobs)

    def separated(self) -> bool:
        """Whether the best is better than everyone who is still there, beyond chance."""
        first, *others = self.alive
        return bool(others) and all(self._is_behind(name, first) for name in others)

    def order(self) -> list[str]:
        """Everyone, those without any value last, those in more rounds before others, the better ones first."""

        def place(name: str) -> tuple[bool, int, float]:
            return bool(self.values[name]), self.rounds[name], self._goodness(name)

        return sorted(self.candidates, key=place, reverse=True)

    def ranked(self, name: str, best: str, confidence: float) -> Ranked:
        """What a ranking says of a candidate.

        Args:
            name: Of the candidate.
            best: The one it is compared with.
            confidence: Of its own interval.
        """
        values = self.values[name]
        runs = [run for run in self.runs if run.arm == name]
        failed = [run for run in self.failed if run.arm == name]
        behind = self._behind(name, best)
        objective = self.objective
        return Ranked(
            intervention=name,
            objective=mean(list(values.values())),
            ci=student(list(values.values()), confidence),
            replicas=len(values),
            without=len(runs) - len(values) + len(failed),
            censored=sum(objective.censored(run) for run in runs) if isinstance(objective, Censored) else 0,
            behind=mean(behind),
            behind_ci=(None, None) if name == best else student(behind, self.look),
            rounds=self.rounds[name],
            tokens=_asked(runs) + _asked(failed),
        )

    def ensemble(self) -> Ensemble:
        """All runs, candidate by candidate."""
        order = {name: place for place, name in enumerate(self.candidates)}
        runs = sorted(self.runs, key=lambda one: (order[one.arm], one.replica))
        failed = sorted(self.failed, key=lambda one: (order[one.arm], one.replica))
        return Ensemble(tuple(runs), tuple(failed), self.setting.ticks)

    def _fitting(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that the rest of the budget is enough for, each replica with all candidates or with none."""
        spent, made = self.tokens, len(self.runs) + len(self.failed)
        if self.budget is None or not spent:
            return list(jobs)
        affordable = math.floor((self.budget - spent) * made / spent)
        last = {job.replica: count for count, job in enumerate(jobs, 1)}  # replica -> how many runs end with it
        return [job for job in jobs if last[job.replica] <= affordable]

    def _run(self, jobs: Sequence[Job]) -> None:
        made = self.setting.run(jobs, self.errors)
        self.runs += made.runs
        self.failed += made.failed
        for run in made.runs:
            value = float(self.objective(run))
            if math.isfinite(value):
                self.values[run.arm][run.replica] = value

    def _goodness(self, name: str) -> float:
        found = mean(list(self.values[name].values()))
        if found is None:
            return -math.inf
        return found if self.maximise else -found

    def _behind(self, name: str, best: str) -> Values:
        """The best one's values less these, over the replicas that both have."""
        both = sorted(self.values[best].keys() & self.values[name].keys())
        first, second = (np.array([self.values[one][r] for r in both], dtype=np.float64) for one in (best, name))
        return differences(first, second)

    def _is_behind(self, name: str, best: str) -> bool:
        behind = self._behind(name, best)
        low, high = student(behind, self.look)
        if len(behind) < FEWEST or low is None or high is None:
            return False
        return low > 0 if self.maximise else high < 0


def _asked(runs: Sequence[RunResult | FailedRun]) -> int:
    return sum(run.usage.tokens_asked for run in runs)
