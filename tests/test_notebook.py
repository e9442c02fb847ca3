"""The tutorial runs from its first to its last cell, and shows what is stored in it."""

from __future__ import annotations

import re

import pytest
from documents import TUTORIAL, run_tutorial

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def stored():
    return nbformat.read(TUTORIAL, as_version=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_tutorial(tmp_path_factory.mktemp("notebook"))


def shown(notebook):
    """What every cell shows, pictures left out."""
    return [
        [
            "".join(output.get("text", ""))
            or {kind: data for kind, data in output.data.items() if "image" not in kind}
            for output in cell.get("outputs", [])
        ]
        for cell in notebook.cells
    ]


def test_the_tutorial_runs_and_shows_what_is_stored_in_it(run):
    assert shown(run) == shown(stored()), "what it shows has changed: look at it, then run python tests/documents.py"


def test_no_cell_has_an_error_or_a_warning():
    outputs = [output for cell in stored().cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_what_is_stored_is_small_and_says_nothing_of_the_machine():
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert not re.search(r"/(home|root|tmp|Users)/|20\d\d-\d\d-\d\dT", text)


def test_the_tutorial_shows_every_kind_of_value():
    titles = re.findall(r'class=\\"mmf\\">.*?<b>(\w[\w ]*)', TUTORIAL.read_text(encoding="utf-8"))
    assert [title.split()[0] for title in titles] == ["Mean", "Cascade", "Cascade", "Scorecard", "Comparison"]


def test_a_language_model_is_one_line_away():
    code = "\n".join(cell.source for cell in stored().cells if cell.cell_type == "code")
    assert '# backend = BatchingBackend(load_backend("embedded"))' in code
