"""Whom an intervention concerns: everyone, a share, or those whom a function chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from mesa_meanfield.activation import agent_key, who
from mesa_meanfield.plain import Plain, told
from mesa_meanfield.protocols import Scene
from mesa_meanfield.seeds import derive, unit

if TYPE_CHECKING:
    import networkx as nx

Agent = Any  # a modeler's own agent class

Chooser = Callable[[Sequence[Agent]], Iterable[Agent]]
"""All agents that take part in the model -> some of them, or their keys. It is asked anew in every tick, and
chooses the same agents each time if it goes by what stays the same."""

Who = float | Chooser
"""A share from 0 to 1 of the agents, chosen by their keys and the run's seed alone, or a `Chooser`."""


def check_who(whose: object, name: str, given: Who) -> None:
    """See that a value can say whom an intervention concerns.

    Raises:
        ValueError: It cannot.
    """
    share = isinstance(given, Real) and not isinstance(given, bool) and 0 <= given <= 1
    if not share and (not callable(given) or isinstance(given, type)):
        raise ValueError(f"{told(whose)}: {name} must be a share from 0 to 1, or a function that chooses agents")


def chosen(whose: object, given: Who, scene: Scene, draw: str) -> frozenset[str]:
    """The keys of those concerned.

    Args:
        whose: The intervention, for errors.
        given: A share, or who chooses.
        scene: What is about to be asked.
        draw: Tells the draws of shares apart: within one, a smaller share is a part of a larger one.

    Returns:
        Of a share those among the scene's turns, of a chooser all that it chose.

    Raises:
        ValueError: The chooser chose what is no agent.
        TypeError: It gave nothing to go through.
    """
    if not callable(given):
        keys = (turn.state.agent for turn in scene.turns)
        return frozenset(key for key in keys if given >= 1 or unit(derive(scene.seed, draw, key), "chosen") < given)
    known = {id(agent): agent_key(agent) for agent in scene.population}
    keys_known = frozenset(known.values())
    found = given(scene.population)
    if not isinstance(found, Iterable):
        raise TypeError(f"{told(whose)}: {told(given)} must choose by an iterable of agents, got {found!r}")
    keys_found = []
    for one in found:
        key = str(one) if isinstance(one, str | int) else known.get(id(one))
        if key not in keys_known:
            raise ValueError(f"{told(whose)}: {told(given)} chose {one!r}, which is no agent of the model")
        keys_found.append(key)
    return frozenset(keys_found)


@dataclass(frozen=True, slots=True, repr=False)
class MostInfluential(Plain):
    """What `most_influential` makes."""

    n: int
    by: str | Callable[[Agent], float]

    def __call__(self, agents: Sequence[Agent]) -> list[Agent]:
        """The first n of them."""
        return sorted(agents, key=lambda agent: (-self._influence(agent), agent_key(agent)))[: self.n]

    def _influence(self, agent: Agent) -> float:
        found = getattr(agent, self.by, None) if isinstance(self.by, str) else self.by(agent)
        if not isinstance(found, Real) or found != found:
            raise ValueError(f"{told(self)}: the influence of {who(agent)} must be a number, got {found!r}")
        return float(found)


def most_influential(n: int, by: str | Callable[[Agent], float]) -> Chooser:
    """The n agents with most of something; ties go by the key.

    Args:
        n: How many; all where there are not so many.
        by: The name of an attribute that holds a number, such as ``"followers"``, or a function agent -> number.

    Raises:
        ValueError: ``n`` is below 1; or, while choosing, an agent's influence is no number.
    """
    if n < 1:
        raise ValueError(f"most_influential must choose at least 1 agent, got {n}")
    return MostInfluential(n, by)


@dataclass(frozen=True, slots=True, repr=False)
class Community(Plain):
    """What `community` makes."""

    name: str | int
    nodes: frozenset[str]

    def __call__(self, agents: Sequence[Agent]) -> list[Agent]:
        """Those of them on its nodes."""
        return [agent for agent in agents if _node(agent) in self.nodes]


def community(graph: nx.Graph[Any], name: str | int, *, attribute: str = "community") -> Chooser:
    """The agents on those nodes of a network that belong to a community.

    An agent's node is its cell's in a Mesa network, else its ``pos``, else the node that is named as its key.

    Args:
        graph: The network, whose nodes have the attribute; who belongs is read now, once.
        name: The community: the attribute's value.
        attribute: Which node attribute names the community.

    Raises:
        ValueError: No node has that value.
    """
    of = dict(graph.nodes(data=attribute))
    nodes = frozenset(str(node) for node, value in of.items() if value == name)
    if not nodes:
        there = ", ".join(sorted({repr(value) for value in of.values() if value is not None})) or "none"
        raise ValueError(f"No node of the network has the {attribute} {name!r}; there are {there}")
    return Community(name, nodes)


def _node(agent: Agent) -> str:
    cell = getattr(agent, "cell", None)
    node = getattr(agent, "pos", None) if cell is None else cell.coordinate
    return agent_key(agent) if node is None else str(node)
