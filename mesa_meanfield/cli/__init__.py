"""The command ``mesa-meanfield``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from mesa_meanfield import __version__
from mesa_meanfield.errors import BudgetSpent, MeanFieldError, ReplyError

WRONG_USE = 2
"""Exit status for wrong use and bad input; 1 is for anything else."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Without the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 2 wrong use or bad input, 1 anything else.
    """
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("mesa-meanfield: interrupted", file=sys.stderr)  # noqa: T201
        return 1


def _main(arguments: Sequence[str] | None) -> int:
    from mesa_meanfield.cli import (
        annotate,
        bench,
        calibrate,
        compare,
        convert,
        describe,
        evaluate,
        fetch,
        plan,
        run,
        serve,
        tune,
    )

    parser = _Parser(prog="mesa-meanfield", description="Populations of language-model agents under a mean field.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in (run, evaluate, compare, plan, describe, tune, calibrate, annotate, convert, bench, fetch, serve):
        command.add_to(commands)
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no Chinese must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        given.do(given)
    except (ReplyError, BudgetSpent) as error:  # neither is anything wrong with what was asked
        return _say(given, error, 1)
    except MeanFieldError as error:  # data, models, servers and arguments that are not as they should be
        return _say(given, error, WRONG_USE)
    except OSError as error:  # a full disk, say
        return _say(given, error, 1)
    return 0


def _say(given: argparse.Namespace, what: object, status: int) -> int:
    print(f"mesa-meanfield {given.command}: {' '.join(str(what).split())}", file=sys.stderr)  # noqa: T201
    return status
