"""What is drawn: figures as plain data.  This module does not depend on matplotlib or on studies."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
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
]


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve with a band.

    Attributes:
        style: index of its color and dashes, see `line_style`.
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
        word: the verdict in English, which chooses the color.
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
