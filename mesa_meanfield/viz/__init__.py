"""A page in the browser for models of crowds: ``page = page_of(Town)``, then ``solara run app.py``.

Needs the ``viz`` extra. A tab (session.py) has a run, and maybe its untouched twin (runs.py): each a model that one
thread steps. After each step it takes a frozen frame (frames.py), which is all that the page (page.py, panels.py)
looks at; curves.py and space.py draw it, words.py says it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

_HOME = {"backend_choice": "parameters", "page_of": "page", "recorded_counts": "record"}

__all__ = ["backend_choice", "page_of", "recorded_counts"]

if TYPE_CHECKING:
    from mesa_meanfield.viz.page import page_of
    from mesa_meanfield.viz.parameters import backend_choice
    from mesa_meanfield.viz.record import recorded_counts


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mesa_meanfield"):
            raise
        raise ModuleNotFoundError(
            f'A page needs {error.name}, which is not installed: pip install "mesa-meanfield[viz]"', name=error.name
        ) from error
    return getattr(module, name)
