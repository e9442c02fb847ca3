"""How much fits into a device's memory, and what it says when something does not."""

from __future__ import annotations

from typing import Any

import torch

_ON_CPU = 32
"""Rows per batch on a CPU: more are no faster."""
_MOST = 1024
_PART = 0.8
"""Of the free memory, what a batch may take; the rest is for what cannot be foreseen."""


def rows_that_fit(model: Any, tokens: int) -> int:  # Any: a transformers model
    """How many rows of so many tokens a batch on the model's device may have, at least one."""
    if model.device.type == "cpu":
        return _ON_CPU
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    else:
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return max(1, min(_MOST, int(_PART * free / row_bytes(model.config.get_text_config(), tokens, model.dtype))))


def row_bytes(config: Any, tokens: int, dtype: torch.dtype) -> int:
    """About how many bytes one row of so many tokens takes at its peak.

    Its keys and values, which are there twice while rows leave; one layer's activations and attention
    scores while its prompt is computed; and its logits, sampled in double precision.
    """
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    cache = 2 * 2 * config.num_hidden_layers * kept * size * tokens * dtype.itemsize
    layer = tokens * (4 * config.hidden_size + 3 * inner) * dtype.itemsize + 2 * 4 * heads * tokens * tokens
    return int(cache + layer + config.vocab_size * (dtype.itemsize + 3 * 8))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; CPU and MPS have no class of their own for it."""
    said = str(error).casefold()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said


def give_back(device: torch.device) -> None:
    """Let go of what torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
