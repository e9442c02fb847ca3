"""``mesa-meanfield describe``: the methods appendix of what a command left behind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mesa_meanfield.appendix import describe as described
from mesa_meanfield.cli.output import note, print_lines
from mesa_meanfield.directory import json_text
from mesa_meanfield.errors import DataError


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "describe",
        help="the methods appendix of a run: an ODD description with prompts, hashes, seeds, costs and versions",
        description="Describe what run, evaluate, compare or plan left in a directory, after the ODD protocol, with "
        "what studies with language models need beside it.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="the directory, also that of an unfinished run")
    add("--out", metavar="FILE", type=Path, help="write it there instead of printing it")
    add("--json", action="store_true", help="one JSON object instead of Markdown")
    parser.set_defaults(do=describe)


def describe(given: argparse.Namespace) -> None:
    """Read, and print or write."""
    if given.out is not None and given.out.exists():
        raise DataError(f"{given.out} is there already; choose another --out, nothing is overwritten")
    description = described(given.run)
    text = json_text(description.as_dict(), indent=2) if given.json else description.markdown().rstrip()
    if given.out is None:
        print_lines(text)
        return
    given.out.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    note(f"written to {given.out}")
