"""Texts behind computed prompts: each row sampled with its own random numbers, until it is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from mesa_meanfield.backends.local.grammar import Guide
from mesa_meanfield.backends.local.rows import Rows, Runner
from mesa_meanfield.backends.local.sampling import sample_tokens
from mesa_meanfield.protocols import Reply, Sampling
from mesa_meanfield.seeds import noise

_WORTH_LEAVING = 8
"""Rows leave once they are one in so many of those there: copying the others costs something, too."""


class Decoder:
    """Writes replies.

    Args:
        runner: What runs the rows.
        tokenizer: The model's tokenizer.
        ends: The tokens that end a reply.
    """

    def __init__(self, runner: Runner, tokenizer: Any, ends: Collection[int]) -> None:  # Any: transformers' own
        self._runner = runner
        self._tokenizer = tokenizer
        self._ends = ends
        self.written = 0
        """How many tokens all replies so far have."""

    def write(self, rows: Rows, seeds: Sequence[int], sampling: Sampling, guide: Guide | None) -> list[Reply]:
        """One reply behind each row; the rows are used up.

        Args:
            rows: Computed up to the end of their prompts, with room for `longest` tokens.
            seeds: One per row.
            sampling: How tokens are drawn.
            guide: Which tokens may come, where a schema says so.
        """
        limit = longest(sampling, guide)
        writers = [_Writer(guide.copy() if guide else None) for _ in seeds]
        uniforms = torch.from_numpy(np.stack([noise(seed, limit) for seed in seeds]))  # (B, T)
        there = list(range(len(seeds)))  # the writers of the rows that are in the batch
        for step in range(limit):
            present = [writers[i] for i in there]
            with self._runner.timed("sampling", 0):
                drawn = self._sample(rows.logits, present, uniforms[there, step], sampling).tolist()
                for writer, token in zip(present, drawn, strict=True):
                    if not writer.over:
                        self._take(writer, token, sampling)
            open_ = [place for place, writer in enumerate(present) if not writer.over]
            if not open_ or step + 1 == limit:
                break
            if (len(there) - len(open_)) * _WORTH_LEAVING >= len(there):
                rows = rows.picked(open_, limit - step)
                there = [there[place] for place in open_]
            with self._runner.timed("decode", len(open_)):
                # A row that is over goes on with anything.
                rows.step(torch.tensor([(writers[i].ids or [0])[-1] for i in there], device=self._runner.device))
        self.written += sum(len(writer.ids) for writer in writers)
        return [self._reply(writer, sampling) for writer in writers]

    def _sample(
        self, logits: torch.Tensor, present: Sequence[_Writer], uniforms: torch.Tensor, sampling: Sampling
    ) -> torch.Tensor:
        seen = allowed = None
        if sampling.repetition_penalty != 1:
            longest_yet = max(len(writer.ids) for writer in present)  # a row that is over repeats its last token
            ids = [writer.ids + writer.ids[-1:] * (longest_yet - len(writer.ids)) for writer in present]
            seen = torch.tensor([row or [0] * longest_yet for row in ids], dtype=torch.long, device=logits.device)
        if present[0].guide is not None:
            allowed = torch.from_numpy(np.stack([writer.allowed(logits.shape[1]) for writer in present]))
            allowed = allowed.to(logits.device)
        return sample_tokens(logits, uniforms.to(logits.device), sampling, seen, allowed)

    def _take(self, writer: _Writer, token: int, sampling: Sampling) -> None:
        if token in self._ends:
            writer.over = writer.finished = True
            return
        if writer.guide is not None and len(writer.ids) + writer.guide.reserve >= sampling.max_tokens:
            token = writer.guide.closed(token)
        writer.ids.append(token)
        if writer.guide is not None:
            writer.guide.advance(token)
            writer.over = writer.finished = writer.guide.over
        elif sampling.stop and any(stop in self._decode(writer.ids) for stop in sampling.stop):
            writer.over = writer.finished = True

    def _reply(self, writer: _Writer, sampling: Sampling) -> Reply:
        text = self._decode(writer.ids)
        if writer.guide is not None:
            if not writer.over:
                return Reply(failure=f"The reply did not come to the end of its schema: {text[:60]!r}")
            return Reply(text, finished=not writer.guide.cut)
        if not writer.finished:
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # the tokens ran out inside a character
        ends = [at for at in (text.find(stop) for stop in sampling.stop) if at >= 0]
        return Reply(text[: min(ends)] if ends else text, finished=writer.finished)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class _Writer:
    """One reply under way."""

    def __init__(self, guide: Guide | None) -> None:
        self.guide = guide
        self.ids: list[int] = []
        self.over = False
        """Whether nothing is added any more."""
        self.finished = False
        """Whether it ended by itself."""

    def allowed(self, vocabulary: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which tokens may come next, shape (V,)."""
        if self.guide is None or self.over:
            return np.ones(vocabulary, dtype=np.bool_)
        return self.guide.allowed()


def longest(sampling: Sampling, guide: Guide | None) -> int:
    """How many tokens a reply can have; one with a schema is brought to its end, which may take some more."""
    return sampling.max_tokens if guide is None else max(sampling.max_tokens, guide.reserve) + guide.reserve + 64
