"""What agents can decide: how to ask for it and how to read the reply.

`Choice` scores labels, `FreeText` generates a text, `ChoiceThenText` picks a label first and then
writes a text that fits it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt

from mesa_meanfield.data import Decision
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.protocols import ActionSpace, Sampling
from mesa_meanfield.seeds import unit


@dataclass(frozen=True)
class Choice:
    """One label out of a few, sampled from the model's exact distribution over them.

    A label's probability is that of the model's reply beginning with the label's word, all its tokens
    multiplied, divided by the sum over the labels. Words of one token each compare most fairly.
    """

    options: tuple[str, ...]
    """The labels; at least two."""
    dimension: str = "action"
    """What the labels are about; its name in shares."""
    words: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Label -> the word that stands for it in prompts, where that is not the label (another language)."""
    meanings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Label -> what it means, shown to the model."""
    question: str = ""
    """What is asked; without it the prompt asks for the action."""
    letters: bool = False
    """Whether the model answers with A, B, C, ... instead of the word: one token for every label."""
    temperature: float = 1.0
    """Above 1 flattens the distribution, below 1 sharpens it."""

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not all(isinstance(label, str) for label in self.options):
            raise ValueError(f"A Choice needs a tuple of labels, each a str, got {self.options!r}")
        object.__setattr__(self, "options", tuple(self.options))
        words = [self.word(label) for label in self.options]
        if len(self.options) < 2 or len(set(self.options)) < len(self.options) or len(set(words)) < len(words):
            raise ValueError(f"A Choice needs at least two labels and words, all different, got {self.options}")
        if not all(word.strip() == word and word.isprintable() and word for word in words):
            raise ValueError(f"Labels and words must be one line, not empty, without blanks around, got {words}")
        for name, known in (("words", self.words), ("meanings", self.meanings)):
            if unknown := set(known) - set(self.options):
                raise ValueError(f"{name} names {sorted(unknown)}, which are not among the labels {self.options}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.letters and len(self.options) > len(ascii_uppercase):
            raise ValueError(
                f"There are {len(ascii_uppercase)} letters for {len(self.options)} labels; leave letters away"
            )

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The dimension with its labels."""
        return {self.dimension: self.options}

    @property
    def choice(self) -> Choice:
        """Itself."""
        return self

    @property
    def text(self) -> None:
        """No text."""
        return

    def word(self, label: str) -> str:
        """The word that stands for a label in prompts."""
        return self.words.get(label, label)

    def answer(self, label: str) -> str:
        """What the model says for a label: its letter, or its word."""
        return ascii_uppercase[self.options.index(label)] if self.letters else self.word(label)

    @property
    def answers(self) -> tuple[str, ...]:
        """What the model says for each label, in their order."""
        return tuple(self.answer(label) for label in self.options)

    def distribution(self, log_probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
        """The labels' probabilities from their answers' log-probabilities, shape (K,), in nats.

        Raises:
            ReplyError: They are not all numbers, or all labels are impossible.
        """
        (found,) = self.distributions(np.asarray(log_probabilities)[None])
        if found is None:
            raise ReplyError(f"The model gave no probability to any of {', '.join(self.options)}")
        return found

    def distributions(self, log_probabilities: npt.NDArray[np.float64]) -> list[dict[str, float] | None]:
        """As `distribution` for many at once, shape (N, K); None where that one would raise."""
        scaled = np.asarray(log_probabilities, dtype=np.float64) / self.temperature  # (N, K)
        top = scaled.max(axis=1, keepdims=True)  # (N, 1); one NaN makes it NaN, too
        known = np.isfinite(top[:, 0])
        weights = np.exp(scaled[known] - top[known])
        rows = iter((weights / weights.sum(axis=1, keepdims=True)).tolist())
        return [dict(zip(self.options, next(rows), strict=True)) if one else None for one in known.tolist()]

    def sample(self, distribution: Mapping[str, float], seed: int) -> str:
        """One label by its probability; never simply the most probable one."""
        remaining = unit(seed, "label")
        for label in self.options:
            remaining -= distribution[label]
            if remaining < 0:
                return label
        return max(self.options, key=lambda label: distribution[label])  # the sum fell short of 1 by rounding

    def read(self, reply: str) -> str:
        """The label that a written reply names, by its answer or by its word.

        Raises:
            ReplyError: The reply begins with neither of any label.
        """
        for exact in (self.answer, self.word):
            for label in self.options:
                if reply.strip() == exact(label):
                    return label
        said = reply.strip().strip("\"'“”‘’*`(").casefold()
        named = [(len(self.word(one)), one) for one in self.options if _begins_with(said, self.word(one).casefold())]
        if self.letters and not named:  # "B", "B) deny" or "b." is an answer, "A person like me" is none
            alone = re.fullmatch(r"([a-z])(?:\s*[.):：。、,，].*)?", said, re.DOTALL)
            named = [(1, one) for one in self.options if alone and self.answer(one).casefold() == alone[1]]
        if not named:
            raise ReplyError(
                f"Reply {reply[:60]!r} is not one of {', '.join(self.answers)}; use FreeText to accept any reply"
            )
        return max(named)[1]  # of two words that the reply begins with, the longer one is meant


def _begins_with(said: str, word: str) -> bool:
    rest = said[len(word) : len(word) + 1]
    # Chinese is written without blanks between words, so there a word may go on.
    return said.startswith(word) and not (rest.isalnum() and unicodedata.east_asian_width(rest) not in "WF")


@dataclass(frozen=True)
class FreeText:
    """A text of one's own; its labels, if any, come from ``label_of``."""

    sampling: Sampling = Sampling()
    label_of: Callable[[str], str] | None = None
    """Text -> label. Without it the shares stay empty."""
    options: tuple[str, ...] = ()
    """The labels that ``label_of`` can give, where they are known."""
    dimension: str = "action"
    question: str = ""
    """What is asked; without it the prompt asks for a short message."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The dimension with its labels, where they are known."""
        return {self.dimension: tuple(self.options)} if self.options else {}

    @property
    def choice(self) -> None:
        """No choice."""
        return

    @property
    def text(self) -> FreeText:
        """Itself."""
        return self

    @property
    def schema(self) -> None:
        """No schema."""
        return

    def read(self, reply: str) -> Decision:
        """The text and its labels.

        Raises:
            ReplyError: Nothing was written, or ``label_of`` gave a label outside ``options``.
        """
        said = reply.strip()
        if (
            len(said) > 1
            and said[0] + said[-1] in ('""', "“”", "''", "「」")
            and not set(said[1:-1]) & {said[0], said[-1]}
        ):
            said = said[1:-1].strip()
        if not said:
            raise ReplyError("The reply is empty")
        if self.label_of is None:
            return Decision(said)
        label = self.label_of(said)
        if self.options and label not in self.options:
            raise ReplyError(f"label_of gave {label!r}, which is not one of {', '.join(self.options)}")
        return Decision(said, labels={self.dimension: label})


@dataclass(frozen=True)
class ChoiceThenText:
    """A label first, then a text that fits it."""

    choice: Choice
    text: FreeText = FreeText()
    silent: tuple[str, ...] = ()
    """Labels that carry no text, such as a bare repost."""

    def __post_init__(self) -> None:
        if self.text.label_of is not None:
            raise ValueError("In ChoiceThenText the label comes from the choice; leave label_of away")
        if unknown := set(self.silent) - set(self.choice.options):
            raise ValueError(f"silent names {sorted(unknown)}, which are not among {self.choice.options}")

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of the choice."""
        return self.choice.labels


def labels_of(actions: Iterable[ActionSpace]) -> dict[str, tuple[str, ...]]:
    """Dimension -> all its labels, over several action spaces."""
    merged: dict[str, tuple[str, ...]] = {}
    for space in actions:
        for dimension, labels in space.labels.items():
            merged[dimension] = tuple(dict.fromkeys((*merged.get(dimension, ()), *labels)))
    return merged
