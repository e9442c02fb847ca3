"""What ``mesa-meanfield calibrate`` is asked to do."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesa_meanfield.backends.load import SPECS, is_server, load_backend
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension, space_of
from mesa_meanfield.cli.adapters import AUTO, NONE, Chosen, choose
from mesa_meanfield.cli.common import (
    SUMMARIZERS,
    note_labels,
    probe,
    prompts_of,
    read_files,
    seed,
    summarizer_named,
)
from mesa_meanfield.cli.output import progress
from mesa_meanfield.data import Cascade, event_of
from mesa_meanfield.directory import check_free
from mesa_meanfield.errors import DataError
from mesa_meanfield.ibtune.items import Item, Recipe, items_of, language_of
from mesa_meanfield.ibtune.shipped import SHIPPED
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments of the command."""
    add = parser.add_argument
    add("--backend", metavar="SPEC", default="embedded", help=f"the model: {SPECS}")
    add("--adapter", metavar="PATH", default=AUTO,
        help="the policy's peft adapter; or shipped, none, or auto: what run takes (default auto)")  # fmt: skip
    add("--summarizer-adapter", metavar="PATH", default=AUTO, help="likewise for summaries by a model (default auto)")
    add("--data", metavar="FILE", type=Path, nargs="+", action="extend",
        help="cascades in JSON Lines, repeatable; default: the shipped synthetic ones")  # fmt: skip
    add("--events", metavar="EVENT", nargs="+", action="extend", default=[],
        help="fit on these events only (default: all)")  # fmt: skip
    add("--dimension", metavar="D", help="which labels (default: the data's own, else behaviour)")
    add("--summarizer", choices=SUMMARIZERS, default="tally",
        help="who writes the mean fields; take the one that will be simulated with (default tally)")  # fmt: skip
    add("--warm-up", metavar="SHARE", type=float, default=0.3, help="share of the actions only watched (default 0.3)")
    add("--per-tick", metavar="N", type=int, help="actions per tick (default: a 20th of them, at least 4)")
    add("--batch", metavar="N", type=int, help="requests per batch; changes no result (default: what is fast)")
    add("--prompts", metavar="DIR", type=Path, help="a folder with prompt templates that replace the shipped ones")
    add("--seed", metavar="N", type=seed, default=0, help="of summaries by a model (default 0)")
    add("--out", metavar="DIR", type=Path, help="the run directory (default: a new one under runs/)")
    add("--beside-adapter", action="store_true",
        help="write into the folder of --adapter, too, where run and evaluate find it by themselves")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object on stdout and nothing else")


@dataclass(frozen=True)
class Job:
    """A calibration before it starts."""

    chosen: Chosen
    decides: Backend
    writes: Backend
    """What writes summaries, where a model does."""
    beside: Path | None
    """The adapter's folder that is to be written to, if any."""
    cascades: Sequence[Cascade]
    hashes: Mapping[str, str]
    """File -> its hash."""
    recipe: Recipe
    prompts: Mapping[str, Prompts]

    def items(self, summarizer: str) -> list[Item]:
        """The recorded ticks with their mean fields."""
        by_language = {
            language: summarizer_named(summarizer, self.writes, words) for language, words in self.prompts.items()
        }
        return items_of(self.cascades, self.recipe, by_language, self.prompts)


def prepare(given: argparse.Namespace) -> Job:
    """What is asked for, with the data read and the model loaded.

    Raises:
        DataError: Data or arguments are not as they should be.
        BackendError: The model cannot be used.
        ValueError: An argument is out of its range.
    """
    everything, hashes = read_files(given.data)
    cascades = _of_events(everything, given.events)
    if not cascades:
        raise DataError(f"{', '.join(map(str, given.data))}: there is no cascade; nothing to fit")
    dimension = given.dimension or Counter(map(dimension_of, cascades)).most_common(1)[0][0]
    labels = labels_of_dimension(dimension, everything)  # as run and evaluate take them from the same file
    note_labels([action for one in cascades for action in one.actions], dimension, labels)
    recipe = Recipe(dimension, labels, False, (given.warm_up, given.warm_up), given.per_tick, given.seed)
    prompts = prompts_of(cascades, given.prompts)
    if given.out is not None:
        check_free(given.out)
    anew = argparse.Namespace(**vars(given), calibration=NONE)  # whatever was fitted before
    chosen = choose(anew, space_of(dimension, labels, language_of(cascades[0]), texts=False))
    beside = _own_folder(chosen) if given.beside_adapter else None
    with progress("Backend"):
        base = load_backend(given.backend, batch=given.batch)
        decides, writes = chosen.backends(base)
        if is_server(given.backend):
            probe(base)
    return Job(chosen, decides, writes, beside, cascades, hashes, recipe, prompts)


def _of_events(cascades: Sequence[Cascade], events: Sequence[str]) -> list[Cascade]:
    known = {event_of(one) for one in cascades}
    if unknown := set(events) - known:
        some = ", ".join(sorted(known)[:20]) + (", ..." if len(known) > 20 else "")
        raise DataError(f"--events: there is no event {min(unknown)!r}; there are {some}")
    return [one for one in cascades if not events or event_of(one) in events]


def _own_folder(chosen: Chosen) -> Path:
    if chosen.policy is None or chosen.policy.asked == SHIPPED:
        raise DataError("--beside-adapter needs --adapter PATH, a folder of your own to write into")
    return chosen.policy.folder
