"""The model of a plan file: a recorded cascade, or a Mesa model of one's own, as a function from a seed to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesa_meanfield.actions import Choice, ChoiceThenText, labels_of
from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.batching import BatchingBackend
from mesa_meanfield.cascades.dimensions import dimension_of, labels_of_dimension, space_of
from mesa_meanfield.cli.adapters import Adapter, Chosen, choose, recalled
from mesa_meanfield.cli.common import SHIPPED, prompts_in, read_data, sha256, summarizer_named
from mesa_meanfield.cli.planfile import PlanFile
from mesa_meanfield.cli.planparts import Function, Functions, named_labels
from mesa_meanfield.cli.plantables import CascadeTable, FactoryTable
from mesa_meanfield.cli.run import pick
from mesa_meanfield.data import Cascade, cut
from mesa_meanfield.errors import DataError, MeanFieldError
from mesa_meanfield.evaluation.waves import PATIENCE
from mesa_meanfield.experiments.replicas import ModelFactory, seeded
from mesa_meanfield.experiments.taps import crowd_of
from mesa_meanfield.plain import Plain
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend
from mesa_meanfield.tomlfile import unknown
from mesa_meanfield_models.cascade.model import CascadeModel


@dataclass(frozen=True, slots=True, repr=False)
class Followers(Plain):
    """How many followers a reader has; fewer than none for those of the warm-up, who have acted already."""

    of: Mapping[str, int] = field(repr=False)

    def __call__(self, agent: Any) -> float:  # Any: a reader
        """By the agent's key."""
        return self.of.get(agent.key, -1)

    def __repr__(self) -> str:
        return "followers"


@dataclass(frozen=True)
class Subject:
    """What is simulated, before any language model is there."""

    spec: str | None
    """Its backend; None for a model of one's own that needs none, or has its own."""
    crowd: str | None
    about: str
    """What it is, in a few words."""
    topic: str
    played: int
    """How many ticks are played from a record."""
    ticks: int | None
    """How many there are; None where the model does not say."""
    influence: str | Callable[[Any], float]
    """What makes an agent influential where nothing else is said."""
    told: Mapping[str, Any]  # Any: JSON
    """For records."""
    prompts: tuple[Prompts, ...]
    """The templates, where they are known."""
    factory: Callable[[Backend | None], tuple[ModelFactory, BatchingBackend | None]]
    """From the language model to the model factory, and what its replicas share."""


def subject_of(
    plan: PlanFile, backend: str | None, functions: Functions, *, recorded: Mapping[str, Any] | None = None
) -> Subject:
    """What a plan file wants simulated.

    Args:
        plan: The file.
        backend: A spec that takes the place of the file's.
        functions: Finds the factory.
        recorded: What the run to be replayed says of itself: its adapters need not be there.

    Raises:
        DataError: Data, an adapter, or a function is not there, or a value is out of its range.
        BackendError: An adapter cannot be used.
    """
    where = f"{plan.path}: [model]"
    if isinstance(plan.model, FactoryTable):
        return _of_factory(plan.model, where, backend or plan.model.backend, functions)
    try:
        return _of_cascade(plan.model, backend or plan.model.backend, plan.path.parent, recorded)
    except (DataError, ValueError) as error:
        raise DataError(f"{where}: {error}") from error
    except OSError as error:  # an adapter's file
        raise DataError(f"{where}: {error.filename}: {error.strerror}") from error


def labels_known(make: ModelFactory, seed: int, crowd: str | None, where: str) -> Mapping[str, tuple[str, ...]]:
    """The labels that a model's agents can decide, as a first model says; empty where none are known beforehand.

    Raises:
        DataError: The model cannot be made, or has no scheduler that could be meant.
    """
    try:
        model = make(seed)
        scheduler = crowd_of(model, crowd)
        policies = scheduler.policy.values() if isinstance(scheduler.policy, Mapping) else [scheduler.policy]
        own = [getattr(agent, "actions", None) for agent in model.agents]
        return labels_of([space for space in (*(policy.actions for policy in policies), *own) if space is not None])
    except MeanFieldError:
        raise
    except Exception as error:  # of a user's own code
        raise DataError(f"{where}: the model cannot be made: {type(error).__name__}: {error}") from error


def check_labels(plan: PlanFile, known: Mapping[str, tuple[str, ...]]) -> None:
    """See that what interventions say by themselves has labels of the model.

    Raises:
        DataError: One is none of them.
    """
    parts = [*plan.interventions, *plan.control, *(part for of in plan.candidates.values() for part in of)]
    for where, said in named_labels(parts):
        for dimension, label in said.items():
            if known and dimension not in known:
                raise unknown(f"{where}: labels", "dimension of this model", dimension, known)
            if known and label not in known[dimension]:
                raise unknown(f"{where}: labels", f"label of {dimension}", label, known[dimension])


def check_label(name: str | None, known: Mapping[str, tuple[str, ...]], where: str) -> None:
    """See that a label, if one is asked for, is one that agents can decide, where those are known.

    Raises:
        DataError: It is none.
    """
    labels = [label for of in known.values() for label in of]
    if name is not None and labels and name not in labels:
        raise unknown(where, "label of this model", name, labels)


# --- A recorded cascade ----------------------------------------------------------------------------


def _of_cascade(table: CascadeTable, spec: str, folder: Path, recorded: Mapping[str, Any] | None) -> Subject:
    file = None if table.data is None else folder / table.data
    cascades, source = read_data(file)
    cascade = pick(cascades, table.id, source)
    dimension = table.dimension or dimension_of(cascade)
    labels = labels_of_dimension(dimension, cascades)
    prompts = prompts_in(cascade.language, None if table.prompts is None else folder / table.prompts)
    parts = cut(cascade, table.warm_up, table.per_tick, table.agents)
    if not parts.roll_out:
        raise DataError(f"{source}: nothing of cascade {cascade.id!r} is left after the warm-up; lower warm_up")
    space = space_of(dimension, labels, prompts.language, texts=table.texts)
    if recorded is None:
        chosen = _chosen(table, spec, space, folder)
    else:
        chosen = recalled(recorded.get("adapters", {}), space)
    actions = [action for tick in parts.roll_out for action in tick]
    about = (
        f"{cascade.id} ({cascade.domain}, {cascade.language}): {len(actions)} readers in {len(parts.roll_out)} ticks"
        f" after {len(parts.warm_up)} played ones"
    )

    def factory(base: Backend | None) -> tuple[ModelFactory, BatchingBackend | None]:
        assert base is not None  # a cascade always has a spec
        return _cascade_factory(cascade, table, chosen, base, prompts, dimension)

    return Subject(
        spec=spec,
        crowd=None,
        about=about,
        topic=cascade.topic.text,
        played=len(parts.warm_up),
        ticks=len(parts.warm_up) + len(parts.roll_out),
        influence=Followers({action.id: action.author.followers or 0 for action in actions}),
        told={
            "cascade": cascade.id,
            "data": source,
            "data_sha256": sha256(file or SHIPPED),
            "dimension": dimension,
            "labels": list(labels),
            "adapters": chosen.told,
        },
        prompts=(prompts,),
        factory=factory,
    )


def _chosen(table: CascadeTable, spec: str, space: Choice | ChoiceThenText, folder: Path) -> Chosen:
    def here(path: str | None) -> str | None:
        """A path from the plan file's folder on; the words that stand for one are left as they are."""
        return path if path is None or not (folder / path).exists() else str(folder / path)

    asked = argparse.Namespace(
        backend=spec,
        summarizer=table.summarizer,
        adapter=here(table.adapter),
        summarizer_adapter=here(table.summarizer_adapter),
        calibration=here(table.calibration),
    )
    return choose(asked, space)


def _cascade_factory(
    cascade: Cascade, table: CascadeTable, chosen: Chosen, base: Backend, prompts: Prompts, dimension: str
) -> tuple[ModelFactory, BatchingBackend]:
    for adapter in (chosen.policy, chosen.summarizer):
        if adapter is not None:
            adapter.on(base)
    shared = BatchingBackend(base, patience=PATIENCE)

    def asked(adapter: Adapter | None) -> Backend:
        """A backend of each model's own, whose usage is its alone."""
        return shared if adapter is None else AdaptedBackend(shared, adapter.kind)

    def make(seed: int) -> CascadeModel:
        return CascadeModel(
            cascade,
            policy=LLMPolicy(asked(chosen.policy), chosen.space, prompts=prompts, on_failure="skip"),
            summarizer=summarizer_named(table.summarizer, asked(chosen.summarizer), prompts),
            dimension=dimension,
            warm_up=table.warm_up,
            per_tick=table.per_tick,
            agents=table.agents,
            persona=table.persona,
            rng=seed,
        )

    return make, shared


# --- A model of one's own --------------------------------------------------------------------------


def _of_factory(table: FactoryTable, where: str, spec: str | None, functions: Functions) -> Subject:
    function: Function = functions.find(table.factory, f"{where}: factory")

    def factory(base: Backend | None) -> tuple[ModelFactory, BatchingBackend | None]:
        shared = None if base is None else BatchingBackend(base, patience=PATIENCE)
        given = table.parameters if shared is None else {**table.parameters, "backend": shared}
        return seeded(function, given), shared

    return Subject(
        spec=spec,
        crowd=table.crowd,
        about=table.factory,
        topic="",
        played=0,
        ticks=None,
        influence="followers",
        told={"factory": table.factory, "parameters": table.parameters},
        prompts=(),
        factory=factory,
    )
