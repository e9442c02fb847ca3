"""A crowd of a few that has the shares of the whole one."""

from __future__ import annotations

from collections.abc import Mapping


def in_proportion(shares: Mapping[str, float], size: int) -> list[str]:
    """So many labels, each as often as its share says, spread evenly: ``a b a a b a`` for .67 and .33.

    The numbers are those of the largest remainder (Hamilton's method), ties to the label that stands first.

    Args:
        shares: Label -> share; they add up to 1.
        size: How many labels; at least 1.
    """
    seats = {label: int(share * size + 1e-9) for label, share in shares.items()}
    short = sorted(shares, key=lambda label: seats[label] - shares[label] * size)[: size - sum(seats.values())]
    for label in short:
        seats[label] += 1
    order = list(shares)
    places = [((n + 0.5) / seats[label], order.index(label)) for label in order for n in range(seats[label])]
    return [order[number] for _, number in sorted(places)]
