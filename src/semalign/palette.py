"""The colors of masks, for predictions, reports, sheets and data sets, and the colors of figures.

Plain values.  This module does not depend on images, files and models.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["DARK", "IGNORED_COLOR", "LIGHT", "PASCAL_VOC", "class_colors", "line_style", "mask_palette"]

GOLDEN_ANGLE: Final = 0.381966
"""Part of the color circle (2 minus the golden ratio): steps of this size keep any number of hues apart."""
IGNORED_COLOR: Final = (0, 0, 0)
"""Of pixels without a class."""


def class_colors(n_classes: int) -> NDArray[np.uint8]:
    """Return C x 3 RGB colors that differ in hue, then in lightness; class k has the same color for every C above k."""
    colors = []
    for index in range(n_classes):
        hue = (0.58 + index * GOLDEN_ANGLE) % 1.0
        lightness = (0.55, 0.38, 0.70)[(index // 7) % 3]
        colors.append([round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.75)])
    return np.array(colors, dtype=np.uint8).reshape(n_classes, 3)


def mask_palette() -> NDArray[np.uint8]:
    """Return the 256 x 3 palette of an image file of class indices: `class_colors`, and `IGNORED_COLOR` for 255."""
    return np.concatenate([class_colors(255), np.array([IGNORED_COLOR], dtype=np.uint8)])


def _pascal_voc() -> NDArray[np.uint8]:
    """Return 256 x 3 colors: bit j of the index becomes bit 7 - j//3 of channel j % 3."""
    index = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colors[:, bit % 3] |= ((index >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colors


PASCAL_VOC: Final = _pascal_voc()
"""The 256 x 3 palette of Pascal VOC (Everingham et al. 2010), which many tools use."""

# ---- figures and pages ----

LIGHT: Final[Mapping[str, str]] = {
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
"""Colors of figures in files, and of a page on a light ground, by the name of the page's CSS variable."""
DARK: Final[Mapping[str, str]] = {
    "ink": "#e7eaee",
    "muted": "#a3adb8",
    "rule": "#343b44",
    "band": "#2b323b",
    "better": "#6fd39a",
    "worse": "#ff9a91",
    "equivalent": "#82bcff",
    "inconclusive": "#b4bcc6",
    "c0": "#6db1ff",
    "c1": "#ff9f68",
    "c2": "#6fd39a",
    "c3": "#d9a0e2",
    "c4": "#dcc04e",
    "c5": "#ff8fb5",
    "c6": "#79cfe4",
    "c7": "#b4bcc6",
}
"""Colors of a page on a dark ground."""

LINE_COLORS: Final = 8
"""Lines have the colors c0 to c7."""
DASHES: Final[tuple[tuple[float, ...], ...]] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5, 1.5, 1.5, 1.5, 1.5))
"""Dash patterns, in widths of the line."""


def line_style(index: int) -> tuple[int, tuple[float, ...]]:
    """Return color (0 to 7) and dashes of the ``index``-th line.

    No two of the first 40 lines share both, and the dashes alone tell neighbors apart in print without color.
    """
    return index % LINE_COLORS, DASHES[(index // LINE_COLORS + index) % len(DASHES)]
