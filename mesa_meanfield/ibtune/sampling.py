"""Summaries as they are trained: sampled from the whole distribution of the model as it is now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from mesa_meanfield.backends.local.rows import Runner
from mesa_meanfield.backends.local.sampling import sample_tokens
from mesa_meanfield.ibtune.batches import Chain, Ids
from mesa_meanfield.protocols import Sampling
from mesa_meanfield.seeds import noise


class Sampler:
    """Samples replies and keeps their tokens, which a text would not give back exactly.

    Nothing is remembered from call to call, since the weights change in between.

    Args:
        model: A causal language model of transformers, with adapters or without.
        pad: The token that fills rows up.
        ends: The tokens that end a reply.
    """

    def __init__(self, model: Any, *, pad: int, ends: Collection[int]) -> None:  # Any: transformers' own
        self._runner = Runner(model, pad)
        self._ends = set(ends)

    def sample(self, prompt: Ids, seeds: Sequence[int], max_tokens: int, temperature: float) -> list[Chain]:
        """One reply to the prompt per seed, with nothing cut off by top-k or top-p.

        Args:
            prompt: At least two tokens.
            seeds: One per reply.
            max_tokens: Of a reply.
            temperature: At which tokens are drawn.
        """
        sampling = Sampling(max_tokens, temperature, top_k=0, top_p=1.0)
        rows = self._runner.start(len(prompt), holed=len(prompt) + max_tokens <= self._runner.window)
        rows.extend([prompt[:-1]])
        rows = rows.shared().picked([0] * len(seeds), max_tokens + 1)
        rows.extend([prompt[-1:]] * len(seeds))
        uniforms = torch.from_numpy(np.stack([noise(seed, max_tokens) for seed in seeds]))  # (G, T)
        uniforms = uniforms.to(self._runner.device)
        replies: list[list[int]] = [[] for _ in seeds]
        over = [False] * len(seeds)
        for step in range(max_tokens):
            tokens = sample_tokens(rows.logits, uniforms[:, step], sampling)
            for row, token in enumerate(tokens.tolist()):
                over[row] = over[row] or token in self._ends
                if not over[row]:
                    replies[row].append(token)
            if all(over) or step + 1 == max_tokens:
                break
            rows.step(tokens)  # a row that is over goes on with anything
        return [Chain((*prompt, *reply), len(prompt), ended) for reply, ended in zip(replies, over, strict=True)]
