"""What ``mesa-meanfield tune`` is asked to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.load import is_server, split_dtype
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension
from mesa_meanfield.cli.common import (
    SUMMARIZERS,
    asked_for,
    prompts_of,
    read_files,
    seed,
    sha256,
    summarizer_named,
)
from mesa_meanfield.cli.output import note
from mesa_meanfield.cli.training import DTYPES, PRECISIONS
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.config import STAGES, Bottleneck, Lora, Optimisation, Settings
from mesa_meanfield.ibtune.items import Item, Recipe, items_of, split
from mesa_meanfield.ibtune.shipped import WEIGHTS
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend, Sampling, Summarizer
from mesa_meanfield.seeds import derive, unit
from mesa_meanfield.summarizers import SUMMARY_SAMPLING, LLMSummarizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments of the command."""
    add = parser.add_argument
    how, lora, neck, rest = Optimisation(), Lora(), Bottleneck(), Settings()
    add(
        "--data",
        metavar="FILE",
        type=Path,
        action="append",
        help="cascades in JSON Lines, repeatable; default: the shipped synthetic ones",
    )
    add(
        "--held-out",
        metavar="EVENT",
        nargs="+",
        default=[],
        help="events that are not trained on: for early stopping, calibration and the figures",
    )
    add("--fold", metavar="EVENT", help="an event that decides nothing at all and gives the figures")
    add("--dimension", metavar="D", help="which labels are learned (default: the data's own, else behaviour)")
    add("--texts", action="store_true", help="learn the texts, too, not the labels alone")
    add(
        "--summarizer",
        metavar="LIST",
        default="tally",
        help=f"who writes the mean fields that are learned from, of {', '.join(SUMMARIZERS)} (default tally); with "
        "several, each cascade has one of them, drawn by the seed",
    )
    add("--stages", metavar="LIST", default="policy", help=f"of {', '.join(STAGES)}, in order (default policy)")
    add(
        "--policy-adapter",
        metavar="PATH",
        type=Path,
        help="the policy to begin with; without a stage of its own it decides as it is while the summarizer learns",
    )
    add(
        "--backend",
        metavar="SPEC",
        default="embedded",
        help="the base model: embedded, hf:NAME-OR-FOLDER or FILE.gguf, perhaps with @bf16",
    )
    add(
        "--warm-up",
        metavar="SHARE",
        type=float,
        nargs=2,
        default=(0.0, 0.3),
        help="between which shares of a cascade are only watched (default 0 0.3)",
    )
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--steps", metavar="N", type=int, help="steps of each stage, instead of --epochs")
    add(
        "--epochs",
        metavar="X",
        type=float,
        default=how.epochs,
        help="how often each tick is seen (default %(default)s)",
    )
    add("--batch", metavar="N", type=int, default=how.batch, help="ticks per step (default %(default)s)")
    add(
        "--accumulation",
        metavar="N",
        type=int,
        default=how.accumulation,
        help="parts in which a step is computed: more take less memory (default: one per tick)",
    )
    add("--checkpointing", action="store_true", help="compute activations again: less memory, slower")
    add("--learning-rate", metavar="X", type=float, default=how.learning_rate, help="default %(default)s")
    add("--schedule", choices=("constant", "linear", "cosine"), default=how.schedule, help="default %(default)s")
    add("--clip", metavar="X", type=float, default=how.clip, help="norm of the gradient (default %(default)s)")
    add("--rank", metavar="N", type=int, default=lora.rank, help="of the adapters (default %(default)s)")
    add("--alpha", metavar="X", type=float, default=lora.alpha, help="of the adapters (default %(default)s)")
    add("--dropout", metavar="X", type=float, default=lora.dropout, help="of the adapters (default %(default)s)")
    add("--layers", metavar="N", type=int, default=lora.layers, help="adapt the last N blocks only (default: all)")
    add("--samples", metavar="N", type=int, default=neck.samples, help="summaries per tick (default %(default)s)")
    add("--beta", metavar="X", type=float, default=neck.beta, help="of D + R / beta (default %(default)s)")
    add("--summary-tokens", metavar="N", type=int, default=neck.max_tokens, help="of a summary (default %(default)s)")
    add(
        "--no-predictive",
        dest="predictive",
        action="store_false",
        help="switch D off for the summarizer: an ablation",
    )
    add(
        "--text-weight",
        metavar="X",
        type=float,
        default=rest.text_weight,
        help="of a text beside its label (default %(default)s)",
    )
    add(
        "--every",
        metavar="N",
        type=int,
        default=rest.every,
        help="steps between looks at held-out ticks (default %(default)s)",
    )
    add(
        "--patience",
        metavar="N",
        type=int,
        default=rest.patience,
        help="looks without progress that end a stage (default %(default)s)",
    )
    add(
        "--roll-outs",
        metavar="N",
        type=int,
        default=4,
        help="held-out cascades that each look rolls out, for the KL; 0 for none (default %(default)s)",
    )
    add("--checkpoint-minutes", metavar="X", type=float, default=rest.checkpoint_minutes, help="default %(default)s")
    add("--no-packing", dest="packing", action="store_false", help="compute every prompt alone: slower, the same")
    add(
        "--permute-labels",
        action="store_true",
        help="draw the order of the options for each cascade, so that no letter is learned",
    )
    add("--dtype", choices=DTYPES, default="auto", help="of the base model (default: float32 on CPUs, else bfloat16)")
    add("--precision", choices=PRECISIONS, help="mixed precision (default: accelerate's, else bf16 on CUDA)")
    add("--prompts", metavar="DIR", type=Path, help="a folder with prompt templates that replace the shipped ones")
    add("--log-with", metavar="NAME", action="append", default=[], help="an accelerate tracker, such as tensorboard")
    add("--seed", metavar="N", type=seed, default=0, help="of all random numbers (default 0)")
    add("--out", metavar="DIR", type=Path, help="the run directory (default: a new one under runs/)")
    add("--resume", action="store_true", help="go on with the unfinished run in --out, with the same arguments")
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")


@dataclass(frozen=True)
class Job:
    """A training before it starts."""

    settings: Settings
    recipe: Recipe
    data: Mapping[str, str]
    """File -> its hash."""
    train: list[Cascade]
    held_out: list[Cascade]
    reported: list[Cascade]
    """Those of the fold; where there is none, the held-out ones give the figures."""
    prompts: Mapping[str, Prompts]

    def sides(self, names: Sequence[str], backend: Backend) -> tuple[list[Item], list[Item], list[Item]]:
        """The ticks to learn from, the held-out ones and those of the fold, mean fields by these summarizers."""
        plain = replace(self.recipe, permute_labels=False)  # figures and temperatures are of the order in use
        sides = ((self.train, self.recipe), (self.held_out, plain), (self.reported, plain))
        train, held_out, reported = (
            [
                item
                for name, part in self._shared_out(cascades, names).items()
                for item in items_of(part, how, self.summarizers(name, backend), self.prompts)
            ]
            for cascades, how in sides
        )
        return train, held_out, reported

    def _shared_out(self, cascades: Sequence[Cascade], names: Sequence[str]) -> dict[str, list[Cascade]]:
        """Summarizer -> the cascades that it writes for: a matter of the seed and of each cascade alone."""
        found: dict[str, list[Cascade]] = {}
        for one in cascades:
            drawn = unit(derive(self.recipe.seed, one.dataset, one.id), "summarizer")
            found.setdefault(names[int(drawn * len(names))], []).append(one)
        return found

    def summarizers(self, name: str, backend: Backend) -> dict[str, Summarizer]:
        """Language -> the summarizer of this name, which asks this backend if it is a model."""
        return {
            language: LLMSummarizer(backend, prompts=words, sampling=self._sampling)
            if name == "llm"
            else summarizer_named(name, backend, words)
            for language, words in self.prompts.items()
        }

    @property
    def _sampling(self) -> Sampling:
        """Summaries as long as those that are trained."""
        return replace(SUMMARY_SAMPLING, max_tokens=self.settings.bottleneck.max_tokens)

    def told(self, items: Sequence[Item]) -> dict[str, Any]:  # Any: JSON
        """The data as the card says them."""
        return {
            "files": dict(self.data),
            "datasets": sorted({cascade.dataset for cascade in self.train}),
            "dimension": self.recipe.dimension,
            "labels": list(self.recipe.labels),
            "events": sorted({event_of(cascade) for cascade in self.train})[:50],
            "held_out": sorted({event_of(cascade) for cascade in self.held_out}),
            "fold": sorted({event_of(cascade) for cascade in self.reported}),
            "cascades": len(self.train),
            "ticks": len(items),
            "actions": sum(len(item.taught) for item in items),
        }


def prepare(given: argparse.Namespace) -> Job:
    """What is asked for, with the data read and split.

    Raises:
        DataError: The arguments contradict each other, or the data is not as it should be.
        ValueError: A setting is out of its range.
    """
    if given.backend == "scripted" or is_server(given.backend):
        raise DataError(f"--backend {given.backend}: a model that can be trained is needed, local and not a server")
    if split_dtype(given.backend)[1] is not None and given.dtype != "auto":
        raise DataError(f"--backend {given.backend} says how the base model is computed; leave --dtype {given.dtype}")
    if given.resume and given.out is None:
        raise DataError("--resume needs --out, the run directory to go on with")
    if given.roll_outs < 0:
        raise DataError(f"--roll-outs must be at least 0, got {given.roll_outs}")
    stages = tuple(stage.strip() for stage in given.stages.split(","))
    given.summarizer = [name.strip() for name in given.summarizer.split(",")]
    if unknown := [name for name in given.summarizer if name not in SUMMARIZERS]:
        raise DataError(f"--summarizer: there is no {unknown[0]!r}; there are {', '.join(SUMMARIZERS)}")
    if given.policy_adapter is not None and not (given.policy_adapter / WEIGHTS).is_file():
        raise DataError(f"--policy-adapter {given.policy_adapter}: {WEIGHTS} is missing there")
    if "summarizer" in stages and given.summarizer != ["llm"]:
        raise DataError("--stages summarizer needs --summarizer llm, whose summaries it trains")
    settings = Settings(
        stages=stages,
        lora=Lora(given.rank, given.alpha, given.dropout, given.layers),
        optimisation=Optimisation(
            learning_rate=given.learning_rate,
            schedule=given.schedule,
            batch=given.batch,
            accumulation=given.accumulation,
            epochs=given.epochs,
            steps=given.steps,
            clip=given.clip,
            checkpointing=given.checkpointing,
        ),
        bottleneck=Bottleneck(
            samples=given.samples,
            beta=given.beta,
            predictive=float(given.predictive),
            max_tokens=given.summary_tokens,
        ),
        text_weight=given.text_weight,
        packing=given.packing,
        every=given.every,
        patience=given.patience,
        checkpoint_minutes=given.checkpoint_minutes,
        seed=given.seed,
    )
    cascades, hashes = read_files(given.data)
    dimension = given.dimension or dimension_of(cascades[0])
    labels = labels_of_dimension(dimension, cascades)
    train, held_out = split(cascades, given.held_out)
    if given.fold is not None and given.fold in given.held_out:
        raise DataError(f"--fold {given.fold} decides nothing, so it cannot be among --held-out")
    reported: list[Cascade] = []
    if given.fold is not None:
        train, reported = split(train, [given.fold])
    if not held_out:
        note("no event is held out: no early stopping and no calibration; --held-out EVENT allows both")
    prompts = prompts_of(cascades, given.prompts)
    recipe = Recipe(
        dimension, labels, given.texts, tuple(given.warm_up), given.per_tick, given.seed, given.permute_labels
    )
    return Job(settings, recipe, hashes, train, held_out, reported, prompts)


def identity(given: argparse.Namespace, job: Job, place: Mapping[str, Any]) -> str:  # Any: JSON
    """What must be the same for a training to be gone on with: all that changes a result."""
    asked = asked_for(given, "data", "out", "resume", "checkpoint_minutes", "log_with")
    begun = None if given.policy_adapter is None else sha256(given.policy_adapter / WEIGHTS)
    return json.dumps([asked, dict(job.data), begun, {name: place[name] for name in ("dtype", "precision")}])
