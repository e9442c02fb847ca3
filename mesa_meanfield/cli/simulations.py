"""What ``evaluate`` simulates: each summarizer with each model and each kind of persona."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from mesa_meanfield.actions import Choice, ChoiceThenText
from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.backends.load import is_server, load_backend
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.cli.adapters import NONE, put_on
from mesa_meanfield.cli.common import probe, summarizer_named
from mesa_meanfield.data import Action, event_of
from mesa_meanfield.evaluation.likelihood import LikelihoodPolicy
from mesa_meanfield.evaluation.results import Cutting
from mesa_meanfield.evaluation.rollouts import Job, RollOut
from mesa_meanfield.evaluation.waves import PATIENCE, Start
from mesa_meanfield.ibtune.calibration import Calibration, calibrated, read_calibrations
from mesa_meanfield.ibtune.shipped import resolve
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend, Summarizer
from mesa_meanfield.summarizers import SUMMARY_SAMPLING, LLMSummarizer
from mesa_meanfield_models.cascade.model import CascadeModel

EVENT = "{event}"
"""In a path: the cascade's event, so that each is simulated with what was not trained on it."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """One way to simulate."""

    name: str
    summarizer: str
    backend: str
    """The spec."""
    adapter: str = NONE
    """The policy's: the path, with `EVENT` in it perhaps, or ``shipped``."""
    persona: str = "graded"
    summarizer_adapter: str = NONE
    """The same for what writes the summaries, where a model does."""
    calibration: str | None = None
    """The path of the temperatures, with `EVENT` in it perhaps; None for those beside the policy's adapter."""

    def policy_at(self, event: str) -> str:
        """The folder of the policy's adapter for an event; `NONE` where it has none."""
        return _of_event(resolve(self.adapter, "policy"), event)

    def summarizer_at(self, event: str) -> str:
        """The folder of the summarizer's."""
        return _of_event(resolve(self.summarizer_adapter, "summarizer"), event)

    def calibration_at(self, event: str) -> str:
        """Where the temperatures are, if there are any."""
        return self.policy_at(event) if self.calibration is None else _of_event(self.calibration, event)


def simulations_of(
    summarizers: Sequence[str],
    backends: Sequence[str],
    adapters: Sequence[str],
    personas: Sequence[str],
    *,
    summarizer_adapter: str = NONE,
    calibration: str | None = None,
) -> list[Simulation]:
    """Every combination, each named by its summarizer and by what else tells it from the others."""
    found = []
    for backend, adapter, persona, summarizer in product(backends, adapters, personas, summarizers):
        parts = [summarizer]
        if len(backends) > 1:
            parts.append(backend)
        if len(adapters) > 1:
            parts.append("untuned" if adapter == NONE else adapter)
        if len(personas) > 1:
            parts.append("personas" if persona == "graded" else "no personas")
        name = ", ".join(parts)
        found.append(Simulation(name, summarizer, backend, adapter, persona, summarizer_adapter, calibration))
    return found


class Models:
    """The models of all simulations, each loaded once and shared by the threads of all roll-outs.

    Args:
        simulations: What is to be simulated.
        events: Of the cascades, for adapters that differ by event.
        batch: Requests per batch; None for what is fast.
        load: Spec -> the model; without it that of `load_backend`, which has answered once if it is a server's.
        calibrations: Where they are -> the temperatures, instead of reading any files.

    Raises:
        BackendError: One cannot be loaded, or does not answer.
        DataError: There is no calibration where one should be.
    """

    def __init__(
        self,
        simulations: Iterable[Simulation],
        events: Iterable[str],
        *,
        batch: int | None,
        load: Callable[[str], Backend] | None = None,
        calibrations: Mapping[str, list[Calibration]] | None = None,
    ) -> None:
        events = sorted(events)
        self._load = load or (lambda spec: answering(spec, batch))
        self._bases: dict[str, Backend] = {}
        self._shared: dict[str, BatchingBackend] = {}
        self._adapters: dict[tuple[str, str], str] = {}  # spec and folder -> the adapter's name in the model
        self.fitted: dict[str, list[Calibration]] = {NONE: [], **(calibrations or {})}
        """Where they are -> the temperatures that were fitted."""
        for one in simulations:
            self._share(one.backend)
            for event in events:
                for folder in (one.policy_at(event), one.summarizer_at(event)):
                    self._adapt(one.backend, folder)
                if (place := one.calibration_at(event)) not in self.fitted and calibrations is None:
                    required = one.calibration is not None
                    self.fitted[place] = read_calibrations(Path(place), required=required)

    def record(self, log: Callable[[Backend, Mapping[str, str]], Backend]) -> None:
        """Put each model behind a call log, before anybody asks it.

        Args:
            log: Takes a model and its adapters, name -> folder; gives what is asked instead.
        """
        for spec, base in self._bases.items():
            adapters = {name: folder for (of, folder), name in self._adapters.items() if of == spec}
            self._shared[spec] = BatchingBackend(log(base, adapters), patience=PATIENCE)

    def shared(self, simulation: Simulation) -> BatchingBackend:
        """The model that all threads share."""
        return self._shared[simulation.backend]

    def policy(self, simulation: Simulation, event: str) -> Backend:
        """What decides in a roll-out: the shared model, with the policy's adapter."""
        return self._with(simulation, simulation.policy_at(event))

    def summarizer(self, simulation: Simulation, event: str) -> Backend:
        """What writes its summaries: the shared model, with the summarizer's adapter."""
        return self._with(simulation, simulation.summarizer_at(event))

    def calibrations(self, simulation: Simulation, event: str) -> list[Calibration]:
        """The temperatures at which its policy decides."""
        return self.fitted.get(simulation.calibration_at(event), [])

    def bare(self, spec: str) -> Backend:
        """A model without adapter, for other work than roll-outs; loaded where it is not there yet."""
        self._share(spec)
        return self._shared[spec]

    @property
    def bases(self) -> Mapping[str, Backend]:
        """Spec -> the model itself, which nobody asks but through `shared`, `policy`, `summarizer` and `bare`."""
        return self._bases

    @property
    def names(self) -> Mapping[str, str]:
        """Spec -> the model's name in records."""
        return {spec: backend.name for spec, backend in self._bases.items()}

    @property
    def adapters(self) -> Mapping[str, str]:
        """The adapters' folders -> their names in the models."""
        return {folder: name for (_, folder), name in self._adapters.items()}

    def _with(self, simulation: Simulation, folder: str) -> Backend:
        shared, name = self.shared(simulation), self._adapters.get((simulation.backend, folder))
        return shared if name is None else AdaptedBackend(shared, name)

    def _adapt(self, spec: str, folder: str) -> None:
        if folder != NONE and (spec, folder) not in self._adapters:
            name = f"adapter{len(self._adapters)}"
            put_on(self._bases[spec], Path(folder), name)
            self._adapters[spec, folder] = name

    def _share(self, spec: str) -> None:
        if spec not in self._bases:
            self._bases[spec] = base = self._load(spec)
            self._shared[spec] = BatchingBackend(base, patience=PATIENCE)


def answering(spec: str, batch: int | None) -> Backend:
    """A model that is loaded; a server's has answered once.

    Raises:
        BackendError: It cannot be loaded, or does not answer.
    """
    base = load_backend(spec, batch=batch)
    if is_server(spec):
        probe(base)
    return base


def _of_event(path: str, event: str) -> str:
    return path.replace(EVENT, event)


@dataclass(frozen=True, slots=True)
class Settings:
    """What all simulations have in common."""

    dimension: str
    labels: tuple[str, ...]
    prompts: Mapping[str, Prompts]
    """The cascades' languages -> their prompts."""
    cutting: Cutting
    texts: bool
    seed: int
    likelihood: bool
    """Whether the recorded texts are scored, too, in the first replica."""
    summary_tokens: int | None = None
    """How long a model's summaries are at most; None for the usual length."""

    def space(self, language: str) -> Choice | ChoiceThenText:
        """What agents decide."""
        return space_of(self.dimension, self.labels, self.prompts[language].language, texts=self.texts)


def simulator(
    simulations: Iterable[Simulation], models: Models, settings: Settings
) -> Callable[[Job, Start, Callable[[], None]], RollOut]:
    """The function that makes one roll-out in the calling thread, in step with others."""
    by_name = {one.name: one for one in simulations}

    def simulate(job: Job, start: Start, tick: Callable[[], None]) -> RollOut:
        simulation, cascade = by_name[job.name], job.cascade
        prompts = settings.prompts[cascade.language]
        with models.shared(simulation).replica():
            start.arrive()
            event = event_of(cascade)
            space = calibrated(settings.space(cascade.language), models.calibrations(simulation, event))
            policy = LLMPolicy(models.policy(simulation, event), space, prompts=prompts, on_failure="skip")
            reader = None
            if settings.likelihood and job.replica == 0:
                reader = LikelihoodPolicy(policy, {action.id: action for action in cascade.actions})
            model = CascadeModel(
                cascade,
                policy=reader or policy,
                summarizer=_summarizer(simulation, models.summarizer(simulation, event), prompts, settings),
                dimension=settings.dimension,
                warm_up=settings.cutting.warm_up,
                per_tick=settings.cutting.per_tick,
                agents=settings.cutting.agents,
                persona=simulation.persona,
                rng=settings.seed + job.replica,
            )
            while model.running:
                model.step()
                tick()
        return RollOut(
            name=job.name,
            cascade=cascade.id,
            replica=job.replica,
            seed=settings.seed + job.replica,
            actions=_simulated(model),
            field=model.crowd.field.text,
            usage=model.crowd.usage,
            nats=None if reader is None else reader.nats,
            tokens=0 if reader is None else reader.tokens,
        )

    return simulate


def _summarizer(simulation: Simulation, backend: Backend, prompts: Prompts, settings: Settings) -> Summarizer:
    if simulation.summarizer == "llm" and settings.summary_tokens is not None:
        sampling = replace(SUMMARY_SAMPLING, max_tokens=settings.summary_tokens)
        return LLMSummarizer(backend, prompts=prompts, sampling=sampling)
    return summarizer_named(simulation.summarizer, backend, prompts)


def _simulated(model: CascadeModel) -> tuple[Action, ...]:
    played = sum(map(len, model.cut.warm_up))
    return model.simulated.actions[played:]
