"""What a run came to: its figures, its picture, and the table that is printed."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield.cli.adapters import Chosen
from mesa_meanfield.cli.output import note, print_lines, print_table
from mesa_meanfield.data import Cascade
from mesa_meanfield.evaluation.comparison import Comparison, compare
from mesa_meanfield.evaluation.report.plots import trend
from mesa_meanfield.evaluation.rivals import Trained
from mesa_meanfield.prompts import Prompts
from mesa_meanfield_models.cascade.model import CascadeModel


@dataclass(frozen=True)
class Job:
    """A run before any model is loaded."""

    cascade: Cascade
    source: str
    trained: Trained | None
    dimension: str
    labels: tuple[str, ...]
    prompts: Prompts
    chosen: Chosen


def outcome(
    job: Job, model: CascadeModel, *, name: str, backend: str, folder: Path
) -> tuple[Comparison, dict[str, Any]]:  # Any: JSON
    """Compare a simulation that is over with the record, and draw both.

    Args:
        job: What was asked for.
        model: The model that was run.
        name: The simulation's, for tables.
        backend: The name of what decided.
        folder: Where the picture goes.
    """
    simulated, usage, played = model.simulated.actions, model.crowd.usage, _played(model)
    comparison = compare(model.cut, simulated[played:], job.dimension, job.labels, name=name, trained=job.trained)
    if comparison.failures:
        note(f"{comparison.failures} of {len(simulated) - played} decisions failed and count nowhere")
    title = f"{job.cascade.id} ({job.cascade.domain}) · {name} · {backend}"
    picture = folder / "trend.png"
    dimension, labels = job.dimension, job.labels
    try:
        trend(picture, model.real, simulated, warm_up=played, dimension=dimension, labels=labels, title=title)
    except OSError as error:  # no picture is no reason to lose the figures
        note(f"{picture} cannot be written: {error}")
    return comparison, {
        "cascade": job.cascade.id,
        "dimension": job.dimension,
        "labels": list(job.labels),
        "real": comparison.real,
        "simulated": comparison.simulated.shares,
        "kl": comparison.simulated.kl,
        "js": comparison.simulated.js,
        "noise_floor": comparison.noise_floor,
        "rivals": {entry.name: entry.kl for entry in comparison.rivals},
        "ticks": len(model.cut.roll_out),
        "agents": len(simulated) - played,
        "adapters": job.chosen.told,
        "failures": comparison.failures,
        "summary_failures": usage.failures - comparison.failures,
        "usage": {
            "calls": usage.calls,
            "tokens_asked": usage.tokens_asked,
            "tokens_computed": usage.tokens_computed,
            "retries": usage.retries,
            "seconds": usage.seconds,
        },
    }


def print_outcome(job: Job, model: CascadeModel, comparison: Comparison, result: Mapping[str, Any]) -> None:
    """The same for the eye."""

    def row(name: str, shares: Mapping[str, float], *figures: float) -> list[str]:
        cells = [f"{shares[label]:.1%}" for label in comparison.labels]
        return [name, *cells, *(f"{figure:.3f}" for figure in figures)]

    guesses = [(f"simulated ({comparison.simulated.name})", comparison.simulated)]
    guesses += [(entry.name, entry) for entry in comparison.rivals]
    rows = [[*row("real", comparison.real), "", ""]]
    rows += [row(name, entry.shares, entry.kl, entry.js) for name, entry in guesses]
    rows.append(["noise floor", *[""] * len(comparison.labels), f"{comparison.noise_floor:.3f}", ""])
    cascade = job.cascade
    topic = " ".join(html.unescape(cascade.topic.text).split())
    print_lines(f"{cascade.id} ({cascade.domain}, {cascade.language}): {topic}")
    title = f"Shares of {result['dimension']} after {_played(model)} played actions ({result['agents']} simulated)"
    print_table(title, ["", *comparison.labels, "KL (nats)", "JS distance"], rows)
    if told := str(job.chosen):
        print_lines(f"Adapters: {told}")
    usage = result["usage"]
    print_lines(
        f"{result['agents']} decisions in {result['ticks']} ticks, {result['failures']} failed, "
        f"{result['summary_failures']} summaries failed, {usage['retries']} retries",
        f"{usage['calls']} calls, {usage['tokens_asked']} tokens asked, {usage['tokens_computed']} computed, "
        f"{usage['seconds']:.1f} s in the model, {result['seconds']:.1f} s in all",
        f"Run directory: {result['run_dir']} (trend.png shows the shares over time)",
    )


def _played(model: CascadeModel) -> int:
    return sum(map(len, model.cut.warm_up))
