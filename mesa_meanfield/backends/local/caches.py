"""What the key-value caches of transformers allow: padding in their midst, and several ways on from one state."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers that grow by new tensors and leave the old ones as they are."""


def window(model: Any) -> float:  # Any: transformers' own
    """How many tokens may hold padding in their midst without a change: 0 where none may."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return 0  # positions by slot, as in MPT
    layers = DynamicCache(config=base.config).layers or [DynamicLayer()]
    if not all(type(layer) in _GROWING for layer in layers):
        return 0  # Mamba, linear attention, convolutions
    return min(getattr(layer, "sliding_window", math.inf) for layer in layers)


def branch(cache: Any) -> Any:  # Any: transformers' own
    """The same cache once more, to go on from; costs nothing where its layers leave the old tensors alone."""
    if not all(type(layer) in _GROWING for layer in cache.layers):
        return copy.deepcopy(cache)
    again = copy.copy(cache)
    again.layers = [copy.copy(layer) for layer in cache.layers]
    return again


def spread(cache: Any, rows: int) -> Any:  # Any: transformers' own
    """A branch with a view of the one row for each of several rows: the layers copy when they grow."""
    again = branch(cache)
    for layer in again.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return again
