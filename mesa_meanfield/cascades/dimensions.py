"""What the labels of a cascade mean, and how agents are asked for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mesa_meanfield.actions import Choice, ChoiceThenText, FreeText
from mesa_meanfield.cascades.known import ANNOTATED, BEHAVIOUR, KNOWN, POSITIONS
from mesa_meanfield.data import Action, Cascade
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Sampling

TEXT_SAMPLING = Sampling(repetition_penalty=1.1)
"""How texts are sampled where nothing else is said: as published, but kept from going in circles."""

_BARE_REPOSTS = {"", "转发微博", "轉發微博", "Repost", "Repost Weibo"}  # the platform's default texts


def label_of(action: Action, dimension: str) -> str | None:
    """An action's label: as recorded, or by the rule for `BEHAVIOUR`; None where there is none."""
    if action.failed:
        return None
    if dimension in action.labels or dimension != BEHAVIOUR:
        return action.labels.get(dimension)
    return "share" if is_bare(action.text) else "comment"


def is_bare(text: str) -> bool:
    """Whether a text holds no word of its author's own: it is empty, or the platform's default one."""
    return text.strip().rstrip("。.") in _BARE_REPOSTS


def dimension_of(cascade: Cascade) -> str:
    """The dimension that a cascade's own labels have, else `BEHAVIOUR`; those of an annotator are not its own."""
    found = Counter(
        dimension for action in cascade.actions for dimension in action.labels if not dimension.startswith(ANNOTATED)
    )
    return found.most_common(1)[0][0] if found else BEHAVIOUR


def known_labels(dimension: str) -> tuple[str, ...]:
    """The labels of a dimension that this package knows, in the order of its prompts; else none."""
    known = KNOWN.get((dimension, "en"))
    return tuple(known.options) if known else ()


def annotated_dimensions() -> tuple[str, ...]:
    """The dimensions that an annotator is asked for, each named without `ANNOTATED`."""
    names = dict.fromkeys(dimension for dimension, _ in KNOWN if dimension.startswith(ANNOTATED))
    return tuple(name.removeprefix(ANNOTATED) for name in names)


def positions_of(dimension: str) -> Mapping[str, float] | None:
    """Where a dimension's labels stand on a line, for Wasserstein distances; None where they have no order."""
    return POSITIONS.get(dimension)


def labels_of_dimension(dimension: str, cascades: Iterable[Cascade]) -> tuple[str, ...]:
    """All labels of a dimension: the known ones, then the others that the cascades have.

    Raises:
        DataError: There are fewer than two, so that there is nothing to compare.
    """
    found = {label_of(action, dimension) for cascade in cascades for action in cascade.actions} - {None}
    labels = tuple(dict.fromkeys((*known_labels(dimension), *sorted(filter(None, found)))))
    if len(labels) < 2:
        raise DataError(f"Dimension {dimension!r} has {len(labels)} labels in this data; nothing to compare")
    return labels


def counts_of(actions: Iterable[Action], dimension: str, labels: Sequence[str]) -> dict[str, int]:
    """How often each label stands there; actions without one are left out."""
    counts = Counter(label_of(action, dimension) for action in actions)
    return {label: counts[label] for label in labels}


def space_of(
    dimension: str, labels: Sequence[str], language: str, *, texts: bool = True, sampling: Sampling | None = None
) -> Choice | ChoiceThenText:
    """The action space for a dimension: its labels, and a text that fits the label.

    Args:
        dimension: What the labels are about.
        labels: All of them.
        language: The language of the words and meanings, where they are known in it.
        texts: Whether a text is asked for, too.
        sampling: How the texts are sampled.
    """
    known = KNOWN.get((dimension, language)) or KNOWN.get((dimension, "en"))
    options = {label: known.options[label] for label in labels if label in known.options} if known else {}
    choice = Choice(
        tuple(labels),
        dimension=dimension,
        words={label: word for label, (word, _) in options.items()},
        meanings={label: meaning for label, (_, meaning) in options.items()},
        question=known.question if known else "",
    )
    if not texts:
        return choice
    silent = tuple(label for label in (known.silent if known else ()) if label in labels)
    return ChoiceThenText(choice, FreeText(sampling or TEXT_SAMPLING), silent=silent)
