"""A stage of a training: its steps, their parts, looks at held-out ticks, curves and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.checkpoints import (
    Position,
    append_to_curves,
    read_checkpoint,
    write_checkpoint,
)
from mesa_meanfield.ibtune.config import Settings, Stage
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.looks import Figures, Look, Looks
from mesa_meanfield.ibtune.lora import put_back, weights_of
from mesa_meanfield.ibtune.processes import Processes
from mesa_meanfield.ibtune.stages import Sums, Trainer
from mesa_meanfield.seeds import derive

Row = Mapping[str, float | int | str | None]
"""One line of the curves."""


class Loop:
    """The stages of one training, one after the other."""

    def __init__(
        self,
        trainer: Trainer,
        accelerator: Accelerator,
        processes: Processes,
        looks: Looks,
        settings: Settings,
        folder: Path,
        said: str,
        on_step: Callable[[Row, int], None] | None,
    ) -> None:
        self.trainer = trainer
        self.accelerator = accelerator
        self.processes = processes
        self.settings = settings
        self.folder = folder
        self.position = Position()
        self._looks = looks
        self._said = said
        self._on_step = on_step
        self._kept: dict[str, Any] = {}  # of the checkpoint: the optimizer and the best weights of the stage
        self._best: dict[str, torch.Tensor] | None = None
        self._saved = time.monotonic()
        self._since = time.monotonic()

    def resume(self) -> None:
        """Go on where the last checkpoint was."""
        found = read_checkpoint(self.folder, self._said)
        if found is not None:
            self.position, self._kept = found
            for name, weights in self._kept.pop("adapters").items():
                put_back(self.trainer.model, name, weights)
            scaler = self._kept.pop("scaler")
            if scaler is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(scaler)
        self.processes.check_same(
            self.position.lines,
            f"Not all processes see the checkpoint in {self.folder}; they need one disk",
        )

    def run(
        self,
        number: int,
        stage: Stage,
        train: Sequence[Item],
        held_out: Sequence[Item],
        reported: Sequence[Item] | None,
    ) -> None:
        """One stage, from wherever it is to its end.

        Args:
            number: Of the stage.
            stage: Which it is.
            train: The ticks to learn from.
            held_out: Those that decide when to stop and which weights are kept.
            reported: Those of the figures before and after; None for the held-out ones.
        """
        train, held_out = _of_stage(train, stage), _of_stage(held_out, stage)
        others = None if reported is None else _of_stage(reported, stage)
        if not train:
            raise DataError(f"Stage {stage}: there is no tick to learn from; take longer cascades")
        how, position, model = self.settings.optimisation, self.position, self.trainer.model
        steps = how.steps_of(len(train))
        self.trainer.use(stage)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = self.processes.prepared(
            torch.optim.AdamW(weights, lr=how.learning_rate, weight_decay=how.weight_decay)
        )
        if self._kept.get("optimizer") is not None:
            optimizer.load_state_dict(self._kept["optimizer"])
        self._best, self._kept = self._kept.get("best"), {}
        if len(position.before) == number:
            position.before.append(self._before(stage, held_out, others))
            self._save(optimizer)
        while position.step < steps and not self._waited_enough():
            self._step(number, stage, train, steps, optimizer, weights)
            if position.step % self.settings.every == 0 or position.step == steps:
                self._judge(stage, held_out)
            if time.monotonic() - self._saved >= 60 * self.settings.checkpoint_minutes:
                self._save(optimizer)
        if self._best is not None:
            put_back(model, stage, self._best)
        position.after.append(self._after(stage, others))
        position.stage, position.step, position.waited = number + 1, 0, 0
        position.best = position.best_look = self._best = None
        self._save(None)
        self.accelerator.free_memory()

    def _step(
        self,
        number: int,
        stage: Stage,
        train: Sequence[Item],
        steps: int,
        optimizer: Any,  # Any: accelerate's wrapper, which is no torch optimizer for mypy
        weights: Sequence[torch.Tensor],
    ) -> None:
        """Learn from one batch of ticks."""
        how, position, trainer = self.settings.optimisation, self.position, self.trainer
        chosen = _batch(train, position.step, how.batch, derive(self.settings.seed, number, "order"))
        spent = trainer.packer.computed, trainer.packer.asked
        rate = how.rate_at(position.step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        trainer.mode(training=True, dropout=stage != "summarizer")
        sums = Sums()
        for part, items in self._parts(chosen):
            seed = derive(self.settings.seed, number, position.step, part)
            torch.manual_seed(seed)  # of dropout: a matter of the part, whichever process computes it
            with self.accelerator.autocast():
                loss, told = trainer.learn(stage, items, seed)
            if loss.requires_grad:  # else no prompt of the part fits into the context
                self.accelerator.backward(loss / len(chosen))
            sums += told
        self.processes.add_gradients(weights)
        norm = self.accelerator.clip_grad_norm_(weights, how.clip)
        optimizer.step()
        optimizer.zero_grad()
        position.step += 1
        position.done += 1
        computed, asked, *values = self.processes.total(
            trainer.packer.computed - spent[0], trainer.packer.asked - spent[1], *sums.values
        )
        position.tokens += int(computed)
        position.asked += int(asked)
        figures = Sums(*values).told()
        self._tell(stage, "train", figures, steps, {"lr": rate, "gradient": float(norm or 0.0)})

    def _parts(self, chosen: Sequence[Item]) -> list[tuple[int, Sequence[Item]]]:
        """This process's parts of a batch, each with its number."""
        processes = self.processes
        count = self.settings.optimisation.parts_of(len(chosen), processes.count)
        cuts = [len(chosen) * i // count for i in range(count + 1)]
        parts = [(number, chosen[cuts[number] : cuts[number + 1]]) for number in range(count)]
        return [(number, items) for number, items in parts[processes.index :: processes.count] if items]

    # --- Held-out ticks ---------------------------------------------------------------------------

    def _before(self, stage: Stage, held_out: Sequence[Item], others: Sequence[Item] | None) -> Figures:
        """The figures before the stage; where they are of the held-out ticks, the curve begins with them."""
        if others is not None:
            return self._looks.look(stage, others, reported=True).told()
        return self._look(stage, held_out)[0].told()

    def _after(self, stage: Stage, others: Sequence[Item] | None) -> Figures:
        """The figures after the stage; those of the held-out ticks are known, as the best weights are back."""
        if others is not None:
            return self._looks.look(stage, others, reported=True).told()
        return self.position.best_look or Look().told()

    def _judge(self, stage: Stage, held_out: Sequence[Item]) -> None:
        """Look at the held-out ticks and keep the weights if they are the best so far."""
        if not held_out:
            return
        look, found = self._look(stage, held_out)
        position = self.position
        if position.best is None or found < position.best:
            position.best, position.best_look, position.waited = found, look.told(), 0
            self._best = weights_of(self.trainer.model, stage)
        else:
            position.waited += 1

    def _look(self, stage: Stage, held_out: Sequence[Item]) -> tuple[Look, float]:
        """What the held-out ticks come to, as a point of the curve, and the stage's objective on them."""
        look = self._looks.look(stage, held_out)
        found = look.sums.objective(stage, self.settings.bottleneck)
        if held_out:
            self._tell(stage, "held out", look.told(), 0, {"objective": found})
        return look, found

    def _waited_enough(self) -> bool:
        return self.settings.patience is not None and self.position.waited >= self.settings.patience

    # --- Records ----------------------------------------------------------------------------------

    def _tell(self, stage: Stage, split: str, figures: Figures, steps: int, more: Figures) -> None:
        now, position = time.monotonic(), self.position
        position.seconds += now - self._since
        self._since = now
        row: dict[str, Any] = {"step": position.done, "stage": stage, "split": split, **figures, **more}
        row |= {"tokens": position.tokens, "seconds": round(position.seconds, 3)}
        position.lines += 1
        if self.processes.main:
            append_to_curves(self.folder, row)
        numbers = {k: v for k, v in row.items() if isinstance(v, float | int)}
        track = split.replace(" ", "_")
        self.accelerator.log({f"{track}/{name}": value for name, value in numbers.items()}, step=position.done)
        if self._on_step is not None:
            self._on_step(row, steps)

    def _save(self, optimizer: Any) -> None:
        if self.processes.main:
            scaler = self.accelerator.scaler
            tensors = {
                "adapters": {name: weights_of(self.trainer.model, name) for name in self.trainer.model.peft_config},
                "optimizer": None if optimizer is None else optimizer.state_dict(),
                "best": self._best,
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            write_checkpoint(self.folder, self._said, self.position, tensors)
        self._saved = time.monotonic()


def _of_stage(items: Sequence[Item], stage: Stage) -> list[Item]:
    """A summary needs a tick that it is of."""
    return [item for item in items if stage != "summarizer" or item.last is not None]


def _batch(items: Sequence[Item], step: int, size: int, seed: int) -> list[Item]:
    """The ticks of a step: a matter of the step alone. Every epoch has an order of its own."""
    chosen = []
    for index in range(step * size, (step + 1) * size):
        epoch, place = divmod(index, len(items))
        order = np.random.Generator(np.random.Philox(key=derive(seed, epoch))).permutation(len(items))
        chosen.append(items[order[place]])
    return chosen
