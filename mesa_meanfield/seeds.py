"""Every random number of a run, derived from one entropy and the place where it is used.

A call's seed depends on who is asked what and when, never on who else is asked, so a run and its
counterfactual share their random numbers at every tick.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


def derive(*parts: object) -> int:
    """A 63-bit seed from any JSON-able parts; equal parts give equal seeds on every machine."""
    # The JSON of the whole list, put together from its parts: every agent needs a few seeds in every tick, and
    # a list takes json twice as long as the strings and whole numbers (not bools) that it nearly always holds.
    text = ",".join([str(part) if type(part) is int else _encode(part) for part in parts])
    digest = hashlib.blake2b(f"[{text}]".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def unit(seed: int, purpose: str) -> float:
    """One uniform number in [0, 1) for one purpose."""
    return (derive(seed, purpose) >> 10) / 2**53


def noise(seed: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), shape (count,): the i-th is the same whatever the count (Philox, counter-based)."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def entropy_of(model: Any) -> str:  # Any: Mesa is not imported here
    """The entropy of a Mesa model's generator, read without drawing from it.

    A spawned seed sequence shares its parent's entropy, so its spawn key belongs to the entropy.

    Raises:
        ValueError: The model's generator was made from a bare bit-generator state and has no entropy.
    """
    if not hasattr(model, "rng"):
        raise ValueError("The model has no rng yet; call super().__init__(rng=...) before making the scheduler")
    sequence = model.rng.bit_generator.seed_seq
    entropy = getattr(sequence, "entropy", None)
    if entropy is None:
        raise ValueError("model.rng has no seed sequence to read the entropy from; make the model with rng=INTEGER")
    return json.dumps([entropy, list(getattr(sequence, "spawn_key", ()))], default=str)
