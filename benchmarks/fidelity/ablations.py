"""The ablation table in one command: who decides, who writes the mean field, and what each of them was taught.

    python benchmarks/fidelity/ablations.py --data FILE.jsonl --out DIR [--cells none,sft,tally] [--minutes 90]

Each event is simulated by what was trained on the others. The same command goes on where it was stopped, and
with more cells, folds or replicas it makes what is missing. README.md beside this file says what the cells are.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablation_table import write_table
from cells import CELLS, Cell
from filelock import FileLock, Timeout
from plan import Plan, bind, plan
from rolling import roll
from trainings import fit_temperature, train

from mesa_meanfield.cli.common import seed
from mesa_meanfield.cli.output import note, print_lines
from mesa_meanfield.cli.scoring import REPORT
from mesa_meanfield.data import MeanField
from mesa_meanfield.errors import DataError, MeanFieldError

FOLDS = "charliehebdo,sydneysiege,ottawashooting,ferguson"
CALIBRATE_ON = "ebola-essien,prince-toronto,putinmissing"
PRESETS: dict[str, dict[str, Any]] = {  # Any: whatever the options take
    "cpu": {"batch": 4, "accumulation": 4, "dropout": 0.0, "epochs": 1.0, "every": 50},
    # One H200: whole steps at once, several trainings side by side, and as many roll-outs as fill a batch.
    "h200": {
        "batch": 16, "accumulation": 1, "epochs": 4.0, "every": 40, "patience": 5, "learning_rate": 5e-4,
        "jobs_training": 4, "jobs": 64,
    },
}  # fmt: skip
"""Options for a machine; whatever is said beside it holds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is asked for and write the table; the exit status, as `mesa_meanfield.cli.main` gives it."""
    given = _arguments(arguments)
    try:
        return _make(given)
    except (MeanFieldError, ValueError, OSError) as error:
        print(f"ablations: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablations: interrupted; the same command goes on", file=sys.stderr)
        return 1


def _make(given: argparse.Namespace) -> int:
    start = time.perf_counter()
    job = plan(given)
    job.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.out / ".lock", timeout=0):
            bind(job, "the table", _settings(job))
            failed = sum(not _cell(job, cell) for cell in job.cells)
            folder = write_table(job, time.perf_counter() - start)
    except Timeout:
        raise DataError(f"{job.out}: another call is at work there; wait for its end") from None
    if folder is None:
        note("no cell has a roll-out yet, so there is no table")
    else:
        print_lines((folder / "table.md").read_text(encoding="utf-8"), f"Report: {folder / REPORT}")
    if job.over:
        note("the time is over; the same command goes on")
    return 1 if failed else 0


def _cell(job: Plan, cell: Cell) -> bool:
    """Train what a cell needs and roll it out; whether nothing failed. When the time is over nothing is begun."""
    well = True
    if not job.given.only_evaluate:
        for training in cell.trainings:
            if not job.over:
                well = not train(job, training)
    if cell.calibrated and not job.over:
        well = fit_temperature(job, cell.summarizer)
    if not job.over:
        roll(job, cell)
    return well


def _settings(job: Plan) -> dict[str, Any]:  # Any: JSON
    """Whatever changes a roll-out or what it is compared with, but for what may be added later."""
    names = ("backend", "agents", "per_tick", "limit", "texts", "seed", "summary_tokens", "dimension", "prompts")
    said = {name: getattr(job.given, name) for name in names}
    said["prompts"] = None if said["prompts"] is None else str(said["prompts"])
    return said | {"calibrate_on": job.given.calibrate_on, "data_sha256": job.data_sha256, "wording": _wording(job)}


def _wording(job: Plan) -> str:
    """A hash of how prompts are worded: other templates make another table, whichever folder they are from."""
    shown = []
    for language, prompts in sorted(job.settings.prompts.items()):
        space, topic = job.settings.space(language), "topic"
        shown += [
            prompts.policy_prefix(space, MeanField(text="field"), topic=topic),
            prompts.summary_prefix(topic=topic),
        ]
        shown.append(prompts.policy_suffix(space, "state"))
        counts = {space.choice.dimension: dict.fromkeys(space.choice.options, 1)}
        told = MeanField(counts=counts, latest_counts=counts, tells_shares=True)
        shown.append(prompts.policy_prefix(space, told, topic=topic))
    return hashlib.sha256("\0".join(shown).encode()).hexdigest()[:12]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", metavar="FILE", type=Path, required=True, help="cascades with events in JSON Lines")
    add("--out", metavar="DIR", type=Path, required=True, help="everything that is made, and the table")
    add("--cells", metavar="NAMES", help=f"of {', '.join(one.key for one in CELLS)} (default: all)")
    add(
        "--folds",
        metavar="EVENTS",
        default=FOLDS,
        help="events, each left out in turn (default %(default)s)",
    )
    add("--calibrate-on", metavar="EVENTS", default=CALIBRATE_ON,
        help="for early stopping and temperatures, never trained nor reported on (default %(default)s)")  # fmt: skip
    add("--only-evaluate", action="store_true", help="train nothing, take the adapters that are there")
    add("--minutes", metavar="X", type=float, help="begin nothing new after so long, and write the table")
    add("--device-preset", choices=tuple(PRESETS), help="options that suit a machine")
    add("--backend", metavar="SPEC", default="embedded", help="the base model (default embedded)")
    add("--dimension", metavar="D", help="which labels (default: the data's own)")
    add("--texts", action="store_true", help="learn and write texts, too, not labels alone")
    add("--replicas", metavar="N", type=int, default=3, help="roll-outs of each cascade (default 3)")
    add("--agents", metavar="N", type=int, help="only the first N actions after the warm-up, real and simulated")
    add("--limit", metavar="N", type=int, help="only N cascades, drawn in turn from each event")
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--jobs", metavar="N", type=int, default=16, help="roll-outs at a time (default 16)")
    add("--jobs-training", metavar="N", type=int, default=1, help="trainings at a time (default 1)")
    add("--summary-tokens", metavar="N", type=int, default=64, help="of a summary by a model (default 64)")
    add("--prompts", metavar="DIR", type=Path, help="a folder with prompt templates that replace the shipped ones")
    add("--seed", metavar="N", type=seed, default=0, help="of all random numbers (default 0)")
    taught = parser.add_argument_group("how adapters are trained (default: as mesa-meanfield tune does)")
    for name in ("steps", "batch", "accumulation", "rank", "samples", "every", "patience"):
        taught.add_argument(f"--{name}", metavar="N", type=int)
    for name in ("epochs", "learning-rate", "dropout", "checkpoint-minutes"):
        taught.add_argument(f"--{name}", metavar="X", type=float)
    taught.add_argument(
        "--begin-with",
        metavar="PATH",
        type=Path,
        help="a policy's adapter that trainings under a mean field begin with",
    )
    taught.add_argument(
        "--first-lesson",
        action="store_true",
        help="train that adapter first, on invented crowds whose shares tell what comes next (urns.py)",
    )
    taught.add_argument(
        "--copies",
        metavar="N",
        type=int,
        default=0,
        help="of each recorded thread to learn from, with labels drawn anew (urns.py --like; default 0)",
    )
    taught.add_argument("more", metavar="OPTION", nargs="*", help="behind --: any other of mesa-meanfield tune")
    named = parser.parse_args(arguments)
    if named.device_preset is not None:
        parser.set_defaults(**PRESETS[named.device_preset])
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
