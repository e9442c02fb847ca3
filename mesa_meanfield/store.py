"""The run directory: everything that is needed to see what a run did.

Each tick is appended at once: what stands there is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.data import Decision, MeanField, Source, State, Tick
from mesa_meanfield.directory import Directory
from mesa_meanfield.errors import DataError

_TICKS = ("decisions.jsonl", "fields.jsonl")


class RunDirectory:
    """Records a run; a `Recorder` for the scheduler.

    ``config.json`` holds what the run was asked to do, ``decisions.jsonl`` one line per decision,
    ``fields.jsonl`` one per tick (a tick counts as recorded when its line is there), ``result.json``
    what came out, and ``calls.sqlite`` every call of a model, where it was asked through `calls`.
    ``injected`` marks posts by accounts outside the population, ``notices`` are the public statements that
    reached the agent, and ``interventions`` what changed anything in the tick.
    ``sources`` are the ids of the recorded actions from which a state, or a mean field with all before it,
    was made; empty where no `LeakGuard` looked on.

    Args:
        path: The directory to be; it must not be there yet.
        config: What the run was asked to do: JSON-able, without secrets.
        dimension: Whose labels and shares are written as ``label`` and ``shares``; without it those of the first.
        resume: Go on with a run that did not end: its calls are kept, and so is its ``config.json``. The run is to
            be made again from its start, so its ticks are recorded anew.

    Raises:
        DataError: The directory is there already, or cannot be made; or there are no calls to go on with.
    """

    def __init__(
        self, path: str | Path, config: Mapping[str, Any], *, dimension: str | None = None, resume: bool = False
    ) -> None:
        self._directory = Directory(path, resume=resume)
        self.path = self._directory.path
        self.partial = self._directory.partial
        """Where the files are until the run is over."""
        self._dimension = dimension
        if resume and not (self.partial / CALLS).is_file():
            raise DataError(f"{self.partial}: no {CALLS} is there, so that nothing can be gone on with; begin anew")
        if resume:
            self.calls.forget_failures()
        else:
            self._directory.write("config.json", config)
        for name in _TICKS:
            (self.partial / name).write_bytes(b"")

    @cached_property
    def calls(self) -> CallLog:
        """The run's call log, for a `LoggedBackend`.

        Raises:
            DataError: It is damaged, or cannot be made.
        """
        return CallLog(self.partial / CALLS)

    def record(self, tick: Tick, field: MeanField, groups: Mapping[str, MeanField]) -> None:
        """Append a tick: first its decisions, then the mean field that came out of it."""
        rows = [self._decision(tick, *pair) for pair in zip(tick.states, tick.decisions, strict=True)]
        row = {"tick": tick.number, "recorded": tick.recorded, **self._field(field)}
        row["interventions"] = list(tick.interventions)
        if groups:
            row["groups"] = {group: self._field(one) for group, one in groups.items()}
        self._directory.append({"decisions.jsonl": rows, "fields.jsonl": [row]})

    def finish(self, result: Mapping[str, Any]) -> Path:
        """Write what came out and give the directory its name.

        Returns:
            The directory.
        """
        self._directory.write("result.json", result)
        if "calls" in self.__dict__:
            self.calls.close()  # an open database must not be moved
        return self._directory.finish()

    def drop_if_nothing_recorded(self) -> None:
        """Remove the unfinished directory if not even one tick or call went into it."""
        if "calls" in self.__dict__ and (self.partial / CALLS).is_file():
            self.calls.drop_if_empty()
        self._directory.drop_if_empty("fields.jsonl", CALLS)

    def _decision(self, tick: Tick, state: State, decision: Decision) -> dict[str, Any]:
        return {
            "tick": tick.number,
            "agent": state.agent,
            "label": None if decision.failure else self._of_dimension(decision.labels),
            "labels": dict(decision.labels),
            "value": _value(decision.value),
            "distribution": None if decision.distribution is None else dict(decision.distribution),
            "text": decision.text,
            "seed": decision.seed,
            "failure": decision.failure,
            "recorded": decision.recorded,
            "injected": decision.injected,
            "prompt_hash": decision.prompt_hash,
            "state": state.text,
            "notices": [notice._asdict() for notice in state.notices],
            "sources": _actions(state.sources),
            "group": state.group,
            "parent": decision.parent,
        }

    def _field(self, field: MeanField) -> dict[str, Any]:
        return {
            "text": field.text,
            "shares": self._of_dimension(field.shares) or {},
            "latest": self._of_dimension(field.latest) or {},
            "size": field.size,
            "sources": _actions(field.sources),
        }

    def _of_dimension(self, by_dimension: Mapping[str, Any]) -> Any:  # Any: a label, or shares
        dimension = self._dimension or next(iter(by_dimension), None)
        return None if dimension is None else by_dimension.get(dimension)


def first_difference(run: str | Path, other: str | Path) -> str | None:
    """Where the decisions and mean fields of two runs differ first, byte for byte; None where they are the same.

    Raises:
        DataError: One of the files cannot be read.
    """
    for name in _TICKS:
        try:
            with (Path(run) / name).open("rb") as one, (Path(other) / name).open("rb") as two:
                for number, (a, b) in enumerate(zip_longest(one, two), 1):
                    if a != b:
                        return f"{name} line {number}"
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}; a run directory has it") from error
    return None


def _actions(sources: Iterable[Source]) -> list[str]:
    """The recorded actions among them, in a fixed order."""
    return sorted({source.action for source in sources if source.action is not None})


def _value(value: object) -> Any:  # Any: a JSON value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", fallback=str, warnings=False)
    return value if isinstance(value, int | float | None) else str(value)
