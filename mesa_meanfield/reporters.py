"""What a Mesa ``DataCollector`` can collect of a crowd, and ``batch_run`` therefore returns.

Each function here makes a plain function of a model, as Mesa takes no other callable object::

    DataCollector({"deny": share("deny"), "field": field_text(), "tokens": usage("tokens_asked")})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.protocols import Usage

if TYPE_CHECKING:
    import mesa

Reporter = Callable[["mesa.Model"], float | str]
"""Takes a model that holds a `MeanFieldScheduler`; raises ValueError where it cannot be told which one is meant."""


def share(label: str, dimension: str | None = None, *, latest: bool = False, crowd: str | None = None) -> Reporter:
    """A label's share of all decisions so far; NaN where there are none of its dimension.

    Args:
        label: Whose share.
        dimension: Of which dimension; without it the first one that has the label.
        latest: Of the last tick in which anybody decided, instead of all.
        crowd: The model's attribute that holds the scheduler, where it has several.
    """

    def report(model: mesa.Model) -> float:
        field = crowd_of(model, crowd).field
        of = replace(field, counts=field.latest_counts) if latest else field
        return of.share(label, dimension)

    return report


def field_text(*, crowd: str | None = None) -> Reporter:
    """The text of the mean field.

    Args:
        crowd: As of `share`.
    """

    def report(model: mesa.Model) -> str:
        return crowd_of(model, crowd).field.text

    return report


def usage(what: str, *, crowd: str | None = None) -> Reporter:
    """What the crowd spent so far.

    Args:
        what: A field of `Usage`: calls, tokens_asked, seconds, and so on.
        crowd: As of `share`.

    Raises:
        ValueError: There is no such field.
    """
    known = [one.name for one in fields(Usage)]
    if what not in known:
        raise ValueError(f"Usage has no {what!r}; it has {', '.join(known)}")

    def report(model: mesa.Model) -> float:
        spent: float = getattr(crowd_of(model, crowd).usage, what)
        return spent

    return report


def failures(*, crowd: str | None = None) -> Reporter:
    """How many questions stayed without a usable reply so far.

    Args:
        crowd: As of `share`.
    """
    return usage("failures", crowd=crowd)
