"""Who writes the mean field: m' = mu(m, s, a), eq. 2 of arXiv 2504.21582, and the baselines beside it.

Each starts from ``field.counted(tick, ...)``, so that exact shares stand beside every text, and
changes the text alone: comparing two summarizers changes one argument.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from mesa_meanfield.actions import labels_of
from mesa_meanfield.data import Decision, MeanField, Tick
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.prompts import Prompts, words_of
from mesa_meanfield.protocols import ActionSpace, Backend, Request, Sampling, Summarizer, Usage
from mesa_meanfield.seeds import derive, unit

SUMMARY_SAMPLING = Sampling(max_tokens=120, temperature=0.1, repetition_penalty=1.1)
"""How summaries are sampled where nothing else is said."""


class _Free:
    """A summarizer that asks no model."""

    usage = Usage()


class NoField(_Free):
    """The agents see nothing of each other: the baseline without a mean field."""

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """Exact shares, no text."""
        return replace(field.counted(tick, labels_of(actions)), text="", tells_shares=False)


class TallySummarizer(_Free):
    """The exact shares rendered as text: no model, no error, all there is to know about the labels."""

    def __init__(self, prompts: Prompts | None = None) -> None:
        self.prompts = prompts or Prompts()

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """Exact shares of all actions and of the latest tick, as text."""
        counted = field.counted(tick, labels_of(actions))
        return replace(counted, text=self.prompts.tally(counted, words_of(actions)), tells_shares=True)


class RecentActions(_Free):
    """The agents see the last k actions, newest last: the baseline "recent".

    Args:
        k: How many.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = _positive(k)

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """Exact shares; the last k actions as text."""
        lines = (*field.carried, *(action_line(d, actions) for _, d in tick.valid))[-self.k :]
        return replace(
            field.counted(tick, labels_of(actions)), text=_bullets(lines), carried=lines, tells_shares=False
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """One action with the replies it has had so far."""

    key: str
    line: str
    replies: int = 0


class PopularActions(_Free):
    """The agents see the k actions with most replies so far, ties to the newer: the baseline "popular".

    Popularity is what the population itself has shown by now, never a number from the end of the
    record. Replies are decisions with a ``parent``: where simulated agents name none, as in the cascade
    model, the order stays that of the warm-up. All actions so far are carried along, since any of them
    may still become popular.

    Args:
        k: How many.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = _positive(k)

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """Exact shares; the k most popular actions as text, the most popular first."""
        seen: list[_Seen] = list(field.carried)
        place = {one.key: index for index, one in enumerate(seen)}  # an agent's newest action takes the replies
        for state, decision in tick.valid:
            if decision.parent in place:
                index = place[decision.parent]
                seen[index] = replace(seen[index], replies=seen[index].replies + 1)
            place[state.agent] = len(seen)
            seen.append(_Seen(state.agent, action_line(decision, actions)))
        order = sorted(range(len(seen)), key=lambda i: (seen[i].replies, i), reverse=True)
        text = _bullets(seen[i].line for i in order[: self.k])
        return replace(field.counted(tick, labels_of(actions)), text=text, carried=tuple(seen), tells_shares=False)


class LLMSummarizer:
    """A language model rewrites the summary each tick, in six aspects.

    Args:
        backend: The model.
        prompts: The wording.
        sampling: How the summary is sampled.
        max_actions: How many of a tick's actions the prompt shows at most, a random sample of them in
            their order; the exact shares in the prompt always count all.
        retries: How often an empty summary is asked for again, each time with a fresh seed.
        shares: Whether agents are told the exact shares behind the summary; without them they see the summary
            alone, as in MF-LLM.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        prompts: Prompts | None = None,
        sampling: Sampling = SUMMARY_SAMPLING,
        max_actions: int = 40,
        retries: int = 2,
        shares: bool = True,
    ) -> None:
        self.backend = backend
        self.prompts = prompts or Prompts()
        self.sampling = sampling
        self.max_actions = _positive(max_actions)
        self.retries = retries
        self.shares = shares
        self._own = Usage()

    @property
    def usage(self) -> Usage:
        """What the backend spent, with the summaries asked again and those given up."""
        return self.backend.usage + self._own

    def request(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> Request:
        """The question whose reply is the next summary; training asks the same."""
        counted = field.counted(tick, labels_of(actions))
        decisions = [decision for _, decision in tick.valid]
        shown = _sample(decisions, self.max_actions, seed)
        suffix = self.prompts.summary_suffix(
            before=field.text,
            shares=_told(counted.shares, words_of(actions)),
            latest=_told(counted.latest, words_of(actions)),
            lines=[action_line(decision, actions) for decision in shown],
            total=len(decisions),
        )
        return Request(self.prompts.summary_prefix(topic=topic), suffix, seed, self.sampling)

    def field(self, counted: MeanField, summary: str) -> MeanField:
        """The mean field with a summary as its text."""
        return replace(counted, text=summary, tells_shares=self.shares)

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """Exact shares; the model's summary as text.

        Raises:
            ReplyError: The model gave no summary, however often it was asked.
            BackendError: The model cannot be asked.
        """
        counted = field.counted(tick, labels_of(actions))
        if not tick.valid:
            return counted
        request = self.request(field, tick, topic=topic, actions=actions, seed=seed)
        why = ""
        for attempt in range(self.retries + 1):
            if attempt:
                self._own += Usage(retries=1)
                request = replace(request, seed=derive(seed, "attempt", attempt))
            reply = self.backend.generate([request])[0]
            summary = " ".join(reply.text.split())
            if reply.failure is None and summary:
                return self.field(counted, summary)
            why = reply.failure or "the reply is empty"
        self._own += Usage(failures=1)
        raise ReplyError(f"No summary of tick {tick.number} in {self.retries + 1} tries: {why}")


def action_line(decision: Decision, actions: Iterable[ActionSpace], limit: int = 200) -> str:
    """One action on one line: its labels' words and its text or value, cut after ``limit`` characters."""
    words, value = words_of(actions), decision.value
    named = isinstance(value, BaseModel)  # whose labels may be several, and a bare "yes" would say nothing
    labels = ", ".join((f"{of[0]}: " if named else "") + words.get(of, of[1]) for of in decision.labels.items())
    said = decision.text or ("" if value is None else _values(decision) if named else str(value))
    said = " ".join(html.unescape(said).split())  # recorded texts may hold &amp; and the like
    said = said if len(said) <= limit else said[: limit - 1] + "…"
    return f"[{labels}] {said}".strip() if labels else said


def _values(decision: Decision) -> str:
    """The values of a pydantic object that its labels do not show, as in '"price": 3, "goods": ["wheat"]'."""
    values = decision.value.model_dump(
        mode="json", exclude=set(decision.labels), exclude_none=True, fallback=str, warnings=False
    )
    return json.dumps(values, ensure_ascii=False)[1:-1]


def _told(shares: dict[str, dict[str, float]], words: dict[tuple[str, str], str]) -> str:
    told = []
    for dimension, of in shares.items():
        parts = ", ".join(f"{words.get((dimension, label), label)} {100 * s:.3g}%" for label, s in of.items())
        if parts:
            told.append(f"{dimension}: {parts}")
    return "; ".join(told)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _sample(decisions: Sequence[Decision], most: int, seed: int) -> list[Decision]:
    """At most so many, chosen by the seed, in their order."""
    if len(decisions) <= most:
        return list(decisions)
    chosen = sorted(range(len(decisions)), key=lambda i: unit(seed, f"shown {i}"))[:most]
    return [decisions[i] for i in sorted(chosen)]


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"At least one action must be shown, got {k}")
    return k


BASELINES: dict[str, Callable[[], NoField | RecentActions | PopularActions]] = {
    "none": NoField,
    "recent": RecentActions,
    "popular": PopularActions,
}
"""The baselines by the names that scorecards and the command line use."""
SUMMARIZERS = ("llm", "tally", *BASELINES)
"""All that have a name."""


def summarizer_named(name: str, backend: Backend, prompts: Prompts) -> Summarizer:
    """One of `SUMMARIZERS`.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in SUMMARIZERS:
        raise ValueError(f"summarizer must be one of {', '.join(SUMMARIZERS)}, got {name!r}")
    if name == "llm":
        return LLMSummarizer(backend, prompts=prompts)
    if name == "tally":
        return TallySummarizer(prompts)
    return BASELINES[name]()
