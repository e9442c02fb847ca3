"""The documents' own code, for tests that run it. Store the tutorial's outputs anew: python tests/documents.py"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.ipynb"

_FENCE = re.compile(
    r"^(?P<note><!-- needs torch -->\n)?```(?P<kind>python|bash)\n(?P<code>.*?)^```", re.DOTALL | re.M
)
_INDENTED = re.compile(r"^(?: {4}.*\n)+", re.M)

_STRICT = """
import warnings
warnings.simplefilter("error")
warnings.simplefilter("default", PendingDeprecationWarning)  # ipykernel's own
warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, which Mesa imports, wants ipywidgets
"""


class Block(NamedTuple):
    """A piece of code on a page."""

    kind: str
    """``python`` or ``bash``."""
    code: str
    torch: bool
    """Whether it needs torch."""


def text_of(page: str) -> str:
    """A page, with what it takes in from other files left out."""
    return re.sub(r"^--8<--.*\n", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.M)


def blocks(page: str) -> list[Block]:
    """The fenced code of a page, in its order."""
    found = _FENCE.finditer(text_of(page))
    return [Block(one["kind"], one["code"], one["note"] is not None) for one in found if one["code"].strip()]


def commands(code: str) -> list[list[str]]:
    """The arguments of every ``mesa-meanfield`` in some lines of a shell."""
    lines = code.replace("\\\n", " ").splitlines()
    given = [shlex.split(line, comments=True) for line in lines if line.strip().startswith("mesa-meanfield ")]
    return [arguments[1:] for arguments in given]


def all_commands(page: str) -> Iterator[list[str]]:
    """Those of a page, in fences and in indented code."""
    text = text_of(page)
    for one in _FENCE.finditer(text):
        yield from commands(one["code"])
    for one in _INDENTED.finditer(_FENCE.sub("", text)):
        yield from commands(one[0])


def run_tutorial(folder: Path) -> Any:
    """The tutorial with fresh outputs; warnings are errors as far as Jupyter's own go."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TUTORIAL, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = []
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_STRICT))
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where, record_timing=False).execute()
    notebook.cells.pop(0)
    notebook.metadata.language_info = {"name": "python"}
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return notebook


if __name__ == "__main__":
    import nbformat

    with tempfile.TemporaryDirectory() as place:
        nbformat.write(run_tutorial(Path(place)), TUTORIAL)
