"""The estimators are those of the notes: brute force, and an enumerated exact gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from ibtune_worlds import crowd, items, model, terse
from tiny_models import one_thread, tokenizer

from mesa_meanfield.ibtune.batches import Chain
from mesa_meanfield.ibtune.config import Bottleneck, Lora, Settings
from mesa_meanfield.ibtune.lora import with_adapters
from mesa_meanfield.ibtune.objectives import rloo
from mesa_meanfield.ibtune.stages import Trainer

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


def test_leave_one_out_by_hand():
    rewards = torch.tensor([1.0, 2.0, 6.0])
    logs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    loss = rloo(rewards, logs)
    # advantages: 1 - 4, 2 - 3.5, 6 - 1.5
    assert float(loss.detach()) == pytest.approx(-(-3.0 * -1 + -1.5 * -2 + 4.5 * -3) / 3)
    loss.backward()
    assert logs.grad.tolist() == pytest.approx([1.0, 0.5, -1.5])


def test_equal_rewards_send_no_gradient():
    logs = torch.tensor([-1.0, -2.0, -3.0, -0.5], requires_grad=True)
    rloo(torch.full((4,), 7.0), logs).backward()
    assert logs.grad.tolist() == [0, 0, 0, 0]


def test_rewards_carry_no_gradient():
    rewards = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    logs = torch.zeros(3, requires_grad=True)
    rloo(rewards, logs).backward()
    assert rewards.grad is None


def test_the_estimate_has_the_mean_of_the_exact_gradient_for_sequences_of_two_tokens():
    vocabulary, beta, draws = 3, 2.0, 4000
    generator = torch.Generator().manual_seed(3)
    theta = torch.randn(vocabulary + vocabulary**2, generator=generator, requires_grad=True)
    cost, prior = torch.rand(9, generator=generator) * 3, torch.randn(9, generator=generator).log_softmax(-1)

    def logs() -> torch.Tensor:
        first = theta[:3].log_softmax(-1)
        return (first[:, None] + theta[3:].view(3, 3).log_softmax(-1)).flatten()  # (9,)

    own = logs()
    exact = (own.exp() * (cost + (own - prior) / beta)).sum()
    (expected,) = torch.autograd.grad(exact, theta)
    found = []
    for _ in range(draws):
        own = logs()
        drawn = torch.multinomial(own.detach().exp(), 4, replacement=True, generator=generator)
        rewards = -(cost[drawn] + (own[drawn] - prior[drawn]) / beta)
        found.append(torch.autograd.grad(rloo(rewards, own[drawn]), theta)[0])
    _agree(torch.stack(found), expected[None])


def _agree(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The mean of the rows is the expectation, within four standard errors in each coordinate."""
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected[0]).abs() <= 4 * error + 1e-6).all()
    assert (expected.abs() > 4 * error).any(), "so noisy that zero would agree, too"


# --- The whole of it, on a model whose summaries are one token long -------------------------------------

HOW = Bottleneck(samples=4, beta=3.0, max_tokens=1, shares=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A trainer whose model can say few things, and a tick."""
    words = terse(tmp_path_factory.mktemp("words"))
    settings = Settings(stages=("policy", "summarizer"), lora=Lora(rank=2, dropout=0.0), bottleneck=HOW)
    own = with_adapters(model(), ["policy", "summarizer"], settings.lora, 0)
    with torch.no_grad():  # far from the start, where B is zero and only B has gradients
        generator = torch.Generator().manual_seed(5)
        for name, weight in own.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    trainer = Trainer(own, tokenizer("llama"), settings)
    return trainer, items([crowd(9)], prompts=words)[1]


def exact(trainer, item):
    """D and R of every summary there is, and log mu: each of shape (V,)."""
    vocabulary = len(tokenizer("llama"))
    prompt = trainer.samples(item, 0)[0]
    prompt = prompt.ids[: prompt.start]
    ends = {tokenizer("llama").eos_token_id}
    every = [
        Chain(prompt, len(prompt), over=True) if v in ends else Chain((*prompt, v), len(prompt))
        for v in range(vocabulary)
    ]
    logs = trainer.packer.log_probabilities(trainer.model, every)
    rewards, sums = trainer.rewards(item, every, logs.detach(), "policy")
    return every, logs, rewards, sums


def test_rewards_are_those_of_brute_force(small):
    trainer, item = small
    trainer.use("summarizer")
    every, logs, rewards, sums = exact(trainer, item)
    assert float(logs.detach().logsumexp(0)) == pytest.approx(0, abs=1e-4)
    own, words = trainer.model, tokenizer("llama")
    alone = trainer.batcher.alone(item)
    with torch.no_grad(), own.disable_adapter():
        base = own(torch.tensor([alone])).logits[0, -1].log_softmax(-1)
    for v in (300, 350, words.eos_token_id):
        field = trainer.field(item, every[v])
        assert field.text == words.decode([v], skip_special_tokens=True).strip()
        with trainer.frozen("policy"):
            questions = trainer.batcher.policy(item, field)
            costs = []
            for question in questions:
                said = trainer.packer.log_probabilities(own, question.chains)
                costs.append(-float(said.log_softmax(-1)[question.answer]))
        rate = float(logs[v].detach() - base[v])
        assert float(rewards[v]) == pytest.approx(-(np.mean(costs) + rate / HOW.beta), abs=1e-3)
    told = sums.told()
    assert told["rate"] == pytest.approx(float((logs.detach() - base).mean()), abs=1e-3)
    mean = told["distortion"] + told["rate"] / HOW.beta
    assert float(-rewards.mean()) == pytest.approx(mean, abs=1e-3)


def test_the_estimate_has_the_mean_of_the_exact_gradient_for_the_whole_model(small):
    trainer, item = small
    trainer.use("summarizer")
    weights = [w for n, w in trainer.model.named_parameters() if "lora_" in n and "summarizer" in n]
    _, logs, rewards, _ = exact(trainer, item)
    objective = -(logs.exp() * rewards).sum() + (logs.exp() * (logs - logs.detach())).sum() / HOW.beta
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(objective, weights)])
    # Of thousands of coordinates some would be off by chance: the exact direction and a few random ones.
    generator = torch.Generator().manual_seed(1)
    ways = torch.stack([expected, *torch.randn(7, len(expected), generator=generator)])
    ways = ways / ways.norm(dim=1, keepdim=True)  # (8, P)
    found = []
    for seed in range(400):
        loss, _ = trainer.summarizer([item], "policy", seed)
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
        found.append(ways @ slope)
    _agree(torch.stack(found), (ways @ expected)[None])


def test_the_policy_gets_no_gradient_from_the_summarizer(small):
    trainer, item = small
    trainer.use("summarizer")
    trainer.model.zero_grad()
    trainer.summarizer([item], "policy", 1)[0].backward()
    moved = {n: w.grad is not None and bool(w.grad.any()) for n, w in trainer.model.named_parameters()}
    assert not any(moved[name] for name in moved if "policy" in name or "lora_" not in name)
    assert any(moved[name] for name in moved if "summarizer" in name)


def test_a_history_longer_than_the_context_is_left_out(small):
    trainer, item = small
    trainer.use("summarizer")
    context, trainer.batcher.context = trainer.batcher.context, 20
    before = trainer.batcher.skipped
    loss, sums = trainer.summarizer([item], "policy", 1)
    trainer.batcher.context = context
    assert (float(loss), sums.summaries, trainer.batcher.skipped) == (0, 0, before + 1)


def test_samples_are_the_models_own_and_follow_their_seeds(small):
    trainer, item = small
    trainer.use("summarizer")
    _, logs, _, _ = exact(trainer, item)
    drawn = [chain for seed in range(100) for chain in trainer.samples(item, seed)]
    last = [tokenizer("llama").eos_token_id if chain.over else chain.ids[-1] for chain in drawn]
    share = logs.detach().exp()
    top = int(share.argmax())
    error = math.sqrt(float(share[top] * (1 - share[top])) / len(drawn))
    assert abs(last.count(top) / len(drawn) - float(share[top])) < 4 * error
    assert trainer.samples(item, 7) == trainer.samples(item, 7)
