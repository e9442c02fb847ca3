"""A training, top to bottom: adapters, stages, what is written and what came out (one stage: loop.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from mesa_meanfield.backends.local import memory
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.checkpoints import rewind_curves
from mesa_meanfield.ibtune.config import CURVES, Optimisation, Settings
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.looks import Figures, Looks, RollOuts
from mesa_meanfield.ibtune.loop import Loop, Row
from mesa_meanfield.ibtune.lora import begin_with, compute_again_instead_of_keeping, save_adapter, with_adapters
from mesa_meanfield.ibtune.processes import Processes
from mesa_meanfield.ibtune.stages import Trainer
from mesa_meanfield.seeds import derive


@dataclass(frozen=True)
class Tuned:
    """What came out of a training."""

    adapters: dict[str, Path]
    """Name -> the folder of the adapter."""
    steps: int
    curves: Path
    before: Figures
    """Of the held-out ticks before the first stage: nll, rate, distortion, in nats; kl: of the roll-outs."""
    after: Figures
    stages: list[dict[str, Any]]
    """Each stage with its figures before and after."""
    tokens: dict[str, int]
    """asked, computed and saved, in training."""
    seconds: float
    skipped: int
    """Prompts that were left out since they are longer than the model's context."""
    model: Any
    """The model with its adapters, on its device."""


def tune(
    model: Any,
    tokenizer: Any,
    train: Sequence[Item],
    held_out: Sequence[Item],
    settings: Settings,
    folder: Path,
    *,
    identity: str = "",
    base: str | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    on_step: Callable[[Row, int], None] | None = None,
    listen: Callable[[Item, Sequence[str]], None] | None = None,
    renewed: Callable[[Any, str], tuple[Sequence[Item], Sequence[Item], Sequence[Item] | None]] | None = None,
    roll_outs: RollOuts | None = None,
    reported: Sequence[Item] | None = None,
    start: Mapping[str, Path] | None = None,
) -> Tuned:
    """Train adapters on recorded ticks.

    Args:
        model: A causal language model of transformers, which gets the adapters; its own weights stay.
        tokenizer: Its tokenizer.
        train: The ticks to learn from.
        held_out: Ticks of other events, for early stopping and the figures before and after; may be empty.
        settings: All settings.
        folder: Gets adapters, curves and checkpoints.
        identity: Names model and data: a checkpoint of another identity is refused.
        base: The base model's name on the hub, for the adapters; None for one that is not there.
        resume: Go on from the folder's checkpoint, where there is one.
        accelerator: Devices, precision, processes and trackers; by default that of `accelerate launch`. Trackers
            that nobody has started yet are started.
        on_step: Told every line of the curves and the number of all steps.
        listen: Told the summaries that are sampled before a tick.
        renewed: Called before a policy stage that follows the summarizer's: the same ticks with mean fields
            by the tuned summarizer; those of ``reported`` last. Takes the model and its adapter's name.
        roll_outs: Quick roll-outs of held-out cascades, at every look at the held-out ticks; None for none.
        reported: The ticks of the figures before and after, where they must decide nothing; by default the
            held-out ones.
        start: Adapter -> the folder of a saved one that it begins with; one that no stage trains stays as it is,
            such as the policy while the summarizer is trained.

    Raises:
        DataError: There is nothing to learn from, or nothing that can be resumed.
        BackendError: The model takes no adapters, memory does not suffice, or accelerate is configured for
            something that this training does not know.
    """
    accelerator = accelerator or Accelerator()
    processes = Processes(accelerator)
    folder.mkdir(parents=True, exist_ok=True)
    start = start or {}
    processes.place(model)
    adapted = with_adapters(model, (*settings.stages, *start), settings.lora, settings.seed)
    for name, place in start.items():
        begin_with(adapted, name, place)
    trainer = Trainer(adapted, tokenizer, settings)
    trainer.listen = listen
    if settings.optimisation.checkpointing:
        compute_again_instead_of_keeping(model)
    if accelerator.log_with and not accelerator.trackers:
        accelerator.init_trackers("mesa-meanfield")
    looks = Looks(trainer, accelerator, processes, roll_outs)
    said = _said(settings, identity, train, held_out)
    loop = Loop(trainer, accelerator, processes, looks, settings, folder, said, on_step)
    if resume:
        loop.resume()
    if accelerator.is_main_process:
        rewind_curves(folder, loop.position.lines)
    accelerator.wait_for_everyone()
    for number, stage in enumerate(settings.stages):
        if number < loop.position.stage:
            continue
        if renewed is not None and stage == "policy" and "summarizer" in settings.stages[:number]:
            train, held_out, reported = renewed(trainer.model, "summarizer")
        with _one_line_if_out_of_memory(stage, settings.optimisation, accelerator.device):
            loop.run(number, stage, train, held_out, reported)
    return _finish(loop, list(dict.fromkeys(settings.stages)), base)


def _finish(loop: Loop, names: Sequence[str], base: str | None) -> Tuned:
    position, folder = loop.position, loop.folder
    adapters = {name: folder / "adapters" / name for name in names}
    for name, place in adapters.items():
        if loop.processes.main:
            save_adapter(loop.trainer.model, name, place, base=base)
    loop.accelerator.wait_for_everyone()
    return Tuned(
        adapters,
        position.done,
        folder / CURVES,
        _merged(position.before[::-1]),
        _merged(position.after),
        [
            {"stage": stage, "before": before, "after": after}
            for stage, before, after in zip(loop.settings.stages, position.before, position.after, strict=True)
        ],
        {"asked": position.asked, "computed": position.tokens, "saved": position.asked - position.tokens},
        position.seconds,
        loop.trainer.batcher.skipped,
        loop.trainer.model,
    )


def _merged(figures: Sequence[Figures]) -> Figures:
    """The figures of several stages in one: a later one's stand, where it has any."""
    found: Figures = {"nll": None, "nll_per_token": None, "rate": None, "distortion": None, "kl": None}
    for one in figures:
        found |= {name: value for name, value in one.items() if value is not None}
    return found


def _said(settings: Settings, identity: str, train: Sequence[Item], held_out: Sequence[Item]) -> str:
    """What must be the same for a training to be resumed."""
    changeable = {"checkpoint_minutes"}
    asked = {name: value for name, value in asdict(settings).items() if name not in changeable}
    ticks = [(i.cascade, i.tick.number, i.field.text, i.space.labels) for i in (*train, *held_out)]
    return str(derive(identity, asked, ticks))


@contextmanager
def _one_line_if_out_of_memory(stage: str, how: Optimisation, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not memory.is_out_of_memory(error):
            raise
        ways = [] if how.parts_of(how.batch) >= how.batch else [f"--accumulation {how.batch}"]
        ways += [] if how.checkpointing else ["--checkpointing"]
        ways += ["fewer --per-tick actions", "a smaller model"]
        raise BackendError(f"Stage {stage}: out of memory on {device}; take {', or '.join(ways)}") from error
