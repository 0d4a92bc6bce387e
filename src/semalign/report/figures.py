"""Figures as SVG to stand inside a page: text stays text, colours are the page's CSS variables.

Drawn with matplotlib, so that a paper can take them.  This module knows nothing of studies: it draws what it is given.
"""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

__all__ = ["COLOURS", "DASHES", "EffectMark", "Line", "Panel", "draw_effects", "draw_panel", "line_style"]

# matplotlib knows no CSS variables: these colours stand for them and are exchanged in the finished SVG.
_VARIABLES = {
    "#000001": "ink",
    "#000002": "muted",
    "#000003": "rule",
    "#000004": "band",
    "#000005": "better",
    "#000006": "worse",
    "#000007": "equivalent",
    "#000008": "inconclusive",
}
_INK, _MUTED, _RULE, _BAND = list(_VARIABLES)[:4]
_VERDICTS = {name: colour for colour, name in _VARIABLES.items() if name not in ("ink", "muted", "rule", "band")}

COLOURS = 8
"""Colours of lines: the CSS variables --c0 to --c7."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5, 1.5, 1.5, 1.5, 1.5))
"""Dash patterns, in widths of the line; together with the colours they tell 40 lines apart, also without colour."""

_VARIABLES |= {f"#0000{16 + index:02x}": f"c{index}" for index in range(COLOURS)}

_ROUND = [1, 2, 5, 10]
_MOST_LETTERS = 68  # what fits on one line of the plot of effects

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in an arm's name is a $
    "font.size": 9.5,
    "axes.linewidth": 0.8,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve with a band.

    Attributes:
        style: index of its colour and dashes, see `line_style`.
        x: n positions, ascending.
        y: n values.
        low: n values, the band's lower edge.
        high: its upper edge.
    """

    style: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One small diagram of lines.

    Attributes:
        key: unique in the page, letters, digits and hyphens.
        description: what a reader who cannot see it must know.
        x_label: under the horizontal axis.
        lines: in the order of drawing.
        limits: of the vertical axis; None to fit the lines.
    """

    key: str
    description: str
    x_label: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class EffectMark:
    """One row of the plot of effects, in mIoU points.

    Attributes:
        label: the effect's name.
        figure: its mean and interval as text.
        word: the verdict in English, which chooses the colour.
        mean: the effect.
        interval: the one that judges direction; None where there is none.
        inner: the one that judges equivalence.
        values: by block.
    """

    label: str
    figure: str
    word: str
    mean: float
    interval: tuple[float, float] | None
    inner: tuple[float, float] | None
    values: tuple[float, ...]


def line_style(index: int) -> tuple[int, tuple[float, ...]]:
    """Return colour and dashes of the ``index``-th line; no two of the first 40 share both."""
    return index % COLOURS, DASHES[(index // COLOURS + index) % len(DASHES)]


def draw_panel(panel: Panel) -> str:
    """Return the panel as an SVG element."""
    with _style(panel.key):
        figure, axes = _figure(3.5, 2.3)
        for line in panel.lines:
            colour, dashes = line_style(line.style)
            value = f"#0000{16 + colour:02x}"
            if len(line.x) == 1:
                axes.errorbar(
                    line.x, line.y, [line.y - line.low, line.high - line.y], fmt="o", color=value, markersize=4
                )
                continue
            axes.fill_between(line.x, line.low, line.high, color=value, alpha=0.15, linewidth=0)
            axes.plot(line.x, line.y, color=value, linewidth=1.5, dashes=dashes or (None, None))
        if panel.limits is not None:
            axes.set_ylim(*panel.limits)
        axes.set_xlabel(panel.x_label)
        axes.grid(color=_RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        for axis in (axes.xaxis, axes.yaxis):
            # An offset such as +9.99e-1 above the axis is read by nobody.
            axis.set_major_formatter(ScalarFormatter(useOffset=False))
        return _svg(figure, panel.key, panel.description)


def draw_effects(
    key: str, description: str, marks: Sequence[EffectMark], margin: float, x_label: str, margin_label: str
) -> str:
    """Return the plot of effects as an SVG element: mean, both intervals, every block, and the margin as a band."""
    with _style(key):
        crowded = any(_letters(mark.label) + _letters(mark.figure) > _MOST_LETTERS for mark in marks)
        figure, axes = _figure(4.3, 0.95 + (0.72 if crowded else 0.52) * len(marks))
        # Heights are in rows: a second line of text makes a row taller in points and all else shorter in rows.
        above, line = (0.2, 0.24) if crowded else (0.25, 0.0)
        axes.axvspan(-margin, margin, color=_BAND, linewidth=0)
        axes.axvline(0, color=_MUTED, linewidth=1)
        for row, mark in enumerate(marks):
            y, colour = -row, _VERDICTS[mark.word]
            axes.plot(
                mark.values, np.full(len(mark.values), y - 0.22), "|", color=_MUTED, markersize=5, markeredgewidth=0.8
            )
            if mark.interval is not None:
                axes.plot(mark.interval, (y, y), color=colour, linewidth=1.4, marker="|", markersize=7)
            if mark.inner is not None:
                axes.plot(mark.inner, (y, y), color=colour, linewidth=4.5, solid_capstyle="butt", alpha=0.55)
            axes.plot([mark.mean], [y], "o", color=colour, markersize=6)
            place = axes.get_yaxis_transform()
            height = y + above
            axes.text(0, height + line, mark.label, transform=place, va="bottom", weight="bold", fontsize=8.6)
            right = 0 if crowded else 1
            side = "left" if crowded else "right"
            axes.text(right, height, mark.figure, transform=place, ha=side, va="bottom", fontsize=8.6)
        axes.set_ylim(-len(marks) + 0.45, 0.95)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{x_label}\n{margin_label}")
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=_ROUND))
        axes.margins(x=0.06)
        return _svg(figure, key, description)


def _letters(text: str) -> int:
    """Return the text's width in letters; Chinese characters are two wide."""
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)


# --- matplotlib without its global state ----------------------------------------------------------


@contextmanager
def _style(key: str) -> Iterator[None]:
    """Draw by our settings alone, whatever a user's matplotlibrc says, and leave theirs as they were."""
    with warnings.catch_warnings(), matplotlib.rc_context():
        # Text is drawn by the reader's browser, whose fonts have the characters that ours lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": key})
        yield


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _svg(figure: Figure, key: str, description: str) -> str:
    text = io.StringIO()
    # Without metadata there is no date, no version and no foreign address in the file.
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    return _for_page(text.getvalue(), key, description)


def _for_page(svg: str, key: str, description: str) -> str:
    """Return matplotlib's SVG file as an element of an HTML page with our colours."""
    svg = svg[svg.index("<svg") :].strip()
    head, body = svg[: svg.index(">") + 1], svg[svg.index(">") + 1 :]
    # Its style sheet would hold for the whole page, which has the same rule for its figures.
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    # Text may hold anything, so only what stands inside tags is changed.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def tag(match: re.Match[str]) -> str:
        inside = match[0].replace("xlink:href", "href")
        inside = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", inside)
        inside = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", inside)
        # The page's own font; in older versions of matplotlib it stands in the shorthand.
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
