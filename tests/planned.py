"""Plan files with a small model of one's own, for the commands `compare` and `plan`."""

from __future__ import annotations

import json

from mesa_meanfield.cli import main

TOWN = """
from crowds import Crowd
from arms import chances
from mesa_meanfield import BatchingBackend, ScriptedBackend


def town(seed, *, backend=None, voters=6, fails=None):
    if seed == fails:
        raise RuntimeError("no town today")
    return Crowd(voters, backend=backend or SHARED, rng=seed)


SHARED = BatchingBackend(ScriptedBackend(probability=chances()))  # a denial lowers yes from .5 to .2
"""

MODEL = """ticks = 4
replicas = 4
seed = 3

[model]
factory = "small_town.py:town"
"""
DENIAL = """kind = "announce"
at = 2
text = "It is false."
source = "the mayor"
"""
COMPARED = f"{MODEL}\n[[intervention]]\n{DENIAL}"
PLANNED = f"""{MODEL}
[objective]
kind = "share_at"
label = "yes"
maximise = false

[candidates]
nothing = []

[[candidates.denial]]
{DENIAL}
[[candidates.half]]
{DENIAL}reach = 0.5
"""


def written(folder, text, name="what-if.toml"):
    """The plan file, with its model beside it."""
    (folder / "small_town.py").write_text(TOWN, encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def said(capsys, *arguments):
    """The command's status, stdout and stderr."""
    status = main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def result(capsys, *arguments):
    """What a command that must succeed prints as JSON."""
    status, out, err = said(capsys, *arguments, "--json")
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def one_line(capsys, folder, *arguments):
    """The line on which a command tells what is wrong; it ends with status 2 and leaves no directory."""
    before = set(folder.iterdir())
    status, out, err = said(capsys, *arguments, "--out", folder / "never")
    last = [line for line in err.splitlines() if line.startswith("mesa-meanfield")]
    assert (status, out, len(last)) == (2, "", 1), err
    assert {one for one in set(folder.iterdir()) - before if one.name != "__pycache__"} == set()
    return last[0]
