"""``mesa-meanfield compare``: an intervention against its paired counterfactual."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mesa_meanfield.cli.experiment import add_arguments, prepare
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.cli.planfile import Part, PlanFile
from mesa_meanfield.cli.planmodel import check_label
from mesa_meanfield.cli.planparts import interventions_of
from mesa_meanfield.cli.planrecords import usage_of, write_table
from mesa_meanfield.cli.work import PLAN, REPORT, Work, begun, dry_run
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.report.table import figure
from mesa_meanfield.experiments.comparison import Comparison, Effect
from mesa_meanfield.experiments.counterfactual import compare as compared
from mesa_meanfield.experiments.report.examples import examples
from mesa_meanfield.experiments.report.figures import save_effect
from mesa_meanfield.experiments.report.page import Compared, write_comparison
from mesa_meanfield.experiments.report.words import pairing_in_words, points, points_between
from mesa_meanfield.plain import describe
from mesa_meanfield.protocols import Intervention
from mesa_meanfield.tomlfile import unknown

PICTURE = "effect.png"


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="an intervention against its paired counterfactual: effects with intervals, a report",
        description="Run every replica twice, with the interventions of a plan file and without, on the same random "
        "numbers, and say what they changed.",
    )
    add_arguments(parser)
    parser.add_argument("--candidate", metavar="NAME", help="of a plan file with candidates: which one")
    parser.add_argument("--label", metavar="LABEL", help="whose share is told first (default: the plan file's)")
    parser.set_defaults(do=compare)


def compare(given: argparse.Namespace) -> None:
    """Read, run both arms, write, print."""
    prepared = prepare(given)
    plan, functions, subject = prepared.plan, prepared.functions, prepared.subject
    interventions = interventions_of(_wanted(plan, given.candidate), functions, subject.influence)
    control = interventions_of(plan.control, functions, subject.influence)

    def simulate(work: Work) -> Comparison:
        check_label(given.label, work.labels, "--label")
        check_label(_label(plan), work.labels, f"{plan.path}: label")
        with progress("Both arms"):
            return compared(
                work.make,
                interventions,
                replicas=plan.replicas,
                ticks=prepared.ticks,
                fork_at=plan.fork_at,
                seed=plan.seed,
                confidence=plan.confidence,
                control=control,
                crowd=subject.crowd,
                shared=work.shared,
                workers=work.prepared.given.jobs,
            )

    if given.dry_run:
        dry_run(prepared, simulate)
        return
    with begun(prepared) as work:
        made = simulate(work)
        result = _write(work, made, interventions, control)
    for told in made.notes:
        note(told)
    if given.json:
        print_json(result)
    else:
        _print(made, result)


def _wanted(plan: PlanFile, candidate: str | None) -> Sequence[Part]:
    """The interventions of the treatment.

    Raises:
        DataError: The file does not say which, or has no such candidate.
    """
    if candidate is not None:
        if candidate not in plan.candidates:
            raise unknown("--candidate", "candidate", candidate, plan.candidates)
        return plan.candidates[candidate]
    if plan.interventions:
        return plan.interventions
    if len(plan.candidates) == 1:
        return next(iter(plan.candidates.values()))
    if plan.candidates:
        raise DataError(f"{plan.path}: say which one by --candidate: {', '.join(plan.candidates)}")
    raise DataError(f"{plan.path}: there is nothing to compare: add a table [[intervention]]")


def _label(plan: PlanFile) -> str | None:
    """The label that the plan file names, by itself or in its objective."""
    return plan.label or (None if plan.objective is None else plan.objective.values.get("label"))


def _write(
    work: Work, made: Comparison, interventions: Sequence[Intervention], control: Sequence[Intervention]
) -> Mapping[str, Any]:  # Any: JSON
    prepared, directory = work.prepared, work.folder
    asked = prepared.given.label or _label(prepared.plan)
    main = made.effect(asked) if asked is not None else _largest(made)
    tables = [
        *write_table(directory, "effects", made.frame()),
        *write_table(directory, "runs", made.ensemble.frame()),
    ]
    played = prepared.subject.played
    save_effect(directory.partial / PICTURE, made, main.dimension, played)
    shown = examples(work.witness.seen(interventions), work.witness.seen(control), made.fork_at, main.dimension)
    page = Compared(made, main.label, main.dimension, asked is None, interventions, control, shown)
    files = {
        PLAN: "what was asked",
        PICTURE: "the curves",
        **{name: "each label at each tick" if name.startswith("effects") else "each run" for name in tables},
        "result.json": "the figures",
    }
    candidate = prepared.given.candidate
    question = prepared.plan.question if candidate is None else f"What would “{candidate}” change?"
    write_comparison(directory.partial / REPORT, page, work.about(question, files))
    result = {
        **made.as_dict(main.label, dimension=main.dimension),
        "effects": [asdict(one) for tick in (None, -1) for one in _effects(made, tick)],
        "failures": sum(run.failures for run in made.ensemble.runs),
        "interventions": [describe(one) for one in interventions],
        "control_interventions": [describe(one) for one in control],
        "tokens": made.ensemble.usage.tokens_asked,
        "usage": usage_of(made.ensemble.usage),
        "seconds": time.perf_counter() - work.start,
        "report": str(directory.path / REPORT),
        "run_dir": str(directory.path),
    }
    work.finish(result, tables)
    return result


def _effects(made: Comparison, tick: int | None) -> list[Effect]:
    return [made.effect(one, tick, dimension=d) for d, labels in made.ensemble.labels.items() for one in labels]


def _largest(made: Comparison) -> Effect:
    found = _effects(made, None)
    if not found:
        raise DataError("No decision has any label: there is no share on which there could be an effect")
    return max(found, key=lambda one: abs(one.effect or 0.0))


def _print(made: Comparison, result: Mapping[str, Any]) -> None:
    last = made.ensemble.ticks - 1
    spans = {f"all decisions from tick {made.fork_at} on": None, f"tick {last}, the last one": -1}
    heads = ["", "without", "with", "effect", "paired", "unpaired", "variance", "pairs"]
    for span, tick in spans.items():
        rows = [_row(one) for one in _effects(made, tick)]
        print_table(f"Shares in %, effects in points with {made.confidence:.0%} intervals: {span}", heads, rows)
    usage = result["usage"]
    print_lines(
        pairing_in_words(made.effect(result["label"], dimension=result["dimension"])),
        f"{len(made.pairs)} pairs of replicas, {result['failed']} runs failed, {result['failures']} decisions failed",
        f"{usage['calls']:,} calls, {usage['tokens_asked']:,} tokens asked, {usage['tokens_computed']:,} computed, "
        f"{result['seconds']:.0f} s in all",
        f"Report: {result['report']}",
    )


def _row(one: Effect) -> list[str]:
    return [
        one.label,
        points(one.control),
        points(one.treatment),
        points(one.effect, sign=True),
        points_between(one.ci, sign=True),
        points_between(one.effect_unpaired_ci, sign=True),
        figure(one.variance_ratio, 2),
        str(one.replicas),
    ]
