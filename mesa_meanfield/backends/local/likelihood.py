"""Log-probabilities behind computed prompts: of labels, as a tree of tokens, and of whole texts, one per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch

from mesa_meanfield.backends.local.rows import Ids, Rows, Runner
from mesa_meanfield.backends.local.sampling import precise
from mesa_meanfield.backends.local.trie import Trie, trie

_MOST_LOGITS = 1 << 26
"""Logits at once: a long text behind many rows is computed part by part."""
_WORTH_A_RUN = {"cpu": 64}
"""Tokens below which a run of the model takes hardly less time, by device; rows that are over wait for so many."""
_WORTH_ELSEWHERE = 1024
_END, _NOTHING = -1, -2  # instead of a token: the reply ends here; nothing more is asked


def score_labels(runner: Runner, rows: Rows, options: Sequence[Ids], tree: Trie) -> npt.NDArray[np.float64]:
    """Log-probabilities of each candidate behind each row, shape (B, K); the rows stay as they are.

    Args:
        runner: What runs the rows.
        rows: Computed up to the end of their prompts, with room for the tree.
        options: The tokens of each candidate.
        tree: That of all options.
    """
    # Where there may be no padding, branches may not stand beside each other either: each goes alone.
    trees = [tree] if rows.holed else [trie([option]) for option in options]
    return np.concatenate([_score_tree(runner, rows, one) for one in trees], axis=1)


def _score_tree(runner: Runner, rows: Rows, tree: Trie) -> npt.NDArray[np.float64]:
    """Log-probabilities of each candidate of a tree behind each row, shape (B, K)."""
    follows: dict[int, list[int]] = defaultdict(list)
    for node, token in dict.fromkeys(term for terms in tree.terms for term in terms):
        follows[node].append(token)
    found: dict[tuple[int, int], torch.Tensor] = {}  # node and token -> log-probabilities, (B,)
    with runner.timed("prefill", len(rows) * len(tree.tokens)):
        ahead = rows.ahead(tree) if tree.tokens else rows.logits[:, None]  # (B, N, V)
        for node, tokens in follows.items():
            logits = precise(rows.logits if node < 0 else ahead[:, node])
            logs = logits[:, tokens] - logits.logsumexp(-1, keepdim=True)
            found |= {(node, token): logs[:, place] for place, token in enumerate(tokens)}
        sums = [torch.stack([found[term] for term in terms]).sum(0) for terms in tree.terms]
    return torch.stack(sums, dim=1).cpu().numpy()


def score_texts(runner: Runner, rows: Rows, texts: Sequence[Ids], ends: Collection[int]) -> npt.NDArray[np.float64]:
    """Log-probability of each row's own text and of its end, shape (B,); the rows are used up.

    Args:
        runner: What runs the rows.
        rows: Computed up to the end of their prompts, with room for the longest text.
        texts: The tokens of each; there may be none.
        ends: The tokens that end a reply; none where a text's end is not asked for.
    """
    longest = max(map(len, texts))
    asked = [[*text, _END if ends else _NOTHING, *[_NOTHING] * (longest - len(text))] for text in texts]
    next_ = torch.tensor(asked, device=runner.device)  # (B, T + 1)
    nats = _told(rows.logits, next_[:, 0], ends)  # (B,)
    there, start = list(range(len(texts))), 0  # the texts of the rows that are there; the tokens computed
    while open_ := [place for place, text in enumerate(there) if len(texts[text]) > start]:
        if len(open_) < len(there):
            rows = rows.picked(open_, longest - start)
            there = [there[place] for place in open_]
        left = [len(texts[text]) - start for text in there]
        width = _width(left, runner)
        own = next_[there, start : start + width + 1]  # (B', width + 1)
        with runner.timed("prefill", sum(min(one, width) for one in left)):
            # What stands behind the end of a text is seen by nobody: every token sees those before it alone.
            ahead = rows.read(own[:, :width].clamp(min=0))  # (B', width, V)
            for place in range(width):
                nats[there] += _told(ahead[:, place], own[:, place + 1], ends)
            del ahead
        start += width
    return nats.cpu().numpy().astype(np.float64)


def _width(left: Sequence[int], runner: Runner) -> int:
    """How many tokens of each row are computed next, where the texts have so many left.

    Up to the end of the shortest, after which its row can leave, or some more, so that the run is worth it.
    """
    worth = _WORTH_A_RUN.get(runner.device.type, _WORTH_ELSEWHERE)
    wanted = min(max(min(left), -(-worth // len(left))), max(left))
    return max(1, min(wanted, _MOST_LOGITS // (len(left) * runner.vocabulary)))


def _told(logits: torch.Tensor, tokens: torch.Tensor, ends: Collection[int]) -> torch.Tensor:
    """The log-probability of what comes next in each row, shape (B,), from logits of shape (B, V)."""
    logits = precise(logits)
    found = logits.gather(-1, tokens.clamp(min=0)[:, None])[:, 0]
    if ends:
        found = torch.where(tokens == _END, logits[:, list(ends)].logsumexp(-1), found)
    found = found - logits.logsumexp(-1)
    return torch.where(tokens == _NOTHING, torch.zeros_like(found), found)
