"""What is minimised, in nats; see arXiv 2504.21582 and the variational form below.

The bottleneck is min I(m; X) - beta I(m; Y) for a summary m of the history X that is to predict the next
actions Y. Its bounds:

    rate        R = log mu(m | X) - log r(m)      r: the base model that knows instructions and topic only
    distortion  D = mean over the next tick's actions of -log pi(a | s, m)
    L_mu = D + R / beta,    L_pi = D
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mesa_meanfield.ibtune.batches import Chain, Question
from mesa_meanfield.ibtune.packing import Packer


@dataclass(frozen=True)
class Losses:
    """What each question costs, in nats, with gradients."""

    questions: tuple[Question, ...]
    nats: torch.Tensor
    """Shape (Q,): of a label -log of its probability among the labels, of a text -log of its whole."""

    def distortion(self, agents: int, text_weight: float = 1.0) -> torch.Tensor:
        """D of one tick: the mean over its agents of what their labels and texts cost."""
        weights = [1.0 if question.kind == "label" else text_weight for question in self.questions]
        return (self.nats * self.nats.new_tensor(weights)).sum() / agents


def losses(packer: Packer, model: Any, ticks: Sequence[Sequence[Question]]) -> list[Losses]:  # Any: transformers' own
    """What the questions of some ticks cost, from one pass over all of them.

    A label costs the categorical cross-entropy over the labels: their answers' log-probabilities, divided
    by the choice's temperature and normalised over the K labels, as `Choice.distributions` does.
    """
    questions = [question for tick in ticks for question in tick]
    if not questions:
        return [Losses((), torch.zeros(0)) for _ in ticks]
    chains: dict[Chain, int] = {}
    for question in questions:
        for chain in question.chains:
            chains.setdefault(chain, len(chains))  # twins have theirs in common
    packer.asked += sum(asked_tokens(question) for question in questions)
    logs = packer.log_probabilities(model, list(chains))
    nats = []
    for question in questions:
        own = logs[[chains[chain] for chain in question.chains]]  # (K,)
        nats.append(-own[0] if question.kind == "text" else _cross_entropy(own, question))
    stacked, found, start = torch.stack(nats), [], 0
    for tick in ticks:
        found.append(Losses(tuple(tick), stacked[start : start + len(tick)]))
        start += len(tick)
    return found


def _cross_entropy(logs: torch.Tensor, question: Question) -> torch.Tensor:
    return -(logs / question.temperature).log_softmax(-1)[question.answer]


def asked_tokens(question: Question) -> int:
    """The tokens of a question computed alone: its prompt once, and its replies."""
    replies = {
        chain.read[chain.start : end]
        for chain in question.chains
        for end in range(chain.start + 1, len(chain.read) + 1)
    }
    return question.chains[0].start + len(replies)


def rloo(rewards: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
    """A scalar whose gradient is that of the mean negative reward, by leave-one-out (RLOO).

    The gradient of E[rho] is estimated by mean_g (rho_g - rho_{-g}) grad log mu(m_g), where rho_{-g} is
    the mean reward of the other samples. The rewards carry no gradient: the direct term of the rate,
    E[grad log mu], is zero.

    Args:
        rewards: rho = -(D + R / beta) of each sample, shape (G,), G at least 2.
        logs: log mu(m_g | X), shape (G,), with gradients.
    """
    rewards = rewards.detach()
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    return -((rewards - others) * logs).mean()
