"""Chains of tokens -> their log-probabilities, what they share computed once.

All chains of a tick are one tree: its instructions, topic and mean field are the trunk, the agents and
their replies the branches. In preorder the descendants of a node stand right behind it, so node j sees
node i where i <= j < end(i): a four-dimensional mask with which one pass computes the whole tree. Where a
model's attention or positions do not allow that, every chain is a row of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mesa_meanfield.backends.local import caches
from mesa_meanfield.backends.local.shared import NAME
from mesa_meanfield.ibtune.batches import Chain, Ids

_END = -1  # instead of a token: the reply ends here, by whatever token may end it
_MOST = 2048
"""Nodes of a tree: attention to more costs more than the beginning that two trees would both compute."""
_WITH_MASKS = ("sdpa", "eager", NAME)


@dataclass(frozen=True)
class Tree:
    """Token sequences, what they begin with once, in preorder."""

    tokens: list[int]
    depths: list[int]
    """How many tokens stand before each; its position."""
    ends: list[int]
    """Behind each node, where its descendants end."""
    paths: dict[Ids, list[int]]
    """For each sequence its nodes."""


def tree_of(sequences: Sequence[Ids]) -> Tree:
    """The tree of some token sequences."""
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    paths: dict[Ids, list[int]] = {}
    path: list[int] = []  # the nodes of the sequence before; sorted, the next shares most with that one
    before: Ids = ()
    for sequence in sorted(set(sequences)):
        shared = shared_length(before, sequence)
        for node in path[shared:]:
            ends[node] = len(tokens)
        path = path[:shared]
        for depth in range(shared, len(sequence)):
            path.append(len(tokens))
            tokens.append(sequence[depth])
            depths.append(depth)
            ends.append(0)
        paths[sequence] = list(path)
        before = sequence
    for node in path:
        ends[node] = len(tokens)
    return Tree(tokens, depths, ends, paths)


class Packer:
    """Computes chains with one model.

    Args:
        model: A causal language model of transformers, with adapters or without.
        pad: The token that fills rows up; it is never looked at.
        ends: The tokens that end a reply.
        packing: Whether to compute what chains share once, where the model gives the same then.
    """

    def __init__(self, model: Any, *, pad: int, ends: Collection[int], packing: bool = True) -> None:
        self._base = caches.base_of(model)  # Any: transformers' own
        self._pad = pad
        self._ends = sorted(ends)
        self._picks = "logits_to_keep" in inspect.signature(self._base.forward).parameters
        self.asked = 0
        """Tokens so far, as if every question were computed alone."""
        self.computed = 0
        """Tokens that the model computed so far, padding left out."""
        self._window = caches.window(model) if packing else 0
        if self._window and not (self._base.config._attn_implementation in _WITH_MASKS and self._try()):
            self._window = 0

    @property
    def packs(self) -> bool:
        """Whether chains are computed as a tree, those at least that are no longer than the model's window."""
        return self._window > 0

    def log_probabilities(self, model: Any, chains: Sequence[Chain], temperature: float = 1.0) -> torch.Tensor:
        """Each reply's log-probability in nats, summed over its tokens: shape (C,), with gradients.

        Args:
            model: The model, with its adapters or without.
            chains: At least one.
            temperature: By which the logits are divided.
        """
        order = sorted(range(len(chains)), key=lambda number: chains[number].read)  # what shares most, together
        found = [
            self._pass(model, [chains[number] for number in group], temperature) for group in _groups(chains, order)
        ]
        places = torch.tensor(order, device=found[0].device)
        return torch.cat(found)[places.argsort()]

    def _pass(self, model: Any, chains: Sequence[Chain], temperature: float) -> torch.Tensor:
        """`log_probabilities` of what one pass takes."""
        sequences = list(dict.fromkeys(chain.read for chain in chains))
        if max(map(len, sequences)) <= self._window:
            logits, place = self._as_tree(model, sequences, chains)
        else:
            logits, place = self._as_rows(model, sequences, chains)
        index, tokens, owners = [], [], []
        for number, chain in enumerate(chains):
            after = (*chain.ids[chain.start :], *([_END] if chain.over else []))
            for offset, token in enumerate(after):
                index.append(place[chain.read, chain.start - 1 + offset])
                tokens.append(token)
                owners.append(number)
        device = logits.device
        terms = _told(logits / temperature, torch.tensor(index, device=device), tokens, self._ends)
        sums = torch.zeros(len(chains), device=device, dtype=terms.dtype)
        return sums.index_add(0, torch.tensor(owners, device=device), terms)

    def _as_tree(self, model: Any, sequences: list[Ids], chains: Sequence[Chain]) -> tuple[torch.Tensor, Any]:
        """Logits behind the nodes that are asked for, (M, V), and where each stands."""
        tree = tree_of(sequences)
        nodes = sorted({n for c in chains for n in tree.paths[c.read][c.start - 1 :]})
        device, size = self._base.device, len(tree.tokens)
        order = torch.arange(size, device=device)
        ends = torch.tensor(tree.ends, device=device)
        seen = (order[None, :] <= order[:, None]) & (order[:, None] < ends[None, :])  # (N, N): row sees column
        mask = torch.zeros(size, size, dtype=self._base.dtype, device=device)
        mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)[None, None]
        self.computed += size
        logits = self._run(
            model,
            torch.tensor(nodes, device=device),
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=mask,
            position_ids=torch.tensor([tree.depths], device=device),
        )[0]
        rank = {node: number for number, node in enumerate(nodes)}
        place = {(c.read, at): rank[tree.paths[c.read][at]] for c in chains for at in range(c.start - 1, len(c.read))}
        return logits, place

    def _as_rows(self, model: Any, sequences: list[Ids], chains: Sequence[Chain]) -> tuple[torch.Tensor, Any]:
        """As `_as_tree`; padding stands behind the tokens, where no causal model sees it."""
        device, width = self._base.device, max(map(len, sequences))
        positions = sorted({at for c in chains for at in range(c.start - 1, len(c.read))})
        self.computed += sum(map(len, sequences))
        logits = self._run(
            model,
            torch.tensor(positions, device=device),
            input_ids=torch.tensor([[*s, *[self._pad] * (width - len(s))] for s in sequences], device=device),
            attention_mask=torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=device),
        )
        row = {sequence: number for number, sequence in enumerate(sequences)}
        rank = {at: number for number, at in enumerate(positions)}
        place = {
            (c.read, at): row[c.read] * len(positions) + rank[at]
            for c in chains
            for at in range(c.start - 1, len(c.read))
        }
        return logits.flatten(0, 1), place

    def _run(self, model: Any, keep: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        if self._picks:
            kept: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=keep).logits
            return kept
        every: torch.Tensor = model(**inputs, use_cache=False).logits
        return every[:, keep]

    def _try(self) -> bool:
        """Whether this model gives the same for a tree as for rows: tried, not assumed."""
        # Ordinary tokens: behind the control tokens, which come first, bf16 is too rough to compare anything.
        a, b, c, d, e, f = (self._base.config.get_text_config().vocab_size * place // 7 for place in range(1, 7))
        chains = [Chain((a, b, c, d, e, f), 4), Chain((a, b, c, f, e), 4), Chain((a, b, d, c, b, a), 3)]
        window, spent, training = self._window, self.computed, self._base.training
        self._base.eval()
        found = []
        try:
            for self._window in (window, 0):
                with torch.no_grad():
                    found.append(self.log_probabilities(self._base, chains))
        except (NotImplementedError, AttributeError, KeyError, IndexError, RuntimeError, ValueError):
            return False  # an attention of its own
        finally:
            self._window, self.computed = window, spent
            self._base.train(training)
        tolerance = 1e-4 if self._base.dtype == torch.float32 else 5e-2
        tree, rows = found
        return bool((tree - rows).abs().max() <= tolerance * rows.abs().max())


def _groups(chains: Sequence[Chain], order: Sequence[int]) -> list[list[int]]:
    """Chains cut into passes: the mask of a tree grows with the square of its nodes."""
    groups: list[list[int]] = [[]]
    size = 0
    before: Ids = ()
    for number in order:
        read = chains[number].read
        new = len(read) - shared_length(before, read)
        if groups[-1] and size + new > _MOST:
            groups.append([])
            size, new = 0, len(read)
        groups[-1].append(number)
        size, before = size + new, read
    return groups


def shared_length(a: Ids, b: Ids) -> int:
    """How many tokens two sequences begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _told(logits: torch.Tensor, index: torch.Tensor, tokens: Sequence[int], ends: Sequence[int]) -> torch.Tensor:
    """The log-probability of each token behind its place, (T,), from logits of shape (M, V)."""
    logits = logits.float()
    total = logits.logsumexp(-1)  # (M,)
    asked = torch.tensor(tokens, device=logits.device)
    said = logits[index, asked.clamp(min=0)]  # (T,)
    if ends and _END in tokens:
        over = logits[:, list(ends)].logsumexp(-1)  # (M,)
        said = torch.where(asked == _END, over[index], said)
    return said - total[index]
