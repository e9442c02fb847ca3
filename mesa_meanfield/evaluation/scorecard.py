"""What an evaluation says, as frozen values: the schema of ``scorecard.json``.

All figures are means over cascades unless a field says otherwise; distances are in nats where they have
a unit. A figure that cannot be known is null: the likelihood of a model that gives no probabilities, say.
A cascade in which every decision of an entry failed has no figure for that entry and does not enter its means.
``Scorecard.model_json_schema()`` is the JSON Schema.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from mesa_meanfield.display import Shown, counted
from mesa_meanfield.protocols import Usage

Interval = tuple[float | None, float | None]
"""The lower and the upper end of a 95 % bootstrap interval over cascades; null where there are too few."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Hits(_Frozen):
    """How often something was foreseen, over all cascades."""

    hits: int
    of: int
    """How often it happened."""
    false_alarms: int = 0
    """How often it was foreseen and did not happen."""


class Forecast(_Frozen):
    """How well the trend after the warm-up was foreseen, window by window."""

    error_by_horizon: tuple[float | None, ...]
    """Mean total variation between real and foreseen shares of the first, second, ... window, over the cascades that
    have it: short roll-outs have fewer windows, so compare entries within a window, not one window with the next."""
    direction: Hits
    """Moves of a label's share away from the warm-up, larger than chance, foreseen with the right sign; those
    foreseen with the wrong sign are the false alarms."""
    turning_points: Hits
    """Reversals of a label's share, larger than chance, foreseen in the same or a neighbouring window."""


class Coverage(_Frozen):
    """How often the real share of a window lay within the band over replicas."""

    nominal: float
    """The share that a band of so many replicas would cover at least if simulated and real were the same process;
    tied shares make it cover more."""
    expected: float
    """The share that it would cover in that case with the ties at hand: compare what was covered with this."""
    covered: int
    of: int


class Widened(_Frozen):
    """How often bands over replicas held the real share, each event's made wider by what the others taught.

    By split-conformal prediction, so that they hold what chance in the model and its errors do together.
    """

    level: float
    """What the bands should cover."""
    before: float
    """Mean over cascades of what the bands of this level covered as they were."""
    after: float
    """Of the widened ones, on events that taught nothing."""
    factor: float | None
    """How many times as wide all events together make a band, one narrower than .05 reckoned as that wide; null where
    they are too few for any finite width."""
    events: int


class Bin(_Frozen):
    """One bar of the reliability diagram, over all cascades: label probabilities above low, up to high."""

    low: float
    high: float
    predicted: float
    """Mean predicted probability in the bin."""
    observed: float
    """Share of these labels that were the real one."""
    size: int
    """How many probabilities: one for each label of each decision of each replica."""


class Domain(_Frozen):
    """One entry in one domain."""

    domain: str
    cascades: int
    """How many of the domain's cascades the entry has figures for."""
    kl: float | None
    kl_ci: Interval


class Spent(_Frozen):
    """What an entry's roll-outs cost."""

    calls: int
    tokens_asked: int
    tokens_computed: int
    retries: int
    seconds: float
    """Time inside the model; parallel roll-outs share a batch's time in proportion to their requests."""

    @classmethod
    def of(cls, usage: Usage) -> Spent:
        """What was used, as the scorecard says it."""
        return cls(**{name: getattr(usage, name) for name in cls.model_fields})


class Entry(_Frozen):
    """One simulation or rival."""

    name: str
    kind: Literal["rival", "simulation"]
    cascades: int
    """How many cascades the means are over: fewer than the card's where all decisions of some cascades failed. Means
    over different cascades cannot be compared; paired differences can."""
    kl: float | None
    """KL(real || guess) in nats; null where something real was impossible in the guess."""
    kl_ci: Interval
    js: float | None
    """Jensen-Shannon distance: the root of the divergence in nats."""
    wasserstein: float | None
    """Wasserstein distance of the shares with the labels' declared positions, else total variation."""
    dtw: float | None
    """Dynamic-time-warping distance of the cumulated share curves, divided by the root of their length."""
    f1_macro: float | None
    """F1 of individual decisions, mean over the labels that occur, over all decisions of all cascades; a decision
    counts with its probabilities."""
    f1_micro: float | None
    """F1 of all labels together: the probability that a foreseen decision is the real one."""
    nll: float | None
    """-log P(real label) per action in nats, under the roll-out's own field, mean over all actions and replicas; null
    where something real was impossible."""
    nll_token: float | None
    """-log P(token) per token of the real texts in nats, under the roll-out's own field."""
    calibration_error: float | None
    """Expected calibration error: mean |predicted - observed| over the reliability bins, weighted by size. It is no
    measure of skill: a guess that holds all labels for equally likely always has 0."""
    reliability: tuple[Bin, ...]
    forecast: Forecast
    coverage: Coverage | None
    """Null for rivals and for a single replica."""
    widened: Widened | None = None
    """Null for rivals, for a single replica, and where only one event has a band."""
    failures: int
    """Decisions that failed and count nowhere, over all replicas."""
    spent: Spent | None
    by_domain: tuple[Domain, ...]


class Paired(_Frozen):
    """The difference of two entries on the same cascades."""

    a: str
    b: str
    metric: str
    cascades: int
    """How many cascades both have this figure for."""
    difference: float | None
    """Mean of a - b over these cascades; below zero a is the better one. Null where a figure is infinite."""
    ci: Interval
    winner: str | None
    """The better one, named only where the interval excludes zero. Each interval stands alone: of twenty pairs
    that do not differ, one gets a winner by chance."""


class Card(_Frozen, Shown):
    """One dimension of all cascades."""

    _shown_by: ClassVar[str] = "mesa_meanfield.evaluation.report.notebook:card_html"
    dimension: str
    labels: tuple[str, ...]
    cascades: int
    """How many cascades were compared: those with labels after the warm-up."""
    actions: int
    """How many recorded actions with labels lie after their warm-ups."""
    noise_floor: float
    """Mean KL that even a perfect simulation would get for samples of these sizes."""
    entries: tuple[Entry, ...]
    paired: tuple[Paired, ...]

    def __repr__(self) -> str:
        of = f"{counted(self.cascades, 'cascade')}, {len(self.entries)} entries"
        known = [entry for entry in self.entries if entry.kl is not None]
        first = min(known, key=lambda entry: entry.kl or 0.0, default=None)
        lowest = "" if first is None else f", lowest KL {first.kl:.3f} of {first.name}"
        return f"<{type(self).__name__} on {self.dimension}: {of}{lowest}, noise floor {self.noise_floor:.3f}>"

    __str__ = __repr__


class CascadeRow(_Frozen):
    """One entry on one cascade: a line of the file with all of them."""

    cascade: str
    event: str
    name: str
    kl: float | None
    """Null where something real was impossible in the guess, or every decision failed and ``shares`` is null, too."""
    n: int
    """How many recorded actions with labels lie after the warm-up."""
    js: float | None
    nll: float | None
    """-log P(real label) in nats, mean over the cascade's actions and replicas."""
    shares: dict[str, float] | None
    """The guess's shares of the labels."""
    real: dict[str, float]
    """The real ones."""


class Agreement(_Frozen):
    """How far an annotator agrees with gold labels."""

    dimension: str
    gold: str
    """The gold dimension that it was compared with."""
    texts: int
    accuracy: float
    chance: float
    """The accuracy of always saying the commonest gold label."""
    kappa: float | None
    """Cohen's kappa: 1 perfect, 0 as good as chance."""


class Annotation(_Frozen):
    """What labelled texts that had no labels."""

    model: str
    texts: int
    """Distinct texts asked about."""
    failures: int
    """Texts whose label could not be read; they count nowhere."""
    agreement: tuple[Agreement, ...]
    spent: Spent


class Scorecard(Card):
    """An evaluation: the main dimension's figures, the other dimensions' beside them, and how it was made."""

    others: tuple[Card, ...] = ()
    annotation: Annotation | None = None
    left_out: tuple[str, ...] = ()
    """Cascades that were not compared, each with the reason."""
    settings: dict[str, str | int | float | bool | list[str] | None]
    """The arguments, versions, data hashes and model names."""
    seconds: float
    """From start to end."""
    per_cascade_file: str
    """JSON Lines of every entry on every cascade: `CascadeRow`."""
    report: str
