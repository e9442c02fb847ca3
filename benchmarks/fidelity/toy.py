"""The proof by toy: summaries learn to name the bit of the history that predicts what comes next.

In every invented town the crowd is either all for "red" or all for "blue" in one tick, and does the same
in the next. A tiny random model that knows 24 words writes summaries of two of them. With the predictive
term the share of sampled summaries that name the town's colour rises; with that term switched off, and
nothing else, it does not. Every seed has a random model of its own.

    python benchmarks/fidelity/toy.py [--out toy.png] [--steps 60] [--seeds 8]    # about five minutes on one core
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tokenizers import Tokenizer, models, pre_tokenizers

from mesa_meanfield.actions import Choice
from mesa_meanfield.data import Decision, MeanField, State, Tick
from mesa_meanfield.evaluation.report import drawing
from mesa_meanfield.evaluation.report.drawing import GREY, legend_below, percent, plain_style, tidy
from mesa_meanfield.ibtune.config import Bottleneck, Lora, Optimisation, Settings
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.tune import tune
from mesa_meanfield.prompts import Prompts

COLOURS = ("red", "blue")
FILLERS = (
    "town",
    "river",
    "market",
    "morning",
    "people",
    "talk",
    "quiet",
    "again",
    "bread",
    "rain",
    "harbour",
    "road",
)
WORDS = ("<pad>", "<end>", "<unk>", *COLOURS, *FILLERS, "so", "far", "now", "act", "[", "]", ":")
TEMPLATES = {
    "policy_prefix": "so far {{ field }}",
    "policy_suffix": "now {{ state }} act :",
    "summary_prefix": "{{ topic }}",
    "summary_suffix": "{% for line in lines %}{{ line }} {% endfor %} so far :",
}
PANELS = (
    ("summaries that name the town's colour", "named"),
    ("distortion D (nats)", "distortion"),
    ("rate R (nats)", "rate"),
)
DRAWN = drawing.COLOURS[:2]
"""With the predictive term, and without."""
AGENTS = 3
TOKENS = 2


@dataclass(frozen=True)
class Curve:
    """How one training went."""

    predictive: bool
    steps: list[int]
    named: list[float]
    """The share of sampled summaries that name the town's own colour, step by step."""
    wrong: list[float]
    """Those that name the other one and not the own."""
    rate: list[float]
    distortion: list[float]


def tokenizer() -> Any:
    """One token per word."""
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))  # noqa: S106 - no password
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        **{"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"},
    )


def model(seed: int = 7) -> Any:
    """A random model of two small layers."""
    config = transformers.AutoConfig.for_model(
        "llama",
        vocab_size=len(WORDS),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def towns(prompts: Prompts) -> list[Item]:
    """Ticks whose crowd does what the crowd before it did; the field names it, another colour, or nothing."""
    space = Choice(COLOURS, dimension="colour")
    found = []
    for number, filler in enumerate(FILLERS):
        for own, other in (COLOURS, COLOURS[::-1]):
            for place, said in enumerate((f"{filler} {own}", f"{own} {filler}", f"{own} {own}", filler)):
                found.append(_town(f"{filler}-{own}-{place}", filler, own, said, space, prompts))
            # A summary that says nothing, or both, tells nothing.
            found.append(
                _town(
                    f"{filler}-{own}-both",
                    filler,
                    own,
                    f"{COLOURS[number % 2]} {other if own == COLOURS[number % 2] else own}",
                    space,
                    prompts,
                )
            )
    return found


def _town(key: str, filler: str, own: str, said: str, space: Choice, prompts: Prompts) -> Item:
    states = tuple(State(f"{key}-{i}", filler) for i in range(AGENTS))
    before = Tick(0, states, tuple(Decision(labels={"colour": own}) for _ in states))
    after = replace(before, number=1)
    field = replace(MeanField().counted(before, space.labels), text=said)
    return Item(key, key, filler, space, prompts, after, field, before)


def run(folder: Path, *, predictive: bool, steps: int = 60, seed: int = 0) -> Curve:
    """Train policy and summarizer, and watch what the summaries name."""
    words = folder / "words"
    words.mkdir(parents=True, exist_ok=True)
    for name, text in TEMPLATES.items():
        (words / f"{name}.j2").write_text(text, encoding="utf-8")
    items = towns(Prompts("en", words))
    settings = Settings(
        stages=("policy", "summarizer"),
        lora=Lora(rank=8, alpha=16, dropout=0.0),
        optimisation=Optimisation(learning_rate=1e-2, schedule="constant", batch=8, accumulation=1, steps=steps),
        bottleneck=Bottleneck(samples=8, beta=20.0, predictive=float(predictive), max_tokens=TOKENS, shares=False),
        every=10**6,
        patience=None,
        seed=seed,
    )
    curve = Curve(predictive, [], [], [], [], [])
    seen: list[tuple[str, str]] = []

    def listen(item: Item, texts: Sequence[str]) -> None:
        own = item.tick.decisions[0].labels["colour"]
        seen.extend((own, text) for text in texts)

    def note(row: Any, _: int) -> None:
        if row["stage"] == "summarizer" and row["split"] == "train":
            curve.steps.append(len(curve.steps) + 1)
            names = [own in text.split() for own, text in seen]
            others = [(set(text.split()) & set(COLOURS)) - {own} != set() for own, text in seen]
            curve.named.append(sum(names) / len(names))
            curve.wrong.append(sum(o and not n for n, o in zip(names, others, strict=True)) / len(names))
            curve.rate.append(float(row["rate"]))
            curve.distortion.append(float(row["distortion"]))
            seen.clear()

    tune(model(7 + seed), tokenizer(), items, [], settings, folder / "out", on_step=note, listen=listen)
    return curve


def picture(curves: Sequence[Curve], file: Path) -> None:
    """Draw what the summaries name, and their distortion and rate: the mean over seeds in the range of all seeds."""
    arms = [[curve for curve in curves if curve.predictive is on] for on in (True, False)]
    seeds = max(map(len, arms))
    with plain_style():
        figure = Figure(figsize=(10, 4), layout="constrained")
        panels = figure.subplots(1, 3)
        for (title, name), panel in zip(PANELS, panels, strict=True):
            for arm, colour in zip(arms, DRAWN, strict=True):
                steps = arm[0].steps
                rows = np.array([_smooth(getattr(curve, name)) for curve in arm])  # (seeds, steps)
                panel.fill_between(steps, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.18, lw=0)
                panel.plot(steps, rows.mean(axis=0), color=colour, lw=2.2)
                if name == "named":
                    wrong = np.mean([_smooth(curve.wrong) for curve in arm], axis=0)
                    panel.plot(steps, wrong, color=colour, lw=1.4, ls=":")
            panel.set_title(title, fontsize=11)
            panel.set_xlabel("step of the summarizer's training", fontsize=10)
            panel.margins(x=0.01)
            tidy(panel)
        panels[0].set_ylim(-0.02, 1.02)
        panels[0].yaxis.set_major_formatter(percent)
        panels[1].axhline(math.log(2), color=GREY, lw=1, ls="--")
        panels[1].annotate("ln 2: knows nothing", (0.98, math.log(2)), (0, -4), ("axes fraction", "data"),
                           "offset points", ha="right", va="top", fontsize=9, color="0.35")  # fmt: skip
        for panel in panels[1:]:
            panel.set_ylim(bottom=0)
        with_term, without = (Line2D([], [], color=colour, lw=2.2) for colour in DRAWN)
        dotted = Line2D([], [], color="0.35", lw=1.4, ls=":")
        names = ("with the predictive term", "without it", "the other colour, not the own")
        legend_below(figure, (with_term, without, dotted), names)
        runs = f"mean and range of {seeds} random models" if seeds > 1 else "one random model"
        figure.suptitle(f"What sampled summaries of two words hold ({runs})", fontsize=12, x=0.01, ha="left")
        figure.savefig(file, dpi=150, metadata={"Software": None})


def _smooth(values: Sequence[float], width: int = 5) -> list[float]:
    """The running mean of so many steps: each step samples 64 summaries."""
    return [float(np.mean(values[max(0, end - width) : end])) for end in range(1, len(values) + 1)]


def main() -> None:
    """All trainings and their picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("toy.png"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=8, help="how many models are trained in both ways (default 8)")
    given = parser.parse_args()
    curves = []
    for seed in range(given.seeds):
        for on in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                curve = run(Path(folder), predictive=on, steps=given.steps, seed=seed)
            curves.append(curve)
            first, last = sum(curve.named[:5]) / 5, sum(curve.named[-5:]) / 5
            print(
                f"seed {seed}, predictive term {'on ' if on else 'off'}: {first:.0%} -> {last:.0%} name the bit; "
                f"distortion {curve.distortion[0]:.3f} -> {curve.distortion[-1]:.3f}, rate {curve.rate[-1]:.2f} nats",
                flush=True,
            )
    picture(curves, given.out)


if __name__ == "__main__":
    main()
