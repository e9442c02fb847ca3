"""A transformers model that answers whole crowds.

The requests of a call become batches (batches.py): what many of them begin with is computed once, equal
prompts are computed once, and rows of similar length go together (rows.py). Behind the prompts labels are
scored as a tree of tokens (trie.py), or texts are written (decode.py).
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.local import memory
from mesa_meanfield.backends.local.adapters import Adapters
from mesa_meanfield.backends.local.batches import Ask, Batch, Ids, batches
from mesa_meanfield.backends.local.decode import Decoder, longest
from mesa_meanfield.backends.local.grammar import Grammars, Guide
from mesa_meanfield.backends.local.peaks import Spent
from mesa_meanfield.backends.local.rendering import Renderer
from mesa_meanfield.backends.local.rows import Rows, Runner
from mesa_meanfield.backends.local.sampling import precise
from mesa_meanfield.backends.local.trie import Trie, trie
from mesa_meanfield.errors import BackendError
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Reply, Request, Sampling, Usage

_KEPT_ROOTS = 2
_Done = TypeVar("_Done")
Question = tuple[str | None, str, str]  # adapter, prefix, suffix: all that a prompt depends on


class LocalBackend:
    """A causal language model of transformers, in this process. Not for several threads at once.

    Args:
        model: The model, on its device, in evaluation mode; its weights must not change any more.
        tokenizer: Its tokenizer.
        name: Its name in records.
        batch: Requests per sub-batch; None for as many as the device's memory takes. Changes the speed and
            no result beyond floating-point ties; halved where the memory does not suffice.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch: int | None = None) -> None:  # Any: theirs
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.batch = batch
        self._calls = 0
        self._asked = 0
        self._seconds = 0.0
        self._limit = batch  # what turned out to fit into memory
        self._renderer = Renderer(tokenizer)
        self._runner = Runner(model, tokenizer.pad_token_id or 0)
        self._adapters = Adapters(model)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._decoder = Decoder(self._runner, tokenizer, ends)
        self._grammars = Grammars(tokenizer, self._runner.vocabulary, ends)
        self._roots: OrderedDict[tuple[str | None, Ids], Rows] = OrderedDict()

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        computed = sum(phase.tokens for phase in self.phases.values())
        return Usage(self._calls, self._asked + self._decoder.written, computed, self._seconds)

    @property
    def phases(self) -> Mapping[str, Spent]:
        """What the parts of the work cost so far: prefix, prefill, decode, sampling."""
        return self._runner.phases

    def adapted(self, folder: str | Path, name: str = "") -> AdaptedBackend:
        """Load a LoRA adapter; returns a backend that answers with it on this same model.

        Args:
            folder: Where peft saved it.
            name: Its name here; by default that of the folder.

        Raises:
            BackendError: It is no adapter of this model, or the name is taken.
        """
        name = name or Path(folder).name
        self._runner.mixed = self._adapters.add(name, folder)
        return AdaptedBackend(self, name)

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates)); exact for any number of tokens.

        A prompt that does not fit into the model's context gets a row of NaN.
        """
        scores = np.full((len(requests), len(candidates)), np.nan)
        if not requests or not candidates:
            return scores
        with self._working(len(requests)):
            twins: dict[Question, list[int]] = defaultdict(list)  # equal questions are computed once
            for index, request in enumerate(requests):
                twins[request.adapter, request.prefix, request.suffix].append(index)
            places = list(twins.values())
            asks, texts = self._asks([requests[where[0]] for where in places])
            options = self._renderer.candidates(texts[0], candidates)
            tree, behind = trie(options), sum(len(option) - 1 for option in options)
            asks = [ask for ask in asks if self._fits(len(ask.prompt) + max(map(len, options)))]
            self._asked += sum((len(ask.prompt) + behind) * len(places[ask.index]) for ask in asks)
            done = 0
            for batch, values in self._each(asks, len(tree.tokens), lambda batch: self._score(batch, options, tree)):
                for ask, value in zip(batch.asks, values, strict=True):
                    scores[places[ask.index]] = value
                    done += len(places[ask.index])
                report("choices", done, len(requests))
        return scores

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order, each sampled with its own seed; those with a schema follow it."""
        replies = [Reply(failure="never asked")] * len(requests)
        with self._working(len(requests)):
            asks, _ = self._asks(requests)
            self._asked += sum(len(ask.prompt) for ask in asks)
            kinds: dict[tuple[Sampling, str | None], list[Ask]] = defaultdict(list)
            for ask in asks:
                kinds[requests[ask.index].sampling, requests[ask.index].schema].append(ask)
            done = 0
            for (sampling, schema), several in kinds.items():
                guide = None if schema is None else self._grammars.guide(schema)
                ahead = longest(sampling, guide)
                fitting = [ask for ask in several if self._fits(len(ask.prompt) + ahead)]
                for ask in several:
                    if not self._fits(len(ask.prompt) + ahead):
                        limit = f"the model takes {self._context} with the reply"
                        replies[ask.index] = Reply(failure=f"The prompt has {len(ask.prompt)} tokens, {limit}")

                def write(batch: Batch, how: Sampling = sampling, by: Guide | None = guide) -> list[Reply]:
                    seeds = [requests[ask.index].seed for ask in batch.asks]
                    return self._decoder.write(self._computed(batch, longest(how, by)), seeds, how, by)

                for batch, written in self._each(fitting, ahead, write):
                    for ask, reply in zip(batch.asks, written, strict=True):
                        replies[ask.index] = reply
                    done += len(batch.asks)
                    report("replies", done, len(requests))
        return replies

    # --- Requests -> batches ------------------------------------------------------------------------

    def _asks(self, requests: Sequence[Request]) -> tuple[list[Ask], list[str]]:
        """What is to be computed, with the rendered prompts; equal questions are rendered once."""
        known: dict[Question, tuple[str, Ids]] = {}
        asks, texts = [], []
        for index, request in enumerate(requests):
            question = (request.adapter, request.prefix, request.suffix)
            if question not in known:
                text = self._renderer.text(request)
                known[question] = text, tuple(self._renderer.ids(text))
            text, ids = known[question]
            asks.append(Ask(index, ids, question[:2], request.adapter))
            texts.append(text)
        return asks, texts

    def _each(self, asks: Sequence[Ask], ahead: int, work: Callable[[Batch], _Done]) -> Iterator[tuple[Batch, _Done]]:
        """The batches with what the work on each gives; those that memory cannot take are halved."""
        for whole in batches(asks, lambda n: self._size(n + ahead), lambda n: self._holds(n + ahead)):
            waiting = [whole]
            while waiting:
                batch = waiting.pop(0)
                if self._limit is not None and len(batch.asks) > self._limit:
                    waiting[:0] = batch.halves()
                    continue
                try:
                    with self._adapters.using(set(batch.adapters)):
                        done = work(batch)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    if not memory.is_out_of_memory(error):
                        raise
                    if len(batch.asks) == 1:
                        raise BackendError(
                            f"{self.name}: out of memory with one request; take a smaller model or shorter prompts"
                        ) from None
                    self._limit = len(batch.asks) // 2
                    self._roots.clear()
                    memory.give_back(self._runner.device)
                    waiting[:0] = batch.halves()
                    continue
                yield batch, done

    def _size(self, tokens: int) -> int:
        """How many rows of so many tokens a batch may have."""
        fitting = memory.rows_that_fit(self.model, tokens) if self.batch is None else self.batch
        return fitting if self._limit is None else min(fitting, self._limit)

    def _holds(self, width: int) -> bool:
        # A window or a recurrence would count the padding between a row's tokens.
        return width <= self._runner.window

    def _computed(self, batch: Batch, ahead: int) -> Rows:
        """The rows of a batch, up to the end of their prompts and with room for more."""
        holed = self._holds(batch.width + ahead)
        rows = self._root(batch) if batch.root else self._runner.start(0, holed=holed)
        mixed = len(set(batch.adapters)) > 1
        if any(batch.stems):
            tokens = sum(map(len, batch.stems))
            answering = [batch.adapters[batch.stem_of.index(stem)] for stem in range(len(batch.stems))]
            with self._runner.timed("prefix", tokens):
                width = max(map(len, batch.stems))
                rows = rows.picked([0] * len(batch.stems), width, self._adapters.named(answering) if mixed else None)
                rows.extend(batch.stems)
        leaves: dict[tuple[str | None, int, Ids], int] = {}  # equal prompts are one row until they are sampled
        row_of = []
        for place, (adapter, stem) in enumerate(zip(batch.adapters, batch.stem_of, strict=True)):
            row_of.append(leaves.setdefault((adapter, stem, batch.leaf(place)), len(leaves)))
        own = [leaf for _, _, leaf in leaves]
        tokens, twins = sum(map(len, own)), len(own) < len(row_of)
        with self._runner.timed("prefill", tokens):
            index = [stem if any(batch.stems) else 0 for _, stem, _ in leaves]
            room = max(map(len, own)) + (0 if twins else ahead)
            answering = [adapter for adapter, _, _ in leaves]
            rows = rows.picked(index, room, self._adapters.named(answering) if mixed else None)
            rows.extend(own)
            if twins:
                rows = rows.picked(row_of, ahead)
        return rows

    def _root(self, batch: Batch) -> Rows:
        """What all of a batch begins with; the last few are kept, for a second question to the same crowd."""
        key = (self._adapters.active, batch.root)
        if key not in self._roots:
            with self._runner.timed("prefix", len(batch.root)):
                rows = self._runner.start(len(batch.root))
                rows.extend([batch.root])
            self._roots[key] = rows.shared()
        self._roots.move_to_end(key)
        while len(self._roots) > _KEPT_ROOTS:
            self._roots.popitem(last=False)
        return self._roots[key]

    # --- Behind the prompts -------------------------------------------------------------------------

    def _score(self, batch: Batch, options: Sequence[Sequence[int]], tree: Trie) -> npt.NDArray[np.float64]:
        """Log-probabilities of each candidate behind each row, shape (B, K); the tree is that of all options."""
        rows = self._computed(batch, len(tree.tokens))
        # Where there may be no padding, branches may not stand beside each other either: each goes alone.
        trees = [tree] if rows.holed else [trie([option]) for option in options]
        return np.concatenate([self._score_tree(rows, one) for one in trees], axis=1)

    def _score_tree(self, rows: Rows, tree: Trie) -> npt.NDArray[np.float64]:
        """Log-probabilities of each candidate of a tree behind each row, shape (B, K)."""
        follows: dict[int, list[int]] = defaultdict(list)
        for node, token in dict.fromkeys(term for terms in tree.terms for term in terms):
            follows[node].append(token)
        found: dict[tuple[int, int], torch.Tensor] = {}  # node and token -> log-probabilities, (B,)
        with self._runner.timed("prefill", len(rows) * len(tree.tokens)):
            ahead = rows.ahead(tree) if tree.tokens else rows.logits[:, None]  # (B, N, V)
            for node, tokens in follows.items():
                logits = precise(rows.logits if node < 0 else ahead[:, node])
                logs = logits[:, tokens] - logits.logsumexp(-1, keepdim=True)
                found |= {(node, token): logs[:, place] for place, token in enumerate(tokens)}
            sums = [torch.stack([found[term] for term in terms]).sum(0) for terms in tree.terms]
        return torch.stack(sums, dim=1).cpu().numpy()

    # --- Small things ------------------------------------------------------------------------------

    def _fits(self, tokens: int) -> bool:
        return self._context is None or tokens <= self._context

    @contextmanager
    def _working(self, calls: int) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._calls += calls
            self._seconds += time.perf_counter() - start
