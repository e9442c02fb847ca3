"""One token per row from the model's logits, with each row's own random numbers."""

from __future__ import annotations

import torch

from mesa_meanfield.protocols import Sampling


def sample_tokens(
    logits: torch.Tensor,
    uniforms: torch.Tensor,
    sampling: Sampling,
    seen: torch.Tensor | None = None,
    allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sample by inverting the cumulative distribution, one uniform number per row.

    A row's token depends on its own logits and its own number alone, so batch mates do not matter.

    Args:
        logits: Shape (B, V).
        uniforms: In [0, 1), shape (B,).
        sampling: Temperature, top-k, top-p (inside the top k) and repetition penalty.
        seen: The tokens written so far, shape (B, T); the repetition penalty is on these.
        allowed: Which tokens may come at all, shape (B, V); at least one for each row.

    Returns:
        Token ids, shape (B,).
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0 and seen is not None:
        logits = _penalise(logits, seen, sampling.repetition_penalty)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    logits = logits / sampling.temperature
    size = logits.shape[-1]
    if sampling.top_k or sampling.top_p < 1:
        logits, tokens = logits.topk(min(sampling.top_k or size, size), dim=-1)  # (B, K), most probable first
    else:
        tokens = torch.arange(size, device=logits.device).expand_as(logits)
    cumulative = precise(logits).softmax(-1).cumsum(-1)  # (B, K); precise, since V small numbers are added
    kept = torch.full_like(cumulative[:, :1], sampling.top_p) * cumulative[:, -1:]
    # The tokens up to and including the one that reaches top_p share out the random number among them.
    last = torch.searchsorted(cumulative, kept).clamp(max=cumulative.shape[-1] - 1)  # (B, 1)
    drawn = uniforms.to(cumulative)[:, None] * cumulative.gather(-1, last)
    chosen = torch.searchsorted(cumulative, drawn, right=True)
    return tokens.gather(-1, torch.minimum(chosen, last)).squeeze(-1)


def precise(values: torch.Tensor) -> torch.Tensor:
    """The values in double precision, where the device has it."""
    return values.float() if values.device.type == "mps" else values.double()


def _penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    scores = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(scores > 0, scores / penalty, scores * penalty))
