"""What was recorded, tick by tick, as a page draws it beside a simulation."""

from __future__ import annotations

from mesa_meanfield.cascades.dimensions import counts_of
from mesa_meanfield.data import Cascade, Counts, cut


def recorded_counts(
    cascade: Cascade,
    dimension: str,
    labels: tuple[str, ...],
    *,
    warm_up: float = 0.3,
    per_tick: int | None = None,
    agents: int | None = None,
) -> list[Counts]:
    """How often each label was recorded in each tick of a `CascadeModel`, the warm-up's ticks included.

    The cascade is the plain record and never comes near a prompt; the other arguments are those of the model.
    """
    parts = cut(cascade, warm_up, per_tick, agents)
    return [{dimension: counts_of(tick, dimension, labels)} for tick in (*parts.warm_up, *parts.roll_out)]
