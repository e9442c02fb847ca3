"""The Python of docs/ib-tune.md runs, and its commands have the options that the page names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ibtune_worlds import crowd

from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.ibtune.calibration import Calibration

PAGE = (Path(__file__).parents[1] / "docs" / "ib-tune.md").read_text(encoding="utf-8")
WITH_TORCH, WITHOUT = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "cascades.jsonl"
    write_cascades(file, [crowd(12, f"c{i}", f"e{i}") for i in range(2)])
    return file


def test_the_calibration_runs_without_a_model(data):
    assert "torch" not in WITHOUT
    known: dict[str, object] = {"FILE": data}
    exec(WITHOUT, known)
    assert isinstance(known["fitted"], Calibration)
    assert [one.events for one in known["on_others"]] == [("e0",), ("e1",)]
    assert known["space"].temperature == known["fitted"].temperature


@pytest.mark.torch
def test_training_and_use_run(data, tmp_path):
    pytest.importorskip("torch")
    from ibtune_worlds import model
    from tiny_models import one_thread, tokenizer

    folder = tmp_path / "model"
    model().save_pretrained(folder)
    tokenizer("llama").save_pretrained(folder)
    known = {"FILE": data, "FOLDER": tmp_path / "tuned", "MODEL": f"hf:{folder}", "MODEL_FOLDER": folder}
    with one_thread():
        exec(WITH_TORCH, known)
    assert known["tuned"].steps == 2
    assert known["policy"].backend.name
    assert known["plain"].active_adapter == "default"


@pytest.mark.parametrize("command", ["tune", "run", "evaluate", "calibrate"])
def test_every_option_of_the_page_is_one(capsys, command):
    joined = PAGE.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if re.match(rf"\s{{4,}}.*mesa.meanfield\S* {command}\b", line)]
    asked = {
        option for line in lines for option in re.findall(r"(?<=\s)--[a-z-]+", line.partition(f" {command} ")[2])
    }
    if command == "tune":
        asked |= set(re.findall(r"`(--[a-z-]+)", PAGE.partition("## The command")[2].partition("## The run")[0]))
        asked -= {"--config", "--help"}  # of accelerate, and of every command
    assert lines
    assert asked
    with pytest.raises(SystemExit):
        main([command, "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert asked - known == set()
