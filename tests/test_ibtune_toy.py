"""The predictive term trains the summarizer: its summaries learn to name the bit that predicts what comes next."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tiny_models import one_thread

pytestmark = pytest.mark.torch
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fidelity" / "toy.py"


@pytest.fixture(scope="module")
def toy():
    found = importlib.util.spec_from_file_location("toy", SCRIPT)
    sys.modules["toy"] = module = importlib.util.module_from_spec(found)  # where dataclasses look for it
    found.loader.exec_module(module)
    yield module
    del sys.modules["toy"]


@pytest.fixture(scope="module")
def curves(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    with one_thread():
        return [toy.run(folder / str(on), predictive=on, steps=45) for on in (True, False)]


def share(values):
    return sum(values) / len(values)


def test_summaries_learn_to_name_the_bit(curves):
    with_it, _ = curves
    assert share(with_it.named[:5]) < 0.15
    assert share(with_it.named[-5:]) > 0.6
    assert share(with_it.wrong[-5:]) < 0.15
    assert share(with_it.distortion[-5:]) < share(with_it.distortion[:5]) / 2


def test_without_the_predictive_term_they_do_not(curves):
    with_it, without = curves
    assert share(without.named[:5]) == pytest.approx(share(with_it.named[:5]), abs=0.1)  # the same start
    assert share(without.named[-5:]) < 0.2
    assert share(without.distortion[-5:]) > math.log(2)  # to know nothing of two colours costs ln 2


def test_without_the_predictive_term_nothing_is_paid_for_the_history(curves):
    with_it, without = curves
    assert share(without.rate[-5:]) < share(with_it.rate[-5:]) / 3


def test_the_curves_are_drawn(toy, curves, tmp_path):
    toy.picture(curves, tmp_path / "toy.png")
    assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")
