"""``mesa-meanfield plan``: the best of several interventions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mesa_meanfield.cli.experiment import add_arguments, prepare
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.cli.planmodel import check_label
from mesa_meanfield.cli.planparts import interventions_of, objective_of
from mesa_meanfield.cli.planrecords import usage_of, write_table
from mesa_meanfield.cli.work import PLAN, REPORT, Work, begun, dry_run
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.report.table import DASH, amount, figure, interval
from mesa_meanfield.experiments.objectives import Objective
from mesa_meanfield.experiments.planning import Plan
from mesa_meanfield.experiments.planning import plan as planned
from mesa_meanfield.experiments.report.examples import examples
from mesa_meanfield.experiments.report.page import Planned, write_plan
from mesa_meanfield.experiments.report.words import objective_in_words, plan_verdict
from mesa_meanfield.plain import describe
from mesa_meanfield.protocols import Intervention

Candidates = Mapping[str, tuple[Intervention, ...]]


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan",
        help="the best of several interventions for an objective: a ranking with intervals, a report",
        description="Search the candidates of a plan file for the best one by successive halving over replicas.",
    )
    add_arguments(parser)
    parser.add_argument("--budget-tokens", metavar="N", type=int, help="in the place of the plan file's")
    parser.set_defaults(do=plan)


def plan(given: argparse.Namespace) -> None:
    """Read, search, write, print."""
    prepared = prepare(given)
    asked, functions, subject = prepared.plan, prepared.functions, prepared.subject
    if not asked.candidates:
        raise DataError(f"{asked.path}: there are no candidates: add tables [[candidates.NAME]]")
    if asked.objective is None:
        raise DataError(f"{asked.path}: the table [objective] is missing")
    candidates = {
        name: interventions_of(parts, functions, subject.influence) for name, parts in asked.candidates.items()
    }
    objective = objective_of(asked.objective, functions)
    wanted = asked.objective

    def search(work: Work) -> Plan:
        for field in ("label", "over"):
            check_label(wanted.values.get(field), work.labels, f"{wanted.where}: {field}")
        with progress("Candidates"):
            return planned(
                work.make,
                candidates,
                objective,
                replicas=asked.replicas,
                ticks=prepared.ticks,
                seed=asked.seed,
                maximise=asked.maximise,
                budget_tokens=work.budget,
                confidence=asked.confidence,
                crowd=subject.crowd,
                shared=work.shared,
                workers=work.prepared.given.jobs,
            )

    if given.dry_run:
        dry_run(prepared, search)
        return
    with begun(prepared) as work:
        made = search(work)
        result = _write(work, made, candidates, objective)
    if result["failed"]:
        note(f"{result['failed']} runs failed; the first: {made.ensemble.failed[0].error}")
    if given.json:
        print_json(result)
    else:
        _print(made, objective, result)


def _write(work: Work, made: Plan, candidates: Candidates, objective: Objective) -> Mapping[str, Any]:  # Any: JSON
    directory, seen = work.folder, work.witness.seen
    runs = write_table(directory, "runs", made.ensemble.frame())
    tables = [*write_table(directory, "ranking", made.frame()), *runs]
    files = {
        PLAN: "what was asked",
        **{name: "the ranking" if name.startswith("ranking") else "each run" for name in tables},
        "result.json": "the figures",
    }
    best = [candidates[one.intervention] for one in made.ranking[:2]]
    shown = examples(seen(best[0]), seen(best[1]), _fork(best), _dimension(made, objective)) if best[1:] else ()
    write_plan(
        directory.partial / REPORT,
        Planned(made, objective, candidates, shown),
        work.about(work.prepared.plan.question, files),
    )
    result = {
        **made.as_dict(),
        "objective": objective_in_words(objective),
        "candidates": {name: [describe(one) for one in of] for name, of in candidates.items()},
        "usage": usage_of(made.ensemble.usage),
        "seconds": time.perf_counter() - work.start,
        "report": str(directory.path / REPORT),
        "run_dir": str(directory.path),
    }
    work.finish(result, runs)  # the ranking tells of tokens, too: who pays for what all ask is a matter of time
    return result


def _fork(arms: Sequence[Sequence[Intervention]]) -> int:
    """The first tick in which two candidates may differ."""
    return min((getattr(one, "at", 0) for arm in arms for one in arm), default=0)


def _dimension(made: Plan, objective: Objective) -> str:
    label = getattr(objective, "label", None)
    if label is None:
        return next(iter(made.ensemble.labels), "")
    return made.ensemble.dimension(label, getattr(objective, "dimension", None))


def _print(made: Plan, objective: Objective, result: Mapping[str, Any]) -> None:
    what = objective_in_words(objective)
    rows = [
        [
            one.intervention,
            figure(one.objective),
            interval(one.ci),
            DASH if place == 0 else figure(one.behind, sign=True),
            DASH if place == 0 else interval(one.behind_ci, sign=True),
            str(one.replicas),
            amount(one.tokens),
        ]
        for place, one in enumerate(made.ranking)
    ]
    print_lines(f"Objective: {what}; {'more' if made.maximise else 'less'} is better")
    print_table(
        f"Candidates, the best first, with {made.confidence:.0%} intervals",
        ["", "objective", "interval", "behind", "interval", "replicas", "tokens"],
        rows,
    )
    usage = result["usage"]
    print_lines(
        plan_verdict(made, what),
        f"Stopped ({made.stopped}): {made.why}",
        f"{usage['calls']:,} calls, {made.tokens:,} tokens asked, {usage['tokens_computed']:,} computed, "
        f"{result['seconds']:.0f} s in all",
        f"Report: {result['report']}",
    )
