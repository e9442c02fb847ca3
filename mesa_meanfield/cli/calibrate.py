"""``mesa-meanfield calibrate``: the temperature of a model's labels from recorded decisions, without any training."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mesa_meanfield.cli.calibration import Job, add_arguments, prepare
from mesa_meanfield.cli.common import asked_for, circumstances, new_directory
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import BackendError, DataError, ScoringUnsupported
from mesa_meanfield.ibtune.calibration import (
    CALIBRATION,
    COLDEST,
    HOTTEST,
    Calibration,
    LeftOut,
    read_calibrations,
    score_items,
    write_calibrations,
)
from mesa_meanfield.protocols import Scorer

_RESULT = "result.json"


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "calibrate",
        help="fit the temperature of a model's labels to recorded decisions, without any training",
        description="Ask a model for the probabilities of what people decided, behind the mean fields they saw, and "
        "fit the temperature that makes the decisions likeliest. run and evaluate take it by --calibration.",
    )
    add_arguments(parser)
    parser.set_defaults(do=calibrate)


def calibrate(given: argparse.Namespace) -> None:
    """Load, score, fit, write, print."""
    start = time.perf_counter()
    try:
        job = prepare(given)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    directory = Directory(given.out or new_directory(f"calibrate-{given.summarizer}-{given.seed}"))
    try:
        directory.write("config.json", _config(given, job))
        calibration, result = _fit(given, job)
        result["seconds"] = time.perf_counter() - start
        write_calibrations(directory.partial, [calibration])
        directory.write(_RESULT, result)
    finally:
        directory.drop_if_empty(_RESULT)
    final = directory.finish()
    beside = None if job.beside is None else _put_beside(job.beside, calibration)
    result |= {"calibration_file": str(final / CALIBRATION), "adapter_file": beside and str(beside)}
    result |= {"run_dir": str(final)}
    _warn(result)
    if given.json:
        print_json(result)
    else:
        _print(result)


def _config(given: argparse.Namespace, job: Job) -> Mapping[str, Any]:
    return {
        **asked_for(given),
        "data_sha256": dict(job.hashes),
        "model": job.decides.name,
        "adapters": _adapters(job),
        "dimension": job.recipe.dimension,
        "labels": list(job.recipe.labels),
        **circumstances(),
    }


def _adapters(job: Job) -> dict[str, Any]:
    return {name: job.chosen.told[name] for name in ("policy", "summarizer")}


def _fit(given: argparse.Namespace, job: Job) -> tuple[Calibration, dict[str, Any]]:
    with progress(f"Mean fields ({given.summarizer})"):
        items = job.items(given.summarizer)
    if not isinstance(job.decides, Scorer):
        raise BackendError(f"{job.decides.name} gives no probabilities; calibrate needs them")
    try:
        with progress("Probabilities"):
            (scored,) = score_items(job.decides, items)  # one dimension, so one set of labels
    except ScoringUnsupported as error:
        raise BackendError(f"{error}; calibrate needs the probability of every label") from None
    calibration = scored.fit()
    usage = job.decides.usage
    return calibration, {
        "model": job.decides.name,
        "adapters": _adapters(job),
        "summarizer": given.summarizer,
        **asdict(calibration),
        "nll_uniform": math.log(len(calibration.labels)),
        "nll_shares": scored.nll_of_shares(),
        "unscored": len(scored.events) - scored.known,
        "events": sorted(set(scored.events)),
        "events_left_out": _left_out(scored.events_left_out()),
        "cascades": len({item.cascade for item in items}),
        "ticks": len(items),
        "usage": {
            "calls": usage.calls,
            "tokens_asked": usage.tokens_asked,
            "tokens_computed": usage.tokens_computed,
            "seconds": usage.seconds,
        },
    }


def _left_out(found: Sequence[LeftOut]) -> dict[str, Any] | None:
    """All events that were left out in turn, each decision counted alike; None where there are no two."""
    decisions = sum(one.decisions for one in found)
    if not decisions:
        return None
    return {
        "nll_before": sum(one.nll_before * one.decisions for one in found) / decisions,
        "nll_after": sum(one.nll_after * one.decisions for one in found) / decisions,
        "each": [asdict(one) for one in found],
    }


def _put_beside(adapter: Path, calibration: Calibration) -> Path:
    """Write into the adapter's folder, keeping the temperatures of other labels."""
    key = calibration.dimension, set(calibration.labels)
    others = [one for one in read_calibrations(adapter) if (one.dimension, set(one.labels)) != key]
    return write_calibrations(adapter, [*others, calibration])


def _warn(result: Mapping[str, Any]) -> None:
    """What a user could miss."""
    if result["events_left_out"] is None:
        note("all decisions are of one event, so nothing says how the temperature does on others")
    if result["unscored"]:
        note(f"{result['unscored']} decisions got no probabilities and count nowhere")
    if not COLDEST * 1.01 < result["temperature"] < HOTTEST / 1.01:
        note(f"the temperature is at an end of {COLDEST} to {HOTTEST}: the model tells next to nothing of the labels")


def _print(result: Mapping[str, Any]) -> None:
    if (left_out := result["events_left_out"]) is not None:
        rows = [_row(one) for one in left_out["each"]]
        rows.append(["all", *_figures(result["decisions"], None, left_out)])
        title = "Events left out in turn (NLL, nats)"
        print_table(title, ["", "decisions", "temperature of the others", "at 1", "calibrated"], rows)
    print_lines(
        f"Temperature of {result['dimension']} ({', '.join(result['labels'])}): {result['temperature']:.3f}",
        f"NLL per decision: {result['nll_before']:.4f} -> {result['nll_after']:.4f} nats on the "
        f"{result['decisions']} decisions of {len(result['events'])} events that it was fitted on",
        f"For comparison: {result['nll_uniform']:.4f} for all labels alike, {result['nll_shares']:.4f} for the "
        "labels' own shares",
        f"{result['usage']['calls']} calls, {result['usage']['tokens_computed']} tokens computed, "
        f"{result['seconds']:.1f} s",
    )
    if result["adapter_file"]:
        print_lines(f"Beside the adapter: {result['adapter_file']}")
    print_lines(f"Run directory: {result['run_dir']} (run and evaluate take it by --calibration)")


def _row(one: Mapping[str, Any]) -> list[str]:
    name = one["events"][0] if len(one["events"]) == 1 else f"{len(one['events'])} events"
    return [name, *_figures(one["decisions"], one["temperature"], one)]


def _figures(decisions: int, temperature: float | None, nll: Mapping[str, Any]) -> list[str]:
    shown = "" if temperature is None else f"{temperature:.3f}"
    return [str(decisions), shown, f"{nll['nll_before']:.4f}", f"{nll['nll_after']:.4f}"]
