"""What the commands print: progress on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mesa_meanfield.directory import json_text
from mesa_meanfield.progress import watching

Advance = Callable[[str], None]
"""Takes what has just been done, and counts it as one step."""


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far the work inside is: a bar on a terminal, plain lines elsewhere.

    Reports from inside a step (sub-batches, downloads) are shown beside the bar.

    Args:
        title: What the work is.
        total: How many steps it has, where that is known.
    """
    console = Console(stderr=True)
    work = _bar(console, title, total) if console.is_terminal else _lines(title, total)
    with work as advance:
        yield advance


@contextmanager
def _bar(console: Console, title: str, total: int | None) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[inside]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total, inside="")

        def advance(what: str) -> None:
            bar.update(task, advance=1, inside=what)

        def watch(what: str, done: int, of: int) -> None:
            bar.update(task, inside=f"{what} {done}/{of}")

        with watching(watch):
            yield advance


@contextmanager
def _lines(title: str, total: int | None) -> Iterator[Advance]:
    start, steps, last = time.monotonic(), 0, ""

    def say(what: str) -> None:
        print(f"{title}: {what} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)  # noqa: T201

    def advance(what: str) -> None:
        nonlocal steps
        steps += 1
        say(f"{steps}{f'/{total}' if total is not None else ''} {what}")

    def watch(what: str, done: int, of: int) -> None:
        nonlocal last
        if total is None and what != last:  # with steps of its own the work says enough
            last = what
            say(what)

    with watching(watch):
        yield advance


def note(what: str) -> None:
    """One line on stderr, for what a user should know and could miss."""
    print(f"note: {what}", file=sys.stderr, flush=True)  # noqa: T201


def print_json(values: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json_text(values))  # noqa: T201


def print_lines(*lines: str) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(line)  # noqa: T201


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: the first column is names, the others are figures."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    console.print(table)
