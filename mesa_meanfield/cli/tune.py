"""``mesa-meanfield tune``: IB-Tune, from recorded cascades to adapters with their cards."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesa_meanfield.backends.load import split_dtype
from mesa_meanfield.cli import training
from mesa_meanfield.cli.common import asked_for, circumstances, new_directory
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.cli.tuning import Job, add_arguments, identity, prepare
from mesa_meanfield.directory import Directory, check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.calibration import Calibration, calibrate, write_calibrations
from mesa_meanfield.ibtune.cards import card
from mesa_meanfield.ibtune.config import CHECKPOINT
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.plots import draw_curves

if TYPE_CHECKING:
    from mesa_meanfield.ibtune.processes import Processes
    from mesa_meanfield.ibtune.tune import Tuned

_FIGURES = {"nll": "NLL per action", "nll_per_token": "per token", "distortion": "distortion", "rate": "rate",
            "kl": "KL of roll-outs"}  # fmt: skip
_WHEN = ("before", "after")
_CURVES_PICTURE = "curves.png"


def add_to(commands: Any) -> None:  # Any: argparse keeps the class to itself
    """Add the command to the parser."""
    parser = commands.add_parser(
        "tune",
        help="fine-tune policy and summarizer on recorded cascades by the information bottleneck",
        description="Train LoRA adapters so that simulated crowds do what recorded ones did. Several GPUs: "
        "accelerate launch -m mesa_meanfield.cli tune ...",
    )
    add_arguments(parser)
    parser.set_defaults(do=tune)


def tune(given: argparse.Namespace) -> None:
    """Load, train, calibrate, write, print."""
    try:
        job = prepare(given)
    except ValueError as error:  # an argument out of its range
        raise DataError(str(error)) from error
    said = "-".join((*given.summarizer, *job.settings.stages))
    out = given.out or new_directory(f"tune-{said}-{given.seed}")
    if not given.resume:
        check_free(out)
    training.check_installed()
    from mesa_meanfield.ibtune.processes import Processes

    accelerator = training.accelerated(given.precision, given.log_with)
    processes = Processes(accelerator)
    out = training.shared_by_all(out)
    backend = training.load(given.backend, given.dtype, accelerator, processes)
    if accelerator.is_main_process:
        directory = Directory(out, resume=given.resume)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        directory = Directory(out, resume=True)
    accelerator.project_configuration.logging_dir = str(directory.partial / "logs")
    if accelerator.is_main_process and not given.resume:
        known = {"data_sha256": dict(job.data), "runs_on": training.told(accelerator, backend)}
        directory.write("config.json", asked_for(given) | dict(circumstances()) | known)
    try:
        result = _train(given, job, backend, accelerator, processes, directory)
    except BaseException:
        if accelerator.is_main_process:
            directory.drop_if_empty("curves.jsonl")
            if directory.partial.exists():
                note(f"the training did not end; --resume with the same arguments and --out {out} goes on with it")
        raise
    accelerator.end_training()
    if not accelerator.is_main_process:
        return
    (directory.partial / CHECKPOINT).unlink(missing_ok=True)  # the adapters are all that is needed now
    final = directory.finish()
    told = _moved(result, directory.partial, final) | {"run_dir": str(final)}
    if given.json:
        print_json(told)
    else:
        _print(told)


def _train(
    given: argparse.Namespace, job: Job, backend: Any, accelerator: Any, processes: Processes, directory: Directory
) -> dict[str, Any]:  # Any: a LocalBackend and an Accelerator, whose modules need torch; JSON
    """The training with all that it writes."""
    from mesa_meanfield.cli.quick import QuickRollOuts, Tuned
    from mesa_meanfield.ibtune.tune import tune as train

    with progress(f"Mean fields ({', '.join(given.summarizer)})") if processes.main else nullcontext():
        items, held_out, reported = job.sides(given.summarizer, backend)
    roll_outs = None
    if given.roll_outs:
        roll_outs = QuickRollOuts(
            job.recipe,
            job.prompts,
            lambda asked: job.summarizers(given.summarizer[0], asked),
            backend,
            job.held_out,
            job.reported,
            given.roll_outs,
        )

    def renewed(model: Any, name: str) -> tuple[list[Item], list[Item], list[Item] | None]:
        again = job.sides(["llm"], Tuned(model.eval(), backend, name))
        return again[0], again[1], again[2] or None

    total = sum(
        job.settings.optimisation.steps_of(sum(stage != "summarizer" or item.last is not None for item in items))
        for stage in job.settings.stages
    )
    with progress("Tune", total=total) if accelerator.is_main_process else nullcontext() as advance:
        tuned = train(
            backend.model,
            backend.tokenizer,
            items,
            held_out,
            job.settings,
            directory.partial,
            identity=identity(given, job, training.told(accelerator, backend)),
            base=_on_hub(given.backend),
            resume=given.resume,
            accelerator=accelerator,
            on_step=_teller(advance) if accelerator.is_main_process else None,
            renewed=renewed,
            roll_outs=roll_outs,
            reported=reported or None,
            start={} if given.policy_adapter is None else {"policy": given.policy_adapter},
        )
    if not (processes.main or processes.sharded):
        return {}
    calibrations = _calibrate(tuned, held_out, backend, processes.main)  # by all where each has a part of the model
    if not processes.main:
        return {}
    for name, found in calibrations.items():
        write_calibrations(tuned.adapters[name], found)
    if tuned.skipped:
        note(f"{tuned.skipped} prompts were longer than the model's context and were left out")
    data = job.told(items)
    for name, folder in tuned.adapters.items():
        text = card(
            name,
            split_dtype(backend.name)[0],
            job.settings,
            data,
            tuned.stages,
            calibrations.get(name, ()),
            figures=_of_roll_outs(tuned.stages),
        )
        (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")
    rows = [json.loads(line) for line in tuned.curves.read_text(encoding="utf-8").splitlines()]
    with _told_if_unwritable(directory.partial / _CURVES_PICTURE) as file:
        draw_curves(rows, file)
    result = {
        "adapters": {name: str(folder) for name, folder in tuned.adapters.items()},
        "steps": tuned.steps,
        "curves_file": str(tuned.curves),
        "held_out": {"before": tuned.before, "after": tuned.after},
        "stages": tuned.stages,
        "calibration": {name: [asdict(one) for one in found] for name, found in calibrations.items()},
        "data": data,
        "tokens": tuned.tokens,
        "seconds": tuned.seconds,
    }
    directory.write("result.json", result)
    return result


def _of_roll_outs(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:  # Any: JSON
    """The roll-outs' rows of the card, their head first; nothing where there were none."""
    rows = [
        (one["stage"], *(f"{one[when]['kl']:.4f}" for when in _WHEN))
        for one in stages
        if all(one[when]["kl"] is not None for when in _WHEN)
    ]
    return [("KL(real || simulated) of quick roll-outs, in nats", *_WHEN), *rows] if rows else []


def _on_hub(spec: str) -> str | None:
    """The name of a model on the hub, None for the embedded one, a folder or a file."""
    name = split_dtype(spec)[0].removeprefix("hf:")
    return name if spec.startswith("hf:") and not Path(name).expanduser().is_dir() else None


def _calibrate(tuned: Tuned, held_out: Sequence[Item], backend: Any, main: bool) -> dict[str, list[Calibration]]:
    """Temperatures of the adapters that decide."""
    from mesa_meanfield.cli.quick import Tuned as Answering

    found: dict[str, list[Calibration]] = {}
    for name in ("policy", "sft"):
        if name in tuned.adapters and held_out and held_out[0].space.choice is not None:
            shown = [item.without_field() for item in held_out] if name == "sft" else held_out
            with progress(f"Calibration ({name})") if main else nullcontext():
                found[name] = calibrate(Answering(tuned.model.eval(), backend, name), shown)
    return found


def _teller(advance: Any) -> Any:  # Any: functions of output and tune
    """Shows a step beside the bar, and the last look at the held-out ticks."""
    last = ""

    def tell(row: Mapping[str, Any], _: int) -> None:
        nonlocal last
        figures = ", ".join(
            f"{name} {row[name]:.3f}" for name in ("nll", "rate", "distortion", "kl") if row.get(name) is not None
        )
        if row["split"] == "train":
            advance(f"{row['stage']}: {figures}{last}")
        else:
            last = f"; held out: {figures}"

    return tell


@contextmanager
def _told_if_unwritable(file: Path) -> Iterator[Path]:
    try:
        yield file
    except OSError as error:  # no picture is no reason to lose the adapters
        note(f"{file} cannot be written: {error}")


def _moved(result: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The paths as they are once the directory has its name."""
    return json.loads(json.dumps(result).replace(json.dumps(str(old))[1:-1], json.dumps(str(new))[1:-1]))  # type: ignore[no-any-return]


def _print(result: Mapping[str, Any]) -> None:
    stages = result["stages"]
    names = [n for n in _FIGURES if any(one[when].get(n) is not None for one in stages for when in _WHEN)]
    rows = [
        [f"{one['stage']}, {when}", *("" if one[when].get(n) is None else f"{one[when][n]:.4f}" for n in names)]
        for one in stages
        for when in _WHEN
    ]
    if names:
        print_table("Held-out ticks (nats)", ["", *(_FIGURES[name] for name in names)], rows)
    for name, found in result["calibration"].items():
        for one in found:
            print_lines(
                f"Temperature of {one['dimension']} ({name}): {one['temperature']:.3f}, "
                f"NLL {one['nll_before']:.4f} -> {one['nll_after']:.4f}"
            )
    tokens = result["tokens"]
    print_lines(
        f"{result['steps']} steps, {tokens['asked']:,} tokens asked, {tokens['computed']:,} computed, "
        f"{result['seconds']:.0f} s"
    )
    for name, folder in result["adapters"].items():
        print_lines(f"{name}: {folder}")
