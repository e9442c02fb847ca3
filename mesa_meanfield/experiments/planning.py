"""The best of several interventions, by successive halving over replicas.

All candidates start with few replicas, the better half goes on with twice as many, and so on: Jamieson and
Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization, AISTATS, 240-248. Replica
r has the same random numbers with every candidate, so that candidates are compared by paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mesa_meanfield.display import Shown
from mesa_meanfield.evaluation.quantiles import check_confidence
from mesa_meanfield.experiments.objectives import Objective
from mesa_meanfield.experiments.racing import Race, Ranked
from mesa_meanfield.experiments.replicas import ModelFactory, Setting, Shared, at_least_one
from mesa_meanfield.experiments.runs import Ensemble
from mesa_meanfield.interventions import check_ticks
from mesa_meanfield.protocols import Intervention

if TYPE_CHECKING:
    import pandas as pd

Stopped = Literal["separated", "budget", "replicas", "failed"]


@dataclass(frozen=True)
class Plan(Shown):
    """A ranking of candidates, the best first."""

    _shown_by: ClassVar = "mesa_meanfield.experiments.report.notebook:plan_html"
    ranking: tuple[Ranked, ...]
    """Those that went on longest first; of those, the better ones."""
    stopped: Stopped
    why: str
    """The same in words."""
    confidence: float
    """Of the objectives' intervals, and of a claim that the first is better than all that it went on with."""
    look_confidence: float
    """Of each paired interval: stricter, so that all looks at all candidates together keep the confidence."""
    targets: tuple[int, ...]
    """How many replicas each round was to bring those in it to."""
    tokens: int
    """Asked in all runs."""
    maximise: bool
    ensemble: Ensemble
    """All runs; each candidate is an arm."""

    def __repr__(self) -> str:
        return f"<Plan: {', '.join(one.intervention for one in self.ranking)}; {self.why}>"

    @property
    def best(self) -> str:
        """The first one's name; whether it is the best beyond chance is what `stopped` says."""
        return self.ranking[0].intervention

    def frame(self) -> pd.DataFrame:
        """The ranking as a tidy table; ends of intervals are columns."""
        import pandas as pd

        rows = []
        for place, one in enumerate(self.ranking, 1):
            row = {"place": place, **asdict(one)}
            for name, ends in (("objective", row.pop("ci")), ("behind", row.pop("behind_ci"))):
                row[f"{name}_low"], row[f"{name}_high"] = ends
            rows.append(row)
        reals = [name for name in rows[0] if name.startswith(("objective", "behind"))]
        return pd.DataFrame(rows).astype(dict.fromkeys(reals, float))

    def as_dict(self) -> dict[str, Any]:  # Any: JSON values
        """The plan as JSON values: what ``mesa-meanfield plan`` prints."""
        return {
            "ranking": [asdict(one) for one in self.ranking],
            "stopped": self.stopped,
            "why": self.why,
            "maximise": self.maximise,
            "confidence": self.confidence,
            "look_confidence": self.look_confidence,
            "targets": list(self.targets),
            "tokens": self.tokens,
            "failed": len(self.ensemble.failed),
        }


def plan(
    model_factory: ModelFactory,
    candidates: Mapping[str, Sequence[Intervention]],
    objective: Objective,
    *,
    replicas: int,
    ticks: int,
    seed: int = 0,
    maximise: bool = True,
    budget_tokens: int | None = None,
    confidence: float = 0.95,
    crowd: str | None = None,
    shared: Shared | None = None,
    workers: int | None = None,
) -> Plan:
    """Search the best candidate until it is separated from the others, or the budget or the replicas are spent.

    There are as many rounds as halving takes, down to two candidates, and one more; each has twice as many replicas
    as the one before, the last one all. The best is *separated* when the paired intervals of its differences to all
    candidates that are still there exclude zero, from 5 common replicas on. It is looked at after every round, and
    at every other candidate, so these intervals are Bonferroni's: their error is ``1 - confidence`` divided by the
    number of looks and of other candidates. Which candidates go on is not tested: one that was given up may be
    better than its few replicas said, as far as its own interval reaches.

    Tokens are those asked, as if each question were computed alone: unlike those computed they do not depend
    on batches, so that a plan that is made again stops at the same place. Before a round begins, its runs are
    expected to cost as much as the mean of all so far; where not all of it fits the rest of the budget, those
    replicas that do are run with every candidate, and that is the end. The very first run goes ahead alone, to
    learn what one costs. What was run is kept, also where a whole round fails.

    Args:
        model_factory: Makes a model from a seed; see `run_replicas`.
        candidates: Name -> its interventions; an empty sequence is to do nothing.
        objective: A run -> a number.
        replicas: How many each of the last candidates gets at most.
        ticks: How many ticks each run makes.
        seed: Replica r is made with ``seed + r``, whatever the candidate.
        maximise: Whether more is better.
        budget_tokens: How many tokens may be asked in all. Behind a `CallLog` a common question is charged to the
            run whose thread asked it first: with several workers a plan near its budget can end sooner or later.
        confidence: Of the intervals, and of the claim that the best is separated.
        crowd: The model's attribute that holds the scheduler, where it has several.
        shared: The common model, where it cannot be found as ``backend`` of policies and summarizers.
        workers: How many runs at a time, default 16.

    Raises:
        ValueError: An argument is out of its range, or no run of any candidate has a value of the objective.
        Exception: What ended the first run, where none ran to its end.
    """
    if not candidates:
        raise ValueError("A plan needs candidates: {name: [intervention, ...]}")
    at_least_one(replicas)
    check_confidence(confidence)
    if budget_tokens is not None and budget_tokens < 1:
        raise ValueError(f"budget_tokens must be at least 1, or None for no limit, got {budget_tokens}")
    for interventions in candidates.values():
        check_ticks(interventions, ticks)
    setting = Setting(model_factory, ticks, seed, crowd, shared, workers)
    targets = _targets(len(candidates), replicas)
    look = 1 - (1 - confidence) / (len(targets) * max(1, len(candidates) - 1))
    race = Race(setting, candidates, objective, maximise, look, budget_tokens)
    stopped, why = _search(race, targets)
    if not race.runs:
        raise race.errors[0]
    order = race.order()
    ranking = tuple(race.ranked(name, order[0], confidence) for name in order)
    if ranking[0].objective is None:
        raise ValueError("The objective is NaN in every run: there is nothing to rank by")
    return Plan(ranking, stopped, why, confidence, look, targets, race.tokens, maximise, race.ensemble())


def _targets(candidates: int, replicas: int) -> tuple[int, ...]:
    """How many replicas each round brings its candidates to."""
    rounds = max(1, math.ceil(math.log2(candidates))) + 1 if candidates > 1 else 1
    halved = (max(2, math.ceil(replicas / 2**left)) for left in reversed(range(rounds)))
    return tuple(dict.fromkeys(min(target, replicas) for target in halved))


def _search(race: Race, targets: Sequence[int]) -> tuple[Stopped, str]:
    """Run the rounds and say why they ended."""
    for number, target in enumerate(targets, 1):
        if number > 1:
            race.halve()
        runs, failed = len(race.runs), len(race.failed)
        enough = race.run_to(target)
        if len(race.runs) == runs and len(race.failed) > failed:
            return "failed", f"no run of round {number} came to its end; the last one: {race.errors[-1]}"
        if race.separated():
            return "separated", f"{race.alive[0]} is separated from the others in round {number}"
        if not enough:
            return "budget", (
                f"{race.tokens:,} of {race.budget:,} tokens are spent, and the rest is not enough to bring "
                f"{len(race.alive)} candidates to {target} replicas"
            )
    if len(race.candidates) == 1:
        return "replicas", f"all {targets[-1]} replicas are run; there is nothing to compare them with"
    return "replicas", f"all {targets[-1]} replicas are run, and {race.alive[0]} is not separated from the others"
