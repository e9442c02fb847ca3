"""``mesa-meanfield convert``: a public data set in its original form becomes JSON Lines."""

from __future__ import annotations

import argparse
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mesa_meanfield.cascades.ced import ced
from mesa_meanfield.cascades.conversion import COUNTED, Conversion, Feed
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cascades.masking import Pseudonyms
from mesa_meanfield.cascades.records import BrokenRecord
from mesa_meanfield.cascades.tables import FIELDS, read_columns, table
from mesa_meanfield.cascades.threads import threads
from mesa_meanfield.cascades.weibo import weibo
from mesa_meanfield.cli.output import Advance, note, print_json, print_lines, progress
from mesa_meanfield.data import Cascade
from mesa_meanfield.errors import DataError
from mesa_meanfield.progress import report

_STEPS = 100
"""In how many steps the progress is told, however many events there are."""

_LEAST_SALT = 16
"""Ids are short numbers: under a salt that can be guessed they could be found by trying all."""

_ONLY_FOR = {"labels": ("rumoureval", "pheme"), "columns": ("csv",)}

_READERS: dict[str, Callable[[argparse.Namespace, Conversion], Feed]] = {
    "weibo": lambda given, job: weibo(given.source, job),
    "ced": lambda given, job: ced(given.source, job),
    "rumoureval": lambda given, job: threads(given.source, job, given.labels),
    "pheme": lambda given, job: threads(given.source, job, given.labels, dataset="pheme"),
    "csv": lambda given, job: table(given.source, job, _columns(given)),
}


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="a public data set in its original form -> JSON Lines",
        description="Convert a data set to the common format. Ids, names, mentions and links become pseudonyms.",
        epilog=f"Fields of a CSV file: {', '.join(FIELDS)}, and label:DIMENSION. Without topic=COLUMN the first row "
        "of a cascade is its topic. Times without a zone are UTC.",
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="the folder or file of the data set, as it was published")
    add("--from", dest="form", choices=_READERS, required=True, help="what the data set is")
    add("--out", metavar="FILE", type=Path, required=True, help="the JSON Lines file to be written")
    add("--skip-bad", action="store_true", help="leave broken records out and count them, instead of stopping there")
    add("--labels", metavar="FILE", type=Path, action="append", default=[],
        help="rumoureval: a label file, repeatable; only what it labels (default: all that are found)")  # fmt: skip
    add("--columns", metavar="FIELD=COLUMN,...", action="append", default=[],
        help="csv: which column is what, repeatable (default: the column of that name)")  # fmt: skip
    add("--dataset", metavar="NAME", default="", help="the name of the data set (default: its usual one)")
    add("--language", metavar="CODE", default="", help="of the texts (default: that of the data set, csv: en)")
    add("--domain", metavar="NAME", help="of all cascades (default: that of a known event, else unknown)")
    hiding = parser.add_mutually_exclusive_group()
    hiding.add_argument("--salt", metavar="TEXT", type=_salt,
        help="a secret that gives the same pseudonyms again; it is never written (default: random)")  # fmt: skip
    hiding.add_argument("--no-pseudonyms", action="store_true", help="keep ids, names, mentions and links")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=convert)


def _salt(given: str) -> bytes:
    if len(given) < _LEAST_SALT:
        raise argparse.ArgumentTypeError(f"a salt has at least {_LEAST_SALT} characters, or it could be guessed")
    return given.encode("utf-8", "surrogateescape")


def _columns(given: argparse.Namespace) -> dict[str, str]:
    return {field: column for one in given.columns for field, column in read_columns(one).items()}


def convert(given: argparse.Namespace) -> None:
    """Read, convert, write event by event, and tell what was counted."""
    if given.out.exists():
        raise DataError(f"{given.out} is there already; give --out another name, or remove it")
    for option, forms in _ONLY_FOR.items():
        if getattr(given, option) and given.form not in forms:
            raise DataError(f"--{option} is for --from {' and '.join(forms)}, not for {given.form}")
    job = Conversion(
        Pseudonyms(None if given.no_pseudonyms else given.salt or secrets.token_bytes(32)),
        dataset=given.dataset,
        language=given.language,
        domain=given.domain,
        skip_bad=given.skip_bad,
        say=note,
    )
    written: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    try:
        feed = _READERS[given.form](given, job)
        with progress("Convert", total=feed.total and math.ceil(feed.total / _step(feed))) as advance:
            write_cascades(given.out, _counted(_told(feed, advance), written, labels, given.source))
    except BaseException as error:
        given.out.with_name(f"{given.out.name}.partial").unlink(missing_ok=True)  # half a data set is none
        if isinstance(error, BrokenRecord):
            raise DataError(f"{error}; --skip-bad goes on without such records") from None
        raise
    _tell(given, job, written, labels)


def _step(feed: Feed) -> int:
    return math.ceil(feed.total / _STEPS) if feed.total else 1000


def _told(feed: Feed, advance: Advance) -> Iterator[Cascade]:
    """The cascades, while it is told how many events are done."""
    for number, cascade in enumerate(feed.cascades, 1):
        if cascade is not None:
            yield cascade
        if number % _step(feed) == 0 or number == feed.total:
            advance(f"({number:,} events)")
        elif feed.total:
            report("events", number, feed.total)


def _counted(
    cascades: Iterator[Cascade], written: Counter[str], labels: dict[str, Counter[str]], source: Path
) -> Iterator[Cascade]:
    """The cascades, while they and what they hold are counted.

    Raises:
        DataError: There was none.
    """
    for cascade in cascades:
        written["cascades"] += 1
        written["actions"] += len(cascade.actions)
        for action in cascade.actions:
            for dimension, label in action.labels.items():
                labels.setdefault(dimension, Counter())[label] += 1
        yield cascade
    if not written["cascades"]:
        raise DataError(f"{source}: not one cascade could be read")


def _tell(
    given: argparse.Namespace,
    job: Conversion,
    written: Counter[str],
    labels: dict[str, Counter[str]],
) -> None:
    for name, what in COUNTED.items():
        if job.counts[name]:
            note(f"{what}: {job.counts[name]:,}")
    if given.no_pseudonyms:
        note("the file holds real ids, names and links; do not pass it on")
    if given.json:
        counted = {name: job.counts[name] for name in COUNTED}
        print_json({"file": str(given.out), "dataset": job.dataset} | written | {"labels": labels} | counted)
        return
    print_lines(f"{given.out}: {written['cascades']:,} cascades, {written['actions']:,} actions ({job.dataset})")
    for dimension, counts in labels.items():
        print_lines(f"{dimension}: " + ", ".join(f"{count:,} {label}" for label, count in counts.most_common()))
