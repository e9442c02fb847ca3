"""A language model that decides for the whole crowd in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from mesa_meanfield.actions import Choice
from mesa_meanfield.audit import Audit
from mesa_meanfield.data import Decision, MeanField
from mesa_meanfield.drafts import Draft, draft, sample_labels
from mesa_meanfield.errors import ReplyError, ScoringUnsupported
from mesa_meanfield.prompts import Prompts, prompt_hash
from mesa_meanfield.protocols import ActionSpace, Backend, Request, Sampling, Scorer, Turn, Usage
from mesa_meanfield.seeds import derive, unit

OnFailure = Literal["raise", "skip"] | Decision
_Read = TypeVar("_Read")


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
        texts_per_group: At most so many different texts are generated for agents who are asked the same,
            their label included; each agent takes one of them by its own seed. Other agents change neither
            the texts nor who takes which. ``usage.shared`` counts what was saved. None: a text for each.
        audit: The share of agents, chosen by their seeds, who are asked a second time: one by one, nothing
            shared. Their decisions stay as they are; `audited` tells the difference, `usage` the cost.
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
        texts_per_group: int | None = None,
        audit: float = 0.0,
    ) -> None:
        if not isinstance(on_failure, Decision) and on_failure not in ("raise", "skip"):
            raise ValueError(f"on_failure must be 'raise', 'skip' or a Decision, got {on_failure!r}")
        if not callable(getattr(type(backend), "generate", None)):
            raise TypeError(f"backend must have generate(), got {backend!r}; a string goes through load_backend()")
        if not isinstance(actions, ActionSpace):
            raise TypeError(f"actions must be an action space such as Choice, got {actions!r}")
        if texts_per_group is not None and texts_per_group < 1:
            raise ValueError(f"texts_per_group must be at least 1, or None to share no texts, got {texts_per_group}")
        if not 0 <= audit <= 1:
            raise ValueError(f"audit is a share of the agents, from 0 to 1, got {audit}")
        self.backend = backend
        self.actions = actions
        self.prompts = prompts or Prompts()
        self.instructions = instructions
        self.on_failure = on_failure
        self.retries = retries
        self.texts_per_group = texts_per_group
        self.audit = audit
        self.audited = Audit()
        """What the audit of all ticks so far shows."""
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
        drafts = draft(
            turns, self.actions, self.prompts, field, topic=topic, groups=groups, instructions=self.instructions
        )
        self._choose(drafts)
        self._write(drafts)
        decisions = [self._settle(one) for one in drafts]
        if self.audit:
            sample = [i for i, turn in enumerate(turns) if unit(turn.seed, "audit") < self.audit]
            again = self._ask_alone([turns[i] for i in sample], field, topic, groups)
            self.audited += Audit.of([decisions[i] for i in sample], again)
        return decisions

    def _choose(self, drafts: Iterable[Draft]) -> None:
        """The labels, where there is a choice: one scored batch for all who have the same answers."""
        by_choice: dict[Choice, list[Draft]] = defaultdict(list)
        for one in drafts:
            if one.prompt.space.choice is not None:
                by_choice[one.prompt.space.choice].append(one)
        by_answers: dict[tuple[str, ...], list[Choice]] = defaultdict(list)
        for choice in by_choice:
            by_answers[choice.answers].append(choice)
        unscored: list[tuple[Choice, Draft]] = []
        for answers, choices in by_answers.items():
            scores = self._score([one for choice in choices for one in by_choice[choice]], answers)
            for choice in choices:
                lost = asked = by_choice[choice]
                if scores is not None:
                    lost = sample_labels(choice, asked, scores[: len(asked)])
                    scores = scores[len(asked) :]
                    self._own += Usage(retries=len(lost))
                unscored += [(choice, one) for one in lost]
        self._pick(unscored)

    def _score(self, drafts: Sequence[Draft], answers: tuple[str, ...]) -> npt.NDArray[np.float64] | None:
        """Log-probabilities, shape (N, K); None where the backend cannot give any."""
        if isinstance(self.backend, Scorer):
            try:
                requests = [Request(d.prompt.prefix, d.prompt.suffix, d.turn.seed, choices=answers) for d in drafts]
                return self.backend.score(requests, answers)
            except ScoringUnsupported:
                pass  # this server gives no probabilities: the model picks, in `_pick`
        return None

    def _pick(self, unscored: Sequence[tuple[Choice, Draft]]) -> None:
        """The labels that could not be scored: the model says them itself."""
        requests = []
        for choice, one in unscored:
            # Nothing cut off, so that the model's own shares come out.
            sampling = Sampling(max_tokens=16, temperature=choice.temperature, top_k=0, top_p=1.0)
            prompt, seed = one.prompt, derive(one.turn.seed, "choice")
            requests.append(Request(prompt.prefix, prompt.suffix, seed, sampling, choices=choice.answers))
        said = self._generate(requests, [choice.read for choice, _ in unscored])
        for (choice, one), (label, failure) in zip(unscored, said, strict=True):
            if label is None:
                one.failure = failure
            else:
                one.labels = {choice.dimension: label}

    def _write(self, drafts: Iterable[Draft]) -> None:
        """The texts, where there are any: one batch for all, each fitting its label."""
        suffixes: dict[tuple[ActionSpace, str], Callable[[str], str]] = {}
        writing, asked = [], []
        for one in drafts:
            prompt, space, chosen = one.prompt, one.prompt.space, one.chosen
            if space.text is None or one.failure is not None or chosen in getattr(space, "silent", ()):
                continue
            suffix = prompt.suffix
            if chosen is not None:
                if (space, chosen) not in suffixes:
                    suffixes[space, chosen] = self.prompts.policy_suffixes(space, chosen=chosen)
                suffix = suffixes[space, chosen](prompt.state)
            seed = self._text_seed(one.turn, prompt.prefix, suffix)
            request = Request(prompt.prefix, suffix, seed, space.text.sampling, schema=space.text.schema)
            writing.append(one)
            asked.append((request, space.text))
        distinct = asked if self.texts_per_group is None else list(dict.fromkeys(asked))
        self._own += Usage(shared=len(asked) - len(distinct))
        said = self._generate([request for request, _ in distinct], [text.read for _, text in distinct])
        if len(distinct) < len(asked):
            replies = dict(zip(distinct, said, strict=True))
            said = [replies[question] for question in asked]
        for one, (read, failure) in zip(writing, said, strict=True):
            if read is None:
                one.failure = failure
            else:
                one.text, one.value = read.text, read.value
                one.labels = {**one.labels, **read.labels} if read.labels else one.labels

    def _text_seed(self, turn: Turn, prefix: str, suffix: str) -> int:
        """The agent's own seed, or that of the shared text it takes: a matter of the question, not of who asks."""
        if self.texts_per_group is None:
            return derive(turn.seed, "text")
        which = int(unit(turn.seed, "which text") * self.texts_per_group)
        return derive(turn.tick_seed, prompt_hash(prefix, suffix), which, "text")

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

    def _settle(self, done: Draft) -> Decision:
        """The decision, or what was declared for the case that there is none."""
        seed, name = done.turn.seed, done.prompt.hash
        if done.failure is None:
            return Decision(done.text, done.value, done.labels, done.prompt.distribution, seed, prompt_hash=name)
        if self.on_failure == "raise":
            raise ReplyError(
                f"Agent {done.turn.state.agent} has no usable decision, asked {self.retries} times again: "
                f"{done.failure}; on_failure='skip' or a Decision goes on without it"
            )
        fallback = self.on_failure if isinstance(self.on_failure, Decision) else Decision()
        return replace(fallback, failure=done.failure, seed=seed, prompt_hash=name)

    def _ask_alone(
        self, turns: Iterable[Turn], field: MeanField, topic: str, groups: Mapping[str, MeanField]
    ) -> list[Decision]:
        """What these agents decide when each is asked alone, as if there were nobody else."""
        alone = LLMPolicy(
            self.backend,
            self.actions,
            prompts=self.prompts,
            instructions=self.instructions,
            on_failure="skip",
            retries=self.retries,
        )
        decisions = [alone.decide([turn], field, topic=topic, groups=groups)[0] for turn in turns]
        self._own += alone._own
        return decisions
