"""What held-out ticks and quick roll-outs come to under the weights as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from mesa_meanfield.ibtune.config import Stage
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.processes import Processes
from mesa_meanfield.ibtune.stages import Sums, Trainer
from mesa_meanfield.seeds import derive

Figures = dict[str, float | None]


class RollOuts(Protocol):
    """Rolls held-out cascades out, from above: what simulates stands on a higher floor."""

    def __call__(self, model: Any, stage: Stage, share: slice, *, reported: bool) -> Sequence[float]:
        """KL(real || simulated) in nats of some cascades, under the model's adapters as they are now.

        Args:
            model: The model with its adapters; whichever is on, and what can be trained, may be changed.
            stage: The stage under way.
            share: Which of the cascades, where several processes divide them among themselves.
            reported: Whether the cascades are those of the figures before and after, where these are others
                than those that are looked at on the way.
        """
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen."""

    sums: Sums = field(default_factory=Sums)
    kl: float | None = None
    """The mean KL(real || simulated) of the roll-outs, in nats; None where there were none."""

    def told(self) -> Figures:
        """The figures, all in nats."""
        return {**self.sums.told(), "kl": self.kl}


class Looks:
    """Looks at held-out ticks; they change nothing in a training.

    Args:
        trainer: With the model.
        accelerator: Its precision.
        processes: All that look, each at its share.
        roll_outs: Of the held-out cascades; None for none.
    """

    def __init__(
        self, trainer: Trainer, accelerator: Accelerator, processes: Processes, roll_outs: RollOuts | None
    ) -> None:
        self._trainer = trainer
        self._accelerator = accelerator
        self._processes = processes
        self._roll_outs = roll_outs
        self._share = slice(processes.index, None, processes.count)

    def look(self, stage: Stage, items: Sequence[Item], *, reported: bool = False) -> Look:
        """What these ticks come to, and the roll-outs of their cascades; nothing where there are none."""
        if not items:
            return Look()
        self._trainer.mode(training=False, dropout=False)
        with torch.no_grad():
            return Look(self._ticks(stage, items), self._kl(stage, reported))

    def _ticks(self, stage: Stage, items: Sequence[Item]) -> Sums:
        trainer, sums = self._trainer, Sums()
        spent = trainer.packer.computed, trainer.packer.asked
        seed = derive(trainer.settings.seed, "held-out")  # the same summaries at every look but for the weights
        for item in items[self._share]:
            with self._accelerator.autocast():
                sums += trainer.learn(stage, [item], seed)[1]
        trainer.packer.computed, trainer.packer.asked = spent
        return Sums(*self._processes.total(*sums.values))

    def _kl(self, stage: Stage, reported: bool) -> float | None:
        if self._roll_outs is None:
            return None
        try:
            found = self._roll_outs(self._trainer.model, stage, self._share, reported=reported)
        finally:
            self._trainer.use(stage)
        total, count = self._processes.total(sum(found), len(found))
        return total / count if count else None
