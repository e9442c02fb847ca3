"""The documentation site builds and reads without a network, and says where everything is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from documents import DOCS, ROOT

import mesa_meanfield
from mesa_meanfield import viz

pytest.importorskip("mkdocs")

NOWHERE = "http://127.0.0.1:9"  # no proxy listens there, so whatever wants the network fails


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """What a page holds of links, names and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.loads: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.names |= {known[name] for name in ("id", "name") if known.get(name)}
        if tag == "a" and known.get("href"):
            self.links.add(known["href"])
        elif tag == "link" and "canonical" not in known.get("rel", ""):
            self.loads.add(known.get("href", ""))
        elif known.get("src"):
            self.loads.add(known["src"])


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def test_no_page_loads_anything_from_elsewhere(site, pages):
    assert len(pages) > 30
    for file, page in pages.items():
        assert not [one for one in page.loads if re.match(r"(https?:)?//", one)], file
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_links_lead_to_a_page_and_a_place_on_it(site, pages):
    broken = []
    for file, page in pages.items():
        for link in page.links - {"."}:
            parts = urlsplit(link)
            if parts.scheme or file.name == "404.html":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in pages[target].names):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert broken == []


def test_the_reference_has_every_name_that_the_package_exports(site, pages):
    names = set().union(*(page.names for file, page in pages.items() if file.parent.name == "reference"))
    exported = [f"mesa_meanfield.{home}.{name}" for name, home in mesa_meanfield._HOME.items()]
    exported += [f"mesa_meanfield.viz.{home}.{name}" for name, home in viz._HOME.items()]
    assert [name for name in exported if name not in names] == []


def test_formulas_are_marked_up_and_nothing_of_their_source_is_left(site):
    method = (site / "method.html").read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", method, re.DOTALL)
    assert len(formulas) > 30
    assert not [one for one in formulas if "\\" in one]
    assert "arithmatex" not in method
    assert "$$" not in method


def test_the_tutorial_is_the_notebook_with_its_outputs(site):
    notebook = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    page = (site / "tutorial.html").read_text(encoding="utf-8")
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert page.count('class="output"') == len(outputs)
    assert "data-output" not in page
    assert page.count('class="mmf"') == sum(
        'class="mmf"' in "".join(o.get("data", {}).get("text/html", "")) for o in outputs
    )
    assert (site / "tutorial.ipynb").is_file()


def test_pages_beside_what_they_describe_are_on_the_site_and_keep_their_links(site):
    page = (site / "examples" / "intervention" / "index.html").read_text(encoding="utf-8")
    assert 'href="../../experiments.html"' in page
    assert 'href="../../models/cascade/data/index.html"' in page


def test_the_search_finds_words_of_every_page(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert {"method.html", "howto/cost.html", "CHANGELOG.html"} <= {one["location"] for one in index["docs"]}
