"""``table.md``, ``figures.json`` and the picture, from the outcomes that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from backtest_figures import Score, agreement, changes, compared, correlated, events_of, noise, rivals, score
from denials import DENIAL, PLACEBO
from matplotlib.figure import Figure
from outcomes import OTHER, Outcome

from mesa_meanfield.directory import Directory
from mesa_meanfield.evaluation.report.drawing import COLOURS, GREY, legend_below, plain_style, tidy
from mesa_meanfield.evaluation.report.table import DASH, duration, figure, interval
from mesa_meanfield.evaluation.scorecard import Interval
from mesa_meanfield.experiments.backtest import WITH, WITHOUT

if TYPE_CHECKING:
    from backtest import Plan

TABLE, FIGURES, PICTURE = "table.md", "figures.json", "changes.png"
_ARMS = {WITH: "with the post", WITHOUT: "without it", OTHER: "another post in its place"}


def write_table(folder: Directory, job: Plan, outcomes: Sequence[Outcome], left: int, seconds: float) -> str:
    """Score what is there and write it down; the table's text.

    Args:
        folder: Where.
        job: What is compared.
        outcomes: Denials and placebos.
        left: How many are still to be made.
        seconds: How long the call took.
    """
    by_kind = {kind: [one for one in outcomes if one.kind == kind] for kind in (DENIAL, PLACEBO)}
    scores = {kind: scores_of(of, job.label, job.given.seed) for kind, of in by_kind.items()}
    text = "\n\n".join(part for part in _page(job, by_kind, scores, left, seconds) if part) + "\n"
    (folder.partial / TABLE).write_text(text, encoding="utf-8")
    told = {kind: [asdict(one) for one in of] for kind, of in scores.items()}
    folder.write(FIGURES, {"dimension": job.dimension, "label": job.label, "left": left, "scores": told})
    if by_kind[DENIAL]:
        with plain_style():
            draw(by_kind[DENIAL], job.label).savefig(folder.partial / PICTURE, dpi=120)
    return text


def scores_of(outcomes: Sequence[Outcome], label: str, seed: int) -> list[Score]:
    """What the arms and the rivals say of the changes of a label's share; empty without outcomes."""
    if not outcomes:
        return []
    real, events = changes(outcomes, label), [one.event for one in outcomes]
    arms = {name: changes(outcomes, label, arm) for arm, name in _ARMS.items()}
    return [
        score(name, predicted, real, events, seed)
        for name, predicted in (arms | rivals(outcomes, label)).items()
        if np.isfinite(predicted).any()
    ]


def draw(outcomes: Sequence[Outcome], label: str) -> Figure:
    """Predicted against real change, a point for each cascade; a thin line leads there from what it was without."""
    real = changes(outcomes, label)
    drawn = Figure(figsize=(6, 6), layout="constrained")
    panel = drawn.subplots()
    panel.axhline(0, color="0.6", lw=0.8)
    panel.axvline(0, color="0.6", lw=0.8)
    panel.axline((0, 0), slope=1, color="0.6", lw=0.8, ls=":")
    ends = [changes(outcomes, label, arm) for arm in (WITHOUT, WITH)]
    panel.plot([real, real], ends, color=GREY, lw=0.8)
    bare = panel.scatter(real, ends[0], s=14, facecolors="none", edgecolors=GREY)
    with_it = panel.scatter(real, ends[1], s=18, color=COLOURS[0])
    panel.set_xlabel(f"real change of the share of {label}")
    panel.set_ylabel("simulated change")
    tidy(panel, "both")
    legend_below(drawn, [with_it, bare], [_ARMS[WITH], _ARMS[WITHOUT]])
    return drawn


def _page(
    job: Plan, by_kind: dict[str, list[Outcome]], scores: dict[str, list[Score]], left: int, seconds: float
) -> Iterable[str]:
    denials, label, seed = by_kind[DENIAL], job.label, job.given.seed
    counts = events_of(denials)
    some = ", ".join(f"{event} {n}" for event, n in counts.most_common()) if len(counts) <= 12 else "one cascade each"
    yield f"# Back-test: the share of `{label}` before and after a denial"
    yield (
        f"Rule `{job.rules.rule}`: {job.denied} of {job.read} cascades have a denial, {job.usable} one after the "
        f"warm-up with {job.given.around} labelled actions on either side; {len(denials)} tested"
        f"{f', {left} posts and placebos still to be simulated' if left else ''}. Events: {len(counts)}"
        f"{f' ({some})' if counts else ''}. Replicas: {job.given.replicas}; model: {job.given.backend}; mean field: "
        f"{job.given.summarizer}. Changes are of shares, after less before, of the other actions only; "
        "intervals are of 95 % and resample events, those of signs take cascades for independent."
    )
    if not denials:
        yield "Nothing is tested yet."
        return
    said = noise(denials, label)
    yield (
        f"Really, the share changed by {figure(said.real)} (mean of the absolute changes); where nothing changes, "
        f"sampling so few actions alone gives {figure(said.floor)}. Beyond the 95 % of that: {said.beyond} of "
        f"{said.of}."
    )
    yield "## Predicted and real change"
    yield _scores(denials, scores[DENIAL], label, seed)
    yield "## What the post does in the simulation"
    yield _effects(by_kind, label, seed)
    yield f"## All labels of {job.dimension}"
    yield _labels(denials, job.labels, seed)
    if by_kind[PLACEBO]:
        yield "## Placebo: a random other post of the same cascades"
        yield _scores(by_kind[PLACEBO], scores[PLACEBO], label, seed)
    failures, tokens = (sum(getattr(one, name) for of in by_kind.values() for one in of) for name in _SUMS)
    yield (
        f"{failures} decisions failed and count nowhere. {tokens} tokens asked; "
        f"{duration(sum(one.seconds for of in by_kind.values() for one in of))} of simulations, this call "
        f"{duration(seconds)}."
    )
    yield f"![predicted and real change]({PICTURE})"


_SUMS = ("failures", "tokens")


def _scores(outcomes: Sequence[Outcome], scores: Sequence[Score], label: str, seed: int) -> str:
    real, events = changes(outcomes, label), [one.event for one in outcomes]
    truth = score("", real, real, events, seed)
    heads = ["", "cascades", "mean change", "same sign", "correlation", "mean abs. error", "below no change"]
    rows = [["really", str(truth.cascades), _with(truth.mean, truth.mean_ci), *[DASH] * 4]]
    for one in scores:
        signs = one.signs
        rows.append(
            [
                one.name,
                str(one.cascades),
                _with(one.mean, one.mean_ci),
                f"{signs.agree} of {signs.of} ({interval(signs.ci, 2)})" if signs.of else DASH,
                _with(one.correlation, one.correlation_ci, 2),
                _with(one.error, one.error_ci, sign=False),
                _with(one.below_no_change, one.below_ci),
            ]
        )
    return _markdown(heads, rows)


def _effects(by_kind: dict[str, list[Outcome]], label: str, seed: int) -> str:
    """The simulated effects, and how they lie to the real changes."""
    heads = ["", "cascades", "mean effect", "same sign as real", "correlation with real"]
    rows = []
    for kind, arm, name in (
        (DENIAL, WITH, "the denial"),
        (DENIAL, OTHER, "another post in its place"),
        (PLACEBO, WITH, "a random other post"),
    ):
        found = [one for one in by_kind[kind] if np.isfinite([one.effect(label, arm), one.change(label)]).all()]
        if not found:
            continue
        effects, real = [one.effect(label, arm) for one in found], changes(found, label)
        events, signs = [one.event for one in found], agreement(effects, real)
        mean, ci, n = compared(effects, [0.0] * len(found), events, seed)
        shown = f"{signs.agree} of {signs.of} ({interval(signs.ci, 2)})" if signs.of else DASH
        rows.append([name, str(n), _with(mean, ci), shown, _with(*correlated(effects, real, events, seed), 2)])
    denials = by_kind[DENIAL]
    if any(OTHER in one.arms for one in denials):
        both = ([one.effect(label, arm) for one in denials] for arm in (WITH, OTHER))
        rows.append(_difference("denial less another post", *both, denials, seed))
    placebos = {one.cascade: one for one in by_kind[PLACEBO]}
    if twins := [one for one in denials if one.cascade in placebos]:
        others = [placebos[one.cascade].change(label) for one in twins]
        rows.append(_difference("really: denial less random post", changes(twins, label), others, twins, seed))
    return _markdown(heads, rows)


def _difference(name: str, a: Sequence[float], b: Sequence[float], of: Sequence[Outcome], seed: int) -> list[str]:
    mean, ci, n = compared(a, b, [one.event for one in of], seed)
    return [name, str(n), _with(mean, ci), DASH, DASH]


def _labels(outcomes: Sequence[Outcome], labels: Sequence[str], seed: int) -> str:
    heads = ["label", "real change", "with the post", "without it", "effect", "same sign", "error with it"]
    rows = []
    events = [one.event for one in outcomes]
    for label in labels:
        real = changes(outcomes, label)
        truth, with_it, without = (
            score("", p, real, events, seed) for p in (real, *(changes(outcomes, label, a) for a in (WITH, WITHOUT)))
        )
        effect, ci, _ = compared([one.effect(label, WITH) for one in outcomes], [0.0] * len(outcomes), events, seed)
        means = [_with(one.mean, one.mean_ci) for one in (truth, with_it, without)]
        signs = f"{with_it.signs.agree} of {with_it.signs.of}"
        rows.append([label, *means, _with(effect, ci), signs, figure(with_it.error)])
    return _markdown(heads, rows)


def _with(value: float | None, ci: Interval, digits: int = 3, *, sign: bool = True) -> str:
    ends = interval(ci, digits, sign=sign)
    return figure(value, digits, sign=sign) + ("" if ends == DASH else f" ({ends})")


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
