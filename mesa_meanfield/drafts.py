"""What each agent is asked, and its decision in the making."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mesa_meanfield.actions import Choice
from mesa_meanfield.data import MeanField, Notice
from mesa_meanfield.prompts import Prompts, prompt_hash
from mesa_meanfield.protocols import ActionSpace, Turn


@dataclass(eq=False, slots=True)
class Prompt:
    """One question; twins, whose action space, group, notices and state are equal, have it in common."""

    space: ActionSpace
    state: str
    prefix: str
    suffix: str
    hash: str
    distribution: Mapping[str, float] | None = None


@dataclass(eq=False, slots=True)
class Draft:
    """One agent's decision in the making."""

    turn: Turn
    prompt: Prompt
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    value: Any = None  # whatever the action space reads
    failure: str | None = None

    @property
    def chosen(self) -> str | None:
        """The label that its text is to fit."""
        choice = self.prompt.space.choice
        return self.labels[choice.dimension] if choice is not None and self.labels else None


def draft(
    turns: Iterable[Turn],
    usual: ActionSpace,
    prompts: Prompts,
    field: MeanField,
    *,
    topic: str,
    groups: Mapping[str, MeanField],
    instructions: str,
) -> list[Draft]:
    """One empty draft per turn, in order, with its prompt; equal prompts are made once."""
    crowds: dict[
        tuple[ActionSpace, str | None, tuple[Notice, ...]], tuple[str, Callable[[str], str], dict[str, Prompt]]
    ] = {}
    drafts = []
    for turn in turns:
        space, group, state, notices = turn.actions or usual, turn.state.group, turn.state.text, turn.state.notices
        crowd = crowds.get((space, group, notices))
        if crowd is None:
            group_field = None if group is None else groups.get(group)
            prefix = prompts.policy_prefix(
                space, field, topic=topic, group_field=group_field, instructions=instructions, notices=notices
            )
            crowd = crowds[space, group, notices] = prefix, prompts.policy_suffixes(space), {}
        prefix, suffix_of, known = crowd
        prompt = known.get(state)
        if prompt is None:
            suffix = suffix_of(state)
            prompt = known[state] = Prompt(space, state, prefix, suffix, prompt_hash(prefix, suffix))
        drafts.append(Draft(turn, prompt))
    return drafts


def sample_labels(choice: Choice, drafts: Sequence[Draft], scores: npt.NDArray[np.float64]) -> list[Draft]:
    """Give each draft its label, from scores of shape (N, K).

    Returns:
        Those that get none, since no label of theirs has a probability.
    """
    rows: dict[Prompt, int] = {}  # of twins the first row: a score depends on its prompt alone
    for row, one in enumerate(drafts):
        rows.setdefault(one.prompt, row)
    for prompt, distribution in zip(rows, choice.distributions(scores[list(rows.values())]), strict=True):
        prompt.distribution = distribution
    labels = {label: {choice.dimension: label} for label in choice.options}  # decisions are frozen: one for all
    lost = []
    for one in drafts:
        if one.prompt.distribution is None:
            lost.append(one)
        else:
            one.labels = labels[choice.sample(one.prompt.distribution, one.turn.seed)]
    return lost
