"""Candidates as a tree of tokens, so that one pass behind a prompt scores them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Trie:
    """What the candidates begin with, each beginning once: the last token of a candidate needs no pass."""

    tokens: tuple[int, ...]
    """The node's token."""
    ancestors: tuple[tuple[int, ...], ...]
    """The nodes on the way to the node, itself included, in the order of their depth."""
    terms: tuple[tuple[tuple[int, int], ...], ...]
    """For each candidate its tokens, each with the node that it follows; -1 is the prompt."""


def trie(candidates: Sequence[Ids]) -> Trie:
    """The tree of several candidates' tokens."""
    nodes: dict[tuple[int, ...], int] = {}
    tokens: list[int] = []
    ancestors: list[tuple[int, ...]] = []
    terms: list[tuple[tuple[int, int], ...]] = []
    for candidate in candidates:
        term, node = [], -1
        for depth, token in enumerate(candidate):
            term.append((node, token))
            if depth + 1 == len(candidate):
                break
            path = tuple(candidate[: depth + 1])
            if path not in nodes:
                nodes[path] = len(tokens)
                ancestors.append((*(ancestors[node] if node >= 0 else ()), len(tokens)))
                tokens.append(token)
            node = nodes[path]
        terms.append(tuple(term))
    return Trie(tuple(tokens), tuple(ancestors), tuple(terms))
