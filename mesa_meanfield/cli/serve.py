"""``mesa-meanfield serve``: a model in the browser."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.kept import kept_backend
from mesa_meanfield.backends.load import SPECS, is_server
from mesa_meanfield.cli.adapters import AUTO
from mesa_meanfield.cli.common import SUMMARIZERS, probe, seed
from mesa_meanfield.cli.output import note, print_json, print_lines, progress
from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Backend

PORT = 8765
CASCADE = "cascade"
TOWN = "town"
_NEEDED = ("solara", "altair", "uvicorn")
_OF_CASCADE = ("data", "id", "adapter")


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="show a model in the browser: curves, mean field, posts, interventions",
        description="Show a model in the browser, at an address of this machine. Ctrl-C ends it.",
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        nargs="?",
        default=CASCADE,
        help=f"{CASCADE} (a recorded one is replayed and carried on; the default), {TOWN}, or a model class of your "
        "own as FILE.py:CLASS or MODULE:CLASS",
    )
    add(
        "--backend",
        metavar="SPEC",
        help=f"the model that decides: {SPECS} (default: that of your own MODEL; else "
        "embedded, or scripted where torch is not installed)",
    )
    add("--summarizer", choices=SUMMARIZERS, help="who writes the mean field (default: the model's own)")
    add("--seed", metavar="N", type=seed, help="of all random numbers (default: the model's own)")
    add("--data", metavar="FILE", type=Path, help=f"{CASCADE}: cascades in JSON Lines (default: the shipped ones)")
    add("--id", metavar="ID", help=f"{CASCADE}: which one (default: the first that has actions)")
    add("--adapter", metavar="PATH", default=AUTO, help=f"{CASCADE}: as for run (default auto)")
    add("--port", metavar="N", type=int, default=PORT, help=f"the page's port, 0 for a free one (default {PORT})")
    add(
        "--host", metavar="HOST", default="localhost", help="where it listens (default localhost: this machine alone)"
    )
    add("--open", action="store_true", help="open the page in a browser")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=run)


def run(given: argparse.Namespace) -> None:
    """Check everything, load the model, say where the page is, and serve it."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(f'{missing[0]} is not installed; a page needs: pip install "mesa-meanfield[viz]"')
    from mesa_meanfield.viz import server

    with server.bound(given.host, given.port) as listening:
        page = _page(given)
        url = server.address(listening, given.host)
        if not _is_loopback(listening.getsockname()[0]):
            note(f"{given.host} can be reached by others, who may run the model and spend its tokens")
        if given.json:
            print_json({"url": url, "model": given.model, "backend": given.backend})
        else:
            print_lines(f"{given.model} is at {url} (Ctrl-C ends it)")
        try:
            server.serve(page, listening, url, open_browser=given.open)
        except KeyboardInterrupt:  # how one ends it
            note("stopped")


def _page(given: argparse.Namespace) -> Any:  # Any: a Solara element
    """The page of the model that is asked for, its language model loaded."""
    from mesa_meanfield.cli.subjects import Cascades, model_page, town_page  # which import Solara

    if given.model in (CASCADE, TOWN) and given.backend is None:
        given.backend = "embedded" if _has_torch() else "scripted"
        if given.backend == "scripted":
            note('torch is not installed, so nothing but scripted answers: pip install "mesa-meanfield[local]"')
    if given.model == CASCADE:
        cascades = Cascades(given)
        _load(given.backend, cascades.load)
        return cascades.page()
    for name in _OF_CASCADE:
        if getattr(given, name) not in (None, AUTO):
            raise DataError(f"--{name} is for the model {CASCADE}, not for {given.model}")
    asked = {"backend": given.backend, "summarizer": given.summarizer, "rng": given.seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    if given.model != TOWN:
        return model_page(given.model, asked)
    _load(given.backend, kept_backend)
    return town_page(asked)


def _load(spec: str, load: Callable[[str], Backend]) -> None:
    with progress("Backend"):
        backend = load(spec)
        if is_server(spec):
            probe(backend)


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
