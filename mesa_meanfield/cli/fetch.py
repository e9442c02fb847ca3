"""``mesa-meanfield fetch``: the embedded model, ahead of time."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from mesa_meanfield.cli.output import print_json, print_lines, progress
from mesa_meanfield.errors import BackendError


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "fetch", help="fetch the embedded model ahead of time", description="Fetch the embedded model."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=fetch)


def fetch(given: argparse.Namespace) -> None:
    """Download and convert the embedded model, unless it is there."""
    if importlib.util.find_spec("torch") is None:
        raise BackendError("The embedded model needs torch and transformers: pip install 'mesa-meanfield[local]'")
    from mesa_meanfield.backends.local import embedded

    with progress("Embedded model"):
        folder = embedded.fetch()
    if given.json:
        print_json({"model": embedded.MODEL, "folder": str(folder)})
    else:
        print_lines(f"{embedded.MODEL} is ready in {folder}")
