"""The adopted models of examples/adopt, loaded, small, and beside Mesa's own."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

from mesa.examples.basic.virus_on_network.model import VirusOnNetwork

from mesa_meanfield import RulePolicy

EXAMPLES = Path(__file__).parents[1] / "examples"
ADOPT = EXAMPLES / "adopt"
FOLDERS = ("virus_on_network", "schelling", "boltzmann_wealth_model", "epstein_civil_violence")


@cache
def modules(folder: str) -> SimpleNamespace:
    """The modules of one example; every one has an agents.py, so that their names are given back."""
    names = ("agents", "stand_in", "model")
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(ADOPT / folder))
    importlib.invalidate_caches()
    try:
        found: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(ADOPT / folder))
        for name in names:
            sys.modules.pop(name, None)
            if before[name] is not None:
                sys.modules[name] = before[name]
    return SimpleNamespace(**found)


SMALL = {
    "virus_on_network": {"num_nodes": 20, "avg_node_degree": 4, "initial_outbreak_size": 3},
    "schelling": {"width": 8, "height": 8},
    "boltzmann_wealth_model": {"n": 20, "width": 3, "height": 3},
    "epstein_civil_violence": {"width": 8, "height": 8, "legitimacy": 0.5, "citizen_vision": 3, "cop_vision": 3},
}
CLASSES = {
    "virus_on_network": "CautiousVirus",
    "schelling": "DecidedSchelling",
    "boltzmann_wealth_model": "DecidedWealth",
    "epstein_civil_violence": "DecidedViolence",
}


def kind(folder):
    return getattr(modules(folder).model, CLASSES[folder])


def adopted(folder, rng=3, **given):
    return kind(folder)(rng=rng, **{**SMALL[folder], **given})


def original(folder, rng=3):
    """Mesa's own model, with the same seed."""
    module = modules(folder).model
    if folder == "virus_on_network":
        with module.network_of(rng):
            return VirusOnNetwork(**SMALL[folder], **{module.SEED: rng})
    return kind(folder).__mro__[1](**module.seeded(rng, **SMALL[folder]))


def by_rule(model, rule):
    """Let a rule decide in place of the language model."""
    model.crowd.policy = RulePolicy(rule, model.crowd.policy.actions)
    return model


def decided(model):
    """State -> decision of the last tick's agents, by key."""
    tick = model.crowd.last
    return {s.agent: d.labels["action"] for s, d in zip(tick.states, tick.decisions, strict=True)}
