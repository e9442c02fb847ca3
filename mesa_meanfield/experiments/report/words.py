"""Interventions, objectives and results in words that claim no more than the figures do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesa_meanfield.choosers import Community, MostInfluential, Who
from mesa_meanfield.data import Decision
from mesa_meanfield.evaluation.report.table import figure, interval, known
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.comparison import Effect
from mesa_meanfield.experiments.objectives import AreaUnder, Objective, ShareAt, TimeToReversal
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace
from mesa_meanfield.plain import Plain, told
from mesa_meanfield.protocols import Intervention

NBSP = "\N{NO-BREAK SPACE}"


def in_words(one: Intervention) -> str:
    """An intervention as a sentence."""
    match one:
        case Announce():
            what = "an official statement" if one.channel == "official" else "a media report"
            return f"{_when(one)} {_whom(one.reach)} {_reads(one.reach)} {what} by {one.source}: “{one.text}”"
        case Inject():
            who = one.account if one.copies == 1 else f"{one.copies} accounts ({one.account})"
            return f"In tick {one.at} {who} from outside the crowd posts: {_said(one.text, one.labels)}"
        case Replace():
            return f"{_when(one)} a script decides for {_whom(one.who)}: {_script(one.script)}"
        case Mute():
            return f"{_when(one)} {_whom(one.who)} neither act nor are heard."
        case Persuade():
            change = f"“{one.change}”" if isinstance(one.change, str) else told(one.change)
            return f"{_when(one)} the states of {_whom(one.who)} change: {change}"
        case _:
            return f"A function of one's own: {told(one)}"


def objective_in_words(objective: Objective) -> str:
    """What a plan looks for, as a noun."""
    match objective:
        case ShareAt():
            of = " of all decisions so far" if objective.cumulative else ""
            when = "the last tick" if objective.tick == -1 else f"tick {objective.tick}"
            return f"share of {objective.label}{of} in {when}"
        case TimeToReversal():
            return f"first tick in which the share of {objective.label} exceeds that of {objective.over}"
        case AreaUnder():
            return f"area under the share of {objective.label} from tick {objective.since} on"
        case _:
            return told(objective)


def points(share: float | None, *, sign: bool = False) -> str:
    """A share, or a difference of shares, in percentage points."""
    return figure(None if share is None else 100 * share, 1, sign=sign)


def points_between(ends: Interval, *, sign: bool = False) -> str:
    """An interval of shares in percentage points."""
    low, high = ends
    return interval((None if low is None else 100 * low, None if high is None else 100 * high), 1, sign=sign)


def percentage(share: float) -> str:
    """A share in per cent, as short as it can be."""
    return f"{100 * share:.4g}{NBSP}%"


def effect_verdict(one: Effect, span: str, confidence: float) -> str:
    """What the intervention did to one label's share, in a sentence.

    Args:
        one: The effect.
        span: Which ticks it is over.
        confidence: Of its interval.
    """
    if one.effect is None or one.treatment is None or one.control is None:
        return f"Nobody decided {span}, so that nothing can be said of the share of {one.label}."
    shares = f"{points(one.treatment)}{NBSP}% with the intervention, {points(one.control)}{NBSP}% without"
    low, high = one.ci
    if low is None or high is None:
        moved = f"{points(one.effect, sign=True)} points"
        return f"In one pair of replicas the share of {one.label} changes by {moved} {span} ({shares}): no interval."
    ends = f"{percentage(confidence)} interval {points_between(one.ci, sign=True)}"
    if low <= 0 <= high:
        return (
            f"No effect on the share of {one.label} can be told from chance: {points(one.effect, sign=True)} points "
            f"{span}, {ends} ({shares})."
        )
    direction = "raises" if one.effect > 0 else "lowers"
    return (
        f"The intervention {direction} the share of {one.label} by {points(abs(one.effect))} points {span}, "
        f"{ends} ({shares})."
    )


def pairing_in_words(one: Effect) -> str:
    """What the common random numbers saved, in a sentence."""
    ratio = known(one.variance_ratio)
    if ratio is None:
        return "Whether pairing saves replicas cannot be said: nothing varies, or there are fewer than two pairs."
    if ratio < 1e-3:
        return "Pairing takes away nearly all of the chance: the differences hardly vary from pair to pair."
    said = f"The variance of the paired difference is {figure(ratio, 2)} times that of unpaired runs: "
    if 0.8 < ratio < 1.25:
        return f"{said}pairing neither saves nor costs replicas here."
    verb = "saves" if ratio < 1 else "costs"
    return (
        f"{said}pairing {verb} replicas, as {one.replicas} pairs say as much as {one.replicas / ratio:.0f} unpaired "
        "replicas of each arm."
    )


def plan_verdict(plan: Plan, what: str) -> str:
    """Which candidate is best, and whether that is more than chance."""
    first, *others = plan.ranking
    of = f"{what} {figure(first.objective)}"
    if known(first.ci[0]) is not None:
        of += f", {percentage(plan.confidence)} interval {interval(first.ci)}"
    if not others:
        return f"There is one candidate, “{first.intervention}”: {of}."
    if plan.stopped == "separated":
        rivals = ", ".join(f"“{one.intervention}”" for one in others if one.rounds == first.rounds)
        return f"“{first.intervention}” is the best ({of}), better beyond chance than {rivals}."
    second = others[0].intervention
    return f"“{first.intervention}” comes first ({of}), but not beyond chance: it may be no better than “{second}”."


def _when(one: Any) -> str:  # Any: an intervention with a beginning
    if one.until is None:
        return f"From tick {one.at} on"
    return f"In tick {one.at}" if one.until == one.at + 1 else f"In ticks {one.at} to {one.until - 1}"


def _whom(who: Who) -> str:
    match who:
        case MostInfluential():
            by = str(who.by) if isinstance(who.by, str | Plain) else told(who.by)
            return f"the {who.n} agents with the most {by}"
        case Community():
            return f"the agents of the community {who.name}"
        case float() | int():
            return "everyone" if who >= 1 else f"{percentage(who)} of the agents"
        case _:
            return f"those whom {told(who)} chooses"


def _reads(who: Who) -> str:
    return "reads" if isinstance(who, float | int) and who >= 1 else "read"


def _said(text: str, labels: Any) -> str:  # Any: dimension -> label
    parts = [f"“{text}”"] if text else []
    parts += [f"{dimension}: {label}" for dimension, label in labels.items()]
    return ", ".join(parts) or "nothing"


def _script(script: object) -> str:
    def one(decision: Decision | None) -> str:
        return "nothing" if decision is None else _said(decision.text, decision.labels)

    if isinstance(script, Decision):
        return one(script)
    if isinstance(script, Sequence):
        return "; then ".join(one(decision) for decision in script)
    return told(getattr(script, "rule", script))
