"""Three ways to see the others in a town, compared in what they cost and in what comes out.

    python benchmarks/seeing/seeing.py --out DIR [--backend SPEC]

README.md beside this file says what is measured and how the tables are read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from seeing_picture import draw
from seeing_runs import Asked, Run, run
from seeing_tables import write_tables

from mesa_meanfield.backends.load import SPECS, load_backend
from mesa_meanfield.cli.output import note
from mesa_meanfield.errors import MeanFieldError
from mesa_meanfield.machine import machine
from mesa_meanfield_models.town import NETWORKS, SEE

RESULTS = "results.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every story in every way, replica by replica; the exit status, as `mesa_meanfield.cli.main` gives it."""
    given = _arguments(arguments)
    try:
        told, runs = _read(given.out) if given.again else _make(given)
        print(write_tables(given.out / "table.md", runs, told), end="")
        draw(given.out / "shares.png", runs)
    except (MeanFieldError, ValueError, OSError) as error:
        print(f"seeing: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 1
    return 0


def _make(given: argparse.Namespace) -> tuple[dict[str, Any], list[Run]]:  # Any: JSON
    if given.replicas < 2 or given.ticks < 2:
        raise ValueError("at least 2 replicas and 2 ticks are needed: noise is told from replicas")
    backend = load_backend(given.backend)
    given.out.mkdir(parents=True, exist_ok=True)
    told = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "settings": _settings(given)}
    runs: list[Run] = []
    for seed in range(given.seed, given.seed + given.replicas):
        for story, see in product(given.stories.split(","), SEE):
            begun = time.monotonic()
            runs.append(run(story, see, seed, backend, given))
            note(f"{story}, {see}, seed {seed}: {time.monotonic() - begun:.0f} s")
            results = json.dumps({**told, "runs": [asdict(one) for one in runs]}, indent=1)
            (given.out / RESULTS).write_text(results + "\n", encoding="utf-8")
    return told, runs


def _read(folder: Path) -> tuple[dict[str, Any], list[Run]]:  # Any: JSON
    told = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return told, [Run(**{**one, "asked": Asked(**one["asked"])}) for one in told["runs"]]


def _settings(given: argparse.Namespace) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where results.json, table.md and shares.png go")
    parser.add_argument("--backend", default="embedded", help=f"the language model: {SPECS}; default embedded")
    parser.add_argument("--stories", default="health", help="scenarios, with commas between; default health")
    parser.add_argument("--citizens", type=int, default=30, help="people in a town; default 30")
    parser.add_argument("--ticks", type=int, default=4, help="default 4")
    parser.add_argument("--replicas", type=int, default=2, help="towns of each kind; default 2")
    parser.add_argument("--network", default="communities", choices=[*NETWORKS], help="default communities")
    parser.add_argument("--summarizer", default="tally", help="who writes the mean field; default tally")
    parser.add_argument("--shown", type=int, default=5, help="neighbours' posts that somebody sees; default 5")
    parser.add_argument("--texts", action="store_true", help="decisions come with a post: several times as slow")
    parser.add_argument("--seed", type=int, default=0, help="of the first replica; default 0")
    parser.add_argument("--again", action="store_true", help="tables and picture of DIR/results.json; run nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
