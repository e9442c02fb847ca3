"""The benchmark of the scheduler's own cost runs, and its parts make up its total."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "speed" / "overhead.py"


def test_every_size_is_split_into_parts_that_add_up():
    command = [sys.executable, SCRIPT, "--agents", "20", "40", "--archetypes", "0", "5", "--ticks", "1", "--json"]
    lines = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["lines"]
    assert [(line["agents"], line["archetypes"]) for line in lines] == [(20, 0), (20, 5), (40, 0), (40, 5)]
    for line in lines:
        parts = [line[name] for name in ("observe_act", "backend", "rest")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(line["total"])
        assert 0 < line["bytes_kept"] < line["bytes_peak"]
