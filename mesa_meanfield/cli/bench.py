"""``mesa-meanfield bench``: how many decisions per second a backend makes, and how near that is to the limit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import SPECS, load_backend
from mesa_meanfield.backends.local.peaks import facts_of, measure_peaks, phases_told
from mesa_meanfield.bench import KINDS, Sizes, Timed, counter, overhead, task, tokens_told
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.directory import json_text
from mesa_meanfield.errors import DataError
from mesa_meanfield.machine import machine
from mesa_meanfield.protocols import Backend, Usage

OVERHEAD_AGENTS = 10_000
"""How many agents the scheduler's own time is measured with, where there is no collapsed crowd."""


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="decisions per second of a backend",
        description="Time whole ticks: texts, labels, and the labels of a large crowd that has few states.",
    )
    add = parser.add_argument
    sizes = Sizes()
    add("--backend", metavar="SPEC", default="embedded", help=f"the model: {SPECS}")
    add("--agents", metavar="N", type=int, default=sizes.agents, help="agents per tick (default %(default)s)")
    add("--shared-tokens", metavar="N", type=int, default=sizes.shared, help="of all prompts (default %(default)s)")
    add("--own-tokens", metavar="N", type=int, default=sizes.own, help="of each prompt (default %(default)s)")
    add("--new-tokens", metavar="N", type=int, default=sizes.new, help="of a text at most (default %(default)s)")
    add("--collapsed-agents", metavar="N", type=int, default=sizes.crowd, help="0 for none (default %(default)s)")
    add("--archetypes", metavar="N", type=int, default=sizes.archetypes, help="their states (default %(default)s)")
    add("--batch", metavar="N", type=int, help="requests per batch (default: the backend's own)")
    add("--repeats", metavar="N", type=int, default=3, help="ticks of each kind (default %(default)s)")
    add("--seed", metavar="N", type=int, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="FILE", type=Path, help="write the JSON object there, too")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    parser.set_defaults(do=bench)


def bench(given: argparse.Namespace) -> None:
    """Load, time, print."""
    try:
        sizes = _sizes(given)
        with progress("Backend"):
            backend = load_backend(given.backend, batch=given.batch)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    kinds = KINDS if sizes.crowd else KINDS[:-1]
    with progress("Bench", total=2 + len(kinds) * given.repeats) as advance:
        timed = _time(backend, kinds, sizes, repeats=given.repeats, seed=given.seed, advance=advance)
        own_time = overhead(sizes.crowd or OVERHEAD_AGENTS, seed=given.seed)
        advance("scheduler overhead")
    result = _result(given, backend, timed, own_time)
    if given.out is not None:
        given.out.write_text(json_text(result, indent=2) + "\n", encoding="utf-8")
    for kind, one in timed.items():
        if one.usage.failures:
            note(f"{one.usage.failures} of {one.decisions * len(one.seconds)} {kind} decisions failed")
    if given.json:
        print_json(result)
    else:
        _print(result)


def _sizes(given: argparse.Namespace) -> Sizes:
    if given.repeats < 1 or given.seed < 0:
        raise ValueError(f"repeats must be at least 1 and seed at least 0, got {given.repeats} and {given.seed}")
    if given.out is not None and (given.out.exists() or not given.out.parent.is_dir()):
        why = "is there already" if given.out.exists() else "cannot be made: there is no such folder"
        raise DataError(f"{given.out} {why}; choose another --out, nothing is overwritten")
    return Sizes(
        agents=given.agents,
        shared=given.shared_tokens,
        own=given.own_tokens,
        new=given.new_tokens,
        crowd=given.collapsed_agents,
        archetypes=given.archetypes,
    )


def _time(
    backend: Backend,
    kinds: tuple[str, ...],
    sizes: Sizes,
    *,
    repeats: int,
    seed: int,
    advance: Callable[[str], None],
) -> dict[str, Timed]:
    """Time some ticks of each kind in turn, after a warm-up that does not count."""
    count, timed = counter(backend), {kind: Timed() for kind in kinds}
    for kind in KINDS[:2]:
        Timed().add(task(kind, replace(sizes, new=2), count, repeats), backend, seed, count)
    advance("warm-up")
    for repeat in range(repeats):
        for kind, one in timed.items():
            one.add(task(kind, sizes, count, repeat), backend, seed + repeat, count)
            advance(f"{kind}, {one.seconds[-1]:.2f} s")
    return timed


def _result(
    given: argparse.Namespace, backend: Backend, timed: Mapping[str, Timed], own_time: float
) -> dict[str, Any]:
    runs = {kind: one.told() for kind, one in timed.items()}
    where, peak = machine(), None
    model = getattr(backend, "model", None)
    if any(one.phases for one in timed.values()):
        facts, peaks = facts_of(model), measure_peaks(model)
        where["device"] = peaks.device
        peak = {"flops_per_s": peaks.flops, "bytes_per_s": peaks.bytes, "dtype": peaks.dtype}
        for kind, one in timed.items():
            total = sum(one.seconds)
            runs[kind]["phases"] = phases_told(one.phases, total, facts, peaks, shared=one.shared, own=one.held)
    return {
        "backend": backend.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "text_per_s": runs["text"]["per_s"],
        "choice_per_s": runs["choice"]["per_s"],
        "collapsed_agents_per_s": runs["collapsed"]["per_s"] if "collapsed" in runs else None,
        "overhead_us_per_agent": own_time,
        "tokens": tokens_told(sum((one.usage for one in timed.values()), Usage())),
        "baselines": {},
        "machine": where,
        "peak": peak,
        "runs": runs,
        "settings": {
            name: getattr(given, name)
            for name in (
                "agents", "shared_tokens", "own_tokens", "new_tokens", "collapsed_agents", "archetypes", "batch",
                "repeats", "seed",
            )
        },
    }  # fmt: skip


def _print(result: Mapping[str, Any]) -> None:
    where, runs = result["machine"], result["runs"]
    memory = "" if where["memory_gib"] is None else f", {where['memory_gib']:.0f} GiB"
    device = f", {where['device']}" if where.get("device", "cpu") != "cpu" else ""
    print_lines(f"{result['backend']} on {where['cpu']}, {where['cores']} cores{memory}{device}")
    columns = ["", "per second", "lowest", "highest", "prompt", "reply", "tokens asked", "computed"]
    print_table("Decisions (medians)", columns, [_rates(kind, run) for kind, run in runs.items()])
    rows = [
        [f"{kind}: {name}", *_phase(phase)]
        for kind, run in runs.items()
        for name, phase in run.get("phases", {}).items()
        if phase["seconds"]
    ]
    if rows:
        print_table("Where the time went", ["", "of the time", "tokens/s", "runs", "of the peak"], rows)
        flops, moved = (result["peak"][name] / 1e9 for name in ("flops_per_s", "bytes_per_s"))
        print_lines(f"Peak: {flops:,.0f} GFLOP/s in {result['peak']['dtype']}, {moved:,.1f} GB/s")
    saved = result["tokens"]["saved"] / max(result["tokens"]["asked"], 1)
    print_lines(
        f"{saved:.1%} of all tokens asked were saved; "
        f"the scheduler itself takes {result['overhead_us_per_agent']:.0f} µs per agent and tick"
    )


def _rates(kind: str, run: Mapping[str, Any]) -> list[str]:
    rates = [f"{run[name]:,.3g}" if run[name] < 100 else f"{run[name]:,.0f}" for name in ("per_s", "low", "high")]
    prompt, tokens = run["prompt"], run["tokens"]
    lengths = [f"{prompt['shared']}+{prompt['own']}", f"{run['reply_tokens']:.1f}" if run["reply_tokens"] else ""]
    return [kind, *rates, *lengths, f"{tokens['asked']:,}", f"{tokens['computed']:,}"]


def _phase(phase: Mapping[str, Any]) -> list[str]:
    speed = f"{phase['tokens'] / phase['seconds']:,.0f}" if phase.get("tokens") and phase["seconds"] else ""
    share = phase.get("share_of_peak")
    return [
        f"{phase['share_of_time']:.1%}",
        speed,
        f"{phase['steps']:,}" if phase.get("steps") else "",
        "" if share is None else f"{share:.0%}",
    ]
