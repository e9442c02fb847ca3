"""``mesa-meanfield evaluate``: many cascades, several simulations, floors and rivals, one scorecard."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.backends.counting import CountingBackend
from mesa_meanfield.backends.load import SPECS
from mesa_meanfield.cascades.personas import PERSONAS
from mesa_meanfield.cli import recording
from mesa_meanfield.cli.common import SUMMARIZERS, seed
from mesa_meanfield.cli.evaluation import Evaluation, prepare, recorded
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table
from mesa_meanfield.cli.recording import Before
from mesa_meanfield.cli.rerun import first_different_rollout, replaying
from mesa_meanfield.cli.scoring import labelled, results_of, score
from mesa_meanfield.cli.simulating import Held, simulate
from mesa_meanfield.cli.wording import write_prompts
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.report.table import entry_table, figure, interval
from mesa_meanfield.evaluation.report.verdict import verdict
from mesa_meanfield.evaluation.rollouts import FILE, Kept
from mesa_meanfield.evaluation.scorecard import Scorecard
from mesa_meanfield.protocols import Backend

_ALL = ("none", "recent", "popular", "tally", "llm")


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="many cascades x several simulations, with floors and rivals: a scorecard",
        description="Simulate many recorded cascades in several ways and say how close each way comes to the record.",
    )
    add = parser.add_argument
    add("--data", metavar="FILE", type=Path, action="append", default=[],
        help="cascades in JSON Lines, repeatable; default: the shipped synthetic ones")  # fmt: skip
    add("--train", metavar="FILE", type=Path, action="append", default=[],
        help="other cascades that the rivals learn from, repeatable; same events are left out")  # fmt: skip
    add("--folds", choices=("event",), help="the rivals learn from the other events of --data, too")
    add("--summarizers", metavar="NAMES", type=_names(SUMMARIZERS), default=list(_ALL),
        help=f"who writes the mean field, separated by commas (default {','.join(_ALL)})")  # fmt: skip
    add("--backend", metavar="SPEC", action="append", default=[], help=f"a model, repeatable: {SPECS}")
    add("--adapter", metavar="PATH", action="append", default=[],
        help="the policy's adapter, repeatable; {event} in it: the event; shipped; none (default)")  # fmt: skip
    add("--summarizer-adapter", metavar="PATH", default="none",
        help="the one for summaries by a model, likewise (default none)")  # fmt: skip
    add("--calibration", metavar="PATH",
        help="a calibration.json or its folder, {event} as above; none for no temperature "
        "(default: the one beside the policy's adapter)")  # fmt: skip
    add("--summary-tokens", metavar="N", type=int, help="of a summary by a model, at most (default 120)")
    add("--persona", metavar="NAMES", type=_names(PERSONAS), default=["graded"],
        help="what agents know of themselves: graded, none, or both (default graded)")  # fmt: skip
    add("--warm-up", metavar="SHARE", type=float, default=0.3, help="share of the actions played (default 0.3)")
    add("--min-actions", metavar="N", type=int, default=15, help="leave smaller cascades out (default 15)")
    add("--limit", metavar="N", type=int, help="only N cascades, drawn in turn from each event, else domain")
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--agents", metavar="N", type=int, help="only the first N actions after the warm-up, real and simulated")
    add("--replicas", metavar="R", type=int, default=3, help="roll-outs of each, with seeds of their own (default 3)")
    add("--dimension", metavar="D", help="which labels to compare (default: those of the data, else behaviour)")
    add("--no-texts", dest="texts", action="store_false", help="decide labels only, no texts: faster")
    add("--text-likelihood", action="store_true", help="score the recorded texts: NLL per token (local models)")
    add("--annotator", metavar="SPEC", help="a model that labels real and simulated texts in eight dimensions")
    add(
        "--labels-cache",
        metavar="FILE",
        type=Path,
        help="where they are kept (default: labels.jsonl beside DIR)",
    )
    add("--prompts", metavar="DIR", type=Path, help="a folder with prompt templates that replace the shipped ones")
    recording.add_batches(parser, "roll-outs")
    add("--seed", metavar="N", type=seed, default=0, help="of the first replica; the next have the next (default 0)")
    add("--out", metavar="DIR", type=Path, help="the directory (default: a new one under runs/)")
    recording.add_arguments(parser)
    add("--json", action="store_true", help="print the scorecard as JSON on stdout and nothing else")
    parser.set_defaults(do=evaluate, usual=parser.parse_args([]))


def _names(known: Sequence[str]) -> Any:  # Any: what argparse calls a type
    def read(given: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
        if odd := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{odd[0]!r} is unknown; there are {', '.join(known)}")
        if not names:
            raise argparse.ArgumentTypeError(f"names are needed; there are {', '.join(known)}")
        return names

    return read


def evaluate(given: argparse.Namespace) -> None:
    """Load, simulate, score, write, print."""
    start = time.perf_counter()
    recording.check(given)
    given, before = recording.once_more(given)
    budget = recording.budget_of(given)
    counted: list[CountingBackend] = []
    try:
        job = prepare(given, before, _loader(given, before, counted))
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    if given.dry_run:
        _simulate_in_vain(recorded(job, None, None, budget))
        recording.print_estimate(given, counted)
        return
    directory, log = Directory(job.out, resume=given.resume is not None), None
    try:
        if given.resume is None:
            directory.write("config.json", job.config)
        write_prompts(directory.partial, job.settings.prompts.values())
        if given.replay is None:
            log = CallLog(directory.partial / CALLS)
        kept = Kept(directory)
        if log is not None and given.resume is not None and log.forget_failures():
            kept.forget_failures()
        with recording.opened(given.cache) as cache:
            job = recorded(job, log, cache, budget)
            simulate(job, kept)
            scorecard = score(job, kept, directory, start)
        write_prompts(directory.partial, job.settings.prompts.values(), job.examples)
        if log is not None:
            log.close()  # an open database must not be moved
        different = None
        if given.replay is not None:
            different = first_different_rollout(given.replay, directory.partial)
        directory.finish()
    finally:
        if directory.partial.exists():
            if log is not None:
                log.drop_if_empty()
            directory.drop_if_empty(FILE, CALLS)
        if directory.partial.exists():
            again = f"{directory.partial} holds the replay up to there"
            if given.replay is None:
                again = f"go on by: mesa-meanfield evaluate --resume {directory.path}"
            note(f"not done; {again}")
    recording.tell_paid(given, budget)
    if given.json:
        print_json(scorecard.model_dump(mode="json"))
    else:
        _print(scorecard)
    if given.replay is not None:
        recording.tell_replay(given.replay, directory.path, different)


def _loader(
    given: argparse.Namespace, before: Before | None, counted: list[CountingBackend]
) -> Callable[[str], Backend] | None:
    """Where the models come from, if not from where they are usually loaded."""
    if before is not None and given.replay is not None:
        return replaying(before)
    if not given.dry_run:
        return None

    def count(spec: str) -> CountingBackend:
        counted.append(recording.counting(spec))
        return counted[-1]

    return count


def _simulate_in_vain(job: Evaluation) -> None:
    """Ask all that an evaluation asks, and keep nothing."""
    held = Held()
    simulate(job, held)
    if job.annotator is not None:
        labelled(job.annotator, results_of(job, held))


def _print(scorecard: Scorecard) -> None:
    cards = [scorecard, *scorecard.others]
    for one in cards:
        title = f"{one.dimension}: {one.cascades} cascades, {one.actions} recorded actions after the warm-up"
        print_table(title, *entry_table(one))
    print_lines(verdict(scorecard))
    simulations = {one.name for one in scorecard.entries if one.kind == "simulation"}
    for pair in scorecard.paired:  # those with rivals stand in the report
        if pair.metric == "kl" and pair.winner is not None and {pair.a, pair.b} <= simulations:
            ends = interval(pair.ci, sign=True)
            print_lines(f"KL of {pair.a} minus {pair.b}: {figure(pair.difference, sign=True)} ({ends})")
    spent = [one.spent for one in scorecard.entries if one.spent is not None]
    print_lines(
        f"{sum(one.calls for one in spent):,} calls, {sum(one.tokens_asked for one in spent):,} tokens asked, "
        f"{sum(one.tokens_computed for one in spent):,} computed, {scorecard.seconds:.0f} s in all",
        f"Report: {scorecard.report}",
    )
