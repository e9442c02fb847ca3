"""An intervention against its paired counterfactual: the same replicas, with it and without.

Both arms of a replica have the same seed, and a call's seed depends on who is asked what and when alone, so
they share their random numbers at every tick: identical prompts give identical decisions, and the arms differ by
nothing but the intervention and what follows from it (common random numbers: Glasserman and Yao (1992), Some
guidelines and guarantees for common random numbers, Management Science 38:884-908).
"""

from __future__ import annotations

from collections.abc import Sequence

from mesa_meanfield.evaluation.quantiles import check_confidence
from mesa_meanfield.experiments.comparison import CONTROL, TREATMENT, Comparison
from mesa_meanfield.experiments.pairing import Twins
from mesa_meanfield.experiments.replicas import Job, ModelFactory, Setting, Shared, at_least_one
from mesa_meanfield.interventions import check_ticks, listed
from mesa_meanfield.protocols import Intervention


def compare(
    model_factory: ModelFactory,
    interventions: Sequence[Intervention],
    *,
    replicas: int,
    ticks: int,
    fork_at: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    control: Sequence[Intervention] = (),
    crowd: str | None = None,
    shared: Shared | None = None,
    workers: int | None = None,
) -> Comparison:
    """Run every replica twice, with the interventions and without, on the same random numbers.

    Both are run from their first tick, at the same time, so that a model which evaluates equal prompts of a batch
    once, or a call log, spares most of what they have in common; agents are never copied. Up to the fork it is
    checked that every agent sees, is asked and does the same in both.

    Args:
        model_factory: Makes a model from a seed; see `run_replicas`.
        interventions: What the treatment has beside what the model itself has.
        replicas: How many pairs.
        ticks: How many ticks each run makes.
        fork_at: The first tick in which the arms may differ, by default the earliest ``at`` of the interventions
            of both; 0 where one of them has none.
        seed: Replica r is made with ``seed + r`` in both arms.
        confidence: Of the intervals.
        control: What the control has, to compare with something else than nothing.
        crowd: The model's attribute that holds the scheduler, where it has several.
        shared: The common model, where it cannot be found as ``backend`` of policies and summarizers.
        workers: How many runs at a time, default 16.

    Raises:
        PairingError: The arms differ before the fork.
        ValueError: A number is out of its range.
        Exception: What ended the first run, where there is no pair of which both ran to their end.
    """
    at_least_one(replicas)
    check_confidence(confidence)
    interventions, control = listed(interventions), listed(control)
    check_ticks((*interventions, *control), ticks)
    fork = _earliest((*interventions, *control)) if fork_at is None else fork_at
    if not 0 <= fork < ticks:
        raise ValueError(f"fork_at must be one of the {ticks} ticks, 0 to {ticks - 1}, got {fork}")
    setting = Setting(model_factory, ticks, seed, crowd, shared, workers)
    arms = ((CONTROL, tuple(control)), (TREATMENT, tuple(interventions)))
    jobs = [Job(name, r, what) for r in range(replicas) for name, what in arms]  # a pair stands together
    errors: list[Exception] = []
    made = Comparison(setting.run(jobs, errors, Twins(fork).see), fork, confidence)
    if not made.pairs:
        raise errors[0]
    return made


def _earliest(interventions: Sequence[Intervention]) -> int:
    starts = [getattr(one, "at", None) for one in interventions]
    return min((at for at in starts if isinstance(at, int)), default=0) if None not in starts else 0
