"""Matplotlib without its global state: styles, fonts, and an SVG for a page or for a file.

This module does not depend on what is drawn.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from semalign.palette import LIGHT

__all__ = ["blank", "can_write", "color_of", "one_plot", "to_element", "to_files"]

# matplotlib has no CSS variables: these colors represent them and are replaced in the finished SVG.
_MARKERS = {name: f"#0000{index:02x}" for index, name in enumerate(LIGHT, start=1)}
_VARIABLES = {color: name for name, color in _MARKERS.items()}
_colors: ContextVar[Mapping[str, str]] = ContextVar("_colors", default=_MARKERS)

_CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei", "Noto Serif CJK SC")
"""Fonts that a PDF takes Chinese characters from, the first one that is there."""


def _style_values() -> dict[Any, Any]:
    ink, muted = color_of("ink"), color_of("muted")
    return {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,  # what journals ask for: text that can be searched
        "text.parse_math": False,  # a $ in an arm's name is a $
        "font.size": 9.5,
        "font.family": ["DejaVu Sans", *_chinese_font()],
        "axes.linewidth": 0.8,
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": False,
    }


def color_of(name: str) -> str:
    """Return the color of this name in `semalign.palette.LIGHT`, or its placeholder in a page."""
    return _colors.get()[name]


@functools.cache
def _chinese_font() -> tuple[str, ...]:
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next(((name,) for name in _CHINESE if name in known), ())


def can_write(text: str) -> bool:
    """Return whether a PDF made here can show the text: Chinese needs a font that has it."""
    return bool(_chinese_font()) or _is_plain(text)


def _is_plain(text: str) -> bool:
    return all(ord(letter) < 0x2E80 for letter in text)


def to_element(key: str, description: str, build: Callable[[], Figure]) -> str:
    """Return a figure as an SVG element of the page, in which text stays text and colors are CSS variables."""
    with _style(key, _MARKERS):
        return _for_page(_svg(build()), key, description)


def to_files(key: str, build: Callable[[], Figure]) -> dict[str, bytes]:
    """Return a figure as files, by ending: "svg" and "pdf", in the page's light colors."""
    with _style(key, LIGHT):
        figure = build()
        svg = _svg(figure)
        # The places are found; to look for them again costs as much as the drawing itself.
        figure.set_layout_engine("none")
        if not _is_plain(svg):
            # To take a few characters out of a Chinese font in its own form costs half a second each time.
            matplotlib.rcParams["pdf.fonttype"] = 3
        pdf = io.BytesIO()
        FigureCanvasPdf(figure).print_pdf(  # type: ignore[no-untyped-call]
            pdf, metadata=dict.fromkeys(("CreationDate", "Creator", "Producer"))
        )
    return {"svg": svg.encode(), "pdf": pdf.getvalue()}


@contextmanager
def _style(key: str, colors: Mapping[str, str]) -> Iterator[None]:
    """Draw by our settings alone, without a user's matplotlibrc, and restore theirs."""
    token = _colors.set(colors)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context():
            # Text of the page is drawn by the reader's browser, whose fonts have the characters that ours lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({**_style_values(), "svg.hashsalt": key})
            yield
    finally:
        _colors.reset(token)


def blank(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches."""
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    figure.patch.set_visible(False)
    return figure


def one_plot(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with one plot."""
    figure = blank(width, height)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # Without metadata there is no date, no version and no foreign address in the file.
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    return text.getvalue()


def _for_page(svg: str, key: str, description: str) -> str:
    """Return matplotlib's SVG file as an element of an HTML page with our colors."""
    svg = svg[svg.index("<svg") :].strip()
    head, body = svg[: svg.index(">") + 1], svg[svg.index(">") + 1 :]
    # Its style sheet would hold for the whole page, which has the same rule for its figures.
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    # Text may hold anything, so only the inside of tags is changed.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def tag(match: re.Match[str]) -> str:
        inside = match[0].replace("xlink:href", "href")
        inside = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", inside)
        inside = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", inside)
        # The page's own font; older versions of matplotlib write the shorthand.
        inside = re.sub(r" font-family: [^;\"]*;", "", inside)
        inside = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--sans)", inside)
        # A hundredth of a point is less than a printer can show.
        inside = re.sub(r"(\d\.\d\d)\d+", r"\1", inside)
        return re.sub(
            r"#0000[0-9a-f]{2}",
            lambda found: f"var(--{_VARIABLES[found[0]]})" if found[0] in _VARIABLES else found[0],
            inside,
        )

    body = re.sub(r"<[^>]*>", tag, body)
    body = re.sub(r">\s+<", "><", body)
    return f'<svg {box[0]} role="img" aria-label="{escape(description)}">{body}'
