"""A transformers model that answers whole crowds.

The requests of a call are grouped by what they share: the longest common token prefix of a group is
computed once, and sub-batches of similar length go behind it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mesa_meanfield.backends.local.caches import branch, spread, window
from mesa_meanfield.backends.local.rendering import Renderer
from mesa_meanfield.backends.local.sampling import precise, sample_tokens
from mesa_meanfield.errors import BackendError
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Reply, Request, Sampling, Usage
from mesa_meanfield.seeds import noise

Ids = list[int]


class LocalBackend:
    """A causal language model of transformers, in this process.

    Args:
        model: The model, on its device, in evaluation mode.
        tokenizer: Its tokenizer.
        name: Its name in records.
        batch: Requests per sub-batch; changes the speed and no result beyond floating-point ties.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch: int = 16) -> None:  # Any: transformers' own
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.batch = batch
        self.usage = Usage()
        self._renderer = Renderer(tokenizer)
        self._window = window(model)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)); exact for any number of tokens.

        A prompt that does not fit into the model's context gets a row of NaN.
        """
        scores = np.full((len(requests), len(candidates)), np.nan)
        if not requests or not candidates:
            return scores
        with self._working(len(requests)):
            texts = [self._renderer.text(request) for request in requests]
            options = self._renderer.candidates(texts[0], candidates)
            twins: dict[tuple[int, ...], list[int]] = defaultdict(list)  # equal prompts are computed once
            for index, text in enumerate(texts):
                twins[tuple(self._renderer.ids(text))].append(index)
            longest, behind = max(map(len, options)), sum(len(option) - 1 for option in options)
            twins = {ids: where for ids, where in twins.items() if self._fits(len(ids) + longest)}
            self._count(asked=sum((len(ids) + behind) * len(where) for ids, where in twins.items()))
            prompts = [list(ids) for ids in twins]
            prefixes = [requests[where[0]].prefix for where in twins.values()]
            done = 0
            for rows, found in self._prefilled(prompts, prefixes, longest):
                values = self._score_rows(found, options)
                del found  # its memory, before the next sub-batch
                for row, value in zip(rows, values, strict=True):
                    where = twins[tuple(prompts[row])]
                    scores[where] = value
                    done += len(where)
                report("choices", done, len(requests))
        return scores

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order, each sampled with its own seed."""
        replies = [Reply(failure="never asked")] * len(requests)
        with self._working(len(requests)):
            prompts = [self._renderer.ids(self._renderer.text(request)) for request in requests]
            kinds: dict[Sampling, list[int]] = defaultdict(list)
            for index, request in enumerate(requests):
                if self._fits(len(prompts[index]) + request.sampling.max_tokens):
                    kinds[request.sampling].append(index)
                else:
                    limit = f"the model takes {self._context}"
                    replies[index] = Reply(
                        failure=f"The prompt has {len(prompts[index])} tokens, {limit} with the reply"
                    )
            self._count(asked=sum(map(len, prompts)))
            done = 0
            for sampling, indices in kinds.items():
                own, prefixes = [prompts[i] for i in indices], [requests[i].prefix for i in indices]
                for rows, found in self._prefilled(own, prefixes, sampling.max_tokens):
                    written = self._continue_rows(found, [requests[indices[row]].seed for row in rows], sampling)
                    del found  # its memory, before the next sub-batch
                    for row, reply in zip(rows, written, strict=True):
                        replies[indices[row]] = reply
                    done += len(rows)
                    report("replies", done, len(requests))
        return replies

    # --- Prompts -> the model's state behind them ---------------------------------------------------

    def _prefilled(
        self, prompts: Sequence[Ids], prefixes: Sequence[str], ahead: int
    ) -> Iterator[tuple[list[int], _Prefilled]]:
        """Sub-batches of one prefix, computed up to the end of their prompts; ``ahead`` tokens will follow."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, prefix in enumerate(prefixes):
            groups[prefix].append(index)
        single = [group[0] for group in groups.values() if len(group) == 1]
        for group in (single, *(group for group in groups.values() if len(group) > 1)):
            if group:
                yield from self._prefilled_group(prompts, group, ahead)

    def _prefilled_group(
        self, prompts: Sequence[Ids], group: Sequence[int], ahead: int
    ) -> Iterator[tuple[list[int], _Prefilled]]:
        """Sub-batches of similar length, behind what all their prompts begin with."""
        order = sorted(group, key=lambda i: len(prompts[i]))
        own = [prompts[i] for i in group]
        # One short of the shortest prompt, so that every row has a token of its own to compute.
        shared = min(_common(min(own), max(own)), len(prompts[order[0]]) - 1) if len(group) > 1 else 0
        if len(prompts[order[-1]]) + ahead > self._window:
            shared = 0  # a window or a recurrence would count the padding between prefix and suffix
        prefix = None
        if shared:
            ids = self._tensor([own[0][:shared]])
            prefix = self._forward(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            self._count(computed=shared)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            yield rows, self._prefill([prompts[row][shared:] for row in rows], prefix, shared)

    def _prefill(self, suffixes: Sequence[Ids], prefix: Any, shared: int) -> _Prefilled:
        width = max(map(len, suffixes))
        pad = self.tokenizer.pad_token_id or 0
        ids = self._tensor([[pad] * (width - len(s)) + s for s in suffixes])  # (B, L), padded on the left
        own = self._tensor([[0] * (width - len(s)) + [1] * len(s) for s in suffixes])  # (B, L)
        mask = torch.cat([own.new_ones(len(suffixes), shared), own], dim=1)  # (B, P + L)
        positions = (shared + own.cumsum(-1) - 1).clamp(min=0)
        cache = None if prefix is None else spread(prefix, len(suffixes))
        out = self._forward(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._count(computed=sum(map(len, suffixes)))
        return _Prefilled(out.logits[:, -1], out.past_key_values, mask, positions[:, -1:])

    # --- What to do behind the prompts --------------------------------------------------------------

    def _score_rows(self, found: _Prefilled, options: Sequence[Ids]) -> npt.NDArray[np.float64]:
        """Log-probabilities of each option behind each row, shape (B, K)."""
        first = precise(found.logits).log_softmax(-1)  # (B, V)
        scores = first[:, [option[0] for option in options]]  # (B, K)
        for column, option in enumerate(options):
            if len(option) > 1:
                size, steps = len(scores), len(option) - 1
                ids = self._tensor([option[:-1]]).expand(size, -1)
                ahead = torch.arange(1, steps + 1, device=ids.device)
                out = self._forward(
                    input_ids=ids,
                    attention_mask=torch.cat([found.mask, found.mask.new_ones(size, steps)], dim=1),
                    position_ids=found.positions + ahead,
                    past_key_values=branch(found.cache),  # every option starts from the end of the prompts
                    use_cache=True,
                )
                rest = precise(out.logits[:, -steps:]).log_softmax(-1)  # (B, T - 1, V)
                scores[:, column] += rest[:, range(steps), option[1:]].sum(-1)
                self._count(computed=size * steps)
        return scores.cpu().numpy()

    def _continue_rows(self, found: _Prefilled, seeds: Sequence[int], sampling: Sampling) -> list[Reply]:
        """Sample each row to its end; rows that are over leave the batch."""
        size = len(seeds)
        uniforms = torch.from_numpy(np.stack([noise(seed, sampling.max_tokens) for seed in seeds]))  # (B, T)

        written: list[Ids] = [[] for _ in range(size)]
        finished = [False] * size
        alive = list(range(size))
        logits, cache, mask, positions = found.logits, found.cache, found.mask, found.positions
        for step in range(sampling.max_tokens):
            seen = self._tensor([written[row] for row in alive])
            tokens = sample_tokens(logits, uniforms[alive, step], sampling, seen)  # (B,)
            keep = []
            for place, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
                if token in self._ends:
                    finished[row] = True
                    continue
                written[row].append(token)
                if sampling.stop and any(stop in self._decode(written[row]) for stop in sampling.stop):
                    finished[row] = True
                    continue
                keep.append(place)
            if not keep or step + 1 == sampling.max_tokens:
                break
            if len(keep) < len(alive):
                at = torch.tensor(keep, device=tokens.device)
                alive = [alive[place] for place in keep]
                tokens, mask, positions = tokens[at], mask[at], positions[at]
                cache.reorder_cache(at)  # which recurrent layers have, too
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            positions = positions + 1
            out = self._forward(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
            self._count(computed=len(alive))
        self._count(asked=sum(map(len, written)))
        return [
            Reply(self._until_stop(self._whole(ids, over), sampling.stop), finished=over)
            for ids, over in zip(written, finished, strict=True)
        ]

    # --- Small things ------------------------------------------------------------------------------

    def _forward(self, **inputs: Any) -> Any:  # Any: a transformers ModelOutput
        with torch.inference_mode():
            try:
                return self.model(**inputs)
            except torch.OutOfMemoryError as error:
                raise BackendError(
                    f"{self.name}: out of memory at {self.batch} requests; take a smaller batch"
                ) from error

    def _tensor(self, rows: Sequence[Ids]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self.model.device)

    def _decode(self, ids: Ids) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _whole(self, ids: Ids, over: bool) -> str:
        text = self._decode(ids)
        return text if over else text.rstrip("\N{REPLACEMENT CHARACTER}")  # the tokens ran out inside a character

    @staticmethod
    def _until_stop(text: str, stops: Sequence[str]) -> str:
        cuts = [at for at in (text.find(stop) for stop in stops) if at >= 0]
        return text[: min(cuts)] if cuts else text

    def _fits(self, tokens: int) -> bool:
        return self._context is None or tokens <= self._context

    def _count(self, asked: int = 0, computed: int = 0) -> None:
        self.usage += Usage(tokens_asked=asked, tokens_computed=computed)

    @contextmanager
    def _working(self, calls: int) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.usage += Usage(calls=calls, seconds=time.perf_counter() - start)


def _common(first: Ids, last: Ids) -> int:
    """How many tokens two prompts share from the start; for the least and greatest of many, how many all share."""
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


class _Prefilled:
    """A sub-batch up to the end of its prompts: next logits (B, V), cache, mask (B, S), last positions (B, 1)."""

    def __init__(self, logits: torch.Tensor, cache: Any, mask: torch.Tensor, positions: torch.Tensor) -> None:
        self.logits, self.cache, self.mask, self.positions = logits, cache, mask, positions
