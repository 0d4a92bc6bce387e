"""Figures as SVG to stand inside a page, and as SVG and PDF files for a paper.

In the page text stays text and colours are its CSS variables; in files the colours are the page's light ones.  Drawn
with matplotlib.  This module knows nothing of studies: it draws what it is given.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "DASHES",
    "PALETTE",
    "Drawing",
    "EffectMark",
    "EffectsPlot",
    "FactorPanel",
    "FactorsPlot",
    "ForestMark",
    "ForestPlot",
    "Line",
    "LookMark",
    "LooksPlot",
    "Panel",
    "PanelsPlot",
    "can_write",
    "draw",
    "export",
    "line_style",
]

COLOURS = 8
"""Colours of lines: the CSS variables --c0 to --c7."""

PALETTE: dict[str, str] = {
    "ink": "#1b1f24",
    "muted": "#59626d",
    "rule": "#dde1e6",
    "band": "#e3e7ec",
    "better": "#14713d",
    "worse": "#b3261e",
    "equivalent": "#0b57a4",
    "inconclusive": "#5a6068",
    "c0": "#0b57a4",
    "c1": "#b8480b",
    "c2": "#14713d",
    "c3": "#86398f",
    "c4": "#7c6300",
    "c5": "#b8255f",
    "c6": "#1d6f86",
    "c7": "#5a6068",
}
"""Colours of figures in files, by the name of the page's CSS variable; a test compares them with the style sheet."""

# matplotlib knows no CSS variables: these colours stand for them and are exchanged in the finished SVG.
_MARKERS = {name: f"#0000{index:02x}" for index, name in enumerate(PALETTE, start=1)}
_VARIABLES = {colour: name for name, colour in _MARKERS.items()}
_colours: ContextVar[Mapping[str, str]] = ContextVar("_colours", default=_MARKERS)

DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5, 1.5, 1.5, 1.5, 1.5))
"""Dash patterns, in widths of the line; together with the colours they tell 40 lines apart, also without colour."""

_ROUND = [1, 2, 5, 10]
_MOST_LETTERS = 66  # what fits on one line of the plot of effects

_CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei", "Noto Serif CJK SC")
"""Fonts that a PDF takes Chinese characters from, the first one that is there."""


def _style_values() -> dict[Any, Any]:
    ink, muted = _colour("ink"), _colour("muted")
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


def _colour(name: str) -> str:
    return _colours.get()[name]


@functools.cache
def _chinese_font() -> tuple[str, ...]:
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next(((name,) for name in _CHINESE if name in known), ())


def can_write(text: str) -> bool:
    """Return whether a PDF made here can show the text: Chinese needs a font that has it."""
    return bool(_chinese_font()) or _is_plain(text)


def _is_plain(text: str) -> bool:
    return all(ord(letter) < 0x2E80 for letter in text)


# --- what is drawn --------------------------------------------------------------------------------


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
        zero: draw a line at 0.
    """

    key: str
    description: str
    x_label: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None
    zero: bool = False


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


@dataclasses.dataclass(frozen=True)
class EffectsPlot:
    """Effects under each other, with both intervals, every block, and the margin as a band.

    Attributes:
        key: unique in the page, letters, digits and hyphens.
        description: what a reader who cannot see it must know.
        marks: from top to bottom.
        margin: points.
        x_label: under the horizontal axis.
        margin_label: under that, what the band is.
    """

    key: str
    description: str
    marks: tuple[EffectMark, ...]
    margin: float
    x_label: str
    margin_label: str


@dataclasses.dataclass(frozen=True)
class LookMark:
    """One look at one effect; ``pale`` for a look after the one that decided it, which judges nothing."""

    label: str
    word: str
    mean: float
    interval: tuple[float, float] | None
    inner: tuple[float, float] | None
    pale: bool


@dataclasses.dataclass(frozen=True)
class LooksPlot:
    """One effect at every look that has been reached, and rows left empty for those ahead.

    Attributes:
        key: as in `EffectsPlot`.
        description: as there.
        marks: the first look on top.
        ahead: labels of looks that have not been reached.
        margin: points.
        reach: the axis shows ± this, points; what lies beyond ends in an arrow.
        x_label: under the horizontal axis.
    """

    key: str
    description: str
    marks: tuple[LookMark, ...]
    ahead: tuple[str, ...]
    margin: float
    reach: float
    x_label: str


@dataclasses.dataclass(frozen=True)
class ForestMark:
    """One row of a `ForestPlot`: a name, a mean and its interval, None where there is none."""

    label: str
    mean: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class ForestPlot:
    """Many small effects that are shown and not judged, such as those by class."""

    key: str
    description: str
    marks: tuple[ForestMark, ...]
    x_label: str


@dataclasses.dataclass(frozen=True)
class FactorPanel:
    """Means over the levels of one factor: one line, or one for each level of a second factor.

    Attributes:
        title: above it.
        levels: along the horizontal axis.
        lines: label ("" for a single line) and means by level.
        blocks: blocks x levels, drawn pale behind a single line; None for none.
    """

    title: str
    levels: tuple[str, ...]
    lines: tuple[tuple[str, tuple[float, ...]], ...]
    blocks: NDArray[np.float64] | None = None


@dataclasses.dataclass(frozen=True)
class FactorsPlot:
    """Panels side by side with one vertical axis."""

    key: str
    description: str
    panels: tuple[FactorPanel, ...]
    y_label: str


@dataclasses.dataclass(frozen=True)
class PanelsPlot:
    """Panels of lines under one legend, as a file for a paper.

    Attributes:
        key: as in `EffectsPlot`.
        description: as there.
        rows: of titled panels.
        legend: label and index of the line's style.
    """

    key: str
    description: str
    rows: tuple[tuple[tuple[str, Panel], ...], ...]
    legend: tuple[tuple[str, int], ...]


Drawing: TypeAlias = Panel | EffectsPlot | LooksPlot | ForestPlot | FactorsPlot | PanelsPlot


def line_style(index: int) -> tuple[int, tuple[float, ...]]:
    """Return colour and dashes of the ``index``-th line; no two of the first 40 share both."""
    return index % COLOURS, DASHES[(index // COLOURS + index) % len(DASHES)]


def draw(drawing: Drawing) -> str:
    """Return the drawing as an SVG element of the page."""
    with _style(drawing.key, _MARKERS):
        return _for_page(_svg(_build(drawing)), drawing.key, drawing.description)


def export(drawing: Drawing) -> dict[str, bytes]:
    """Return the drawing as files, by ending: "svg" and "pdf"; the same drawing gives the same bytes."""
    with _style(drawing.key, PALETTE):
        figure = _build(drawing)
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


def _build(drawing: Drawing) -> Figure:
    match drawing:
        case Panel():
            return _panel(drawing)
        case EffectsPlot():
            return _effects(drawing)
        case LooksPlot():
            return _looks(drawing)
        case ForestPlot():
            return _forest(drawing)
        case FactorsPlot():
            return _factors(drawing)
        case PanelsPlot():
            return _panels(drawing)


# --- curves ---------------------------------------------------------------------------------------


def _panel(panel: Panel) -> Figure:
    figure, axes = _figure(3.5, 2.3)
    _lines(axes, panel)
    return figure


def _lines(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        colour, dashes = line_style(line.style)
        value = _colour(f"c{colour}")
        if len(line.x) == 1:
            axes.errorbar(line.x, line.y, [line.y - line.low, line.high - line.y], fmt="o", color=value, markersize=4)
            continue
        axes.fill_between(line.x, line.low, line.high, color=value, alpha=0.15, linewidth=0)
        axes.plot(line.x, line.y, color=value, linewidth=1.5, dashes=dashes or (None, None))
    if panel.zero:
        axes.axhline(0, color=_colour("muted"), linewidth=1)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_xlabel(panel.x_label)
    axes.grid(color=_colour("rule"), linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    for axis in (axes.xaxis, axes.yaxis):
        # An offset such as +9.99e-1 above the axis is read by nobody.
        axis.set_major_formatter(ScalarFormatter(useOffset=False))


def _panels(plot: PanelsPlot) -> Figure:
    columns = max(len(row) for row in plot.rows)
    legend = 0.22 * (1 + (len(plot.legend) - 1) // 4) + 0.1
    figure = _blank(2.9 * columns, 2.2 * len(plot.rows) + legend)
    for index, row in enumerate(plot.rows):
        for place, (title, panel) in enumerate(row):
            axes = figure.add_subplot(len(plot.rows), columns, index * columns + place + 1)
            axes.patch.set_visible(False)
            axes.set_title(title, fontsize=9, loc="left")
            _lines(axes, panel)
    handles = []
    for label, style in plot.legend:
        colour, dashes = line_style(style)
        line = Line2D([], [], color=_colour(f"c{colour}"), linewidth=1.5, label=label)
        if dashes:
            line.set_dashes(dashes)
        handles.append(line)
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return figure


# --- effects --------------------------------------------------------------------------------------


def _effects(plot: EffectsPlot) -> Figure:
    marks = plot.marks
    # Labels are bold, which is wider.
    crowded = any(1.15 * _letters(mark.label) + _letters(mark.figure) > _MOST_LETTERS for mark in marks)
    figure, axes = _figure(4.3, 0.95 + (0.72 if crowded else 0.52) * len(marks))
    # Heights are in rows: a second line of text makes a row taller in points and all else shorter in rows.
    above, line = (0.2, 0.24) if crowded else (0.25, 0.0)
    axes.axvspan(-plot.margin, plot.margin, color=_colour("band"), linewidth=0)
    axes.axvline(0, color=_colour("muted"), linewidth=1)
    for row, mark in enumerate(marks):
        y, colour = -row, _colour(mark.word)
        axes.plot(
            mark.values,
            np.full(len(mark.values), y - 0.22),
            "|",
            color=_colour("muted"),
            markersize=5,
            markeredgewidth=0.8,
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
    _across(axes, f"{plot.x_label}\n{plot.margin_label}")
    axes.margins(x=0.06)
    return figure


def _looks(plot: LooksPlot) -> Figure:
    rows = len(plot.marks) + len(plot.ahead)
    figure, axes = _figure(4.3, 0.75 + 0.33 * rows)
    reach = plot.reach
    axes.axvspan(-plot.margin, plot.margin, color=_colour("band"), linewidth=0)
    axes.axvline(0, color=_colour("muted"), linewidth=1)
    for row, mark in enumerate(plot.marks):
        y, colour, alpha = -row, _colour(mark.word), 0.45 if mark.pale else 1.0
        for ends, width, shown in ((mark.interval, 1.4, alpha), (mark.inner, 4.5, 0.55 * alpha)):
            if ends is None:
                continue
            low, high = (min(max(end, -reach), reach) for end in ends)
            axes.plot((low, high), (y, y), color=colour, linewidth=width, alpha=shown, solid_capstyle="butt")
        if mark.interval is not None:
            for end, beyond in zip(mark.interval, ("<", ">"), strict=True):
                outside = abs(end) > reach
                at = np.sign(end) * reach if outside else end
                axes.plot([at], [y], beyond if outside else "|", color=colour, markersize=6, alpha=alpha)
        if abs(mark.mean) <= reach:
            face = "none" if mark.pale else colour
            axes.plot([mark.mean], [y], "o", color=colour, markersize=6, markerfacecolor=face, alpha=alpha)
    axes.set_xlim(-1.04 * reach, 1.04 * reach)
    axes.set_ylim(-rows + 0.4, 0.6)
    _across(axes, plot.x_label)
    axes.set_yticks([-row for row in range(rows)], [*(mark.label for mark in plot.marks), *plot.ahead])
    axes.tick_params(axis="y", length=0)
    return figure


def _forest(plot: ForestPlot) -> Figure:
    figure, axes = _figure(4.3, 0.7 + 0.23 * len(plot.marks))
    axes.axvline(0, color=_colour("muted"), linewidth=1)
    for row, mark in enumerate(plot.marks):
        if mark.interval is not None:
            axes.plot(mark.interval, (-row, -row), color=_colour("c0"), linewidth=1.4)
        axes.plot([mark.mean], [-row], "o", color=_colour("c0"), markersize=4)
    axes.set_ylim(-len(plot.marks) + 0.4, 0.6)
    _across(axes, plot.x_label)
    axes.set_yticks([-row for row in range(len(plot.marks))], [mark.label for mark in plot.marks])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=_colour("rule"), linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


def _across(axes: Axes, label: str) -> None:
    """Give a plot of rows its horizontal axis and no vertical one."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=_ROUND))


# --- factors --------------------------------------------------------------------------------------

_COLUMNS = 3


def _factors(plot: FactorsPlot) -> Figure:
    rows = -(-len(plot.panels) // _COLUMNS)
    columns = min(_COLUMNS, len(plot.panels))
    figure = _blank(2.65 * columns + 0.4, 2.35 * rows)
    first: Axes | None = None
    for index, panel in enumerate(plot.panels):
        axes = figure.add_subplot(rows, columns, index + 1, sharey=first)
        first = first or axes
        axes.patch.set_visible(False)
        places = np.arange(len(panel.levels))
        if panel.blocks is not None:
            axes.plot(places, panel.blocks.T, color=_colour("muted"), linewidth=0.6, alpha=0.45)
        for style, (label, means) in enumerate(panel.lines):
            colour, dashes = line_style(style)
            line = axes.plot(places, means, "o", color=_colour(f"c{colour}"), markersize=4.5, label=label)[0]
            line.set_linestyle("-")
            if dashes:
                line.set_dashes(dashes)
        if any(label for label, _ in panel.lines):
            axes.legend(frameon=False, fontsize=7.5, handlelength=2.6, labelcolor="linecolor")
        axes.set_title(panel.title, fontsize=8.6, loc="left", weight="bold")
        axes.set_xticks(places, panel.levels)
        axes.set_xlim(-0.35, len(panel.levels) - 0.65)
        axes.grid(axis="y", color=_colour("rule"), linewidth=0.6)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        if index % columns == 0:
            axes.set_ylabel(plot.y_label)
    return figure


def _letters(text: str) -> int:
    """Return the text's width in letters; Chinese characters are two wide."""
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)


# --- matplotlib without its global state ----------------------------------------------------------


@contextmanager
def _style(key: str, colours: Mapping[str, str]) -> Iterator[None]:
    """Draw by our settings alone, whatever a user's matplotlibrc says, and leave theirs as they were."""
    token = _colours.set(colours)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context():
            # Text of the page is drawn by the reader's browser, whose fonts have the characters that ours lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update({**_style_values(), "svg.hashsalt": key})
            yield
    finally:
        _colours.reset(token)


def _blank(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    figure.patch.set_visible(False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _blank(width, height)
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
