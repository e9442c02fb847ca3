"""Rows of tokens behind which a model goes on: the one place where it is run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from mesa_meanfield.backends.local import caches
from mesa_meanfield.backends.local.peaks import Spent
from mesa_meanfield.backends.local.shared import NAME, SharedCache, attending
from mesa_meanfield.backends.local.trie import Trie

Ids = Sequence[int]


class Runner:
    """Runs one model.

    Args:
        model: A causal language model of transformers.
        pad: The token that fills rows up; it is never looked at.
    """

    def __init__(self, model: Any, pad: int) -> None:  # Any: transformers' own
        self.model = model
        self.pad = pad
        self.mixed: Any = None
        """The model with its adapters, once there are any."""
        self.window = caches.window(model)
        """How many tokens may hold padding in their midst: 0 where none may."""
        self.phases = {name: Spent() for name in ("prefix", "prefill", "decode", "sampling")}
        """What each part of the work cost so far."""
        self._synchronise = getattr(torch, self.model.device.type).synchronize if self._asynchronous else None
        self._shares = self.window > 0 and self._try_sharing()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def vocabulary(self) -> int:
        """How many tokens there are to choose from."""
        return int(self.model.config.get_text_config().vocab_size)

    def start(self, room: int, *, holed: bool = True) -> Rows:
        """One row without any token.

        Args:
            room: How many tokens it will get.
            holed: Whether there may be padding between its tokens.
        """
        return self._start(room, shares=self._shares and holed, holed=holed)

    @contextmanager
    def timed(self, name: str, tokens: int) -> Iterator[None]:
        """Count what is done inside to a phase."""
        start = time.perf_counter()
        yield
        if self._synchronise is not None:
            self._synchronise()
        self.phases[name] += Spent(time.perf_counter() - start, tokens, 1)

    def run(self, adapters: Sequence[str] | None, **inputs: Any) -> Any:  # Any: transformers' own
        """Run the model; rows of different adapters go through peft, which tells them apart."""
        if adapters is None:
            return self.model(**inputs)
        return self.mixed(**inputs, adapter_names=list(adapters))

    @property
    def _asynchronous(self) -> bool:
        return self.model.device.type in ("cuda", "mps")

    def _start(self, room: int, *, shares: bool, holed: bool) -> Rows:
        layers = self.model.config.get_text_config().num_hidden_layers
        cache = SharedCache.empty(layers, room) if shares else DynamicCache(config=self.model.config)
        held = torch.zeros(1, 0, dtype=torch.bool, device=self.device)
        return Rows(self, cache, held, torch.zeros(1, dtype=torch.long, device=self.device), holed)

    def _try_sharing(self) -> bool:
        """Whether this model gives the same with shared keys as without them: tried, not assumed."""
        base = caches.base_of(self.model)
        before = base.config._attn_implementation
        if before not in ("sdpa", NAME) or not caches.keeps_all(self.model):
            return False
        # Ordinary tokens: behind the control tokens, which come first, bf16 is too rough to compare anything.
        a, b, c, d, e = (self.vocabulary * place // 6 for place in range(1, 6))
        try:
            base.set_attn_implementation(NAME)
            found = []
            for shares in (False, True):
                rows = self._start(4, shares=shares, holed=True)
                rows.extend([[a, b, c, d]])
                rows = rows.shared().picked([0, 0], 6)
                rows.extend([[c, e, a, e], [b, d]])
                rows.extend([[d], [a]])
                found.append(rows.logits.float())
        except (NotImplementedError, AttributeError, KeyError, IndexError, RuntimeError):
            same = False  # an attention of its own, or layers that are counted in another way
        else:
            tolerance = 1e-4 if base.dtype == torch.float32 else 5e-2
            plain, shared = found
            same = bool((plain - shared).abs().max() <= tolerance * plain.abs().max())
        if not same:
            base.set_attn_implementation(before)
        return same


class Rows:
    """Rows of tokens, computed.

    Args:
        runner: What runs them.
        cache: Their keys and values.
        held: Which slots of the cache hold a row's token instead of padding, (B, S).
        lengths: How many tokens each row has, what it shares included, (B,).
        holed: Whether there may be padding between a row's tokens.
        adapters: What answers each row, by peft's names, where they differ.
    """

    def __init__(
        self,
        runner: Runner,
        cache: Any,
        held: torch.Tensor,
        lengths: torch.Tensor,
        holed: bool,
        adapters: Sequence[str] | None = None,
    ) -> None:
        self.logits = torch.empty(0)
        """What comes next behind each row, (B, V)."""
        self._runner = runner
        self._cache = cache
        self._held = held
        self._lengths = lengths
        self.holed = holed
        self._adapters = adapters

    def __len__(self) -> int:
        return len(self._held)

    def extend(self, suffixes: Sequence[Ids]) -> None:
        """Compute further tokens behind each row, shorter ones padded on the left; at least one each."""
        width = max(map(len, suffixes))
        pad, device = self._runner.pad, self._runner.device
        ids = torch.tensor([[pad] * (width - len(s)) + [*s] for s in suffixes], device=device)  # (B, T)
        if width == 1:
            own = torch.ones_like(ids, dtype=torch.bool)
        else:
            missing = torch.tensor([width - len(s) for s in suffixes], device=device)
            own = torch.arange(width, device=device) >= missing[:, None]  # (B, T)
        self._extend(ids, own)

    def step(self, tokens: torch.Tensor) -> None:
        """Compute one further token of each row, (B,)."""
        self._extend(tokens[:, None], torch.ones_like(tokens[:, None], dtype=torch.bool))

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute further tokens of each row, (B, T); returns the logits behind each of them, (B, T, V)."""
        logits = self._extend(tokens, torch.ones_like(tokens, dtype=torch.bool), keep=0)
        self.logits = self.logits.clone()  # lest it keeps all of them in memory
        return logits

    def shared(self) -> Rows:
        """The one row there is, as a beginning that the rows picked from it share."""
        if isinstance(self._cache, SharedCache):
            return Rows(self._runner, self._cache.shared(), self._held[:, :0], self._lengths, self.holed)
        return self

    def picked(self, index: Sequence[int], room: int, adapters: Sequence[str] | None = None) -> Rows:
        """These rows, any number of times and in any order, each with room for more tokens.

        Args:
            index: Which rows.
            room: For how many further tokens.
            adapters: What answers each from now on, where they differ; without it what has answered so far.
        """
        rows = torch.tensor(index, dtype=torch.long, device=self._runner.device)
        if adapters is None and self._adapters is not None:
            adapters = [self._adapters[row] for row in index]
        cache = caches.picked(self._cache, rows, room)
        picked = Rows(self._runner, cache, self._held[rows], self._lengths[rows], self.holed, adapters)
        if self.logits.numel():
            picked.logits = self.logits[rows]
        return picked

    def ahead(self, tree: Trie) -> torch.Tensor:
        """The logits behind each node of a tree that begins behind each row, (B, N, V); the rows stay as they are.

        Rows whose tokens hold no padding take a tree that is one chain only.
        """
        size, count, device = len(self), len(tree.tokens), self._runner.device
        ids = torch.tensor(tree.tokens, device=device).expand(size, -1)  # (B, N)
        depths = torch.tensor([len(ancestors) - 1 for ancestors in tree.ancestors], device=device)
        seen = torch.zeros(count, count, dtype=torch.bool, device=device)
        for node, ancestors in enumerate(tree.ancestors):
            seen[node, list(ancestors)] = True
        held = torch.cat([self._held, self._held.new_ones(size, count)], dim=1)
        mask = self._mask(seen.expand(size, -1, -1)) if self.holed else held.long()
        return self._forward(ids, mask, self._lengths[:, None] + depths, caches.branch(self._cache), keep=0)

    def _extend(self, ids: torch.Tensor, own: torch.Tensor, keep: int = 1) -> torch.Tensor:
        width = ids.shape[1]
        positions = (self._lengths[:, None] + own.cumsum(-1) - 1).clamp(min=0)
        if self.holed:
            earlier = torch.ones(width, width, dtype=torch.bool, device=ids.device).tril()
            mask = self._mask(earlier & own[:, None])
        held = torch.cat([self._held, own], dim=1)
        if not self.holed:
            mask = held.long()
        logits = self._forward(ids, mask, positions, self._cache, keep)
        self.logits = logits[:, -1]
        self._held = held
        self._lengths = self._lengths + own.sum(-1)
        return logits

    def _mask(self, new: torch.Tensor) -> torch.Tensor:
        """What is seen, 0 or as good as minus infinity, (B, 1, T, S + T); of the new tokens as said, (B, T, T)."""
        old = self._held[:, None].expand(-1, new.shape[1], -1)  # (B, T, S)
        seen = torch.cat([old, new], dim=-1)[:, None]
        dtype = self._runner.model.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, keep: int
    ) -> torch.Tensor:
        with torch.inference_mode(), attending(cache) if isinstance(cache, SharedCache) else nullcontext():
            out = self._runner.run(
                self._adapters,
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        logits: torch.Tensor = out.logits
        return logits
