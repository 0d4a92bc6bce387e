"""What a data set's pixel values and colors mean: from ids and colors to class indices, 255 ignored.

This module knows nothing of any one data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semalign.data.colors import Color
from semalign.data.images import decode_indices
from semalign.data.masks import ONE_CHANNEL
from semalign.data.reading import read_bytes
from semalign.data.sample import MaskArray
from semalign.errors import DataError
from semalign.metrics import IGNORE

__all__ = ["Unknown", "classes_of_colors", "classes_of_ids", "read_colors", "read_ids"]

MOST_SHOWN = 5


class Unknown:
    """What becomes of values that a data set's rule does not name: they are refused, or ignored (255) and counted.

    Args:
        ignore: ignore them.

    Attributes:
        pixels: pixels ignored so far.
        masks: masks that had some.
    """

    def __init__(self, *, ignore: bool) -> None:
        self.ignore, self.pixels, self.masks = ignore, 0, 0

    def met(self, path: Path, values: list[str], pixels: int, expected: str) -> None:
        """Note a mask with unknown values, or refuse it.

        Raises:
            DataError: they are not to be ignored.
        """
        if self.ignore:
            self.pixels, self.masks = self.pixels + pixels, self.masks + 1
            return
        shown = ", ".join(values[:MOST_SHOWN]) + (", ..." if len(values) > MOST_SHOWN else "")
        raise DataError(
            f"mask {path} holds {shown} ({pixels} pixels), expected {expected}: correct the mask, or ignore such "
            "pixels with --ignore-unknown"
        )


def read_ids(path: Path, content: str) -> NDArray[np.int64]:
    """Return H x W ids of a PNG of one channel, as stored."""
    return decode_indices(read_bytes(path, "mask"), path, "mask", ONE_CHANNEL, content).astype(np.int64)


def read_colors(path: Path) -> NDArray[np.int64]:
    """Return H x W color codes R * 65536 + G * 256 + B of an RGB picture (PNG)."""
    values = decode_indices(read_bytes(path, "mask"), path, "mask", ("RGB", "RGBA"), "class colors")
    wide = values[..., :3].astype(np.int64)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def classes_of_ids(
    ids: NDArray[np.int64], rule: Mapping[int, int], path: Path, expected: str, unknown: Unknown
) -> MaskArray:
    """Return class indices of ids by ``rule``; ids that it lacks go to ``unknown``."""
    return _apply(ids, rule, path, expected, unknown, lambda value: f"the id {value}")


def classes_of_colors(
    codes: NDArray[np.int64], rule: Mapping[Color, int], path: Path, expected: str, unknown: Unknown
) -> MaskArray:
    """Return class indices of color codes by ``rule``; colors that it lacks go to ``unknown``."""
    by_code = {(r << 16) | (g << 8) | b: index for (r, g, b), index in rule.items()}
    return _apply(codes, by_code, path, expected, unknown, lambda c: f"the color {c >> 16} {c >> 8 & 255} {c & 255}")


def _apply(
    values: NDArray[np.int64],
    rule: Mapping[int, int],
    path: Path,
    expected: str,
    unknown: Unknown,
    shown: Callable[[int], str],
) -> MaskArray:
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    strange = [place for place, value in enumerate(found) if int(value) not in rule]
    if strange:
        unknown.met(path, [shown(int(found[place])) for place in strange], int(counts[strange].sum()), expected)
    classes = np.array([rule.get(int(value), IGNORE) for value in found], dtype=np.uint8)
    mask: MaskArray = classes[inverse].reshape(values.shape)
    return mask
