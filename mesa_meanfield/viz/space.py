"""The model's space as a picture: each agent in the colour of its last decision, drawn by Mesa."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mesa_meanfield.activation import agent_key
from mesa_meanfield.evaluation.report.drawing import plain_style
from mesa_meanfield.viz.curves import colour_of
from mesa_meanfield.viz.mesa_parts import AgentPortrayalStyle, draw_space

if TYPE_CHECKING:
    import mesa

Portrayal = Callable[[Any], AgentPortrayalStyle]
"""A modeler's own: agent -> how Mesa draws it."""
Labels = Callable[[str], str | None]
"""Agent key -> the label of its last decision."""

_MANY = 300  # nodes from which a layout gets fewer iterations: a spring layout of 1,000 takes seconds
_DRAWING = threading.Lock()  # matplotlib's settings are those of the process


def space_of(model: mesa.Model) -> Any:  # Any: Mesa's spaces have no common class
    """The model's space, or None."""
    space = getattr(model, "grid", None)
    return getattr(model, "space", None) if space is None else space


class SpacePicture:
    """Draws one model's space again and again; a network keeps its layout.

    Args:
        portrayal: How agents look; by default points in the colours of their labels.
    """

    def __init__(self, portrayal: Portrayal | None = None) -> None:
        self._portrayal = portrayal
        self._layout: dict[Any, Any] | None = None  # Any: node ids are a modeler's own

    def __call__(self, model: mesa.Model, label: Labels, labels: tuple[str, ...]) -> bytes | None:
        """A PNG; None where the model has no space that Mesa can draw."""
        space = space_of(model)
        if space is None or not len(space.agents):
            return None
        with _DRAWING, plain_style():
            figure = Figure(figsize=(5.2, 4.4), layout="constrained")
            panel = figure.add_subplot()
            options: dict[str, Any] = {"draw_grid": False}
            if (graph := getattr(space, "G", None)) is not None:
                if list(graph) != list(range(len(graph))):
                    return None  # Mesa draws networks with nodes 0, 1, 2, ... alone
                options |= {"layout_alg": lambda _: self._placed(space), "layout_kwargs": {}}
                self._draw_edges(panel, graph, space)
            size = _size(space, graph)
            try:
                draw_space(space, self._portrayal or _by_label(label, labels, size), ax=panel, **options)
            except ValueError:  # a space that Mesa does not know
                return None
            panel.set_aspect("equal")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_color("0.85")
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=110)
        return file.getvalue()

    def _placed(self, space: Any) -> Mapping[Any, Any]:
        """Where the nodes are: their cells' positions, or nodes' own, or a seeded spring layout, made once."""
        if self._layout is None:
            graph = space.G
            own = dict(graph.nodes(data="pos"))
            shapes = {np.shape(getattr(cell, "position", ())) for cell in getattr(space, "all_cells", ())}
            if all(place is not None for place in own.values()):
                self._layout = own
            elif shapes == {(2,)}:
                self._layout = {one.coordinate: one.position for one in space.all_cells}
            else:
                iterations = 50 if len(graph) <= _MANY else 12
                self._layout = dict(nx.spring_layout(graph, seed=0, iterations=iterations))
        return self._layout

    def _draw_edges(self, panel: Any, graph: Any, space: Any) -> None:
        places = self._placed(space)
        lines = [(places[a], places[b]) for a, b in graph.edges()]
        width = 0.8 if len(lines) < 1000 else 0.35
        panel.add_collection(LineCollection(lines, colors="#d3d8df", linewidths=width, zorder=0))


def _size(space: Any, graph: Any) -> float | None:
    """How large agents are, in square points; None where Mesa knows better."""
    if graph is not None:
        return max(10.0, min(110.0, 5000.0 / max(1, len(graph))))
    cells = getattr(space, "dimensions", ()) if hasattr(space, "all_cells") else ()
    return min(160.0, (170.0 / max(cells)) ** 2) if cells else None


def _by_label(label: Labels, labels: tuple[str, ...], size: float | None) -> Portrayal:
    def portray(agent: Any) -> AgentPortrayalStyle:
        decided = label(agent_key(agent))
        colour = colour_of(decided or "", labels)
        return AgentPortrayalStyle(color=colour, size=size, edgecolors="white", linewidths=0.6)

    return portray
