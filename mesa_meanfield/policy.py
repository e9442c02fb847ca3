"""Who decides: a language model for the whole crowd in one batch, a rule, or the record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

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
    def choice(self) -> Choice:
        """The space's choice, where it is known to have one."""
        if self.space.choice is None:
            raise ValueError(f"{self.space} has no choice")
        return self.space.choice


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
        if not callable(getattr(type(backend), "generate", None)):
            raise TypeError(f"backend must have generate(), got {backend!r}; a string goes through load_backend()")
        if not isinstance(actions, ActionSpace):
            raise TypeError(f"actions must be an action space such as Choice, got {actions!r}")
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
        asked = self._ask(turns, field, topic, groups)
        drafts = [Decision(seed=one.turn.seed, prompt_hash=prompt_hash(one.prefix, one.suffix)) for one in asked]
        self._choose(asked, drafts)
        self._write(asked, drafts)
        return [self._settle(one, draft) for one, draft in zip(asked, drafts, strict=True)]

    def _ask(
        self, turns: Iterable[Turn], field: MeanField, topic: str, groups: Mapping[str, MeanField]
    ) -> list[_Asked]:
        prefixes: dict[tuple[ActionSpace, str | None], str] = {}
        asked = []
        for turn in turns:
            space, group = turn.actions or self.actions, turn.state.group
            if (space, group) not in prefixes:
                prefixes[space, group] = self.prompts.policy_prefix(
                    space,
                    field,
                    topic=topic,
                    group_field=groups.get(group) if group is not None else None,
                    instructions=self.instructions,
                )
            suffix = self.prompts.policy_suffix(space, turn.state.text)
            asked.append(_Asked(turn, space, prefixes[space, group], suffix))
        return asked

    def _choose(self, asked: Sequence[_Asked], drafts: list[Decision]) -> None:
        """The labels, where there is a choice: one scored batch for all who have the same answers."""
        by_answers: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, one in enumerate(asked):
            if one.space.choice is not None:
                by_answers[one.space.choice.answers].append(index)
        unscored = []
        for answers, indices in by_answers.items():
            scores = self._score([asked[i] for i in indices], answers)
            if scores is None:
                unscored += indices
                continue
            for index, row in zip(indices, scores, strict=True):
                choice = asked[index].choice
                try:
                    distribution = choice.distribution(row)
                except ReplyError:
                    self._own += Usage(retries=1)
                    unscored.append(index)
                    continue
                label = choice.sample(distribution, asked[index].turn.seed)
                drafts[index] = replace(drafts[index], labels={choice.dimension: label}, distribution=distribution)
        self._pick(asked, drafts, unscored)

    def _score(self, asked: Sequence[_Asked], answers: tuple[str, ...]) -> npt.NDArray[np.float64] | None:
        """Log-probabilities, shape (N, K); None where the backend cannot give any."""
        if isinstance(self.backend, Scorer):
            try:
                requests = [Request(one.prefix, one.suffix, one.turn.seed, choices=answers) for one in asked]
                return self.backend.score(requests, answers)
            except ScoringUnsupported:
                pass  # this server gives no probabilities: the model picks, in `_pick`
        return None

    def _pick(self, asked: Sequence[_Asked], drafts: list[Decision], indices: Sequence[int]) -> None:
        """The labels that could not be scored: the model says them itself."""
        requests, readers = [], []
        for index in indices:
            one, choice = asked[index], asked[index].choice
            # Nothing cut off, so that the model's own shares come out.
            sampling = Sampling(max_tokens=16, temperature=choice.temperature, top_k=0, top_p=1.0)
            seed = derive(one.turn.seed, "choice")
            requests.append(Request(one.prefix, one.suffix, seed, sampling, choices=choice.answers))
            readers.append(choice.read)
        for index, (label, failure) in zip(indices, self._generate(requests, readers), strict=True):
            if label is None:
                drafts[index] = replace(drafts[index], failure=failure)
            else:
                drafts[index] = replace(drafts[index], labels={asked[index].choice.dimension: label})

    def _write(self, asked: Sequence[_Asked], drafts: list[Decision]) -> None:
        """The texts, where there are any: one batch for all, each fitting its label."""
        requests, readers, writing = [], [], []
        for index, one in enumerate(asked):
            space, draft = one.space, drafts[index]
            chosen = draft.labels[one.choice.dimension] if space.choice and draft.labels else None
            if space.text is None or draft.failure is not None or chosen in getattr(space, "silent", ()):
                continue
            suffix = one.suffix
            if chosen is not None:
                suffix = self.prompts.policy_suffix(space, one.turn.state.text, chosen=chosen)
            seed, sampling = derive(one.turn.seed, "text"), space.text.sampling
            requests.append(Request(one.prefix, suffix, seed, sampling, schema=space.text.schema))
            readers.append(space.text.read)
            writing.append(index)
        for index, (read, failure) in zip(writing, self._generate(requests, readers), strict=True):
            if read is None:
                drafts[index] = replace(drafts[index], failure=failure, labels={})
            else:
                labels = {**drafts[index].labels, **read.labels}
                drafts[index] = replace(drafts[index], text=read.text, value=read.value, labels=labels)

    def _generate(
        self, requests: Sequence[Request], readers: Sequence[Callable[[str], _Read]]
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
                    results[index] = (readers[index](reply.text), None)
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
                f"Agent {asked.turn.state.agent} has no usable decision, asked {self.retries} times again: "
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
    ) -> list[Decision | None]:
        """One decision per turn, in order; None where the rule says nothing.

        Raises:
            ValueError: The rule gave a label that the action space does not have.
        """
        return [self._read(turn, self.rule(turn.agent, field)) for turn in turns]

    def _read(self, turn: Turn, said: Decision | str | float | None) -> Decision | None:
        if said is None or isinstance(said, Decision):
            return said
        space = turn.actions or self.actions
        if not isinstance(said, str):
            if (space is not None and space.choice is not None) or not isinstance(said, Real) or said is True:
                raise ValueError(
                    f"The rule gave {said!r} for agent {turn.state.agent}; expected a label, text or number"
                )
            return Decision(value=said, seed=turn.seed)
        if space is None or space.choice is None:
            read = space.text.read(said) if space and space.text else Decision(said)
            return replace(read, seed=turn.seed)
        if said not in space.choice.options:
            options = ", ".join(space.choice.options)
            raise ValueError(f"The rule gave {said!r} for agent {turn.state.agent}, which is not one of {options}")
        return Decision(labels={space.choice.dimension: said}, seed=turn.seed)


class RecordedPolicy:
    """The record decides: a warm-up goes through the same scheduler as a simulation.

    Args:
        decisions: Agent key -> what that agent did.
        actions: The action space whose labels the record has.
    """

    def __init__(
        self, decisions: Mapping[str, Decision] | Mapping[int, Decision], actions: ActionSpace | None = None
    ) -> None:
        self.decisions = {str(agent): replace(d, recorded=True) for agent, d in decisions.items()}
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
