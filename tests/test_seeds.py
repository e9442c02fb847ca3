import hashlib
import json
from copy import deepcopy
from pathlib import Path

import mesa
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesa_meanfield.seeds import derive, entropy_of, noise, unit


class _Holder:
    """All of a model that `entropy_of` looks at."""

    def __init__(self, rng):
        self.rng = rng


def test_known_seeds_stay_as_they_are_so_that_old_runs_can_be_repeated():
    assert derive() == 4090036724241674979
    assert derive(1, "a") == 1300208345601181975
    assert derive("策略", None, [1, 2]) == 1819032973847295154
    assert unit(7, "x") == 0.9732570905034212
    assert noise(7, 3) == pytest.approx([0.87207345, 0.29536538, 0.42009768], abs=1e-8)


def test_parts_are_kept_apart_and_in_order():
    seeds = [
        derive("a", "b"),
        derive("b", "a"),
        derive("ab"),
        derive("a,b"),
        derive(["a", "b"]),
        derive("a", "b", ""),
    ]
    assert len(set(seeds)) == len(seeds)
    assert derive(1) != derive("1")
    assert derive(None) != derive("")


@settings(deadline=None)
@given(st.lists(st.none() | st.integers() | st.text()))
def test_a_seed_has_63_bits_and_equal_parts_give_equal_seeds(parts):
    assert 0 <= derive(*parts) < 2**63
    assert derive(*parts) == derive(*deepcopy(parts))


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.text())
def test_unit_lies_in_the_half_open_interval(seed, purpose):
    assert 0 <= unit(seed, purpose) < 1


def test_unit_is_roughly_uniform_and_differs_by_purpose():
    drawn = np.array([unit(seed, "label") for seed in range(4000)])
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    # 400 expected in each tenth, standard deviation 19: five of them are room enough.
    assert counts.min() > 305
    assert counts.max() < 495
    other = np.array([unit(seed, "text") for seed in range(4000)])
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.08


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 40), st.integers(0, 40))
def test_a_shorter_noise_is_the_beginning_of_a_longer_one(seed, short, more):
    assert noise(seed, short).tolist() == noise(seed, short + more)[:short].tolist()


def test_noise_lies_in_the_half_open_interval_and_differs_by_seed():
    first, second = noise(1, 1000), noise(2, 1000)
    assert first.min() >= 0
    assert max(first.max(), second.max()) < 1
    assert not set(first) & set(second)


def test_the_entropy_of_a_model_is_that_of_its_seed():
    assert entropy_of(mesa.Model(rng=5)) == entropy_of(mesa.Model(rng=5))
    assert entropy_of(mesa.Model(rng=5)) != entropy_of(mesa.Model(rng=6))


def test_reading_the_entropy_draws_nothing_from_the_model():
    model = mesa.Model(rng=5)
    before = deepcopy(model.rng.bit_generator.state), model.random.getstate()
    entropy_of(model)
    assert (model.rng.bit_generator.state, model.random.getstate()) == before


def test_the_entropy_does_not_change_as_the_model_draws():
    model = mesa.Model(rng=5)
    before = entropy_of(model)
    model.rng.random(10)
    assert entropy_of(model) == before


def test_spawned_generators_have_an_entropy_of_their_own():
    parent = np.random.default_rng(5)
    children = parent.spawn(3)
    assert len({entropy_of(_Holder(rng)) for rng in (parent, *children)}) == 4


def test_a_generator_without_seed_sequence_is_told_with_a_way_out():
    legacy = np.random.Generator(np.random.RandomState(5)._bit_generator)
    with pytest.raises(ValueError, match="rng=INTEGER"):
        entropy_of(_Holder(legacy))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(_JSON | st.sampled_from([np.int64(3), np.float64(0.5), Path("a"), ("b", 1), "\ud800"]), max_size=5))
@example([True, 0.1, "\n\x00"])
def test_a_seed_is_the_hash_of_its_parts_as_one_json_list(parts):
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), default=str)
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    assert derive(*parts) == int.from_bytes(digest, "big") >> 1
