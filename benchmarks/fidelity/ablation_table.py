"""One scorecard over all cells that are there, and the table that is read."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cells import CELLS, SFT, UNTUNED
from plan import Plan
from rolling import rolled

from mesa_meanfield.cli.common import asked_for, circumstances
from mesa_meanfield.cli.scoring import PER_CASCADE, publish
from mesa_meanfield.data import event_of
from mesa_meanfield.directory import Directory
from mesa_meanfield.evaluation.report.table import DASH, figure, interval
from mesa_meanfield.evaluation.report.verdict import verdict
from mesa_meanfield.evaluation.results import Results
from mesa_meanfield.evaluation.scorecard import Card, Entry, Paired, Scorecard

TABLE = "table"
AGAINST = (UNTUNED.title, SFT.title, "persistence_shrunk")
"""What every cell is compared with."""
_METRICS = {"kl": "KL", "nll": "NLL"}


def write_table(job: Plan, seconds: float) -> Path | None:
    """Score what is there and replace the table's folder: ``table.md``, ``scorecard.json``, ``report.html``.

    Args:
        job: What is compared.
        seconds: How long the call took so far.

    Returns:
        The folder; None where there is no roll-out yet, so that nothing can be told.
    """
    found = {cell.title: rolled(job, cell) for cell in CELLS}
    rollouts = tuple(one for of in found.values() for one in of)
    if not rollouts:
        return None
    results = Results(
        names=tuple(title for title, of in found.items() if of),
        cascades=job.cascades,
        rollouts=rollouts,
        cutting=job.settings.cutting,
        seed=job.given.seed,
    )
    compared = results.dimension(job.settings.dimension, job.settings.labels, job.trained)
    assert compared is not None  # `plan` saw to it
    config = asked_for(job.given, "jobs", "jobs_training", "minutes", "only_evaluate")
    config |= {"data_sha256": job.data_sha256, "dimension": job.settings.dimension, **circumstances()}
    folder = job.out / TABLE
    for old in (folder, folder.with_name(f"{TABLE}.partial")):  # all of it comes from the roll-outs
        shutil.rmtree(old, ignore_errors=True)
    directory = Directory(folder)
    card = publish(compared, directory, left_out=job.left_out, config=config, seconds=seconds)
    rows = [json.loads(line) for line in (directory.partial / PER_CASCADE).read_text(encoding="utf-8").splitlines()]
    by_fold = {
        (fold, entry.name): [r["kl"] for r in rows if (r["event"], r["name"]) == (fold, entry.name)]
        for fold in job.folds
        for entry in card.entries
    }
    text = _page(job, card, Counter(one.name for one in rollouts), by_fold)
    (directory.partial / "table.md").write_text(text, encoding="utf-8")
    return directory.finish()


def _page(job: Plan, card: Scorecard, made: Counter[str], by_fold: dict[tuple[str, str], list[float | None]]) -> str:
    """The table in Markdown."""
    entries = {one.name: one for one in card.entries}
    rivals = [one.name for one in card.entries if one.kind == "rival"]
    titles = [cell.title for cell in CELLS]
    there = [title for title in titles if made[title]]
    wanted = len(job.cascades) * job.given.replicas
    empty = [title for title in titles if not made[title]]
    partly = [title for title in titles if 0 < made[title] < wanted]
    parts = [
        "# Ablations",
        f"{card.cascades} cascades of {len(job.folds)} events ({', '.join(job.folds)}), {card.actions} recorded "
        f"actions after the warm-up, {job.given.replicas} replicas, labels of {card.dimension}. Each event is "
        "simulated by what was trained on the others. KL(real || simulated) and NLL are in nats, less is better.",
        verdict(card),
        f"Not run, so empty: {'; '.join(empty)}." if empty else "",
        f"Not whole, so their means are over fewer cascades or replicas: {'; '.join(partly)}." if partly else "",
        "## Figures",
        _markdown(
            ["cell", "roll-outs", "KL", "95 %", "JS", "F1 macro", "NLL per action", f"KL below {UNTUNED.title}"],
            [_figures(title, entries, f"{made[title]} of {wanted}") for title in titles]
            + [_figures(name, entries, "rival") for name in rivals]
            + [["noise floor", "", figure(card.noise_floor), "", "", "", "", ""]],
        ),
    ]
    for metric, name in _METRICS.items():
        parts += [
            f"## Paired differences in {name}",
            "Cell minus what stands above the column, mean over common cascades with its 95 % bootstrap interval; "
            "below zero the cell is better, in bold where the interval excludes zero.",
            _markdown(
                ["cell", *AGAINST], [[title, *(_pair(card, title, b, metric) for b in AGAINST)] for title in there]
            ),
        ]
    sizes = Counter(map(event_of, job.cascades))
    parts += [
        "## KL by event",
        _markdown(
            ["cell", *(f"{fold} ({sizes[fold]})" for fold in job.folds)],
            [[name, *(_mean(by_fold.get((fold, name), ())) for fold in job.folds)] for name in (*there, *rivals)],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(name: str, entries: dict[str, Entry], what: str) -> list[str]:
    one, bare = entries.get(name), entries.get(UNTUNED.title)
    if one is None:
        return [name, what, *[DASH] * 6]
    below = DASH
    if one.kl is not None and bare is not None and bare.kl and one.cascades == bare.cascades:
        below = f"{1 - one.kl / bare.kl:.0%}".replace("-", "−")
    shown = [figure(one.kl), interval(one.kl_ci), figure(one.js), figure(one.f1_macro), figure(one.nll)]
    return [name, what, *shown, below]


def difference(card: Card, a: str, b: str, metric: str) -> Paired | None:
    """The paired difference a - b, whichever way round the scorecard has it; None where they were not compared."""
    for one in card.paired:
        if one.metric == metric and {one.a, one.b} == {a, b}:
            if one.a == a:
                return one
            low, high = (None if end is None else -end for end in one.ci)
            mean = None if one.difference is None else -one.difference
            return one.model_copy(update={"a": a, "b": b, "difference": mean, "ci": (high, low)})
    return None


def _pair(card: Card, a: str, b: str, metric: str) -> str:
    found = difference(card, a, b, metric)
    if found is None:
        return DASH
    shown = f"{figure(found.difference, sign=True)} ({interval(found.ci, sign=True)})"
    return f"**{shown}**" if found.winner is not None else shown


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return figure(math.fsum(known) / len(known)) if known else DASH


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
