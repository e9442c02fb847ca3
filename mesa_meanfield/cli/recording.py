"""What commands that ask a model have in common: call logs, budgets, dry runs, and how a run is made once more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesa_meanfield import __version__
from mesa_meanfield.backends.budget import MILLION, Budget
from mesa_meanfield.backends.calls import CallLog
from mesa_meanfield.backends.counting import HOW, CountingBackend
from mesa_meanfield.backends.http import checked_url
from mesa_meanfield.backends.load import is_server
from mesa_meanfield.cli.common import SHIPPED, sha256
from mesa_meanfield.cli.output import note, print_json, print_lines
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.waves import WORKERS

_BUDGET = ("max_calls", "max_tokens", "max_cost")
ANEW = (
    "json",
    "resume",
    "replay",
    "out",
    "cache",
    *_BUDGET,
    "price_per_million",
    "dry_run",
    "usual",
)
"""The arguments that may differ when a run is made again: they change no result."""
BATCHES = ("jobs", "batch")
"""Those that decide what goes into a batch, and so the last digits alone: as before, unless they are said anew."""
_FILES = ("data", "train")
_FOLDERS = ("prompts", "labels_cache")


def add_batches(parser: argparse.ArgumentParser, what: str) -> None:
    """`BATCHES`, for a command that makes several of something."""
    add = parser.add_argument
    add("--jobs", metavar="N", type=int, help=f"{what} at a time, in common batches (default {WORKERS})")
    add("--batch", metavar="N", type=int,
        help="requests per batch; changes no result but its last digits (default: what is fast)")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the functions here read."""
    add = parser.add_argument
    add(
        "--resume",
        metavar="RUN",
        type=Path,
        help="go on with an unfinished one; what was answered is not asked again",
    )
    add("--replay", metavar="RUN", type=Path, help="make a finished one again from its call log, without its model")
    add("--cache", metavar="FILE", type=Path, help="a call log that runs share: what is known there is not asked")
    add("--max-calls", metavar="N", type=int, help="stop before more calls than these are paid for")
    add("--max-tokens", metavar="N", type=int, help="the same for tokens, of prompts and replies together")
    add("--max-cost", metavar="X", type=float, help="the same for money, with --price-per-million")
    add("--price-per-million", metavar="P", type=float, help="what a million tokens cost, asked and written alike")
    add("--dry-run", action="store_true", help="print about how many calls and tokens it would cost; ask nobody")


def check(given: argparse.Namespace) -> None:
    """See that these arguments go together.

    Raises:
        DataError: They do not.
    """
    ways = [name for name in ("resume", "replay", "dry_run") if getattr(given, name)]
    if len(ways) > 1:
        raise DataError(f"{_option(ways[0])} and {_option(ways[1])} exclude each other")
    paying = [name for name in ("cache", *_BUDGET) if getattr(given, name) is not None]
    if paying and (given.replay is not None or given.dry_run):
        raise DataError(f"{_option(ways[0])} asks nobody, so that {_option(paying[0])} is of no use; drop it")
    budget_of(given)
    if getattr(given, "jobs", None) is not None and given.jobs < 1:
        raise DataError(f"--jobs must be at least 1, got {given.jobs}")


def budget_of(given: argparse.Namespace) -> Budget:
    """What may be paid for.

    Raises:
        DataError: A limit is not above 0, or one of money has no price.
    """
    for name in (*_BUDGET, "price_per_million"):
        value = getattr(given, name)
        if value is not None and not value > 0:
            raise DataError(f"{_option(name)} must be above 0, got {value}")
    if given.max_cost is not None and given.price_per_million is None:
        raise DataError("--max-cost needs --price-per-million: what a million tokens cost")
    return Budget(calls=given.max_calls, tokens=given.max_tokens, cost=given.max_cost, price=given.price_per_million)


@contextmanager
def opened(cache: Path | None) -> Iterator[CallLog | None]:
    """The call log that runs share, where there is one."""
    if cache is None:
        yield None
        return
    log = CallLog(cache)
    try:
        yield log
    finally:
        log.close()


# --- Once more -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """A run that is gone on with, or replayed."""

    folder: Path
    """Its directory, as it is called now."""
    config: Mapping[str, Any]  # Any: JSON
    """Its ``config.json``."""


def once_more(given: argparse.Namespace) -> tuple[argparse.Namespace, Before | None]:
    """The arguments with which a run to go on with, or to replay, was begun; else those of now.

    Of the arguments of now those in `ANEW` count, files may be elsewhere, and no other may differ.

    Raises:
        DataError: There is no such run, its files have changed, or an argument contradicts it.
    """
    if given.resume is not None:
        out = given.resume.with_name(given.resume.name.removesuffix(".partial"))
        folder = Directory(out, resume=True).partial
        if given.out is not None:
            raise DataError(f"--resume goes on in {folder}; drop --out")
        asked, config = _as_asked(given, folder)
        return argparse.Namespace(**{**vars(asked), "resume": out}), Before(folder, config)
    if given.replay is not None:
        asked, config = _as_asked(given, given.replay)
        return asked, Before(given.replay, config)
    return same_batches(given, {}), None


def _as_asked(given: argparse.Namespace, folder: Path) -> tuple[argparse.Namespace, Mapping[str, Any]]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        asked = {key: config[key] for key in vars(given) if key not in {"do", "command", *ANEW, *BATCHES}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); begin anew with another --out") from error
    for name, before in asked.items():
        now = getattr(given, name)
        changed = now != getattr(given.usual, name) and _plain(now) != before
        if changed and name not in (*_FILES, *_FOLDERS):
            raise DataError(f"{_option(name)}: {folder} was begun with {before!r}, which cannot change; drop it")
    for name in _FILES:
        asked[name] = _same_files(name, getattr(given, name), asked[name], config.get(f"{name}_sha256"), file)
    for name in _FOLDERS:
        if name in asked:
            asked[name] = getattr(given, name) or (None if asked[name] is None else Path(asked[name]))
    if config.get("mesa_meanfield") != __version__:
        note(f"{folder} was begun with version {config.get('mesa_meanfield')} of this package, this is {__version__}")
    return argparse.Namespace(**{**vars(same_batches(given, config)), **asked}), config


def same_batches(given: argparse.Namespace, config: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments with those of `BATCHES` that a run was begun with, or the usual ones, unless said anew."""
    usual = {"jobs": WORKERS, **{name: value for name, value in config.items() if value is not None}}
    unsaid = [name for name in BATCHES if name in vars(given) and getattr(given, name) is None]
    return argparse.Namespace(**{**vars(given), **{name: usual.get(name) for name in unsaid}})


def tell_paid(given: argparse.Namespace, budget: Budget) -> None:
    """Where something may be known from elsewhere, say what was paid now."""
    if given.resume is not None or given.cache is not None:
        note(f"paid for were {budget.paid.calls:,} calls, {budget.paid.tokens_asked:,} tokens; the rest was known")


def tell_replay(run: Path, replay: Path, different: str | None) -> None:
    """Say whether a replay came to what was recorded.

    Args:
        run: What was replayed.
        replay: What came of it.
        different: Where they differ first; None where they do not.

    Raises:
        DataError: They differ.
    """
    if different is not None:
        raise DataError(
            f"{replay} is not what {run} recorded: they differ first in {different}; is this the version that "
            "recorded it?"
        )
    note(f"all that {replay} came to is what {run} recorded, byte for byte")


# --- Dry runs --------------------------------------------------------------------------------------


def counting(spec: str) -> CountingBackend:
    """What stands for a model in a dry run.

    Raises:
        ValueError: The spec holds what may be a password.
    """
    if is_server(spec):
        checked_url(spec.partition("#")[0])
    return CountingBackend(spec)


def print_estimate(given: argparse.Namespace, counted: Sequence[CountingBackend]) -> None:
    """What a dry run comes to."""
    calls = sum(one.usage.calls for one in counted)
    tokens = sum(one.usage.tokens_asked for one in counted)
    written = sum(one.reply_tokens for one in counted)
    estimate = {"calls": calls, "tokens": tokens, "prompt_tokens": tokens - written, "reply_tokens": written}
    price = given.price_per_million
    cost = None if price is None else tokens * price / MILLION
    if given.json:
        print_json({"dry_run": True, **estimate, "cost": cost, "how": HOW})
        return
    lines = [
        f"About {calls:,} calls and {tokens:,} tokens: {tokens - written:,} of prompts, "
        f"{written:,} of replies at most"
    ]
    if cost is not None:
        lines.append(f"About {cost:,.4g} at {price:g} a million tokens")
    print_lines(*lines, f"An estimate: {HOW}. Nothing was asked, nothing was written.")


# --- Small things ----------------------------------------------------------------------------------


def _same_files(name: str, given: Any, before: Any, hashes: Any, file: Path) -> Any:  # Any: a path, a list, or None
    """The files of an argument, where they were or where they are said to be now."""
    many = isinstance(before, list)
    paths = [Path(one) for one in _list(given) or _list(before)]
    try:
        now = [sha256(one) for one in paths or ([SHIPPED] if name == "data" else [])]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; say by {_option(name)} where it is now") from None
    if hashes is not None and now != _list(hashes):
        raise DataError(f"{file}: the files of {_option(name)} have changed since; begin anew with another --out")
    return paths if many else paths[0] if paths else None


def _list(value: Any) -> list[Any]:  # Any: one thing, a list of them, or None
    return value if isinstance(value, list) else [] if value is None else [value]


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
