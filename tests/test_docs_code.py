"""The code of the how-tos runs, in the order of the page, and every command has the options that a page gives it."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import pytest
from documents import DOCS, ROOT, all_commands, blocks, commands
from fake_server import FakeServer, isolated  # noqa: F401  # a fixture

from mesa_meanfield.cli import main

PAGES = ["start.md", "reference/index.md", *(f"howto/{page.name}" for page in sorted((DOCS / "howto").glob("*.md")))]
TABLE = "posted,author,body\n2025-03-01T08:00:00Z,op,The bridge closes.\n" + "".join(
    f"2025-03-01T08:{minute:02}:00Z,u{minute},{'' if minute % 3 else 'Says who?'}\n" for minute in range(1, 25)
)
"""What howto/data.md converts."""


def offline(arguments: list[str]) -> bool:
    """Whether a command needs neither a model nor a server, nor anything else that is not there."""
    here = {"scripted", "--replay", "--dry-run", "describe", "posts.csv"}
    return bool(here & set(arguments)) and "--resume" not in arguments


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder of one's own, with what the pages expect in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "posts.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if any(not block.torch for block in blocks(page))])
def test_the_code_of_a_page_runs(page, workplace, monkeypatch, capsys):
    known: dict[str, object] = {"__name__": "page"}
    with FakeServer() as fake:
        for block in blocks(page):
            if block.kind == "python" and not block.torch:
                code = block.code.replace("http://localhost:8000/v1", fake.url)
                exec(compile(code, f"{page}: {block.code.splitlines()[0]}", "exec", dont_inherit=True), known)
            elif block.kind == "bash":
                for arguments in filter(offline, commands(block.code)):
                    assert main(arguments) == 0, f"{page}: {' '.join(arguments)}: {capsys.readouterr().err}"


@pytest.mark.torch
def test_the_code_for_gpus_runs_on_whatever_is_there(workplace):
    pytest.importorskip("torch")
    from ibtune_worlds import model
    from tiny_models import one_thread, tokenizer

    model().save_pretrained("model")
    tokenizer("llama").save_pretrained("model")
    (block,) = [block for block in blocks("howto/gpu.md") if block.torch]
    known: dict[str, object] = {}
    with one_thread(), warnings.catch_warnings():
        exec(block.code.replace("hf:Qwen/Qwen3-1.7B", "hf:./model").replace("cuda:0", "cpu"), known)
    assert known["shared"].name == "hf:./model"


@pytest.mark.parametrize("page", sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")))
def test_every_option_on_a_page_is_one(page, capsys):
    for command, *given in all_commands(page):
        asked = {re.sub("=.*", "", one) for one in (command, *given) if one.startswith("--")}
        with pytest.raises(SystemExit):
            main(["--help"] if command.startswith("-") else [command, "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert asked - known == set(), f"{page}: mesa-meanfield {command} {' '.join(given)}"


def test_something_is_run_on_every_how_to():
    assert len(PAGES) >= 9
    for page in PAGES:
        assert blocks(page), f"{page} has no code"


def test_the_start_page_shows_the_example_and_what_it_prints():
    page = (DOCS / "start.md").read_text(encoding="utf-8")
    assert '``` { .python }\n--8<-- "examples/hello_crowd/hello_crowd.py"\n```' in page
    done = subprocess.run(
        [sys.executable, ROOT / "examples/hello_crowd/hello_crowd.py"], capture_output=True, text=True
    )
    (line,) = re.findall(r"^    (tick 1: .*)$", page, re.M)
    assert done.stdout.startswith(line)
