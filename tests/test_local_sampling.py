"""Tokens are sampled from the distribution that the settings leave, row by row."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from mesa_meanfield.backends.local.sampling import sample_tokens
from mesa_meanfield.protocols import Sampling
from mesa_meanfield.seeds import noise

pytestmark = pytest.mark.torch

ALL = Sampling(temperature=1.0, top_k=0, top_p=1.0)


def sample(logits, uniforms, sampling=ALL, seen=()):
    """The token of each row; one row of logits serves all numbers."""
    rows = torch.as_tensor(np.asarray(logits), dtype=torch.float32)
    rows = rows.expand(len(uniforms), -1) if rows.ndim == 1 else rows
    written = torch.tensor([list(seen)] * len(uniforms), dtype=torch.long).reshape(len(uniforms), -1)
    return sample_tokens(rows, torch.as_tensor(np.asarray(uniforms, dtype=np.float64)), sampling, written).tolist()


def kept(probabilities, sampling):
    """Token -> its share, over numbers that cover [0, 1) evenly."""
    count = 10_000
    found = sample(np.log(probabilities), (np.arange(count) + 0.5) / count, sampling)
    return {token: found.count(token) / count for token in sorted(set(found))}


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_frequencies_match_the_softmax(temperature):
    count, logits = 20_000, np.random.default_rng(3).normal(0, 2, 30)
    found = sample(logits, noise(11, count), Sampling(temperature=temperature, top_k=0, top_p=1.0))
    weights = np.exp(logits / temperature)
    p = weights / weights.sum()
    frequencies = np.bincount(found, minlength=30) / count
    assert (np.abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / count) + 1 / count).all()


def test_top_k_keeps_the_most_probable():
    assert kept([0.1, 0.4, 0.2, 0.3], Sampling(temperature=1.0, top_k=2, top_p=1.0)) == pytest.approx(
        {1: 4 / 7, 3: 3 / 7}, abs=2e-4
    )


def test_top_p_keeps_up_to_and_including_the_token_that_reaches_it():
    # .4 < .65 <= .4 + .3
    assert kept([0.1, 0.4, 0.2, 0.3], Sampling(temperature=1.0, top_k=0, top_p=0.65)) == pytest.approx(
        {1: 4 / 7, 3: 3 / 7}, abs=2e-4
    )


def test_top_p_counts_inside_the_top_k():
    # Inside the top three, .4 and .3 of .9 reach .75; of all four, .4 + .3 would not.
    inside = kept([0.4, 0.3, 0.2, 0.1], Sampling(temperature=1.0, top_k=3, top_p=0.75))
    assert inside == pytest.approx({0: 4 / 7, 1: 3 / 7}, abs=2e-4)
    outside = kept([0.4, 0.3, 0.2, 0.1], Sampling(temperature=1.0, top_k=0, top_p=0.75))
    assert outside == pytest.approx({0: 4 / 9, 1: 3 / 9, 2: 2 / 9}, abs=2e-4)


def test_the_temperature_comes_before_top_p():
    # At temperature 1/2 the shares are .64, .36 and .0016 of their sum.
    assert set(kept([0.56, 0.42, 0.02], Sampling(temperature=0.5, top_k=0, top_p=0.62))) == {0}
    assert set(kept([0.56, 0.42, 0.02], Sampling(temperature=1.0, top_k=0, top_p=0.62))) == {0, 1}


def test_a_small_top_p_still_keeps_one_token():
    assert kept([0.1, 0.4, 0.2, 0.3], Sampling(temperature=1.0, top_k=0, top_p=1e-6)) == {1: 1.0}


@pytest.mark.parametrize("sampling", [ALL, Sampling(top_k=50), Sampling(top_k=500, top_p=0.9)])
def test_the_ends_of_the_unit_interval_give_possible_tokens(sampling):
    logits = [-np.inf, 1.0, 0.5, -np.inf]
    assert set(sample(logits, [0.0, 1e-300, 0.999, 1 - 2**-53], sampling)) <= {1, 2}


@pytest.mark.parametrize("sampling", [ALL, Sampling(), Sampling(repetition_penalty=1.3)])
def test_a_row_depends_on_its_own_logits_and_number_alone(sampling):
    generator = np.random.default_rng(5)
    logits, uniforms = generator.normal(0, 2, (40, 300)), generator.random(40)
    together = sample(logits, uniforms, sampling, seen=[3, 4])
    assert together == [sample(logits[[i]], uniforms[[i]], sampling, seen=[3, 4])[0] for i in range(40)]
    other = generator.permutation(40)
    assert [together[i] for i in other] == sample(logits[other], uniforms[other], sampling, seen=[3, 4])
    assert len(set(together)) > 10


@pytest.mark.parametrize(
    ("seen", "chosen"),
    [((), 0), ((0,), 1), ((0, 0), 1), ((0, 1), 2), ((3,), 0)],  # 2, 1.5, -1 -> / 4, / 4, * 4
)
def test_the_repetition_penalty_lowers_what_was_written(seen, chosen):
    greedy = Sampling(top_k=1, repetition_penalty=4.0)
    assert sample([2.0, 1.5, 0.6, -1.0], [0.5], greedy, seen) == [chosen]


def test_the_repetition_penalty_lowers_negative_logits_too():
    assert sample([-1.0, -1.5], [0.5], Sampling(top_k=1, repetition_penalty=2.0), seen=(0,)) == [1]


def test_the_repetition_penalty_leaves_others_as_they_are():
    penalised = Sampling(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1e12)
    found = sample([5.0, 1.0, 1.0], (np.arange(1000) + 0.5) / 1000, penalised, seen=(0,))
    e = np.e
    assert np.bincount(found) / 1000 == pytest.approx([1 / (1 + 2 * e), e / (1 + 2 * e), e / (1 + 2 * e)], abs=2e-3)
