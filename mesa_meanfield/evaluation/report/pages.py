"""What all pages have in common: their templates' environment, in which no text can break a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import jinja2
from markupsafe import Markup

from mesa_meanfield.display import legible
from mesa_meanfield.evaluation.report.drawing import FONTS
from mesa_meanfield.evaluation.report.table import duration, figure

_TEMPLATES = Path(__file__).parent / "templates"
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # BCP 47, nearly
_MAX_TEXT = 600  # characters of somebody's text


def template(name: str, *folders: Path, **known: Callable[..., object]) -> jinja2.Template:
    """A page's template, with ``layout.j2`` and the parts that pages share at hand.

    Args:
        name: Its file.
        folders: Where to look for it first; what is not there is one of this folder's.
        known: Functions that it can call.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(
        figure=figure, duration=duration, language=_language, short=_short, breakable=_breakable
    )
    environment.globals.update(known, fonts=", ".join(f'"{font}"' if " " in font else font for font in FONTS))
    return environment.get_template(name)


def setting(value: object) -> str:
    """A setting's value, in words."""
    if value is None or value == []:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(value: object) -> object:
    """Every text that the template shows comes by here; what macros made is finished."""
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _language(tag: str) -> str:
    """A language tag, or the empty one, which says that the language is unknown."""
    return tag if _LANGUAGE.fullmatch(tag) else ""


def _breakable(name: str) -> Markup:
    """A name that may be broken where it has an underscore."""
    return Markup("_<wbr>").join(legible(name).split("_"))  # join escapes the parts


def _short(text: str) -> str:
    return legible(text, _MAX_TEXT)
