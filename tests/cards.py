"""Small scorecards and stories to look at. Every figure is invented."""

from __future__ import annotations

from typing import Any

import numpy as np

from mesa_meanfield.evaluation.cases import Case, Guess
from mesa_meanfield.evaluation.report.page import Story
from mesa_meanfield.evaluation.scorecard import (
    Bin,
    Card,
    Coverage,
    Domain,
    Entry,
    Forecast,
    Hits,
    Interval,
    Paired,
    Scorecard,
    Spent,
)

LABELS = ("support", "deny", "query")


def spent() -> Spent:
    return Spent(calls=40, tokens_asked=12_345, tokens_computed=6_000, retries=0, seconds=75.0)


def entry(name: str = "llm", kl: float | None = 0.2, *, width: float | None = 0.05, **other: Any) -> Entry:
    """An entry with the interval kl - width to kl + width; a simulation unless said otherwise."""
    simulation = other.get("kind", "simulation") == "simulation"
    ends = (None, None) if kl is None or width is None else (max(0.0, kl - width), kl + width)
    values: dict[str, Any] = {
        "kind": "simulation",
        "cascades": 4,
        "js": 0.25,
        "wasserstein": 0.2,
        "dtw": 0.1,
        "f1_macro": 0.4,
        "f1_micro": 0.5,
        "nll": 1.1,
        "nll_token": 3.2 if simulation else None,
        "calibration_error": 0.07,
        "reliability": (
            Bin(low=0.0, high=0.5, predicted=0.2, observed=0.3, size=60),
            Bin(low=0.5, high=1.0, predicted=0.7, observed=0.6, size=20),
        )
        if simulation
        else (),
        "forecast": Forecast(
            error_by_horizon=(0.1, 0.15, None), direction=Hits(hits=3, of=4), turning_points=Hits(hits=0, of=0)
        ),
        "coverage": Coverage(nominal=0.6, expected=0.7, covered=11, of=24) if simulation else None,
        "failures": 0,
        "spent": spent() if simulation else None,
        "by_domain": (Domain(domain="news", cascades=4, kl=kl, kl_ci=ends),),
    }
    return Entry(name=name, kl=kl, kl_ci=ends, **{**values, **other})


def rival(name: str = "prior", kl: float | None = 0.3, **other: Any) -> Entry:
    return entry(name, kl, kind="rival", **other)


def unknown(name: str = "broken", **other: Any) -> Entry:
    """An entry of which nothing is known."""
    nothing = Forecast(error_by_horizon=(), direction=Hits(hits=0, of=0), turning_points=Hits(hits=0, of=0))
    figures = ("js", "wasserstein", "dtw", "f1_macro", "f1_micro", "nll", "nll_token", "calibration_error")
    known: dict[str, Any] = dict.fromkeys((*figures, "coverage", "spent"))
    return entry(name, None, **{**known, "reliability": (), "forecast": nothing, "by_domain": (), **other})


def pair(
    a: str, b: str, difference: float | None, ci: Interval, winner: str | None = None, metric: str = "kl"
) -> Paired:
    return Paired(a=a, b=b, metric=metric, cascades=4, difference=difference, ci=ci, winner=winner)


def card(*entries: Entry, paired: tuple[Paired, ...] = (), **other: Any) -> Card:
    values = {"dimension": "stance", "labels": LABELS, "cascades": 4, "actions": 90, "noise_floor": 0.05}
    return Card(entries=entries, paired=paired, **{**values, **other})


def scorecard(*entries: Entry, **other: Any) -> Scorecard:
    made = {
        "settings": {"seed": 1},
        "seconds": 12.0,
        "per_cascade_file": "per_cascade.jsonl",
        "report": "report.html",
    }
    parts = dict(card(*entries, paired=other.pop("paired", ())))
    return Scorecard(**{**parts, **made, **other})


def story(
    key: str = "c1",
    simulated: tuple[float, ...] = (0.5, 0.3, 0.2),
    *,
    labels: tuple[str, ...] = LABELS,
    names: tuple[str, ...] = ("llm", "prior"),
    replicas: int = 2,
    topic: str = "A walrus sits in the canal.",
    domain: str = "news",
    language: str = "en",
    **other: Any,
) -> Story:
    """A cascade of 6 played and 9 simulated actions, the real labels in turn, with a guess for each name."""
    k, n = len(labels), 9
    case = Case(key, key, domain, language, "stance", labels, np.arange(6) % k, np.arange(n) % k)
    rows = np.broadcast_to(np.array(simulated), (replicas, n, k)).copy()
    drawn = np.stack([(np.arange(n) * (r + 1)) % k for r in range(replicas)])
    guesses = {name: Guess(name, rows, drawn) for name in names}
    return Story(topic, case, guesses, **other)
