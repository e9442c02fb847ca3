"""The cells of the ablation table: who decides and who writes the mean field, and what must be trained for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesa_meanfield.cli.adapters import NONE
from mesa_meanfield.cli.simulations import EVENT, Simulation
from mesa_meanfield.errors import DataError

ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained once for each fold."""

    key: str
    """The name of its folder."""
    stages: str
    """As ``mesa-meanfield tune`` takes them."""
    summarizer: str
    """Who writes the mean fields that are learned from."""


TRAININGS = {
    one.key: one
    for one in (
        Training("sft", "sft", "none"),
        Training("tally", "policy", "tally"),
        Training("recent", "policy", "recent"),
        Training("popular", "policy", "popular"),
        # The summarizer is trained for this policy, which stays frozen meanwhile: one training for both.
        Training("llm", "policy,summarizer", "llm"),
    )
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """One of the adapters that come out of a training."""

    training: str
    name: str

    def folder(self, out: Path, event: str = EVENT) -> Path:
        """Where it lies once the training without this event is over."""
        return out / "tune" / self.training / event / "adapters" / self.name


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table."""

    key: str
    """Its name on the command line and of its folder."""
    title: str
    """Its name in the table."""
    summarizer: str
    policy: Adapter | None = None
    """What decides; None for the bare model."""
    writer: Adapter | None = None
    """What writes the summaries, where a model does; None for the bare model."""
    calibrated: bool = False
    """Whether the bare model decides at a temperature of its own. A tuned policy always does."""

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """All that it needs."""
        return tuple(one for one in (self.policy, self.writer) if one is not None)

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Where they come from."""
        return tuple(TRAININGS[key] for key in dict.fromkeys(one.training for one in self.adapters))

    def ready(self, out: Path, event: str) -> bool:
        """Whether everything that it needs on an event is there."""
        return all((one.folder(out, event) / ADAPTER_FILE).is_file() for one in self.adapters)

    def calibration(self, out: Path) -> Path | None:
        """The folder of the bare model's temperature, where the cell has one."""
        return out / "calibration" / self.summarizer if self.calibrated else None

    def simulation(self, out: Path, backend: str) -> Simulation:
        """How it is rolled out."""
        temperatures = self.calibration(out)
        return Simulation(
            self.title,
            self.summarizer,
            backend,
            adapter=str(self.policy.folder(out)) if self.policy else NONE,
            summarizer_adapter=str(self.writer.folder(out)) if self.writer else NONE,
            calibration=None if temperatures is None else str(temperatures),
        )


def _tuned(summarizer: str) -> Cell:
    return Cell(summarizer, f"{summarizer}, tuned", summarizer, Adapter(summarizer, "policy"))


SFT = Cell("sft", "sft", "none", Adapter("sft", "sft"))
UNTUNED = Cell("none", "none, untuned", "none")
CELLS = (
    UNTUNED,
    Cell("none-calibrated", "none, calibrated", "none", calibrated=True),
    Cell("tally-untuned", "tally, untuned", "tally"),
    Cell("tally-calibrated", "tally, calibrated", "tally", calibrated=True),
    SFT,
    _tuned("tally"),
    Cell("recent-untuned", "recent, untuned", "recent"),
    Cell("popular-untuned", "popular, untuned", "popular"),
    _tuned("recent"),
    _tuned("popular"),
    Cell("llm-untuned", "llm, both untuned", "llm"),
    Cell("llm", "llm, both tuned", "llm", Adapter("llm", "policy"), Adapter("llm", "summarizer")),
    Cell("llm-policy", "llm, policy tuned", "llm", Adapter("llm", "policy")),
    Cell("llm-summarizer", "llm, summarizer tuned", "llm", writer=Adapter("llm", "summarizer")),
)
"""All of them, in the order in which they are made where nothing else is said: what costs least comes first."""


def cells_named(names: str) -> tuple[Cell, ...]:
    """Cells by their keys, separated by commas.

    Raises:
        DataError: There is no such cell.
    """
    by_key = {one.key: one for one in CELLS}
    keys = dict.fromkeys(key.strip() for key in names.split(",") if key.strip())
    if odd := [key for key in keys if key not in by_key]:
        raise DataError(f"--cells: there is no cell {odd[0]!r}; there are {', '.join(by_key)}")
    if not keys:
        raise DataError(f"--cells: names are needed; there are {', '.join(by_key)}")
    return tuple(by_key[key] for key in keys)
