"""Populations of language-model agents for Mesa, guided by a mean field (MF-LLM, arXiv 2504.21582).

Everything a modeler needs is here by name and loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "MeanFieldAgent": "agents",
    "adopt": "agents",
    "Choice": "actions",
    "ChoiceThenText": "actions",
    "FreeText": "actions",
    "ArrivalOrder": "activation",
    "RandomShare": "activation",
    "everyone": "activation",
    "BatchingBackend": "backends.batching",
    "load_backend": "backends.load",
    "ScriptedBackend": "backends.scripted",
    "ServerBackend": "backends.server",
    "read_cascades": "cascades.jsonl",
    "write_cascades": "cascades.jsonl",
    "community": "choosers",
    "most_influential": "choosers",
    "Action": "data",
    "Cascade": "data",
    "Decision": "data",
    "MeanField": "data",
    "State": "data",
    "Tick": "data",
    "MeanFieldError": "errors",
    "band_frame": "experiments.bands",
    "bands": "experiments.bands",
    "replicas_needed": "experiments.bands",
    "compare": "experiments.counterfactual",
    "AreaUnder": "experiments.objectives",
    "ShareAt": "experiments.objectives",
    "TimeToReversal": "experiments.objectives",
    "plan": "experiments.planning",
    "run_replicas": "experiments.replicas",
    "Announce": "interventions",
    "Inject": "interventions",
    "Mute": "interventions",
    "Persuade": "interventions",
    "Replace": "interventions",
    "LLMPolicy": "policy",
    "RecordedPolicy": "rules",
    "RulePolicy": "rules",
    "Prompts": "prompts",
    "Sampling": "protocols",
    "Usage": "protocols",
    "MeanFieldScheduler": "scheduler",
    "Schema": "schema",
    "LLMSummarizer": "summarizers",
    "NoField": "summarizers",
    "PopularActions": "summarizers",
    "RecentActions": "summarizers",
    "TallySummarizer": "summarizers",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from mesa_meanfield.actions import Choice, ChoiceThenText, FreeText
    from mesa_meanfield.activation import ArrivalOrder, RandomShare, everyone
    from mesa_meanfield.agents import MeanFieldAgent, adopt
    from mesa_meanfield.backends.batching import BatchingBackend
    from mesa_meanfield.backends.load import load_backend
    from mesa_meanfield.backends.scripted import ScriptedBackend
    from mesa_meanfield.backends.server import ServerBackend
    from mesa_meanfield.cascades.jsonl import read_cascades, write_cascades
    from mesa_meanfield.choosers import community, most_influential
    from mesa_meanfield.data import Action, Cascade, Decision, MeanField, State, Tick
    from mesa_meanfield.errors import MeanFieldError
    from mesa_meanfield.experiments.bands import band_frame, bands, replicas_needed
    from mesa_meanfield.experiments.counterfactual import compare
    from mesa_meanfield.experiments.objectives import AreaUnder, ShareAt, TimeToReversal
    from mesa_meanfield.experiments.planning import plan
    from mesa_meanfield.experiments.replicas import run_replicas
    from mesa_meanfield.interventions import Announce, Inject, Mute, Persuade, Replace
    from mesa_meanfield.policy import LLMPolicy
    from mesa_meanfield.prompts import Prompts
    from mesa_meanfield.protocols import Sampling, Usage
    from mesa_meanfield.rules import RecordedPolicy, RulePolicy
    from mesa_meanfield.scheduler import MeanFieldScheduler
    from mesa_meanfield.schema import Schema
    from mesa_meanfield.summarizers import (
        LLMSummarizer,
        NoField,
        PopularActions,
        RecentActions,
        TallySummarizer,
    )


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
