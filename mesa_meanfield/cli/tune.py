"""``mesa-meanfield tune``: IB-Tune, from recorded cascades to adapters with their cards."""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesa_meanfield.backends.load import load_backend
from mesa_meanfield.cli.common import asked_for, circumstances, new_directory
from mesa_meanfield.cli.output import note, print_json, print_lines, print_table, progress
from mesa_meanfield.cli.tuning import Job, add_arguments, prepare
from mesa_meanfield.directory import Directory, check_free
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.ibtune.calibration import Calibration, calibrate, write_calibrations
from mesa_meanfield.ibtune.cards import card
from mesa_meanfield.ibtune.config import CHECKPOINT
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.plots import draw_curves

if TYPE_CHECKING:
    from mesa_meanfield.backends.local.backend import LocalBackend
    from mesa_meanfield.ibtune.tune import Tuned

_NEEDED = ("torch", "transformers", "peft", "accelerate")
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
    out = given.out or new_directory(f"tune-{given.summarizer}-{given.stages.replace(',', '-')}-{given.seed}")
    if not given.resume:
        check_free(out)
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise BackendError(f"tune needs {', '.join(missing)}: pip install 'mesa-meanfield[local]'")
    from accelerate import Accelerator

    with progress("Backend"):
        backend: Any = load_backend(given.backend)  # Any: a LocalBackend, whose module needs torch
    precision = "bf16" if backend.model.device.type == "cuda" else "no"
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=backend.model.device.type == "cpu",
        log_with=given.log_with or None,
        project_dir=str(out) if given.log_with else None,
    )
    if accelerator.is_main_process:
        directory = Directory(out, resume=given.resume)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        directory = Directory(out, resume=True)
    if accelerator.is_main_process and not given.resume:
        directory.write("config.json", asked_for(given) | dict(circumstances()) | {"data_sha256": dict(job.data)})
    try:
        result = _train(given, job, backend, accelerator, directory)
    except BaseException:
        if accelerator.is_main_process:
            directory.drop_if_empty("curves.jsonl")
            if directory.partial.exists():
                note(f"the training did not end; --resume with the same arguments and --out {out} goes on with it")
        raise
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
    given: argparse.Namespace, job: Job, backend: Any, accelerator: Any, directory: Directory
) -> dict[str, Any]:  # Any: a LocalBackend and an Accelerator, whose modules need torch; JSON
    """The training with all that it writes."""
    from mesa_meanfield.ibtune.tune import tune as train

    with progress(f"Mean fields ({given.summarizer})"):
        sides = [job.items(one, given.summarizer, backend) for one in (job.train, job.held_out, job.reported)]
    items, held_out, reported = sides
    if given.log_with:
        accelerator.init_trackers("mesa-meanfield")

    def renewed(model: Any, name: str) -> tuple[list[Item], list[Item], list[Item]]:
        model.set_adapter(name)
        tuned = _answering(model.eval(), backend, name)
        again = [job.items(one, "llm", tuned) for one in (job.train, job.held_out, job.reported)]
        return again[0], again[1], again[2] or again[1]

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
            identity=json.dumps([backend.name, dict(job.data)]),
            base=_on_hub(given.backend),
            resume=given.resume,
            accelerator=accelerator,
            on_step=_teller(advance) if accelerator.is_main_process else None,
            renewed=renewed,
            reported=reported or None,
        )
    if given.log_with:
        accelerator.end_training()
    if not accelerator.is_main_process:
        return {}
    if tuned.skipped:
        note(f"{tuned.skipped} prompts were longer than the model's context and were left out")
    calibrations = _calibrate(tuned, held_out, backend)
    data = job.told(items)
    for name, folder in tuned.adapters.items():
        text = card(name, backend.name, job.settings, data, tuned.stages, calibrations.get(name, ()))
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


def _on_hub(spec: str) -> str | None:
    """The name of a model on the hub, None for the embedded one, a folder or a file."""
    name = spec.removeprefix("hf:")
    return name if name != spec and not Path(name).expanduser().is_dir() else None


def _answering(model: Any, backend: Any, name: str) -> LocalBackend:  # Any: see _train
    """The model as it is now, as a backend that answers with the adapter that is on."""
    from mesa_meanfield.backends.local.backend import LocalBackend

    return LocalBackend(model, backend.tokenizer, name=f"{backend.name}+{name}", batch=backend.batch)


def _calibrate(tuned: Tuned, held_out: Sequence[Item], backend: Any) -> dict[str, list[Calibration]]:
    """Temperatures of the adapters that decide, beside their weights."""
    found: dict[str, list[Calibration]] = {}
    for name in ("policy", "sft"):
        if name in tuned.adapters and held_out and held_out[0].space.choice is not None:
            shown = [item.without_field() for item in held_out] if name == "sft" else held_out
            tuned.model.set_adapter(name)
            with progress(f"Calibration ({name})"):
                found[name] = calibrate(_answering(tuned.model.eval(), backend, name), shown)
            write_calibrations(tuned.adapters[name], found[name])
    return found


def _teller(advance: Any) -> Any:  # Any: functions of output and tune
    """Shows a step beside the bar, and the last look at the held-out ticks."""
    last = ""

    def tell(row: Mapping[str, Any], _: int) -> None:
        nonlocal last
        figures = ", ".join(
            f"{name} {row[name]:.3f}" for name in ("nll", "rate", "distortion") if row.get(name) is not None
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
    names = ("nll", "nll_per_token", "distortion", "rate")
    rows = [
        [f"{one['stage']}, {when}", *("" if one[when].get(n) is None else f"{one[when][n]:.4f}" for n in names)]
        for one in result["stages"]
        for when in ("before", "after")
    ]
    if any(cell for row in rows for cell in row[1:]):
        print_table("Held-out ticks (nats)", ["", "NLL per action", "per token", "distortion", "rate"], rows)
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
