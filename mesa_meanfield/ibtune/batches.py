"""Items -> chains of token ids, by the prompts, the chat template and the tokens of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mesa_meanfield.backends.local.rendering import Renderer
from mesa_meanfield.data import Decision, MeanField, State
from mesa_meanfield.drafts import draft
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.protocols import Request, Turn
from mesa_meanfield.summarizers import LLMSummarizer

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A prompt with one reply to it."""

    ids: Ids
    start: int
    """Where the reply begins: what stands before is only read."""
    over: bool = False
    """Whether the reply ends behind its tokens, which is then part of it."""

    @property
    def read(self) -> Ids:
        """The tokens that have to be computed: the last one of a reply that is not over needs no pass."""
        return self.ids if self.over else self.ids[:-1]

    @property
    def length(self) -> int:
        """The tokens of the reply, its end included."""
        return len(self.ids) - self.start + self.over


@dataclass(frozen=True, slots=True)
class Question:
    """What one agent is asked, and what it did: the label out of several, or the text."""

    kind: Literal["label", "text"]
    chains: tuple[Chain, ...]
    """One for each label; for a text the one."""
    answer: int = 0
    """Which of them it was."""
    temperature: float = 1.0
    """That of the `Choice`."""
    agent: str = ""
    labels: tuple[str, ...] = ()


class Batcher:
    """Makes chains for one tokenizer.

    Args:
        tokenizer: Of transformers, the model's own.
        context: How many tokens the model takes; None where it does not say.
    """

    def __init__(self, tokenizer: Any, context: int | None = None) -> None:  # Any: transformers' own
        self.renderer = Renderer(tokenizer)
        self.context = context
        self.skipped = 0
        """How many questions were left out so far, since they are longer than the context."""

    def policy(self, item: Item, field: MeanField | None = None) -> list[Question]:
        """What the tick's agents are asked, each with what it did; those that do not fit are left out.

        Args:
            item: The tick.
            field: The mean field that they see, instead of the item's own.
        """
        pairs = item.taught
        turns = [Turn(state) for state, _ in pairs]
        drafts = draft(
            turns,
            item.space,
            item.prompts,
            item.field if field is None else field,
            topic=item.topic,
            groups={},
            instructions="",
        )
        found: list[Question] = []
        requests = [Request(one.prompt.prefix, one.prompt.suffix) for one in drafts]
        if item.space.choice is not None:
            found += self._labels(item, requests)
        if item.space.text is not None:
            found += self._texts(item, requests)
        fitting = [q for q in found if self._fits(max(len(chain.ids) for chain in q.chains))]
        self.skipped += len(found) - len(fitting)
        return fitting

    def summary(self, item: Item, summarizer: LLMSummarizer, seed: int, room: int = 1) -> Ids | None:
        """The prompt of the summary that stands before the item's tick; None where it leaves no such room.

        Raises:
            DataError: There is no tick before it.
        """
        if item.last is None:
            raise DataError(f"Cascade {item.cascade}: nothing can be summarised before its first tick")
        request = summarizer.request(item.previous, item.last, topic=item.topic, actions=(item.space,), seed=seed)
        prompt = self._prompt(request)
        if not self._fits(len(prompt) + room):
            self.skipped += 1
            return None
        return prompt

    def alone(self, item: Item) -> Ids:
        """The prompt of a summary by somebody who knows the instructions and the topic only."""
        words = item.prompts
        nothing = words.summary_suffix(before="", shares="", latest="", lines=(), total=0)
        return self._prompt(Request(words.summary_prefix(topic=item.topic), nothing))

    def text(self, summary: Chain) -> str:
        """What a summary says, as the mean field's text."""
        said = str(self.renderer.tokenizer.decode(summary.ids[summary.start :], skip_special_tokens=True))
        if not summary.over:
            said = said.rstrip("\N{REPLACEMENT CHARACTER}")  # the tokens ran out inside a character
        return " ".join(said.split())

    def _prompt(self, request: Request) -> Ids:
        return tuple(self.renderer.ids(self.renderer.text(request)))

    def _fits(self, tokens: int) -> bool:
        return self.context is None or tokens <= self.context

    def _labels(self, item: Item, requests: Sequence[Request]) -> list[Question]:
        choice = item.space.choice
        assert choice is not None
        prompts = [self.renderer.text(request) for request in requests]
        options = self.renderer.candidates(prompts[0], choice.answers)  # of the first prompt, as at inference
        found = []
        for prompt, (state, decision) in zip(prompts, item.taught, strict=True):
            ids = self.renderer.ids(prompt)
            chains = tuple(Chain((*ids, *option), len(ids)) for option in options)
            answer = choice.options.index(decision.labels[choice.dimension])
            found.append(Question("label", chains, answer, choice.temperature, state.agent, choice.options))
        return found

    def _texts(self, item: Item, requests: Sequence[Request]) -> list[Question]:
        writing = item.space.text
        assert writing is not None
        found = []
        for request, (state, decision) in zip(requests, item.taught, strict=True):
            if not decision.text:  # a label that carries no text, or nothing that could be learned
                continue
            prompt = self.renderer.text(self._asked_for_text(item, request, state, decision))
            ids = self.renderer.ids(prompt)
            said = self.renderer.candidates(prompt, [decision.text])[0]
            most = writing.sampling.max_tokens
            chain = Chain((*ids, *said[:most]), len(ids), len(said) <= most)
            found.append(Question("text", (chain,), agent=state.agent))
        return found

    def _asked_for_text(self, item: Item, request: Request, state: State, decision: Decision) -> Request:
        choice = item.space.choice
        if choice is None:
            return request
        chosen = decision.labels[choice.dimension]
        return replace(request, suffix=item.prompts.policy_suffix(item.space, state.text, chosen=chosen))
