from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HELLO = Path(__file__).parents[1] / "examples" / "hello_crowd" / "hello_crowd.py"


def hello_crowd():
    spec = importlib.util.spec_from_file_location("hello_crowd", HELLO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hello_crowd_runs_as_the_readme_says():
    done = subprocess.run([sys.executable, "-W", "error", HELLO], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"tick {n}" for n in range(1, 6)]
    assert "all 60 so far" in lines[-1]


def test_the_readme_shows_the_example_as_it_is():
    readme = (HELLO.parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"```python\n{HELLO.read_text(encoding='utf-8')}```" in readme


@pytest.mark.model
def test_hello_crowd_runs_with_the_embedded_model_by_one_argument(embedded_model):
    town = hello_crowd().Town(backend="embedded", citizens=6)
    town.step()
    decisions = town.crowd.last.decisions
    assert len(decisions) == 6
    assert all(sum(d.distribution.values()) == pytest.approx(1) for d in decisions)
    assert town.crowd.usage.tokens_computed > 0
