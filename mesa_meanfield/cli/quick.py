"""Quick roll-outs beside a training: how far a few held-out cascades drift under the adapters as they are now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.local.backend import LocalBackend
from mesa_meanfield.cascades.dimensions import space_of
from mesa_meanfield.cli.output import note
from mesa_meanfield.data import Cascade, cut
from mesa_meanfield.errors import ReplyError
from mesa_meanfield.evaluation.comparison import compare
from mesa_meanfield.evaluation.selection import comparable, stratified
from mesa_meanfield.ibtune.config import Stage
from mesa_meanfield.ibtune.items import Recipe, language_of
from mesa_meanfield.policy import LLMPolicy
from mesa_meanfield.prompts import Prompts
from mesa_meanfield.protocols import Backend, Reply, Request, Summarizer, Usage
from mesa_meanfield.summarizers import NoField
from mesa_meanfield_models.cascade.model import simulate

MIN_ACTIONS = 8
"""Smaller cascades say too little about shares."""
_MOST = 32  # roll-out actions of a cascade, so that a look stays quick


@final
class Tuned:
    """A model under training as a backend, which answers as it is now, with one of its adapters or with none.

    Args:
        model: By `ibtune.lora.with_adapters`, in evaluation mode while it is asked.
        base: The backend of the same model before it got the adapters.
        adapter: The name; None for the bare model.
    """

    def __init__(self, model: Any, base: LocalBackend, adapter: str | None) -> None:  # Any: peft's
        self.name = base.name if adapter is None else f"{base.name}+{adapter}"
        self._model = model
        self._adapter = adapter
        self._backend = LocalBackend(model, base.tokenizer, name=self.name, batch=base.batch)

    @property
    def usage(self) -> Usage:
        """What was spent so far."""
        return self._backend.usage

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request, in order."""
        with self._on():
            return self._backend.generate(requests)

    def score(self, requests: Sequence[Request], candidates: Sequence[str]) -> npt.NDArray[np.float64]:
        """Log-probabilities in nats, shape (len(requests), len(candidates))."""
        with self._on():
            return self._backend.score(requests, candidates)

    @contextmanager
    def _on(self) -> Iterator[None]:
        if self._adapter is None:
            with self._model.disable_adapter():
                yield
        else:
            self._model.set_adapter(self._adapter, inference_mode=True)
            yield


class QuickRollOuts:
    """Rolls a few held-out cascades out: labels only, one replica, at temperature 1; see `ibtune.looks.RollOuts`.

    The mean field is by the training's summarizer, with its adapter where it is trained; ``sft`` sees none.

    Args:
        recipe: How the cascades are cut: their warm-up is the largest share that is only watched.
        prompts: Language -> the wording.
        summarizers: Makes the training's summarizer in each language, from the backend that it asks.
        base: The backend of the model before it got its adapters.
        looked_at: The held-out cascades.
        reported: Those of the figures before and after, where they are others.
        count: How many cascades of each, drawn by the recipe's seed.
    """

    def __init__(
        self,
        recipe: Recipe,
        prompts: Mapping[str, Prompts],
        summarizers: Callable[[Backend], Mapping[str, Summarizer]],
        base: LocalBackend,
        looked_at: Sequence[Cascade],
        reported: Sequence[Cascade],
        count: int,
    ) -> None:
        self._recipe = recipe
        self._prompts = prompts
        self._summarizers = summarizers
        self._base = base
        self._looked_at = self._drawn(looked_at, count)
        self._reported = self._drawn(reported, count)
        self._told: set[str] = set()

    def __call__(self, model: Any, stage: Stage, share: slice, *, reported: bool) -> list[float]:  # Any: peft's
        """KL(real || simulated) in nats of each cascade that could be rolled out."""
        decides = Tuned(model, self._base, _of(model, "sft" if stage == "sft" else "policy"))
        fields: Mapping[str, Summarizer] = (
            {language: NoField() for language in self._prompts}
            if stage == "sft"
            else self._summarizers(Tuned(model, self._base, _of(model, "summarizer")))
        )
        found = []
        for cascade in (self._reported if reported else self._looked_at)[share]:
            try:
                found.append(self._kl(cascade, decides, fields))
            except ReplyError as error:  # no decision of the whole roll-out could be used
                if cascade.id not in self._told:
                    self._told.add(cascade.id)
                    note(f"the quick roll-out of {cascade.id} is left out: {error}")
        return found

    def _kl(self, cascade: Cascade, decides: Tuned, fields: Mapping[str, Summarizer]) -> float:
        how, language = self._recipe, language_of(cascade)
        space = space_of(how.dimension, how.labels, language, texts=False)
        policy = LLMPolicy(decides, space, prompts=self._prompts[language], on_failure="skip")
        warm_up = how.warm_up[1]
        done = simulate(
            cascade,
            policy,
            fields[language],
            how.seed,
            dimension=how.dimension,
            warm_up=warm_up,
            per_tick=how.per_tick,
            agents=_MOST,
        )
        parts = cut(cascade, warm_up, how.per_tick, _MOST)
        actions = done.actions[sum(map(len, parts.warm_up)) :]
        return compare(parts, actions, how.dimension, how.labels).simulated.kl

    def _drawn(self, cascades: Sequence[Cascade], count: int) -> list[Cascade]:
        how = self._recipe
        fitting, _ = comparable(
            cascades, how.dimension, min_actions=MIN_ACTIONS, warm_up=how.warm_up[1], agents=_MOST
        )
        return stratified(fitting, count, how.seed)


def _of(model: Any, name: str) -> str | None:
    """The adapter, where the model has one of that name."""
    return name if name in model.peft_config else None
