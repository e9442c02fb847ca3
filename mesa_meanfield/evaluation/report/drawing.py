"""What all pictures share: colours, fonts that know Chinese, legible texts, and equal bytes for equal data."""

from __future__ import annotations

import base64
import functools
import io
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec

import matplotlib.style
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mesa_meanfield.display import HUES, legible

COLOURS = (*HUES, "#000000")
GREY = "0.55"
"""Of rivals."""
FONTS = (
    "system-ui",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Arial",
    "Noto Sans",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "sans-serif",
)
"""What a reader's machine may have, best first; those for Chinese stand behind those for Latin letters."""

_CJK = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei")
P = ParamSpec("P")


@dataclass(frozen=True)
class Picture:
    """A picture for a page."""

    svg: str
    alt: str
    """What it shows, in words."""
    width: int
    """Pixels."""
    height: int

    @property
    def uri(self) -> str:
        """The picture as the address of an ``img``, which keeps its identifiers from meeting those of the page."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode("ascii")


def label_text(text: str, limit: int = 28) -> str:
    """A name for a picture: one legible line, in which a wide character takes the room of two."""
    line, room = " ".join(legible(text).split()), limit
    for index, character in enumerate(line):
        room -= _room(character)
        if room < 0:
            return line[:index].rstrip() + "…"
    return line


def _room(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@contextmanager
def plain_style() -> Iterator[None]:
    """Pictures that are made and saved inside look alike whatever the user's own settings are.

    A dollar sign in somebody's text is a dollar sign, and Chinese has its font where this machine has one.
    """
    families = ["sans-serif", *(name for name in _CJK if name in font_manager.get_font_names())]
    plain = {"font.family": families, "text.parse_math": False}
    equal = {"svg.fonttype": "none", "svg.hashsalt": "mesa-meanfield"}
    with matplotlib.style.context(["default", plain, equal]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # this machine has no font for it
        yield


def picture(draw: Callable[P, tuple[Figure, str]]) -> Callable[P, Picture]:
    """Make a function that draws a figure and says what it shows into one that returns a `Picture`."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with plain_style():
            figure, alt = draw(*args, **kwargs)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            width, height = (round(96 * float(inches)) for inches in figure.get_size_inches())
        families = ",".join(f"'{name}'" if " " in name else name for name in FONTS)
        fonts = f"text{{font-family:{families}!important}}</style>"  # real text: the reader's machine has the fonts
        return Picture(file.getvalue().replace("</style>", fonts, 1), legible(alt), width, height)

    return drawn


def tidy(panel: Axes, grid: str = "y") -> None:
    """Take away what says nothing, and help the eye along one axis ("x", "y" or "both")."""
    panel.grid(axis=grid, color="0.9")  # type: ignore[arg-type]  # its stub wants a literal
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """A legend beneath the panels, in as many columns as there is room for; the figure grows by its further lines."""
    shown = [label_text(name, 32) for name in names]
    widths = [5.5 * sum(map(_room, name)) + 45 for name in shown]  # points: letters, and a line with its gaps

    def lines(columns: int) -> int:
        return -(-len(shown) // columns)

    def width(columns: int) -> float:  # a legend is filled column by column
        size = lines(columns)
        return sum(max(widths[at : at + size]) for at in range(0, len(widths), size))

    fitting = (n for n in range(len(shown), 1, -1) if width(n) <= 72 * figure.get_figwidth())
    columns = next(fitting, 1)
    figure.set_figheight(figure.get_figheight() + 0.19 * (lines(columns) - 1))
    figure.legend(handles, shown, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


def percent(share: float, _: object = None) -> str:
    """A share on an axis or beside a curve."""
    return f"{share:.0%}"
