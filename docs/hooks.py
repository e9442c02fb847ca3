"""What mkdocs is told beside mkdocs.yml: pages from elsewhere in the repository, the notebook, and formulas."""

from __future__ import annotations

import html
import json
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = "docs"
FOLDERS = ("benchmarks", "examples", "models")
"""Where a README is a page, and a picture beside one its picture; on the site they have the same path."""
NOTEBOOK = "tutorial"

_LINK = re.compile(r"(?<=\])\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_OUTPUT = re.compile(r'<div data-output="(\d+)"></div>')
_outputs: list[str] = []
"""HTML of the notebook's outputs, which Markdown would read as its own."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in the folder of documents."""
    for path in _elsewhere():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    _outputs.clear()
    notebook = json.loads((ROOT / DOCS / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, f"{NOTEBOOK}.md", content="\n\n".join(_cells(notebook))))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links into the repository into links of the site; what is no page there loses its link."""
    where = page.file.src_uri
    origin = where if where in _elsewhere() else f"{DOCS}/{where}"

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[1]))
        target = path.removeprefix(f"{DOCS}/")
        if not (ROOT / path).exists() or files.get_file_from_path(target) is None:
            return link[0] if not (ROOT / path).exists() else f"(`{path}`)"
        return f"({posixpath.relpath(target, posixpath.dirname(where) or '.')}{link[2] or ''})"

    moved_all = _LINK.sub(moved, markdown)
    return re.sub(
        r"\[([^\]]*)\]\(`([^`]*)`\)", lambda m: f"{m[1]} (`{m[2]}`)" if m[1] != m[2] else f"`{m[2]}`", moved_all
    )


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, which browsers show by themselves."""

    def formula(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")

    return _OUTPUT.sub(lambda found: _outputs[int(found[1])], _FORMULA.sub(formula, content))


@cache
def _elsewhere() -> tuple[str, ...]:
    """The files of the site that are not in the folder of documents."""
    found = {"CHANGELOG.md"}
    for folder in FOLDERS:
        for readme in (ROOT / folder).rglob("README.md"):
            found |= {str(file.relative_to(ROOT)) for file in (readme, *readme.parent.glob("*.png"))}
    return tuple(sorted(found))


def _cells(notebook: Any) -> Iterator[str]:
    """A notebook as Markdown, its outputs as they are stored."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
        elif source.strip():
            yield f"```python\n{source}\n```"
            for output in cell["outputs"]:
                _outputs.append(f'<div class="output">{_shown(output)}</div>')
                yield f'<div data-output="{len(_outputs) - 1}"></div>'


def _shown(output: Any) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        return "".join(data["text/html"])
    if "image/png" in data:
        png = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="What the code above draws" src="data:image/png;base64,{png}">'
    said = "".join(data.get("text/plain", output.get("text", [])))
    return f"<pre>{html.escape(_COLOURS.sub('', said))}</pre>"
