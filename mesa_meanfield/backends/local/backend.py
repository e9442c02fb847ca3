"""A transformers model that answers whole crowds.

The requests of a call become batches (batches.py): what many of them begin with is computed once, equal
prompts are computed once, and rows of similar length go together (prefill.py, rows.py). Behind the prompts
labels are scored as a tree of tokens (trie.py) and given texts one by one (likelihood.py), or texts are
written (decode.py).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
from mesa_meanfield.backends.local.likelihood import score_labels, score_texts
from mesa_meanfield.backends.local.peaks import Spent
from mesa_meanfield.backends.local.prefill import Prefill
from mesa_meanfield.backends.local.rendering import Renderer
from mesa_meanfield.backends.local.rows import Runner
from mesa_meanfield.backends.local.trie import trie
from mesa_meanfield.errors import BackendError
from mesa_meanfield.progress import report
from mesa_meanfield.protocols import Likelihood, Reply, Request, Sampling, Usage

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
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._decoder = Decoder(self._runner, tokenizer, self._ends)
        self._grammars = Grammars(tokenizer, self._runner.vocabulary, self._ends)
        self._prefill = Prefill(self._runner, self._adapters)

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
            places = _places(map(_question, requests))  # equal questions are computed once
            asks, prompts = self._asks([requests[where[0]] for where in places])
            options = self._renderer.candidates(prompts[0], candidates)
            tree, behind = trie(options), sum(len(option) - 1 for option in options)
            asks = [ask for ask in asks if self._fits(len(ask.prompt) + max(map(len, options)))]
            self._asked += sum((len(ask.prompt) + behind) * len(places[ask.index]) for ask in asks)
            ahead, done = len(tree.tokens), 0

            def score(batch: Batch) -> npt.NDArray[np.float64]:
                return score_labels(self._runner, self._prefill.rows(batch, ahead), options, tree)

            for batch, values in self._each(asks, ahead, score):
                for ask, value in zip(batch.asks, values, strict=True):
                    scores[places[ask.index]] = value
                    done += len(places[ask.index])
                report("choices", done, len(requests))
        return scores

    def log_likelihood(self, requests: Sequence[Request], texts: Sequence[str]) -> list[Likelihood]:
        """How probable each text is as the whole reply to its request, up to and including the reply's end.

        The text is that of its usual tokens; the same letters as other tokens, which a model hardly writes,
        are not added.

        Raises:
            ValueError: There are not as many texts as requests.
        """
        if len(texts) != len(requests):
            raise ValueError(f"Each request needs its own text, got {len(requests)} requests and {len(texts)} texts")
        found = [Likelihood(math.nan, 0)] * len(requests)
        if not requests:
            return found
        with self._working(len(requests)):
            places = _places(zip(map(_question, requests), texts, strict=True))
            asks, prompts = self._asks([requests[where[0]] for where in places])
            given = zip(prompts, (texts[where[0]] for where in places), strict=True)
            ids = [self._renderer.candidates(prompt, [text])[0] for prompt, text in given]
            asks = [ask for ask in asks if self._fits(len(ask.prompt) + len(ids[ask.index]))]
            self._asked += sum((len(ask.prompt) + len(ids[ask.index])) * len(places[ask.index]) for ask in asks)
            done = 0

            def score(batch: Batch) -> npt.NDArray[np.float64]:
                own = [ids[ask.index] for ask in batch.asks]
                return score_texts(self._runner, self._prefill.rows(batch, max(map(len, own))), own, self._ends)

            for batch, nats in self._each(asks, max((len(ids[ask.index]) for ask in asks), default=0), score):
                for ask, value in zip(batch.asks, nats.tolist(), strict=True):
                    for place in places[ask.index]:
                        found[place] = Likelihood(value, len(ids[ask.index]) + bool(self._ends))
                    done += len(places[ask.index])
                report("texts", done, len(requests))
        return found

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
                    return self._decoder.write(self._prefill.rows(batch, longest(how, by)), seeds, how, by)

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
            question = _question(request)
            if question not in known:
                text = self._renderer.text(request)
                known[question] = text, tuple(self._renderer.ids(text))
            text, ids = known[question]
            asks.append(Ask(index, ids, question[:2], request.adapter))
            texts.append(text)
        return asks, texts

    def _each(self, asks: Sequence[Ask], ahead: int, work: Callable[[Batch], _Done]) -> Iterator[tuple[Batch, _Done]]:
        """The batches with what the work on each gives; those that memory cannot take are halved."""
        for whole in batches(asks, lambda n: self._size(n + ahead), lambda n: self._prefill.holds(n + ahead)):
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
                    self._prefill.forget()
                    memory.give_back(self._runner.device)
                    waiting[:0] = batch.halves()
                    continue
                yield batch, done

    def _size(self, tokens: int) -> int:
        """How many rows of so many tokens a batch may have."""
        fitting = memory.rows_that_fit(self.model, tokens) if self.batch is None else self.batch
        return fitting if self._limit is None else min(fitting, self._limit)

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


def _question(request: Request) -> Question:
    return request.adapter, request.prefix, request.suffix


def _places(keys: Iterable[Hashable]) -> list[list[int]]:
    """Where each different key stands; equal ones are twins."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        places[key].append(index)
    return list(places.values())
