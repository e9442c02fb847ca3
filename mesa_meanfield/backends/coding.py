"""Answers as bytes and back, bit for bit: floats in binary, texts with whatever characters they have."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mesa_meanfield.backends.calls import Given, Outcome
from mesa_meanfield.protocols import Likelihood, Reply

_LIKELIHOOD = struct.Struct("<dq")


def replies_given(replies: Iterable[Reply]) -> list[Given]:
    """Each as JSON; half an emoji, which some servers send, stays one."""
    rows = ((one, json.dumps([one.text, one.failure, one.finished], ensure_ascii=False)) for one in replies)
    return [Given(_outcome(one.failure is not None), row.encode(errors="surrogatepass")) for one, row in rows]


def replies(answers: Iterable[bytes]) -> list[Reply]:
    """What was encoded."""
    return [Reply(*json.loads(one.decode(errors="surrogatepass"))) for one in answers]


def scores_given(scores: npt.NDArray[np.float64]) -> list[Given]:
    """The rows of an array of shape (N, K), each in binary."""
    return [Given(_outcome(bool(np.isnan(row).any())), row.tobytes()) for row in np.asarray(scores, dtype="<f8")]


def scores(answers: Sequence[bytes], candidates: int) -> npt.NDArray[np.float64]:
    """What was encoded, shape (N, K)."""
    return np.frombuffer(b"".join(answers), dtype="<f8").astype(np.float64).reshape(len(answers), candidates)


def likelihoods_given(likelihoods: Iterable[Likelihood]) -> list[Given]:
    """Each in binary."""
    return [Given(_outcome(math.isnan(one.nats)), _LIKELIHOOD.pack(one.nats, one.tokens)) for one in likelihoods]


def likelihoods(answers: Iterable[bytes]) -> list[Likelihood]:
    """What was encoded."""
    return [Likelihood(*_LIKELIHOOD.unpack(one)) for one in answers]


def _outcome(failed: bool) -> Outcome:
    return Outcome.FAILED if failed else Outcome.ANSWER
