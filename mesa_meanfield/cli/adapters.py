"""Which adapters a simulation asks, and at which temperature: chosen from the arguments, told in its records.

The policy and the summarizer each have an adapter of their own, or none, on one base model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mesa_meanfield.actions import Choice, ChoiceThenText
from mesa_meanfield.cli.common import sha256
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.ibtune.calibration import CALIBRATION, calibrated, read_calibrations
from mesa_meanfield.ibtune.shipped import SHIPPED, WEIGHTS, Kind, fits, resolve
from mesa_meanfield.protocols import Backend

AUTO = "auto"
NONE = "none"
_LOCAL = "An adapter needs a local model; for a server, start the server with the adapter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `choose` reads, beside the backend and the summarizer."""
    add = parser.add_argument
    add(
        "--adapter",
        metavar="PATH",
        default=AUTO,
        help="a peft adapter for the policy; or shipped, none, or auto: the shipped one where model and labels are "
        "those that it was trained for (default auto)",
    )
    add(
        "--summarizer-adapter",
        metavar="PATH",
        default=AUTO,
        help="likewise for summaries by a model; auto: the shipped one with the embedded model (default auto)",
    )
    add(
        "--calibration",
        metavar="PATH",
        help=f"a {CALIBRATION} or its folder, for any model; or none (default: beside the policy's adapter)",
    )


@dataclass(frozen=True)
class Adapter:
    """One adapter of a local model."""

    kind: Kind
    asked: str
    """What it was asked for by: ``shipped``, or its path."""
    folder: Path

    def on(self, base: Backend) -> Backend:
        """The model with it; the model itself answers without it as before.

        Raises:
            BackendError: The model is not local, or the folder holds no adapter of it.
        """
        return put_on(base, self.folder, self.kind)

    def told(self) -> dict[str, str]:
        """Which one it is, for records.

        Raises:
            DataError: There is no such adapter.
        """
        try:
            return {"name": self.asked, "sha256": sha256(self.folder / WEIGHTS)}
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}; an adapter's folder has it") from None


@dataclass(frozen=True)
class Chosen:
    """What a simulation asks."""

    policy: Adapter | None
    summarizer: Adapter | None
    space: Choice | ChoiceThenText
    """The action space, at its temperature."""
    calibration: Path | None
    """The file that has the temperature; None where none was fitted for these labels."""
    recorded: Mapping[str, Any] | None = None  # Any: JSON
    """What a run's records say of all this, where they are replayed: the files may be gone."""

    def check(self, base: Backend) -> None:
        """See that a model could have the adapters, before they are looked for.

        Raises:
            BackendError: It could not.
        """
        if (self.policy or self.summarizer) and not hasattr(base, "adapted"):
            raise BackendError(_LOCAL)

    def backends(self, base: Backend) -> tuple[Backend, Backend]:
        """What decides, and what writes summaries: one model, each with its own adapter or bare.

        Raises:
            BackendError: An adapter cannot be used with this model.
        """
        decides, writes = (base if one is None else one.on(base) for one in (self.policy, self.summarizer))
        return decides, writes

    @cached_property
    def told(self) -> Mapping[str, Any]:  # Any: JSON
        """What was chosen, with the hashes of the files, for records."""
        if self.recorded is not None:
            return self.recorded
        file, temperature = self.calibration, self.space.choice.temperature
        scaled = {"file": str(file), "sha256": sha256(file), "temperature": temperature} if file else None
        return {
            "policy": self.policy.told() if self.policy else None,
            "summarizer": self.summarizer.told() if self.summarizer else None,
            "calibration": scaled,
        }

    def __str__(self) -> str:
        """What was chosen, on one line; empty where that is nothing."""
        if not (self.policy or self.summarizer or self.calibration):
            return ""
        choice = self.space.choice
        decides = f"{self.policy.asked} ({choice.dimension})" if self.policy else NONE
        scaled = f"; temperature {choice.temperature:.3f}" if self.calibration else ""
        return f"policy {decides}, summarizer {self.summarizer.asked if self.summarizer else NONE}{scaled}"


def put_on(base: Backend, folder: Path, name: str) -> Backend:
    """A model with one more adapter; the model itself answers without it as before.

    Args:
        base: The model.
        folder: The adapter's.
        name: The adapter's in the model; peft takes none with a dot or a slash in it.

    Raises:
        BackendError: The model is not local, or the folder holds no adapter of it.
    """
    adapted: Callable[[Path, str], Backend] | None = getattr(base, "adapted", None)
    if adapted is None:
        raise BackendError(_LOCAL)
    return adapted(folder, name)


def choose(given: argparse.Namespace, space: Choice | ChoiceThenText) -> Chosen:
    """Adapters and temperature for a simulation, before any model is loaded.

    Args:
        given: The arguments: those of `add_arguments`, ``backend`` and ``summarizer``.
        space: What agents decide.

    Raises:
        BackendError: A shipped adapter is asked for, but none is there.
        DataError: Nothing could use an adapter or a calibration that is asked for, or the latter is not there.
    """
    writes = given.summarizer == "llm"
    if not writes and given.summarizer_adapter not in (AUTO, NONE):
        raise DataError(f"--summarizer {given.summarizer} asks no model; drop --summarizer-adapter, or take llm")
    policy = _adapter("policy", given.adapter, given.backend, space.choice)
    summarizer = _adapter("summarizer", given.summarizer_adapter, given.backend, space.choice) if writes else None
    if given.calibration is None:
        place = policy.folder if policy else None
    else:
        place = None if given.calibration == NONE else Path(given.calibration)
    if place is None:
        return Chosen(policy, summarizer, space, None)
    scaled = calibrated(space, read_calibrations(place, required=given.calibration is not None))
    if scaled is not space:
        return Chosen(policy, summarizer, scaled, place / CALIBRATION if place.is_dir() else place)
    if given.calibration is not None:
        labels = ", ".join(space.choice.options)
        raise DataError(f"{place}: no temperature was fitted there for {space.choice.dimension} ({labels})")
    return Chosen(policy, summarizer, space, None)


def recalled(told: Mapping[str, Any], space: Choice | ChoiceThenText) -> Chosen:  # Any: JSON
    """What a recorded run asked, for a replay, whose files need not be there.

    Args:
        told: What its records say: `Chosen.told`.
        space: What agents decide, without a temperature.

    Raises:
        DataError: The records say it in another way.
    """
    try:
        kinds: tuple[Kind, Kind] = "policy", "summarizer"
        policy, summarizer = (
            None if told[kind] is None else Adapter(kind, told[kind]["name"], Path(told[kind]["name"]))
            for kind in kinds
        )
        if (scaled := told["calibration"]) is None:
            return Chosen(policy, summarizer, space, None, told)
        return Chosen(policy, summarizer, _at(space, float(scaled["temperature"])), Path(scaled["file"]), told)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"what the run says of its adapters cannot be read ({error})") from None


def _at(space: Choice | ChoiceThenText, temperature: float) -> Choice | ChoiceThenText:
    if isinstance(space, Choice):
        return replace(space, temperature=temperature)
    return replace(space, choice=replace(space.choice, temperature=temperature))


def _adapter(kind: Kind, asked: str, spec: str, choice: Choice) -> Adapter | None:
    if asked == AUTO:
        asked = SHIPPED if fits(kind, spec, choice.dimension, choice.options) else NONE
    return None if asked == NONE else Adapter(kind, asked, Path(resolve(asked, kind)))
