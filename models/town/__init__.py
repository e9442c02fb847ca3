"""A town: people drawn from stated distributions, on a social network, who react to a story."""

from mesa_meanfield_models.town.agents import Citizen, Follower, Resident
from mesa_meanfield_models.town.model import Town, town_of
from mesa_meanfield_models.town.network import NETWORKS, positions
from mesa_meanfield_models.town.scenario import SCENARIOS, Scenario, read_scenario
from mesa_meanfield_models.town.sight import SEE

__all__ = [
    "NETWORKS",
    "SCENARIOS",
    "SEE",
    "Citizen",
    "Follower",
    "Resident",
    "Scenario",
    "Town",
    "positions",
    "read_scenario",
    "town_of",
]
