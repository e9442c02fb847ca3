"""The examples' apps make pages that run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

solara = pytest.importorskip("solara", reason="needs the viz extra")

from mesa_meanfield.viz.session import OPEN  # noqa: E402

EXAMPLES = Path(__file__).parents[1] / "examples"
APPS = sorted(EXAMPLES.rglob("app.py"))
BESIDE = ("agents", "model", "stand_in")  # the modules that several examples have


def page_of_app(file):
    """The page of an app, its folder first on the path as Solara has it."""
    sys.path.insert(0, str(file.parent))
    try:
        import mesa_meanfield.viz.mesa_parts  # noqa: F401  (before the app's own imports of Mesa's visualization)

        spec = importlib.util.spec_from_file_location("app", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
        for name in BESIDE:
            sys.modules.pop(name, None)
    return module.page


@pytest.mark.parametrize("file", APPS, ids=lambda file: file.parent.name)
def test_an_app_steps_its_model_and_its_twin_is_the_same(file):
    before = set(OPEN)
    _, context = solara.render(page_of_app(file), handle_error=False)
    (tab,) = set(OPEN) - before
    tab.run.join()
    tab.run.advance_to(2)
    tab.run.join()
    tab.fork()
    tab.twin.join()
    frame, twin = tab.run.frame, tab.twin.frame
    error, trouble = tab.run.status.error, tab.twin_trouble()
    context.close()
    assert (error, trouble) == ("", "")
    assert (frame.steps, twin.steps) == (2, 2)
    assert [tick.counts for tick in frame.ticks] == [tick.counts for tick in twin.ticks]
    assert frame.field.size > 0
