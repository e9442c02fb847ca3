"""What one step of each stage computes: the policy's losses, and the summarizer's samples with their rewards."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from mesa_meanfield.actions import labels_of
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.data import MeanField
from mesa_meanfield.ibtune.batches import Batcher, Chain
from mesa_meanfield.ibtune.config import Bottleneck, Settings, Stage
from mesa_meanfield.ibtune.items import Item
from mesa_meanfield.ibtune.objectives import Losses, losses, rloo
from mesa_meanfield.ibtune.packing import Packer
from mesa_meanfield.ibtune.sampling import Sampler
from mesa_meanfield.seeds import derive
from mesa_meanfield.summarizers import LLMSummarizer


@dataclass(frozen=True, slots=True)
class Sums:
    """What some ticks came to; sums, so that those of several processes add up."""

    ticks: float = 0.0
    agents: float = 0.0
    nats: float = 0.0
    """What all labels and texts cost."""
    text_nats: float = 0.0
    text_tokens: float = 0.0
    distortion: float = 0.0
    """D of each tick, added up."""
    summaries: float = 0.0
    """Ticks with sampled summaries."""
    rate: float = 0.0
    """The mean R of each of them, added up."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(*map(operator.add, self.values, other.values))

    @property
    def values(self) -> list[float]:
        """All of them, in the order of the fields."""
        return [getattr(self, one.name) for one in fields(self)]

    def times(self, factor: float) -> Sums:
        """All of them, scaled."""
        return Sums(*(factor * value for value in self.values))

    def told(self) -> dict[str, float | None]:
        """The means: NLL per action and per token of the texts, distortion and rate per tick, all in nats."""
        return {
            "nll": _over(self.nats, self.agents),
            "nll_per_token": _over(self.text_nats, self.text_tokens),
            "distortion": _over(self.distortion, self.ticks),
            "rate": _over(self.rate, self.summaries),
        }

    def objective(self, stage: Stage, how: Bottleneck) -> float:
        """What the stage minimises."""
        found = self.told()
        distortion = found["distortion"] or 0.0
        if stage != "summarizer":
            return distortion
        return how.predictive * distortion + (found["rate"] or 0.0) / how.beta


def _over(total: float, count: float) -> float | None:
    return total / count if count else None


class Trainer:
    """One base model with its adapters, and all that is needed to learn from ticks.

    Args:
        model: By `with_adapters`; the policy's adapter is "policy", or "sft" where it never sees a field.
        tokenizer: Of transformers.
        settings: Of the training.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:  # Any: transformers' and peft's
        self.model = model
        self.settings = settings
        self.listen: Callable[[Item, Sequence[str]], None] | None = None
        """Told the summaries that are sampled before a tick."""
        config = model.get_base_model().config.get_text_config()
        ends = model.get_base_model().generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        pad = tokenizer.pad_token_id or 0
        self.batcher = Batcher(tokenizer, getattr(config, "max_position_embeddings", None))
        self.packer = Packer(model, pad=pad, ends=ends, packing=settings.packing)
        self._sampler: Sampler | None = None
        self._pad, self._ends = pad, ends

    def use(self, name: str) -> None:
        """Let an adapter answer, and be the one that is trained."""
        self.model.set_adapter(name)

    @contextmanager
    def frozen(self, name: str | None) -> Iterator[None]:
        """Let an adapter answer inside the block, or the bare model, without gradients; then the old one again."""
        before = self.model.active_adapter
        with torch.no_grad():
            if name is None:
                with self.model.disable_adapter():
                    yield
                return
            self.model.set_adapter(name, inference_mode=True)
            try:
                yield
            finally:
                self.model.set_adapter(before)

    def mode(self, *, training: bool, dropout: bool) -> None:
        """Training mode keeps gradient checkpointing on; dropout is off where a distribution is to be exact."""
        self.model.train(training)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout) and not dropout:
                module.eval()

    def learn(self, stage: Stage, items: Sequence[Item], seed: int) -> tuple[torch.Tensor, Sums]:
        """What a stage minimises on some ticks, added up, with gradients; the seed is that of sampled summaries."""
        if stage != "summarizer":
            return self.policy(items, stage)
        return self.summarizer(items, "policy" if "policy" in self.model.peft_config else None, seed)

    def policy(self, items: Sequence[Item], stage: Stage) -> tuple[torch.Tensor, Sums]:
        """D of some ticks, added up, with gradients."""
        shown = [item.without_field() for item in items] if stage == "sft" else items
        found = losses(self.packer, self.model, [self.batcher.policy(item) for item in shown])
        total, sums = torch.zeros((), device=self.model.device), Sums()
        for one in found:
            distortion, told = self._distortion(one)
            total = total + distortion
            sums += told
        return total, sums

    def _distortion(self, one: Losses) -> tuple[torch.Tensor, Sums]:
        agents = len({question.agent for question in one.questions})
        if not agents:  # all of its prompts are longer than the context
            return one.nats.sum(), Sums()
        distortion = one.distortion(agents, self.settings.text_weight)
        texts = [i for i, question in enumerate(one.questions) if question.kind == "text"]
        nats = one.nats.detach()
        return distortion, Sums(
            ticks=1,
            agents=agents,
            nats=float(nats.sum()),
            text_nats=float(nats[texts].sum()),
            text_tokens=sum(one.questions[i].chains[0].length for i in texts),
            distortion=float(distortion.detach()),
        )

    def summarizer(self, items: Sequence[Item], policy: str | None, seed: int) -> tuple[torch.Tensor, Sums]:
        """The surrogate losses of some ticks, added up, whose gradients are those of D + R / beta.

        Args:
            items: Ticks that have one before them.
            policy: The adapter that decides, None for the bare model.
            seed: Of the summaries.
        """
        total, sums = torch.zeros((), device=self.model.device), Sums()
        for item in items:
            samples = self.samples(item, derive(seed, item.cascade, item.tick.number))
            if not samples:
                continue
            logs = self.packer.log_probabilities(self.model, samples, self.settings.bottleneck.temperature)
            rewards, told = self.rewards(item, samples, logs.detach(), policy)
            total = total + rloo(rewards, logs)
            sums += told
        return total, sums

    def samples(self, item: Item, seed: int) -> list[Chain]:
        """G summaries of the item's last tick, by the adapter that answers now; none where they do not fit."""
        how = self.settings.bottleneck
        if self._sampler is None:
            self._sampler = Sampler(self.model, pad=self._pad, ends=self._ends)
        prompt = self.batcher.summary(item, _asking(item), seed, how.max_tokens)
        if prompt is None:
            return []
        seeds = [derive(seed, "summary", g) for g in range(how.samples)]
        training = self.model.training
        self.model.eval()  # gradient checkpointing would forbid the cache
        samples = self._sampler.sample(prompt, seeds, how.max_tokens, how.temperature)
        self.mode(training=training, dropout=False)
        return samples

    def rewards(
        self, item: Item, samples: Sequence[Chain], logs: torch.Tensor, policy: str | None
    ) -> tuple[torch.Tensor, Sums]:
        """The rewards -(D + R / beta) of each summary, shape (G,), without gradients.

        Args:
            item: The tick that the summaries stand before.
            samples: The summaries.
            logs: log mu(m | X) of each, (G,).
            policy: The adapter that decides, None for the bare model.
        """
        how = self.settings.bottleneck
        alone = self.batcher.alone(item)
        with self.frozen(None):
            replies = [Chain((*alone, *c.ids[c.start :]), len(alone), c.over) for c in samples]
            rate = logs - self.packer.log_probabilities(self.model, replies, how.temperature)  # (G,)
        fields = [self.field(item, sample) for sample in samples]
        if self.listen is not None:
            self.listen(item, [field.text for field in fields])
        distinct = {field.text: field for field in fields}  # the counts are the same for all
        with self.frozen(policy):
            found = losses(self.packer, self.model, [self.batcher.policy(item, one) for one in distinct.values()])
        costs = dict(zip(distinct, map(self._distortion, found), strict=True))
        each = [costs[field.text] for field in fields]
        distortion = torch.stack([one for one, _ in each])  # (G,)
        mean = sum((sums for _, sums in each), Sums()).times(1 / len(each))
        return -(how.predictive * distortion + rate / how.beta), replace(mean, summaries=1, rate=float(rate.mean()))

    def field(self, item: Item, summary: Chain) -> MeanField:
        """The item's mean field with a summary as its text."""
        assert item.last is not None
        counted = item.previous.counted(item.last, labels_of((item.space,)))
        return replace(counted, text=self.batcher.text(summary), tells_shares=self.settings.bottleneck.shares)


def _asking(item: Item) -> LLMSummarizer:
    """Whoever asks for a summary as at inference; its backend is never called."""
    return LLMSummarizer(ScriptedBackend(), prompts=item.prompts)
