"""What the runs say, as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from statistics import mean
from typing import Any

from seeing_runs import Run, Shares

from mesa_meanfield.evaluation.metrics import kl, noise_floor, total_variation
from mesa_meanfield_models.town import SEE

NAMES = {
    "global": "the global mean field",
    "community": "their community's and the global one",
    "neighbours": "their neighbours' last posts",
}
"""What people see, in words."""
COST = (
    "people see",
    "calls",
    "prefixes a tick",
    "characters of each",
    "own characters",
    "tokens asked",
    "tokens computed",
    "saved",
    "failures",
)
"""What a decision cost, for `cost_row`."""


def write_tables(file: Path, runs: Sequence[Run], told: Mapping[str, Any]) -> str:
    """Write the tables and give them back."""
    machine, settings = told["machine"], told["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    asked = ", ".join(f"{name} {value}" for name, value in settings.items() if name not in ("out", "again"))
    lines = [
        f"{told['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {versions}.",
        f"Settings: {asked}.",
        "",
        *table(COST, [cost_row(NAMES[see], [one for one in runs if one.see == see]) for see in SEE]),
    ]
    for story in dict.fromkeys(one.story for one in runs):
        lines += ["", *_result([one for one in runs if one.story == story])]
    text = "\n".join(lines) + "\n"
    file.write_text(text, encoding="utf-8")
    return text


def cost_row(name: str, runs: Sequence[Run]) -> list[str]:
    """What a decision cost, over all runs of a way."""
    asked, computed = sum(one.tokens_asked for one in runs), sum(one.tokens_computed for one in runs)
    decisions = sum(one.decisions for one in runs)
    prefixes, questions = sum(one.asked.prefixes for one in runs), sum(one.asked.questions for one in runs)
    return [
        name,
        f"{sum(one.calls for one in runs) / decisions:.2f}",
        f"{prefixes / sum(len(one.shares) for one in runs):.1f}",
        f"{sum(one.asked.prefix_characters for one in runs) / prefixes:.0f}",
        f"{sum(one.asked.own_characters for one in runs) / questions:.0f}",
        f"{asked / decisions:.0f}",
        f"{computed / decisions:.0f}",
        f"{100 * (1 - computed / asked):.0f} %",
        f"{sum(one.failures for one in runs)}",
    ]


def _result(runs: Sequence[Run]) -> list[str]:
    """One story: shares in the last tick, distances from the global way, between replicas, and within the town."""
    labels = list(runs[0].shares[0])
    own = {see: {one.seed: one for one in runs if one.see == see} for see in SEE}
    rows = []
    for see in SEE:
        of = list(own[see].values())
        away = [over_ticks(own["global"][one.seed].shares, one.shares) for one in of]
        spread = [over_ticks(a.shares, b.shares) for a, b in permutations(of, 2)]
        parts = [apart(one.communities[-1].values()) for one in of]
        rows.append(
            [
                NAMES[see],
                *(f"{100 * mean(one.shares[-1][label] for one in of):.1f} %" for label in labels),
                "-" if see == "global" else f"{mean(away):.4f} ({min(away):.4f} to {max(away):.4f})",
                f"{mean(spread):.4f}",
                f"{mean(parts):.3f}",
            ]
        )
    head = ["people see", *labels, "KL from global", "KL between replicas", "communities apart"]
    everyone = [one for one in runs if one.see == "global"]
    n = round(mean(one.decisions / len(one.shares) for one in everyone))
    expected = {label: mean(one.shares[-1][label] for one in everyone) for label in labels}
    floor = noise_floor({label: round(n * share) for label, share in expected.items()}, expected)
    counted = (
        f"What {n} people are counted to do differs from what they are expected to do by KL {floor:.3f} on average."
    )
    return [f"**{runs[0].story}**", "", *table(head, rows), "", counted]


def over_ticks(a: Sequence[Shares], b: Sequence[Shares]) -> float:
    """The mean KL over all ticks but the first, in which nobody sees anything of the others yet."""
    return mean(kl(one, other) for one, other in list(zip(a, b, strict=True))[1:])


def apart(communities: Iterable[Shares]) -> float:
    """The mean total variation between two communities; 0 where there is one alone."""
    distances = [total_variation(a, b) for a, b in combinations(communities, 2)]
    return mean(distances) if distances else 0.0


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, line by line; all but the first column are numbers."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return [line(head), line(["---", *["---:"] * (len(head) - 1)]), *map(line, rows)]
