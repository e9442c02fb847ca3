"""A stage of a training: its steps, their parts, looks at held-out ticks, curves and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
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
from mesa_meanfield.ibtune.lora import put_back, weights_of
from mesa_meanfield.ibtune.stages import Sums, Trainer
from mesa_meanfield.seeds import derive

Row = Mapping[str, float | int | str | None]
"""One line of the curves."""
Figures = dict[str, float | None]


class Loop:
    """The stages of one training, one after the other."""

    def __init__(
        self,
        trainer: Trainer,
        accelerator: Accelerator,
        settings: Settings,
        folder: Path,
        said: str,
        on_step: Callable[[Row, int], None] | None,
    ) -> None:
        self.trainer = trainer
        self.accelerator = accelerator
        self.settings = settings
        self.folder = folder
        self.position = Position()
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

    def run(
        self,
        number: int,
        stage: Stage,
        train: Sequence[Item],
        held_out: Sequence[Item],
        reported: Sequence[Item] | None,
    ) -> None:
        """One stage, from wherever it is to its end."""
        reported = _of_stage(held_out if reported is None else reported, stage)
        train, held_out = _of_stage(train, stage), _of_stage(held_out, stage)
        if not train:
            raise DataError(f"Stage {stage}: there is no tick to learn from; take longer cascades")
        how, position, model = self.settings.optimisation, self.position, self.trainer.model
        steps = how.steps_of(len(train))
        self.trainer.use(stage)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=how.learning_rate, weight_decay=how.weight_decay)
        self.trainer.called, optimizer = self.accelerator.prepare(model, optimizer)
        if self._kept.get("optimizer") is not None:
            optimizer.load_state_dict(self._kept["optimizer"])
        self._best, self._kept = self._kept.get("best"), {}
        if len(position.before) == number:
            position.before.append(self._look(stage, reported))
        while position.step < steps and not self._waited_enough():
            self._step(number, stage, train, steps, optimizer, weights)
            if position.step % self.settings.every == 0 or position.step == steps:
                self._judge(stage, held_out)
            if time.monotonic() - self._saved >= 60 * self.settings.checkpoint_minutes:
                self._save(optimizer)
        if self._best is not None:
            put_back(model, stage, self._best)
        position.after.append(self._look(stage, reported))
        position.stage, position.step, position.best, position.waited = number + 1, 0, None, 0
        self._best = None
        self._save(None)
        self.accelerator.free_memory()
        self.trainer.called = model

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
        sums, parts = Sums(), self._parts(chosen)
        for place, (part, items, weight) in enumerate(parts):
            seed = derive(self.settings.seed, number, position.step, part)
            torch.manual_seed(seed)  # of dropout: a matter of the part, whichever process computes it
            last = place + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(trainer.called):
                loss, told = self._learn(stage, items, seed)
                if loss.requires_grad:  # else no prompt of the part fits into the context
                    self.accelerator.backward(loss * (weight * self.accelerator.num_processes / len(chosen)))
            sums += told.times(weight)
        norm = self.accelerator.clip_grad_norm_(weights, how.clip)
        optimizer.step()
        optimizer.zero_grad()
        position.step += 1
        position.done += 1
        computed, asked, *values = self._summed(
            trainer.packer.computed - spent[0], trainer.packer.asked - spent[1], *sums.values
        )
        position.tokens += int(computed)
        position.asked += int(asked)
        sums = Sums(*values)
        self._tell(stage, "train", sums, steps, {"lr": rate, "gradient": float(norm or 0.0)})

    def _learn(self, stage: Stage, items: Sequence[Item], seed: int) -> tuple[torch.Tensor, Sums]:
        if stage != "summarizer":
            return self.trainer.policy(items, stage)
        return self.trainer.summarizer(items, self._policy, seed)

    @property
    def _policy(self) -> str | None:
        return "policy" if "policy" in self.settings.stages else None

    def _parts(self, chosen: Sequence[Item]) -> list[tuple[int, Sequence[Item], float]]:
        """This process's parts of a batch, each with its number and what it counts.

        Processes that share a model's gradients must all compute something: where there are fewer ticks
        than parts, the first tick is computed again and counts nothing.
        """
        processes = self.accelerator.num_processes
        count = self.settings.optimisation.accumulation * processes
        cuts = [len(chosen) * i // count for i in range(count + 1)]
        parts: list[tuple[int, Sequence[Item], float]] = []
        for number in range(self.accelerator.process_index, count, processes):
            items = chosen[cuts[number] : cuts[number + 1]]
            if items:
                parts.append((number, items, 1.0))
        return parts or [(0, chosen[:1], 0.0)]

    # --- Held-out ticks ---------------------------------------------------------------------------

    def _look(self, stage: Stage, items: Sequence[Item]) -> Figures:
        """What these ticks come to now."""
        return self._held_out(stage, items).told() if items else Sums().told()

    def _held_out(self, stage: Stage, held_out: Sequence[Item]) -> Sums:
        """What ticks come to without learning from them; each process takes its share of them."""
        trainer, sums = self.trainer, Sums()
        trainer.mode(training=False, dropout=False)
        spent = trainer.packer.computed, trainer.packer.asked
        called, trainer.called = trainer.called, trainer.model
        seed = derive(self.settings.seed, "held-out")  # the same summaries at every look but for the weights
        with torch.no_grad():
            for item in held_out[self.accelerator.process_index :: self.accelerator.num_processes]:
                sums += self._learn(stage, [item], seed)[1]
        trainer.called = called
        trainer.packer.computed, trainer.packer.asked = spent
        return Sums(*self._summed(*sums.values))

    def _judge(self, stage: Stage, held_out: Sequence[Item]) -> None:
        """Look at the held-out ticks and keep the weights if they are the best so far."""
        if not held_out:
            return
        sums, position = self._held_out(stage, held_out), self.position
        found = sums.objective(stage, self.settings.bottleneck)
        self._tell(stage, "held out", sums, 0, {"objective": found})
        if position.best is None or found < position.best:
            position.best, position.waited = found, 0
            self._best = weights_of(self.trainer.model, stage)
        else:
            position.waited += 1

    def _waited_enough(self) -> bool:
        return self.settings.patience is not None and self.position.waited >= self.settings.patience

    # --- Records ----------------------------------------------------------------------------------

    def _tell(self, stage: Stage, split: str, sums: Sums, steps: int, more: Figures) -> None:
        now = time.monotonic()
        self.position.seconds += now - self._since
        self._since = now
        row: dict[str, Any] = {"step": self.position.done, "stage": stage, "split": split, **sums.told(), **more}
        row |= {"tokens": self.position.tokens, "seconds": round(self.position.seconds, 3)}
        if self.accelerator.is_main_process:
            append_to_curves(self.folder, row)
        figures = {k: v for k, v in row.items() if isinstance(v, float | int)}
        self.accelerator.log({f"{split}/{name}": value for name, value in figures.items()}, step=self.position.done)
        if self._on_step is not None:
            self._on_step(row, steps)

    def _save(self, optimizer: Any) -> None:
        if self.accelerator.is_main_process:
            tensors = {
                "adapters": {name: weights_of(self.trainer.model, name) for name in self.trainer.model.peft_config},
                "optimizer": None if optimizer is None else optimizer.state_dict(),
                "best": self._best,
            }
            write_checkpoint(self.folder, self._said, self.position, tensors)
        self._saved = time.monotonic()

    def _summed(self, *values: float) -> list[float]:
        """Values added up over all processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        total = self.accelerator.reduce(torch.tensor(values, dtype=torch.float64), "sum")
        return [float(value) for value in total]


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
