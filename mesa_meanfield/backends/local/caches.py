"""What the key-value caches allow: padding in their midst, several ways on from one state, other rows."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from mesa_meanfield.backends.local.shared import SharedCache

_GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers that grow by new tensors and leave the old ones as they are."""


def base_of(model: Any) -> Any:  # Any: transformers' own
    """The model itself, where peft stands around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def window(model: Any) -> float:
    """How many tokens may hold padding in their midst without a change: 0 where none may."""
    base = base_of(model)
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return 0  # positions by slot, as in MPT
    layers = DynamicCache(config=base.config).layers or [DynamicLayer()]
    if not all(type(layer) in _GROWING for layer in layers):
        return 0  # Mamba, linear attention, convolutions
    return min(getattr(layer, "sliding_window", math.inf) for layer in layers)


def keeps_all(model: Any) -> bool:
    """Whether every layer keeps the keys of all tokens."""
    layers = DynamicCache(config=base_of(model).config).layers
    return all(type(layer) is DynamicLayer for layer in layers)


def branch(cache: Any) -> Any:
    """The same cache once more, to go on from; costs nothing where its layers leave the old tensors alone."""
    if isinstance(cache, SharedCache):
        return cache.branch()
    if not all(type(layer) in _GROWING for layer in cache.layers):
        return copy.deepcopy(cache)
    again = copy.copy(cache)
    again.layers = [copy.copy(layer) for layer in cache.layers]
    return again


def picked(cache: Any, rows: torch.Tensor, room: int) -> Any:
    """A cache with these rows of this one, which stays as it is; ``room`` is for those with buffers."""
    if isinstance(cache, SharedCache):
        return cache.picked(rows, room)
    again = branch(cache)
    for layer in again.layers:
        if type(layer) in _GROWING and layer.is_initialized and len(layer.keys) == 1:  # a view, until it grows
            layer.keys, layer.values = (old.expand(len(rows), -1, -1, -1) for old in (layer.keys, layer.values))
        else:
            layer.reorder_cache(rows)
    return again
