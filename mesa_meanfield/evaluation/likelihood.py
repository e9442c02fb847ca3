"""How probable the recorded texts are to those who are simulated in place of their authors."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import final

from mesa_meanfield.cascades.dimensions import label_of
from mesa_meanfield.data import Action, Decision, MeanField
from mesa_meanfield.drafts import Draft, draft
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import ActionSpace, LikelihoodScorer, Request, Turn, Usage


@final
class LikelihoodPolicy:
    """Decides what the policy inside it decides, and beside that asks how probable the recorded texts are.

    Every text is read behind the very prompt from which its author's agent would write one in this roll-out,
    under the roll-out's own mean field; where a label comes first, behind the recorded one. The record is seen
    by no prompt and changes neither decisions nor seeds. Left out are empty texts, those of a label that carries
    none, actions whose label is needed and not known, and texts that do not fit into the model's context.

    Args:
        policy: Who decides. Its backend reads the texts where it is a `LikelihoodScorer`; else nothing is done.
        recorded: Agent key -> the action that was recorded in its place.
    """

    def __init__(self, policy: LLMPolicy, recorded: Mapping[str, Action]) -> None:
        self.policy = policy
        self.recorded = recorded
        self.nats: float | None = 0.0 if isinstance(policy.backend, LikelihoodScorer) else None
        """-log P of all texts so far, each with the end behind it; None where the backend cannot tell."""
        self.tokens = 0
        """How many tokens that were, one end per text included."""
        self.texts = 0
        """How many texts that were."""
        self.spent = Usage()
        """What reading them cost; it is no part of ``usage``."""

    @property
    def actions(self) -> ActionSpace:
        """What can be decided, where an agent does not say otherwise."""
        return self.policy.actions

    @property
    def usage(self) -> Usage:
        """What deciding cost so far."""
        return self.policy.usage - self.spent

    @property
    def nats_per_token(self) -> float | None:
        """The texts' negative log-likelihood per token; None where no text was read."""
        return None if self.nats is None or not self.tokens else self.nats / self.tokens

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """What the policy decides.

        Raises:
            ReplyError: As the policy does.
            BackendError: The model cannot be asked.
        """
        decisions = self.policy.decide(turns, field, topic=topic, groups=groups)
        backend = self.policy.backend
        if isinstance(backend, LikelihoodScorer):
            asked = list(self._asked(turns, field, topic, groups))
            before = backend.usage
            try:
                found = backend.log_likelihood([request for request, _ in asked], [text for _, text in asked])
            finally:
                self.spent += backend.usage - before
            known = [one for one in found if one.tokens]
            self.nats = (self.nats or 0.0) - sum(one.nats for one in known)
            self.tokens += sum(one.tokens for one in known)
            self.texts += len(known)
        return decisions

    def _asked(
        self, turns: Sequence[Turn], field: MeanField, topic: str, groups: Mapping[str, MeanField]
    ) -> Iterator[tuple[Request, str]]:
        """The recorded texts, each with the request that its author's agent would get for writing."""
        policy, suffixes = self.policy, dict[tuple[ActionSpace, str], Callable[[str], str]]()
        drafts = draft(
            turns, policy.actions, policy.prompts, field, topic=topic, groups=groups, instructions=policy.instructions
        )
        for one in drafts:
            action = self.recorded.get(one.turn.state.agent)
            text = None if action is None else _text_of(action, one)
            if text is None:
                continue
            prompt, suffix = one.prompt, one.prompt.suffix
            if one.chosen is not None:
                key = prompt.space, one.chosen
                if key not in suffixes:
                    suffixes[key] = policy.prompts.policy_suffixes(prompt.space, chosen=one.chosen)
                suffix = suffixes[key](prompt.state)
            yield Request(prompt.prefix, suffix), text


def _text_of(action: Action, one: Draft) -> str | None:
    """The text of a recorded action, whose label becomes the draft's; None where there is nothing to read."""
    space = one.prompt.space
    if space.text is None or space.text.schema is not None or action.failed:  # a plain text is no reply in a form
        return None
    if space.choice is not None:
        label = label_of(action, space.choice.dimension)
        if label not in space.choice.options or label in getattr(space, "silent", ()):
            return None
        one.labels = {space.choice.dimension: label}
    return html.unescape(action.text).strip() or None  # recorded texts may hold &amp; and the like
