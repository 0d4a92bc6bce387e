"""What a data set's pixel values and colors mean: from ids and colors to class indices, 255 ignored.

This module does not depend on any one data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semalign.data.colors import Color, color_codes, color_of_code
from semalign.data.images import decode_indices
from semalign.data.masks import ONE_CHANNEL
from semalign.data.reading import read_bytes
from semalign.data.sample import MaskArray
from semalign.errors import DataError
from semalign.metrics import IGNORE

__all__ = ["MaskRule", "Unknown"]

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


@dataclasses.dataclass(frozen=True)
class MaskRule:
    """What the ids or the colors of a data set's masks mean.

    Attributes:
        classes: class index by id, or by color code (see `color_codes`); 255 for ignored.
        expected: the ids or colors, in messages.
        of_colors: the masks are pictures in colors.
    """

    classes: Mapping[int, int]
    expected: str
    of_colors: bool = False

    @classmethod
    def for_colors(cls, classes: Mapping[Color, int], expected: str) -> MaskRule:
        """Return the rule of class indices by color."""
        codes = color_codes(np.array(list(classes), dtype=np.int64).reshape(-1, 3)).tolist()
        return cls(dict(zip(codes, classes.values(), strict=True)), expected, of_colors=True)

    def read(self, path: Path, unknown: Unknown) -> MaskArray:
        """Return the class indices of a mask file (PNG)."""
        data = read_bytes(path, "mask")
        if self.of_colors:
            rgb = decode_indices(data, path, "mask", ("RGB", "RGBA"), "class colors")[..., :3]
            return self.apply(color_codes(rgb), path, unknown)
        return self.apply(decode_indices(data, path, "mask", ONE_CHANNEL, self.expected), path, unknown)

    def apply(self, values: NDArray[np.integer], path: Path, unknown: Unknown) -> MaskArray:
        """Return the class indices of ids or color codes; those that the rule lacks go to ``unknown``."""
        found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        strange = [place for place, value in enumerate(found) if int(value) not in self.classes]
        if strange:
            shown = [self._shown(int(found[place])) for place in strange]
            unknown.met(path, shown, int(counts[strange].sum()), self.expected)
        classes = np.array([self.classes.get(int(value), IGNORE) for value in found], dtype=np.uint8)
        mask: MaskArray = classes[inverse].reshape(values.shape)
        return mask

    def _shown(self, value: int) -> str:
        return f"the color {' '.join(map(str, color_of_code(value)))}" if self.of_colors else f"the id {value}"
