from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mesa_meanfield import Usage

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


def test_the_readmes_own_summarizer_works():
    readme = (HELLO.parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("A summarizer is\n\n```python\n")[1].split("```")[0]
    known = {"dataclasses": dataclasses, "Usage": Usage}
    exec(code, known)
    town = hello_crowd().Town()
    town.crowd.summarizer = known["Loudest"]()
    town.step()
    assert town.crowd.field.size == 12


def test_readme_links_lead_somewhere():
    root = HELLO.parents[2]
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (root / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 3
    assert [link for link in links if not (root / link).exists()] == []
