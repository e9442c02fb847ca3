"""Batches -> rows: every prompt computed up to its end, what several begin with only once."""

from __future__ import annotations

from collections import OrderedDict

from mesa_meanfield.backends.local.adapters import Adapters
from mesa_meanfield.backends.local.batches import Batch, Ids
from mesa_meanfield.backends.local.rows import Rows, Runner

_KEPT_ROOTS = 2


class Prefill:
    """Computes prompts.

    Args:
        runner: What runs the model.
        adapters: The model's adapters; those that a batch needs must be in use.
    """

    def __init__(self, runner: Runner, adapters: Adapters) -> None:
        self._runner = runner
        self._adapters = adapters
        self._roots: OrderedDict[tuple[str | None, Ids], Rows] = OrderedDict()

    def holds(self, width: int) -> bool:
        """Whether rows of so many tokens may have padding in their midst."""
        # A window or a recurrence would count the padding between a row's tokens.
        return width <= self._runner.window

    def rows(self, batch: Batch, ahead: int) -> Rows:
        """The rows of a batch, up to the end of their prompts and with room for more."""
        holed = self.holds(batch.width + ahead)
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

    def forget(self) -> None:
        """Let go of what is kept for a second question to the same crowd."""
        self._roots.clear()

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
