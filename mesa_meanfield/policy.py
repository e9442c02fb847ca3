"""Who decides: a language model for the whole crowd in one batch, a rule, or the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from mesa_meanfield.actions import Choice
from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.errors import ReplyError, ScoringUnsupported
from mesa_meanfield.prompts import Prompts, prompt_hash
from mesa_meanfield.protocols import ActionSpace, Backend, Request, Sampling, Scorer, Turn, Usage
from mesa_meanfield.seeds import derive

OnFailure = Literal["raise", "skip"] | Decision
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class _Asked:
    """One turn with its prompt."""

    turn: Turn
    space: ActionSpace
    prefix: str
    suffix: str

    @property
    def hash(self) -> str:
        return prompt_hash(self.prefix, self.suffix)


class LLMPolicy:
    """A language model decides for every agent: a_i ~ pi(. | s_i, m), eq. 1 of arXiv 2504.21582.

    Labels are scored and sampled from their exact distribution where the backend is a `Scorer`,
    else sampled by the model itself and read from its reply.

    Args:
        backend: The model.
        actions: What can be decided.
        prompts: The wording.
        instructions: Who the agents are; replaces the template's own first lines.
        on_failure: What happens when a reply stays unreadable: ``"raise"`` a `ReplyError`, ``"skip"``
            the agent, or act on the given `Decision`. Such a decision counts in no share.
        retries: How often an unreadable reply is asked for again, each time with a fresh seed.
    """

    def __init__(
        self,
        backend: Backend,
        actions: ActionSpace,
        *,
        prompts: Prompts | None = None,
        instructions: str = "",
        on_failure: OnFailure = "raise",
        retries: int = 2,
    ) -> None:
        if not isinstance(on_failure, Decision) and on_failure not in ("raise", "skip"):
            raise ValueError(f"on_failure must be 'raise', 'skip' or a Decision, got {on_failure!r}")
        self.backend = backend
        self.actions = actions
        self.prompts = prompts or Prompts()
        self.instructions = instructions
        self.on_failure = on_failure
        self.retries = retries
        self._own = Usage()

    @property
    def usage(self) -> Usage:
        """What the backend spent, with the replies asked again and those given up."""
        return self.backend.usage + self._own

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """One decision per turn, in order.

        Raises:
            ReplyError: A reply stayed unreadable and ``on_failure`` is ``"raise"``.
            BackendError: The model cannot be asked.
        """
        by_space: list[tuple[ActionSpace, list[int]]] = []
        for index, turn in enumerate(turns):
            space = turn.actions or self.actions
            indices = next((where for known, where in by_space if known is space or known == space), None)
            if indices is None:
                by_space.append((space, indices := []))
            indices.append(index)
        decisions: dict[int, Decision] = {}
        for space, indices in by_space:
            asked = self._ask(space, [turns[i] for i in indices], field, topic, groups)
            decisions.update(zip(indices, self._decide(asked), strict=True))
        return [decisions[index] for index in range(len(turns))]

    def _ask(
        self,
        space: ActionSpace,
        turns: Iterable[Turn],
        field: MeanField,
        topic: str,
        groups: Mapping[str, MeanField],
    ) -> list[_Asked]:
        prefixes: dict[str | None, str] = {}
        asked = []
        for turn in turns:
            group = turn.state.group
            if group not in prefixes:
                prefixes[group] = self.prompts.policy_prefix(
                    space,
                    field,
                    topic=topic,
                    group_field=groups.get(group) if group is not None else None,
                    instructions=self.instructions,
                )
            asked.append(_Asked(turn, space, prefixes[group], self.prompts.policy_suffix(space, turn.state.text)))
        return asked

    def _decide(self, asked: Sequence[_Asked]) -> list[Decision]:
        """Label first where there is a choice, then the text where there is one."""
        space = asked[0].space
        drafts = [Decision(seed=a.turn.seed, prompt_hash=a.hash) for a in asked]
        if space.choice is not None:
            drafts = self._choose(asked, drafts, space.choice)
        if space.text is not None:
            drafts = self._write(asked, drafts, space)
        return [self._settle(a, draft) for a, draft in zip(asked, drafts, strict=True)]

    def _choose(self, asked: Sequence[_Asked], drafts: Sequence[Decision], choice: Choice) -> list[Decision]:
        requests = [Request(a.prefix, a.suffix, a.turn.seed, choices=choice.answers) for a in asked]
        if isinstance(self.backend, Scorer):
            try:
                scores = self.backend.score(requests, choice.answers)
            except ScoringUnsupported:
                pass  # this server gives no probabilities: let the model pick, below
            else:
                chosen = []
                for draft, row in zip(drafts, scores, strict=True):
                    try:
                        distribution = choice.distribution(row)
                    except ReplyError as error:
                        self._own += Usage(failures=1)
                        chosen.append(replace(draft, failure=str(error)))
                        continue
                    label = choice.sample(distribution, draft.seed or 0)
                    labels = {choice.dimension: label}
                    chosen.append(replace(draft, labels=labels, distribution=distribution))
                return chosen
        # Sampled at temperature 1 with nothing cut off, so that the model's own shares come out.
        sampling = Sampling(max_tokens=16, temperature=choice.temperature, top_k=0, top_p=1.0)
        requests = [replace(r, sampling=sampling, seed=derive(r.seed, "choice")) for r in requests]
        return [
            replace(draft, failure=failure) if label is None else replace(draft, labels={choice.dimension: label})
            for draft, (label, failure) in zip(drafts, self._generate(requests, choice.read), strict=True)
        ]

    def _write(self, asked: Sequence[_Asked], drafts: Sequence[Decision], space: ActionSpace) -> list[Decision]:
        text = space.text
        if text is None:
            return list(drafts)
        silent = getattr(space, "silent", ())
        written = list(drafts)
        requests, writing = [], []
        for index, (a, draft) in enumerate(zip(asked, drafts, strict=True)):
            chosen = draft.labels.get(space.choice.dimension) if space.choice else None
            if draft.failure is None and chosen not in silent:
                suffix = a.suffix
                if chosen is not None:
                    suffix = self.prompts.policy_suffix(space, a.turn.state.text, chosen=chosen)
                requests.append(Request(a.prefix, suffix, derive(draft.seed, "text"), text.sampling))
                writing.append(index)
        for index, (read, failure) in zip(writing, self._generate(requests, text.read), strict=True):
            if read is None:
                written[index] = replace(drafts[index], failure=failure, labels={})
            else:
                said, labels = read
                written[index] = replace(drafts[index], text=said, labels={**drafts[index].labels, **labels})
        return written

    def _generate(
        self, requests: Sequence[Request], read: Callable[[str], _Read]
    ) -> list[tuple[_Read | None, str | None]]:
        """Each reply as read, or why not; the unreadable ones are asked again with fresh seeds."""
        results: list[tuple[_Read | None, str | None]] = [(None, "never asked")] * len(requests)
        open_ = list(range(len(requests)))
        for attempt in range(self.retries + 1):
            if not open_:
                break
            self._own += Usage(retries=len(open_) if attempt else 0)
            batch = [requests[i] for i in open_]
            if attempt:
                batch = [replace(r, seed=derive(r.seed, "attempt", attempt)) for r in batch]
            unread = []
            for index, reply in zip(open_, self.backend.generate(batch), strict=True):
                try:
                    if reply.failure is not None:
                        raise ReplyError(reply.failure)
                    results[index] = (read(reply.text), None)
                except ReplyError as error:
                    results[index] = (None, str(error))
                    unread.append(index)
            open_ = unread
        self._own += Usage(failures=len(open_))
        return results

    def _settle(self, asked: _Asked, draft: Decision) -> Decision:
        if draft.failure is None:
            return draft
        if self.on_failure == "raise":
            raise ReplyError(
                f"Agent {asked.turn.state.agent} has no usable decision in {self.retries + 1} tries: "
                f"{draft.failure}; on_failure='skip' or a Decision goes on without it"
            )
        fallback = self.on_failure if isinstance(self.on_failure, Decision) else Decision()
        return replace(fallback, failure=draft.failure, seed=draft.seed, prompt_hash=draft.prompt_hash)


class RulePolicy:
    """A rule decides, so that rule-based agents count in the mean field, too.

    Args:
        rule: Agent and mean field -> a label of ``actions``, a text, a number, a `Decision`, or None for
            an agent that does nothing this tick.
        actions: The action space whose labels the rule gives; without it a string is a text.
    """

    def __init__(
        self,
        rule: Callable[[Any, MeanField], Decision | str | float | None],  # Any: the modeler's own agent class
        actions: ActionSpace | None = None,
    ) -> None:
        self.rule = rule
        self.actions = actions
        self.usage = Usage()

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """One decision per turn, in order.

        Raises:
            ValueError: The rule gave a label that the action space does not have.
        """
        return [self._read(turn, self.rule(turn.agent, field)) for turn in turns]

    def _read(self, turn: Turn, said: Decision | str | float | None) -> Decision:
        if said is None:
            return Decision()
        if isinstance(said, Decision):
            return said
        if not isinstance(said, str):
            return Decision(value=said, seed=turn.seed)
        space = turn.actions or self.actions
        if space is None or space.choice is None:
            return Decision(text=said, seed=turn.seed)
        if said not in space.choice.options:
            options = ", ".join(space.choice.options)
            raise ValueError(f"The rule gave {said!r} for agent {turn.state.agent}, which is not one of {options}")
        return Decision(labels={space.choice.dimension: said}, seed=turn.seed)


class RecordedPolicy:
    """The record decides: warm-up and replay go through the same scheduler as a simulation.

    Args:
        decisions: Agent key -> what that agent did.
        actions: The action space whose labels the record has.
    """

    recorded = True

    def __init__(self, decisions: Mapping[str, Decision], actions: ActionSpace | None = None) -> None:
        self.decisions = decisions
        self.actions = actions
        self.usage = Usage()

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """The recorded decision of every turn.

        Raises:
            ValueError: The record has none for an agent.
        """
        missing = [turn.state.agent for turn in turns if turn.state.agent not in self.decisions]
        if missing:
            raise ValueError(f"The record has no decision of agent {missing[0]} ({len(missing)} missing)")
        return [self.decisions[turn.state.agent] for turn in turns]
