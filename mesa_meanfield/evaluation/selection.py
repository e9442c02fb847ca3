"""Which of the recorded cascades are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Cascade, cut
from mesa_meanfield.seeds import derive


def comparable(
    cascades: Sequence[Cascade],
    dimension: str,
    *,
    min_actions: int,
    warm_up: float,
    agents: int | None = None,
) -> tuple[list[Cascade], dict[str, str]]:
    """The cascades that can be compared, and id -> why not of the others.

    Args:
        cascades: All there are.
        dimension: What is compared.
        min_actions: How many actions one must have, counted before the warm-up.
        warm_up: Share of the actions that is played.
        agents: Only the first so many actions after the warm-up count.
    """
    kept, left_out = [], {}
    for one in cascades:
        if len(one.actions) < min_actions:
            left_out[one.id] = f"has {len(one.actions)} actions"
        elif not any(
            label_of(action, dimension) for tick in cut(one, warm_up, agents=agents).roll_out for action in tick
        ):
            left_out[one.id] = f"has no label of {dimension!r} after its warm-up"
        else:
            kept.append(one)
    return kept, left_out


def stratified(cascades: Sequence[Cascade], limit: int, seed: int) -> list[Cascade]:
    """A random part of the cascades, in their order, taken in turn from each event, or domain where there is none.

    Args:
        cascades: All there are.
        limit: How many are taken at most.
        seed: Of the choice.
    """
    strata: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(cascades):
        strata[one.event or one.domain].append(place)
    shuffled = [
        np.random.default_rng(derive(seed, "limit", name)).permutation(places).tolist()
        for name, places in sorted(strata.items())
    ]
    in_turn = sorted((turn, s, place) for s, places in enumerate(shuffled) for turn, place in enumerate(places))
    return [cascades[place] for place in sorted(place for _, _, place in in_turn[:limit])]
