"""One token per row from the model's logits, with each row's own random numbers."""

from __future__ import annotations

import torch

from mesa_meanfield.protocols import Sampling


def sample_tokens(
    logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling, seen: torch.Tensor
) -> torch.Tensor:
    """Sample by inverting the cumulative distribution, one uniform number per row.

    A row's token depends on its own logits and its own number alone, so batch mates do not matter.

    Args:
        logits: Shape (B, V).
        uniforms: In [0, 1), shape (B,).
        sampling: Temperature, top-k, top-p (inside the top k) and repetition penalty.
        seen: The tokens written so far, shape (B, T), padded by -1; the repetition penalty is on these.

    Returns:
        Token ids, shape (B,).
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0 and seen.shape[1]:
        logits = _penalise(logits, seen, sampling.repetition_penalty)
    logits = logits / sampling.temperature
    size = logits.shape[-1]
    if sampling.top_k or sampling.top_p < 1:
        logits, tokens = logits.topk(min(sampling.top_k or size, size), dim=-1)  # (B, K), most probable first
    else:
        tokens = torch.arange(size, device=logits.device).expand_as(logits)
    cumulative = logits.double().softmax(-1).cumsum(-1)  # (B, K); double, since V small numbers are added
    kept = torch.full_like(cumulative[:, :1], sampling.top_p) * cumulative[:, -1:]
    # The tokens up to and including the one that reaches top_p share out the random number among them.
    last = torch.searchsorted(cumulative, kept).clamp(max=cumulative.shape[-1] - 1)  # (B, 1)
    drawn = uniforms.to(cumulative)[:, None] * cumulative.gather(-1, last)
    chosen = torch.searchsorted(cumulative, drawn, right=True)
    return tokens.gather(-1, torch.minimum(chosen, last)).squeeze(-1)


def _penalise(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    at = seen.clamp(min=0)
    scores = logits.gather(-1, at)
    lower = torch.where(scores > 0, scores / penalty, scores * penalty)
    return logits.scatter(-1, at, torch.where(seen >= 0, lower, scores))
