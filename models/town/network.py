"""Who knows whom: a networkx graph over the people, and its place in Mesa."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import networkx as nx
from mesa.discrete_space import Network

FRIENDS = 6
"""How many people somebody knows, on average, where there are enough."""
REWIRED = 0.1
"""Small world: the share of ties that lead anywhere instead of to those who live next door."""
INSIDE = 0.8
"""Communities: the share of ties that stay within one's own."""
_IN_A_ROW = 80  # people along a ring that can still be told apart
_TURN = math.pi * (3 - math.sqrt(5))  # the golden angle, by which a disc fills evenly

Point = tuple[float, float]


def social_network(kind: str, communities: Sequence[str], seed: int) -> nx.Graph[int]:
    """A graph with a node for each person, with the attributes ``community`` and ``pos``, where it is drawn.

    The nodes are 0 to n - 1 in their order, as Mesa's drawing needs them.

    Args:
        kind: One of `NETWORKS`.
        communities: For each person the community; those of one community stand together.
        seed: Of the ties.

    Raises:
        ValueError: There is no such kind, or there are fewer than two people.
    """
    if kind not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {kind!r}")
    if len(communities) < 2:
        raise ValueError(f"A network needs at least 2 people, got {len(communities)}")
    ties, laid_out = NETWORKS[kind]
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from((node, {"community": community}) for node, community in enumerate(communities))
    graph.add_edges_from(sorted(ties(communities, seed).edges))
    nx.set_node_attributes(graph, dict(enumerate(laid_out(graph))), "pos")
    return graph


def _small_world(communities: Sequence[str], seed: int) -> nx.Graph[int]:
    """Everybody knows the next ones along a ring, and now and then somebody far away (Watts and Strogatz 1998).

    The ring goes through one community after the other, so that a community is a part of town.
    """
    n = len(communities)
    graph: nx.Graph[int] = nx.watts_strogatz_graph(n, min(FRIENDS, n), REWIRED, seed=seed)  # all know all up to 6
    return graph


def _scale_free(communities: Sequence[str], seed: int) -> nx.Graph[int]:
    """Who is well known becomes better known (Barabasi and Albert 1999): a few know very many.

    Ties pay no heed to communities, which are where people live and not whom they know.
    """
    n = len(communities)
    graph = nx.barabasi_albert_graph(n, min(FRIENDS // 2, n - 1), seed=seed)
    people = list(range(n))
    Random(seed).shuffle(people)  # noqa: S311 - else the well known would all live in the first community
    return nx.relabel_nodes(graph, dict(enumerate(people)))


def _blocks(communities: Sequence[str], seed: int) -> nx.Graph[int]:
    """Most ties stay within the community: a stochastic block model (Holland et al. 1983)."""
    n, counts = len(communities), Counter(communities)
    sizes = list(counts.values())
    inside = 1.0 if len(sizes) == 1 else INSIDE

    def chance(i: int, j: int) -> float:
        if i == j:
            return min(1.0, inside * FRIENDS / max(1, sizes[i] - 1))
        return min(1.0, (1 - inside) * FRIENDS / (n - n / len(sizes)))

    chances = [[chance(i, j) for j in range(len(sizes))] for i in range(len(sizes))]
    return nx.stochastic_block_model(sizes, chances, seed=seed)


def _ring(graph: nx.Graph[int]) -> list[Point]:
    """The people along a ring, which gets broader where they are many."""
    n = len(graph)
    layers = 1 + n // _IN_A_ROW
    radii = [1 - 0.07 * (i % layers) for i in range(n)]
    return [(r * math.cos(2 * math.pi * i / n), r * math.sin(2 * math.pi * i / n)) for i, r in enumerate(radii)]


def _hubs(graph: nx.Graph[int]) -> list[Point]:
    """Those whom most people know in the middle."""
    n = len(graph)
    rank = {node: i for i, node in enumerate(sorted(graph, key=lambda node: (-graph.degree[node], node)))}
    return [_spiral(rank[node], n) for node in graph]


def _discs(graph: nx.Graph[int]) -> list[Point]:
    """Each community as a disc; the discs stand around a middle."""
    communities = [community for _, community in graph.nodes(data="community")]
    counts = Counter(communities)
    away = 0.0 if len(counts) == 1 else 1.0
    found: list[Point] = []
    for i, size in enumerate(counts.values()):
        angle = math.pi / 2 - 2 * math.pi * i / len(counts)
        radius = 0.75 * math.sin(math.pi / max(2, len(counts))) * math.sqrt(size * len(counts) / len(communities))
        middle = (away * math.cos(angle), away * math.sin(angle))
        found += [
            (middle[0] + radius * x, middle[1] + radius * y) for x, y in (_spiral(k, size) for k in range(size))
        ]
    return found


def _spiral(i: int, n: int) -> Point:
    """The i-th of n points that fill a disc of radius 1 evenly, from its middle outwards."""
    radius, angle = math.sqrt((i + 0.5) / n), i * _TURN
    return radius * math.cos(angle), radius * math.sin(angle)


NETWORKS: Mapping[
    str, tuple[Callable[[Sequence[str], int], nx.Graph[int]], Callable[[nx.Graph[int]], list[Point]]]
] = {
    "small-world": (_small_world, _ring),
    "scale-free": (_scale_free, _hubs),
    "communities": (_blocks, _discs),
}
"""The kinds of networks: who knows whom, and where they are drawn."""


def place(graph: nx.Graph[int], random: Random) -> Network:
    """The graph as a space of Mesa, one cell for each node.

    Mesa 3.5 would lay it out by springs, without a seed and for seconds; it gets `positions`. Mesa 3.3 knows no
    positions.
    """
    known = inspect.signature(Network).parameters
    layout: dict[str, Any] = {"layout": positions} if "layout" in known else {}  # Any: a layout
    return Network(graph, random=random, **layout)


def positions(graph: nx.Graph[int], **unused: object) -> dict[int, Point]:
    """Where each node is drawn, at once and always the same: for ``layout_alg`` of Mesa's drawing.

    A small world is a ring; in a scale-free network those whom most people know are in the middle; communities
    are discs beside each other.

    Args:
        graph: Made by `social_network`.
        unused: What Mesa gives to layouts, such as a seed.
    """
    places: dict[int, Point] = nx.get_node_attributes(graph, "pos")
    return places
