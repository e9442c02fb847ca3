"""How a page's model is stepped, also after a step that raised, and what is said of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mesa_meanfield
from mesa_meanfield.errors import MeanFieldError
from mesa_meanfield.experiments.replicas import Shared
from mesa_meanfield.scheduler import MeanFieldScheduler

if TYPE_CHECKING:
    import mesa


@dataclass(frozen=True, slots=True)
class Status:
    """What a run is doing."""

    made: bool = False
    """Whether there is a model by now."""
    busy: bool = False
    """Whether its thread is at work."""
    playing: bool = False
    """Whether it goes on by itself."""
    stopping: bool = False
    """Whether the step under way is to stop at its next sub-batch."""
    unfinished: bool = False
    """Whether a step was stopped or failed; the next one goes on with it."""
    over: bool = False
    what: str = ""
    """What is being done inside the step, with how many are done and of how many."""
    done: int = 0
    total: int = 0
    waiting: int = 0
    """How many interventions wait for the step under way, or unfinished, to be over."""
    error: str = ""
    """What ended the last step."""
    retryable: bool = True
    """Whether the error's kind says that the same may succeed when it is tried again."""


@contextmanager
def registered(crowds: Iterable[MeanFieldScheduler]) -> Iterator[None]:
    """Tell the backends that several models share that this thread is at work, so that none waits for others."""
    with ExitStack() as stack:
        for crowd in crowds:
            policies = crowd.policy.values() if isinstance(crowd.policy, Mapping) else [crowd.policy]
            parts = [getattr(part, "backend", None) for part in (*policies, crowd.summarizer)]
            for backend in {id(part): part for part in parts}.values():
                if isinstance(backend, Shared):
                    stack.enter_context(backend.replica())
        yield


def step_counted(model: mesa.Model) -> None:
    """One step of a model."""
    before = model.steps
    model.step()
    if model.steps == before:  # Mesa 3.5 runs no more steps of a model once one has raised, and says nothing
        model.steps += 1
        step_once_more(model)


def step_once_more(model: mesa.Model) -> None:
    """Make a step that was counted already: the model's own ``step``, past the counters that Mesa wraps it with."""
    type(model).step(model)


def told(error: Exception) -> str:
    """An error as the page says it; of a modeler's own code with its place."""
    if isinstance(error, MeanFieldError):
        return str(error)
    place = ""
    with suppress(IndexError):
        ours = str(Path(mesa_meanfield.__file__).parent)
        outside = [at for at in traceback.extract_tb(error.__traceback__) if not at.filename.startswith(ours)]
        last = outside[-1]
        place = f" ({Path(last.filename).name}, line {last.lineno})"
    return f"{type(error).__name__}: {error}{place}"
