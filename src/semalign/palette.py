"""The colors of masks: one palette for predictions, reports, sheets and data sets.

Plain arrays of bytes.  This module knows nothing of images, files and models.
"""

from __future__ import annotations

import colorsys
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORED_COLOR", "PASCAL_VOC", "class_colors", "mask_palette"]

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
