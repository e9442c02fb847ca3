"""The settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Stage = Literal["policy", "sft", "summarizer"]
STAGES: tuple[Stage, ...] = ("policy", "sft", "summarizer")
"""What can be trained: the policy under the mean field, the policy without any, the summarizer."""

CHECKPOINT = "checkpoint.pt"
CURVES = "curves.jsonl"
"""Files of a training under way."""


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


@dataclass(frozen=True, slots=True)
class Lora:
    """The adapters. Published for MF-LLM: rank 64, alpha 64."""

    rank: int = 8
    alpha: float = 16.0
    """An adapter's weights are scaled by alpha / rank."""
    dropout: float = 0.0
    """In the policy's stages; the summarizer is trained as it is sampled, so without any.

    Off by default: on a CPU its random numbers took 14 % of a training's time and their products 6 % more.
    """
    layers: int | None = None
    """Adapt only the last so many of the model's blocks, where the backward pass then ends; None for all.

    The embedded model learns from .69 instead of .47 ticks a second with 15 of its 30 (two CPU threads).
    """

    def __post_init__(self) -> None:
        _check(self.rank >= 1, f"rank must be at least 1, got {self.rank}")
        _check(self.layers is None or self.layers >= 1, f"layers must be at least 1, got {self.layers}")
        _check(self.alpha > 0, f"alpha must be above 0, got {self.alpha}")
        _check(0 <= self.dropout < 1, f"dropout must be at least 0 and below 1, got {self.dropout}")


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How an adapter's weights are moved, by AdamW; the same for every stage."""

    learning_rate: float = 2e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """What the learning rate does after its rise; linear and cosine end at 0."""
    rise: float = 0.05
    """The share of the steps over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    batch: int = 8
    """Ticks per step, over all processes."""
    accumulation: int | None = None
    """In how many parts a process computes a step's ticks: more take less memory and change no result.

    None for one tick per part, which on a CPU is also the fastest: attention over the tree of several grows.
    """
    epochs: float = 1.0
    """How often every tick is seen in a stage; ``steps`` says otherwise."""
    steps: int | None = None
    """Steps of each stage, instead of ``epochs``."""
    clip: float = 1.0
    """The norm to which gradients are cut."""
    checkpointing: bool = False
    """Whether activations are computed again instead of kept: less memory, a third slower."""

    def __post_init__(self) -> None:
        for name in ("batch", "accumulation", "steps"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        for name in ("learning_rate", "clip", "epochs"):
            value = getattr(self, name)
            _check(value > 0 and math.isfinite(value), f"{name} must be above 0, got {value}")
        _check(self.schedule in ("constant", "linear", "cosine"), f"there is no schedule {self.schedule!r}")
        _check(0 <= self.rise < 1, f"rise must be at least 0 and below 1, got {self.rise}")
        _check(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay}")

    def parts_of(self, ticks: int, processes: int = 1) -> int:
        """In how many parts all processes together compute a step's ticks."""
        return ticks if self.accumulation is None else self.accumulation * processes

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, out of so many."""
        rising = math.ceil(self.rise * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        left = 1 - (step - rising) / max(1, steps - rising)
        return self.learning_rate * (left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)

    def steps_of(self, items: int) -> int:
        """How many steps a stage over so many ticks has."""
        return self.steps or max(1, math.ceil(self.epochs * items / self.batch))


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The summarizer's objective: D + R / beta, in nats."""

    samples: int = 4
    """G, the summaries sampled per tick; each one's baseline is the mean reward of the others."""
    beta: float = 50.0
    """What a nat of prediction is worth in nats of rate."""
    predictive: float = 1.0
    """The weight of D; 0 switches the predictive term off, as an ablation."""
    max_tokens: int = 64
    """Tokens of a summary at most."""
    temperature: float = 1.0
    """At which summaries are sampled and their probabilities taken; nothing is cut off."""
    shares: bool = True
    """Whether the policy is told the exact shares behind a summary, as by `LLMSummarizer`."""

    def __post_init__(self) -> None:
        _check(self.samples >= 4, f"samples must be at least 4, got {self.samples}")
        for name in ("beta", "temperature"):
            _check(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        _check(self.predictive >= 0, f"predictive must be at least 0, got {self.predictive}")
        _check(self.max_tokens >= 1, f"max_tokens must be at least 1, got {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of a training."""

    stages: tuple[Stage, ...] = ("policy",)
    """In their order; a stage that comes again goes on with its adapter."""
    lora: Lora = Lora()
    optimisation: Optimisation = Optimisation()
    bottleneck: Bottleneck = Bottleneck()
    text_weight: float = 1.0
    """What the nats of a reply's text count beside those of its label; 1 is the likelihood of both."""
    packing: bool = True
    """Whether what prompts share is computed once, where the model allows it; changes no result."""
    every: int = 50
    """Steps between two looks at the held-out ticks."""
    patience: int | None = 3
    """Looks without a better result after which a stage ends; None for never."""
    checkpoint_minutes: float = 5.0
    """After so many minutes a checkpoint is written; 0 writes one after every step."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check(bool(self.stages), "there must be at least one stage")
        unknown = [stage for stage in self.stages if stage not in STAGES]
        _check(not unknown, f"there is no stage {unknown[:1]}; there are {', '.join(STAGES)}")
        _check(self.text_weight >= 0, f"text_weight must be at least 0, got {self.text_weight}")
        _check(self.every >= 1, f"every must be at least 1, got {self.every}")
        _check(self.patience is None or self.patience >= 1, f"patience must be at least 1, got {self.patience}")
        _check(self.checkpoint_minutes >= 0, f"checkpoint_minutes must be at least 0, got {self.checkpoint_minutes}")
        _check(self.seed >= 0, f"seed must be at least 0, got {self.seed}")
