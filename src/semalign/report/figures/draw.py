"""Figures as SVG in a page, and as SVG and PDF files for a paper, drawn with matplotlib.

This module does not depend on studies: it draws what it is given.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from semalign.palette import line_style
from semalign.report.figures.canvas import blank, color_of, one_plot, to_element, to_files
from semalign.report.figures.shapes import (
    Drawing,
    EffectsPlot,
    FactorsPlot,
    ForestPlot,
    LooksPlot,
    Panel,
    PanelsPlot,
)

__all__ = ["draw", "export"]

_ROUND = [1, 2, 5, 10]
_MOST_LETTERS = 66  # what fits on one line of the plot of effects


def draw(drawing: Drawing) -> str:
    """Return the drawing as an SVG element of the page, its colors as the page's CSS variables."""
    return to_element(drawing.key, drawing.description, lambda: _build(drawing))


def export(drawing: Drawing) -> dict[str, bytes]:
    """Return the drawing as files, by ending: "svg" and "pdf"; the same drawing gives the same bytes."""
    return to_files(drawing.key, lambda: _build(drawing))


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
    figure, axes = one_plot(3.5, 2.3)
    _lines(axes, panel)
    return figure


def _lines(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        color, dashes = line_style(line.style)
        value = color_of(f"c{color}")
        if len(line.x) == 1:
            axes.errorbar(line.x, line.y, [line.y - line.low, line.high - line.y], fmt="o", color=value, markersize=4)
            continue
        axes.fill_between(line.x, line.low, line.high, color=value, alpha=0.15, linewidth=0)
        axes.plot(line.x, line.y, color=value, linewidth=1.5, dashes=dashes or (None, None))
    if panel.zero:
        axes.axhline(0, color=color_of("muted"), linewidth=1)
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_xlabel(panel.x_label)
    axes.grid(color=color_of("rule"), linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
    for axis in (axes.xaxis, axes.yaxis):
        # An offset such as +9.99e-1 above the axis is read by nobody.
        axis.set_major_formatter(ScalarFormatter(useOffset=False))


def _panels(plot: PanelsPlot) -> Figure:
    columns = max(len(row) for row in plot.rows)
    legend = 0.22 * (1 + (len(plot.legend) - 1) // 4) + 0.1
    figure = blank(2.9 * columns, 2.2 * len(plot.rows) + legend)
    for index, row in enumerate(plot.rows):
        for place, (title, panel) in enumerate(row):
            axes = figure.add_subplot(len(plot.rows), columns, index * columns + place + 1)
            axes.patch.set_visible(False)
            axes.set_title(title, fontsize=9, loc="left")
            _lines(axes, panel)
    handles = []
    for label, style in plot.legend:
        color, dashes = line_style(style)
        line = Line2D([], [], color=color_of(f"c{color}"), linewidth=1.5, label=label)
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
    figure, axes = one_plot(4.3, 0.95 + (0.72 if crowded else 0.52) * len(marks))
    # Heights are in rows: a second line of text makes a row taller in points and all else shorter in rows.
    above, line = (0.2, 0.24) if crowded else (0.25, 0.0)
    axes.axvspan(-plot.margin, plot.margin, color=color_of("band"), linewidth=0)
    axes.axvline(0, color=color_of("muted"), linewidth=1)
    for row, mark in enumerate(marks):
        y, color = -row, color_of(mark.word)
        axes.plot(
            mark.values,
            np.full(len(mark.values), y - 0.22),
            "|",
            color=color_of("muted"),
            markersize=5,
            markeredgewidth=0.8,
        )
        if mark.interval is not None:
            axes.plot(mark.interval, (y, y), color=color, linewidth=1.4, marker="|", markersize=7)
        if mark.inner is not None:
            axes.plot(mark.inner, (y, y), color=color, linewidth=4.5, solid_capstyle="butt", alpha=0.55)
        axes.plot([mark.mean], [y], "o", color=color, markersize=6)
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
    figure, axes = one_plot(4.3, 0.75 + 0.33 * rows)
    reach = plot.reach
    axes.axvspan(-plot.margin, plot.margin, color=color_of("band"), linewidth=0)
    axes.axvline(0, color=color_of("muted"), linewidth=1)
    for row, mark in enumerate(plot.marks):
        y, color, alpha = -row, color_of(mark.word), 0.45 if mark.pale else 1.0
        for ends, width, shown in ((mark.interval, 1.4, alpha), (mark.inner, 4.5, 0.55 * alpha)):
            if ends is None:
                continue
            low, high = (min(max(end, -reach), reach) for end in ends)
            axes.plot((low, high), (y, y), color=color, linewidth=width, alpha=shown, solid_capstyle="butt")
        if mark.interval is not None:
            for end, beyond in zip(mark.interval, ("<", ">"), strict=True):
                outside = abs(end) > reach
                at = np.sign(end) * reach if outside else end
                axes.plot([at], [y], beyond if outside else "|", color=color, markersize=6, alpha=alpha)
        if abs(mark.mean) <= reach:
            face = "none" if mark.pale else color
            axes.plot([mark.mean], [y], "o", color=color, markersize=6, markerfacecolor=face, alpha=alpha)
    axes.set_xlim(-1.04 * reach, 1.04 * reach)
    axes.set_ylim(-rows + 0.4, 0.6)
    _across(axes, plot.x_label)
    axes.set_yticks([-row for row in range(rows)], [*(mark.label for mark in plot.marks), *plot.ahead])
    axes.tick_params(axis="y", length=0)
    return figure


def _forest(plot: ForestPlot) -> Figure:
    figure, axes = one_plot(4.3, 0.7 + 0.23 * len(plot.marks))
    axes.axvline(0, color=color_of("muted"), linewidth=1)
    for row, mark in enumerate(plot.marks):
        if mark.interval is not None:
            axes.plot(mark.interval, (-row, -row), color=color_of("c0"), linewidth=1.4)
        axes.plot([mark.mean], [-row], "o", color=color_of("c0"), markersize=4)
    axes.set_ylim(-len(plot.marks) + 0.4, 0.6)
    _across(axes, plot.x_label)
    axes.set_yticks([-row for row in range(len(plot.marks))], [mark.label for mark in plot.marks])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=color_of("rule"), linewidth=0.6)
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
    figure = blank(2.65 * columns + 0.4, 2.35 * rows)
    first: Axes | None = None
    for index, panel in enumerate(plot.panels):
        axes = figure.add_subplot(rows, columns, index + 1, sharey=first)
        first = first or axes
        axes.patch.set_visible(False)
        places = np.arange(len(panel.levels))
        if panel.blocks is not None:
            axes.plot(places, panel.blocks.T, color=color_of("muted"), linewidth=0.6, alpha=0.45)
        for style, (label, means) in enumerate(panel.lines):
            color, dashes = line_style(style)
            line = axes.plot(places, means, "o", color=color_of(f"c{color}"), markersize=4.5, label=label)[0]
            line.set_linestyle("-")
            if dashes:
                line.set_dashes(dashes)
        if any(label for label, _ in panel.lines):
            axes.legend(frameon=False, fontsize=7.5, handlelength=2.6, labelcolor="linecolor")
        axes.set_title(panel.title, fontsize=8.6, loc="left", weight="bold")
        axes.set_xticks(places, panel.levels)
        axes.set_xlim(-0.35, len(panel.levels) - 0.65)
        axes.grid(axis="y", color=color_of("rule"), linewidth=0.6)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_ROUND))
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        if index % columns == 0:
            axes.set_ylabel(plot.y_label)
    return figure


def _letters(text: str) -> int:
    """Return the text's width in letters; Chinese characters are two wide."""
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in text)
