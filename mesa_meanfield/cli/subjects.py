"""What ``serve`` shows: a recorded cascade, the town, or a model class of a user's own, each as a page."""

from __future__ import annotations

import argparse
import inspect
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.load import is_server, load_backend
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension, space_of
from mesa_meanfield.cli.adapters import Chosen, choose
from mesa_meanfield.cli.common import SUMMARIZERS, probe, prompts_in, read_data, summarizer_named
from mesa_meanfield.cli.output import progress
from mesa_meanfield.cli.planparts import Functions
from mesa_meanfield.cli.run import pick
from mesa_meanfield.data import Cascade, Counts
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.protocols import Backend
from mesa_meanfield.viz import backend_choice, page_of, recorded_counts
from mesa_meanfield_models.cascade.model import CascadeModel


class Cascades:
    """Pages of recorded cascades: the warm-up played, the rest simulated, the record beside it.

    Args:
        given: The arguments of ``serve``.

    Raises:
        DataError: There is no such cascade, or nothing in it to compare.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        cascades, source = read_data(given.data)
        self._cascades = {one.id: one for one in cascades if one.actions}
        self._first = pick(cascades, given.id, source)
        self._labels(self._first)
        self._shared: dict[str, BatchingBackend] = {}
        self._lock = threading.Lock()

    def load(self, spec: str) -> BatchingBackend:
        """The language model that all tabs share, with its adapters.

        Raises:
            BackendError: It cannot be loaded, or an adapter cannot be used with it.
        """
        with self._lock:
            if spec not in self._shared:
                base = load_backend(spec)
                chosen = self._chosen(spec, "llm", self._first)
                chosen.check(base)
                for adapter in (chosen.policy, chosen.summarizer):
                    if adapter is not None:
                        adapter.on(base)
                self._shared[spec] = BatchingBackend(base)
            return self._shared[spec]

    def page(self) -> Any:  # Any: a Solara element
        """The page."""
        given = self._given
        specs = dict.fromkeys((given.backend, *backend_choice()["values"]))
        warm_up = {"type": "SliderFloat", "label": "Warm-up", "value": 0.3, "min": 0, "max": 0.9, "step": 0.1}
        return page_of(
            self.make,
            {
                "cascade": _select("Cascade", self._first.id, list(self._cascades)),
                "backend": backend_choice(*specs),
                "summarizer": _select("Summarizer", given.summarizer or "tally", SUMMARIZERS),
                "warm_up": warm_up,
                "texts": {"type": "Checkbox", "label": "Write texts, too", "value": True},
                "rng": {"type": "InputInt", "label": "Seed", "value": given.seed or 0},
            },
            name="Recorded cascade",
            real=self.real,
        )

    def make(
        self, cascade: str, backend: str, summarizer: str, warm_up: float, texts: bool, rng: int
    ) -> CascadeModel:
        """A model of one of the cascades."""
        record = self._cascades[cascade]
        prompts = prompts_in(record.language, None)
        shared = self.load(backend)
        chosen = self._chosen(backend, summarizer, record, texts=texts)

        def asked(adapter: Any) -> Backend:
            return shared if adapter is None else AdaptedBackend(shared, adapter.kind)

        return CascadeModel(
            record,
            policy=LLMPolicy(asked(chosen.policy), chosen.space, prompts=prompts, on_failure="skip"),
            summarizer=summarizer_named(summarizer, asked(chosen.summarizer), prompts),
            dimension=dimension_of(record),
            warm_up=warm_up,
            rng=rng,
        )

    def real(self, values: Mapping[str, Any]) -> Sequence[Counts]:
        """What was recorded in each tick."""
        record = self._cascades[values["cascade"]]
        dimension, labels = self._labels(record)
        return recorded_counts(record, dimension, labels, warm_up=values["warm_up"])

    def _labels(self, record: Cascade) -> tuple[str, tuple[str, ...]]:
        dimension = dimension_of(record)
        return dimension, labels_of_dimension(dimension, self._cascades.values())

    def _chosen(self, spec: str, summarizer: str, record: Cascade, *, texts: bool = True) -> Chosen:
        dimension, labels = self._labels(record)
        space = space_of(dimension, labels, prompts_in(record.language, None).language, texts=texts)
        asked = argparse.Namespace(
            adapter=self._given.adapter,
            summarizer_adapter="auto",
            calibration=None,
            backend=spec,
            summarizer=summarizer,
        )
        return choose(asked, space)


def town_page(asked: Mapping[str, Any]) -> Any:  # Any: a Solara element
    """The page of the town.

    Args:
        asked: ``backend``, ``summarizer`` and ``rng``, where they were given.
    """
    from mesa_meanfield_models.town import NETWORKS, SCENARIOS, SEE, Town

    specs = dict.fromkeys((asked["backend"], *backend_choice()["values"]))

    return page_of(
        Town,
        {
            "story": _select("Story", "health", SCENARIOS),
            "backend": backend_choice(*specs),
            "summarizer": _select("Summarizer", asked.get("summarizer", "tally"), SUMMARIZERS),
            "see": _select("People see each other by", "global", SEE),
            "network": _select("Who knows whom", "small-world", list(NETWORKS)),
            "citizens": {"type": "SliderInt", "label": "Citizens", "value": 60, "min": 10, "max": 300, "step": 10},
            "texts": {"type": "Checkbox", "label": "Write posts, too", "value": True},
            "rng": {"type": "InputInt", "label": "Seed", "value": asked.get("rng", 42)},
        },
    )


def model_page(name: str, asked: Mapping[str, Any]) -> Any:  # Any: a Solara element
    """The page of a model class of a user's own.

    Args:
        name: ``FILE.py:CLASS`` or ``MODULE:CLASS``.
        asked: ``backend``, ``summarizer`` and ``rng``, where they were given; the class takes those.

    Raises:
        DataError: There is no such class, it does not take what was given, or cannot be made without more.
        BackendError: Its backend cannot be loaded.
    """
    file, _, _ = name.rpartition(":")
    folder, module = (Path(file).parent, Path(file).name) if file.endswith(".py") else (Path(), file)
    make = Functions(folder).find(f"{module}{name.removeprefix(file)}", "MODEL")
    known = inspect.signature(make).parameters
    for one in asked:
        if one not in known:
            flag = "seed" if one == "rng" else one
            raise DataError(f"{name} has no parameter {one!r} for --{flag}; it has {', '.join(known) or 'none'}")
    try:
        page = page_of(_with(make, asked), name=getattr(make, "__name__", name))
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    with progress("Model"):
        if is_server(asked.get("backend", "")):
            probe(load_backend(asked["backend"]))
        _try(make, asked, name)
    return page


def _select(label: str, value: str, values: Sequence[str]) -> dict[str, Any]:
    return {"type": "Select", "label": label, "value": value, "values": list(values)}


def _with(make: Any, asked: Mapping[str, Any]) -> Any:
    """The class with other defaults, which so are what a page begins with."""
    if not asked:
        return make
    signature = inspect.signature(make)
    parameters = [
        one.replace(default=asked[key]) if key in asked else one for key, one in signature.parameters.items()
    ]

    def made(**values: Any) -> Any:
        return make(**values)

    made.__name__ = make.__name__
    made.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return made


def _try(make: Any, asked: Mapping[str, Any], name: str) -> None:
    """Make a first model, so that what a page could only say later is said now."""
    try:
        crowd_of(make(**asked))
    except (BackendError, DataError):
        raise
    except Exception as error:  # of a user's own code
        raise DataError(f"{name}: the model cannot be made: {type(error).__name__}: {error}") from error
