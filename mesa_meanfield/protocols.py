"""Every seam on one page: what goes across, and what each side must offer.

Nothing here does anything. To change behaviour, write a class with the same methods, or wrap one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mesa_meanfield.data import Decision, MeanField, State, Tick

if TYPE_CHECKING:
    from mesa_meanfield.actions import Choice

# --- What goes across ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a text is sampled. The defaults are those of MF-LLM (arXiv 2504.21582)."""

    max_tokens: int = 50
    temperature: float = 0.8
    top_k: int = 50
    """0 keeps all."""
    top_p: float = 0.85
    """Applied inside the top k."""
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """Strings that end the text; they are not part of it."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or not self.temperature > 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(
                f"max_tokens >= 1, temperature > 0, 0 < top_p <= 1 and top_k >= 0 are needed, got {self}"
            )


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model."""

    prefix: str
    """What many requests of a tick share: instructions, topic, mean field."""
    suffix: str
    """What belongs to this one: the state and the question."""
    seed: int = 0
    sampling: Sampling = Sampling()
    choices: tuple[str, ...] | None = None
    """The only replies that are of use, where the reply is a choice."""
    schema: str | None = None
    """A JSON schema, as JSON, that the reply must follow."""
    adapter: str | None = None
    """The name of the LoRA adapter that answers, where the backend has several; None for the bare model."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a text, or why there is none."""

    text: str = ""
    failure: str | None = None
    finished: bool = True
    """False where the text ends because ``max_tokens`` were spent."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How probable a given text is as the whole reply to a request."""

    nats: float
    """Its log-probability, summed over its tokens; NaN where it cannot be known."""
    tokens: int
    """How many tokens that were, the one that ends the reply included; 0 where it cannot be known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent. Two of them add up; the difference of two is what lay between."""

    calls: int = 0
    """Questions that a model was asked."""
    tokens_asked: int = 0
    """Prompt and reply tokens of every question as if each were computed alone."""
    tokens_computed: int = 0
    """Token positions the model really computed, padding left out."""
    seconds: float = 0.0
    """Time inside the backend."""
    retries: int = 0
    """Questions asked again: replies that could not be read, and connections that failed."""
    failures: int = 0
    """Questions that stayed without a usable reply."""
    shared: int = 0
    """Texts that were not generated for their agent but shared with a twin (``texts_per_group``)."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Turn:
    """One agent's turn to decide."""

    state: State
    seed: int = 0
    actions: ActionSpace | None = None
    """The agent's own action space, where it differs from the policy's."""
    agent: object = None
    """The agent itself, for rules; language models see the state only."""
    tick_seed: int = 0
    """The tick's own seed, the same whoever is asked: for what agents share."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What one tick is about to ask, before anybody is asked; interventions turn it into another.

    It holds no results: those come from what is asked.
    """

    tick: int
    turns: tuple[Turn, ...]
    """Who is about to decide, in the order of acting; who is left out neither acts nor is heard."""
    field: MeanField
    """The mean field that is shown in this tick; the next one is made from the crowd's own, whatever is shown."""
    groups: Mapping[str, MeanField]
    """Group -> the mean field that is shown to it."""
    topic: str
    seed: int
    """The same in every tick of a run, and in every run with its entropy: what chooses agents derives from it."""
    population: tuple[object, ...] = ()
    """Every agent that takes part in the model, active in this tick or not."""
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Dimension -> the labels that can be decided, where they are known."""
    posts: tuple[tuple[State, Decision], ...] = ()
    """What accounts outside the population say in this tick, each with the account as its state's key. They are
    heard as the agents are: in the tick that is summarized, and in the shares. Where `decide` is called several
    times in a tick, those of its last call count."""
    scripts: Mapping[str, Policy] = dataclasses.field(default_factory=dict)
    """Agent key -> who decides for it in this tick instead of its policy."""


Intervention = Callable[[Scene], Scene]
"""Changes what is asked; where it does nothing it returns the scene as it is. It is asked anew in every tick (and
in every `decide` of one, also after an error), so it remembers nothing."""


# --- What each side offers -------------------------------------------------------------------------


@runtime_checkable
class Participant(Protocol):
    """An agent that takes part: any ``mesa.Agent`` with these two methods.

    Two attributes are looked at where an agent has them: ``key`` (a str or int that names it in seeds and
    records, instead of ``unique_id``) and ``actions`` (its own action space).
    """

    def observe(self) -> str | None:
        """Say what you see, as text; None to abstain this tick."""
        ...

    def act(self, decision: Decision) -> None:
        """Do what was decided."""
        ...


@runtime_checkable
class ActionSpace(Protocol):
    """What can be decided: a label that is scored, a text that is generated, or first one, then the other.

    It is hashable; agents with equal spaces are asked together.
    """

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Dimension -> all its labels; empty where the labels are not known beforehand."""
        ...

    @property
    def choice(self) -> Choice | None:
        """The label to score, if any."""
        ...

    @property
    def text(self) -> Writing | None:
        """The text to generate, if any."""
        ...


class Writing(Protocol):
    """How a text is asked for and read."""

    @property
    def sampling(self) -> Sampling:
        """How it is sampled."""
        ...

    @property
    def schema(self) -> str | None:
        """The JSON schema that it follows, if any."""
        ...

    @property
    def question(self) -> str:
        """What is asked; empty for the template's own words."""
        ...

    def read(self, reply: str) -> Decision:
        """What was written: a decision with its text, value and labels alone.

        Raises:
            ReplyError: The reply cannot be read.
        """
        ...


class Policy(Protocol):
    """Decides for a whole crowd at once."""

    @property
    def actions(self) -> ActionSpace | None:
        """What can be decided, where an agent does not say otherwise."""
        ...

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        ...

    def decide(
        self, turns: Sequence[Turn], field: MeanField, *, topic: str, groups: Mapping[str, MeanField]
    ) -> Sequence[Decision | None]:
        """One decision per turn, in order; None for an agent that does nothing this tick.

        A decision whose ``failure`` is set counts nowhere; if it is also empty, its agent does not act.
        """
        ...


class Summarizer(Protocol):
    """Turns what the crowd did into the next mean field."""

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        ...

    def update(
        self, field: MeanField, tick: Tick, *, topic: str, actions: Sequence[ActionSpace], seed: int
    ) -> MeanField:
        """The mean field after the tick; start from ``field.counted(tick, ...)``.

        Raises:
            MeanFieldError: No summary could be made; the scheduler keeps the old text with new shares.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """A language model that answers in batches."""

    @property
    def name(self) -> str:
        """Which model this is, for records."""
        ...

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order; equal requests give equal replies, whoever else is asked.

        Raises:
            BackendError: Nothing can be asked at all. What concerns one request is that reply's ``failure``.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """A backend that can also say how probable given replies are."""

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)).

        Entry (i, j) is log P(reply i begins with candidate j), summed over the candidate's tokens.

        Raises:
            ScoringUnsupported: This model's server does not give probabilities.
            BackendError: Nothing can be asked at all.
        """
        ...


@runtime_checkable
class LikelihoodScorer(Protocol):
    """A backend that can also say how probable given texts are as whole replies."""

    def log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        """Entry i is log P(reply i is text i), of the text's tokens and of the reply's end behind them.

        Those are the model's own probabilities: what a request says of sampling, choices and schema is not
        looked at. The end is whatever token the model may end a reply with, all of them together; a model
        that knows none is asked for the text alone. Where prompt and text exceed the context, the
        likelihood is NaN of 0 tokens.

        Raises:
            ValueError: There are not as many texts as requests.
            BackendError: Nothing can be asked at all.
        """
        ...


class Recorder(Protocol):
    """Keeps what happened."""

    def record(self, tick: Tick, field: MeanField, groups: Mapping[str, MeanField]) -> None:
        """Called once per tick, with the mean field that came out of it."""
        ...
