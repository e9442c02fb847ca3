"""Attention to a beginning that all rows of a batch share: its keys and values are kept once, for all of them.

A transformers cache holds a copy of the beginning for every row and copies everything again with every
token. Here the rows' own tokens go into a buffer with room for what will come, and the beginning is
attended by all rows in one product. The softmax runs over both, so the result is that of plain attention.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "mesa_meanfield_shared"
"""The name under which transformers knows this attention; outside `attending` it is plain SDPA."""
_NOTHING = -80.0  # exp of it is lost beside the 1 of the largest score, in any of torch's floats
_MOST_SCORES = 1 << 26
"""Attention scores at once; beyond that the rows go one part after the other."""
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sliding_window")
_active = threading.local()

Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values, (B, K, S, D) each


class SharedLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped for mypy
    """One layer's keys and values: those of the shared beginning, and a buffer with the rows' own.

    Args:
        shared: Of the beginning, (1, K, P, D) each; None where there is none.
        room: How many tokens of their own the rows will get.
    """

    is_sliding = False

    def __init__(self, shared: Pair | None = None, room: int = 0) -> None:
        super().__init__()
        self.shared = shared
        self.room = room
        self.length = 0  # of the buffer, what is filled

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the buffers, shaped as the first keys and values."""
        self.keys, self.values = (_buffer(states, self.room) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> Pair:  # Any: ignored
        """Put new ones behind the rows' own; returns all own ones, without the shared ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The rows' own length with the query, and no offset."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """All tokens, the shared ones included."""
        return self.length + (0 if self.shared is None else self.shared[0].shape[-2])

    def get_max_length(self) -> int:
        """No limit that a model should know of."""
        return -1

    def picked(self, rows: torch.Tensor, room: int) -> SharedLayer:
        """A layer with these rows, copied into buffers with room for more."""
        layer = SharedLayer(self.shared, self.length + room)
        if self.length:
            layer.lazy_initialization(*(old[:1].expand(len(rows), -1, -1, -1) for old in (self.keys, self.values)))
            layer.length = self.length
            for new, old in ((layer.keys, self.keys), (layer.values, self.values)):
                torch.index_select(old[:, :, : self.length], 0, rows, out=new[:, :, : self.length])
        return layer


class SharedCache(Cache):  # type: ignore[misc]  # transformers is untyped for mypy
    """The layers of one batch."""

    @classmethod
    def empty(cls, layers: int, room: int) -> Self:
        """A cache without any tokens."""
        return cls(layers=[SharedLayer(room=room) for _ in range(layers)])

    def shared(self) -> SharedCache:
        """A cache whose beginning is the one row of this one."""
        pairs = [(layer.keys[:, :, : layer.length], layer.values[:, :, : layer.length]) for layer in self.layers]
        return type(self)(layers=[SharedLayer(pair) for pair in pairs])

    def picked(self, rows: torch.Tensor, room: int) -> SharedCache:
        """A cache with these rows of this one, each with room for more tokens."""
        return type(self)(layers=[layer.picked(rows, room) for layer in self.layers])

    def branch(self) -> SharedCache:
        """A cache to look ahead with: what it adds is not seen by this one, which writes over it."""
        return type(self)(layers=[copy.copy(layer) for layer in self.layers])


@contextmanager
def attending(cache: SharedCache) -> Iterator[None]:
    """Let the models that this thread runs inside the block attend to the cache's beginning, too."""
    _active.cache = cache
    try:
        yield
    finally:
        _active.cache = None


def _attend(
    module: Any,  # Any: a transformers attention layer
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    cache: SharedCache | None = getattr(_active, "cache", None)
    shared = None if cache is None else cache.layers[module.layer_idx].shared
    if cache is not None and any(others.get(name) is not None for name in _UNKNOWN):
        raise NotImplementedError(f"{type(module).__name__} attends in a way of its own")
    if shared is None or attention_mask is None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **others
        )
        return plain
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores_per_row = query[0].numel() // query.shape[-1] * (shared[0].shape[-2] + key.shape[-2])
    size = max(1, _MOST_SCORES // scores_per_row)
    whole = (query, key, value, attention_mask)
    parts = zip(*(torch.split(one, size) for one in whole), strict=True)
    return torch.cat([_both(q, k, v, mask, shared) for q, k, v, mask in parts]), None


def _both(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, shared: Pair
) -> torch.Tensor:
    """Attention to the shared and the own keys; query (B, H, T, D), keys (B, K, S, D), result (B, T, H, D)."""
    rows, heads, length, _ = query.shape
    groups = key.shape[1]
    query = query.reshape(rows, groups, -1, query.shape[-1])  # (B, K, H/K T, D)
    own = query @ key.transpose(-1, -2)  # (B, K, H/K T, S)
    own.view(rows, groups, -1, length, key.shape[-2]).add_(mask[:, :, None])
    # All rows are one long query for what they share: (K, B H/K T, D) times (K, D, P).
    common = query.transpose(0, 1).reshape(groups, -1, query.shape[-1]) @ shared[0][0].transpose(-1, -2)
    own, common = own.float(), common.float().view(groups, rows, -1, shared[0].shape[-2])
    top = torch.maximum(own.amax(-1, keepdim=True), common.amax(-1, keepdim=True).transpose(0, 1))
    # What is masked is cut off where it adds nothing: exp is twenty times slower where it underflows (docs/LOG.md).
    own = own.sub_(top).clamp_(min=_NOTHING).exp_()
    common = common.sub_(top.transpose(0, 1)).exp_()
    total = own.sum(-1, keepdim=True) + common.sum(-1, keepdim=True).transpose(0, 1)  # (B, K, H/K T, 1)
    seen = common.to(value.dtype).view(groups, -1, common.shape[-1]) @ shared[1][0]  # (K, B H/K T, D)
    seen = seen.view(groups, rows, -1, value.shape[-1]).transpose(0, 1) + own.to(value.dtype) @ value
    seen = (seen / total).to(value.dtype)
    return seen.reshape(rows, heads, length, -1).transpose(1, 2).contiguous()


def _buffer(like: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, _, size = like.shape
    return like.new_empty(rows, heads, room, size)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
