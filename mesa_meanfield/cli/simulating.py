"""The roll-outs of an evaluation, in waves."""

from __future__ import annotations

from mesa_meanfield.cli.evaluation import Evaluation
from mesa_meanfield.cli.output import note, progress
from mesa_meanfield.cli.simulations import Settings, simulator
from mesa_meanfield.data import Cascade
from mesa_meanfield.evaluation.rollouts import Kept, Key, RollOut, by_simulation
from mesa_meanfield.evaluation.waves import in_waves


class Held:
    """Roll-outs that are kept for as long as this object lasts."""

    def __init__(self) -> None:
        self.done: dict[Key, RollOut] = {}

    def add(self, one: RollOut) -> None:
        """Keep a roll-out."""
        self.done[one.key] = one


def simulate(job: Evaluation, kept: Kept | Held) -> None:
    """Make the roll-outs that are not there yet.

    Those of a wave meet in common batches, whose other members move the last digits. So what is kept of a wave that
    is not whole is made once more, from the call log, beside what is missing.
    """
    names = [one.name for one in job.simulations]
    jobs = by_simulation(names, job.cascades, job.given.replicas)
    ticks = {one.id: _ticks(one, job.settings) for one in job.cascades}
    make = simulator(job.simulations, job.models, job.settings)
    waves = []
    for start in range(0, len(jobs), job.given.jobs):
        wave = jobs[start : start + job.given.jobs]
        if any(one.key not in kept.done for one in wave):
            waves.append(wave)
    missing = sum(one.key not in kept.done for one in jobs)
    if kept.done:
        note(f"{len(kept.done)} roll-outs are there already, {missing} are still to be made")
    with progress("Roll-outs", total=missing) as advance:
        for one in in_waves(waves, make, ticks=sum(ticks[o.cascade.id] for wave in waves for o in wave)):
            if one.key not in kept.done:
                kept.add(one)
                advance(f"{one.name}: {one.cascade}")


def _ticks(cascade: Cascade, settings: Settings) -> int:
    parts = settings.cutting.cut(cascade)
    return len(parts.warm_up) + len(parts.roll_out)
