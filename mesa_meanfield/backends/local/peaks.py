"""What a machine could do at best, and how near to it a model's work came.

The arithmetic needs no torch; measuring does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Spent:
    """What one phase of a model's work cost."""

    seconds: float = 0.0
    tokens: int = 0
    """Token positions, padding left out."""
    steps: int = 0
    """How often the model was run."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.tokens + other.tokens, self.steps + other.steps)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.seconds - other.seconds, self.tokens - other.tokens, self.steps - other.steps)


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most that one device does in a second."""

    flops: float
    """Floating-point operations, by matrix products in the model's own type of number."""
    bytes: float
    """Bytes read and written, or only read."""
    device: str = ""
    dtype: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a causal language model weighs."""

    body: int
    """Parameters that every token goes through."""
    head: int
    """Parameters behind which the next token's logits stand; a prompt needs them for its last token only."""
    width: int
    """Bytes per parameter."""
    kv: int
    """Bytes of keys and values that one token leaves."""


def least_seconds(
    phase: str, spent: Spent, facts: Facts, peaks: Peaks, *, shared: float = 0, own: float = 0
) -> float | None:
    """The least time that the device could need for what was done, by the roofline of arithmetic and memory.

    Two operations per parameter and token, all weights read once per run of the model, and when decoding the
    keys and values, too: those that the rows share once per run, their own once per row. Attention's own
    arithmetic and the activations are left out, so that the true limit is a little higher.

    Args:
        phase: "prefix", "prefill" or "decode"; others have no limit of this kind.
        spent: What the phase cost.
        facts: What the model weighs.
        peaks: What the device can do.
        shared: Tokens that all rows share.
        own: Tokens that a row has of its own, on average over the phase.

    Returns:
        Seconds, or None for a phase without such a limit.
    """
    if phase not in ("prefix", "prefill", "decode"):
        return None
    decodes = phase == "decode"
    weights = facts.body + (facts.head if decodes else 0)
    moved: float = spent.steps * weights * facts.width
    if decodes:
        moved += facts.kv * (spent.steps * shared + spent.tokens * own)
    return max(2 * weights * spent.tokens / peaks.flops, moved / peaks.bytes)


def phases_told(
    phases: Mapping[str, Spent], total: float, facts: Facts, peaks: Peaks, *, shared: float, own: float
) -> dict[str, dict[str, float | None]]:
    """Where the time went, and which share of what the device could do each phase reached; the rest is "other".

    Args:
        phases: What each cost.
        total: Seconds of everything.
        facts: As in `least_seconds`, like the others.
        peaks: As there.
        shared: As there.
        own: As there.
    """
    told: dict[str, dict[str, float | None]] = {}
    for name, spent in phases.items():
        least = least_seconds(name, spent, facts, peaks, shared=shared, own=own)
        told[name] = {
            "seconds": spent.seconds,
            "tokens": spent.tokens,
            "steps": spent.steps,
            "share_of_time": spent.seconds / total,
            "share_of_peak": least / spent.seconds if least is not None and spent.seconds else None,
        }
    rest = total - sum(spent.seconds for spent in phases.values())
    return {**told, "other": {"seconds": rest, "share_of_time": rest / total}}


def phases_of(backend: object) -> dict[str, Spent]:
    """What each phase of a local backend's work cost so far; nothing for other backends."""
    return dict(getattr(backend, "phases", {}))


def facts_of(model: Any) -> Facts:  # Any: transformers' own
    """What a transformers model weighs, whatever peft put around it."""
    from mesa_meanfield.backends.local.caches import base_of

    base = base_of(model)
    config = base.config.get_text_config()
    head = base.get_output_embeddings().weight
    embedded = {id(one): one.numel() for one in (head, base.get_input_embeddings().weight)}
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    pairs = getattr(config, "num_key_value_heads", None) or heads
    return Facts(
        body=sum(one.numel() for one in model.parameters()) - sum(embedded.values()),
        head=head.numel(),
        width=head.element_size(),
        kv=2 * layers * pairs * size * head.element_size(),
    )


def measure_peaks(model: Any, seconds: float = 0.5) -> Peaks:  # Any: transformers' own
    """What the model's device does at best, in the model's own type of number.

    Args:
        model: A transformers model.
        seconds: How long each kind of work is done.
    """
    import torch

    device, dtype = model.device, next(model.parameters()).dtype
    small = device.type == "cpu"
    side = 2048 if small else 8192
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(one)
    flops = 2 * side**3 / _fastest(lambda: torch.mm(one, other, out=product), device, seconds)
    large = torch.ones((1 << 26) if small else (1 << 28), dtype=dtype, device=device)  # beyond any cache
    moved = large.numel() * large.element_size()
    rows = large.view(-1, side)
    read = moved / _fastest(lambda: torch.mv(rows, rows[0]), device, seconds)  # what decoding one row does
    copy = torch.empty_like(large)
    copied = 2 * moved / _fastest(lambda: copy.copy_(large), device, seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Peaks(flops, max(copied, read), name, str(dtype).removeprefix("torch."))


def _fastest(do: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The seconds of the fastest of some calls, the first of which does not count."""
    import torch

    wait = getattr(torch, device.type).synchronize
    do()
    wait()
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        start = time.perf_counter()
        do()
        wait()
        best = min(best, time.perf_counter() - start)
    return best
