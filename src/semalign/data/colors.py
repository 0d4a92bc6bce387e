"""Which color stands for which class: color codes, and the files and palettes that say what a color means.

This module does not depend on images, splits and torch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semalign import layout
from semalign.data.reading import read_text
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.palette import PASCAL_VOC, class_colors
from semalign.wording import Message, say

__all__ = [
    "ClassColors",
    "Color",
    "as_color",
    "color_codes",
    "color_of_code",
    "find_class_colors",
    "is_byte",
]

Color = tuple[int, int, int]
"""R, G, B in 0 to 255."""


def color_codes(rgb: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the code R * 65536 + G * 256 + B of each color along the last axis."""
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def color_of_code(code: int) -> Color:
    """Return the color of a code.

    >>> color_of_code(65536 + 2 * 256 + 3)
    (1, 2, 3)
    """
    return code >> 16, code >> 8 & 255, code & 255


def as_color(row: NDArray[np.uint8] | bytes) -> Color:
    """Return R, G, B as a color."""
    return int(row[0]), int(row[1]), int(row[2])


def is_byte(text: str) -> bool:
    """Return whether a text is a number from 0 to 255, in plain digits."""
    return re.fullmatch("[0-9]{1,3}", text) is not None and int(text) <= 255


@dataclasses.dataclass(frozen=True)
class ClassColors:
    """What colors stand for.

    Attributes:
        index: class index by color, 255 for none.
        known_from: the file or the palette that says so.
    """

    index: Mapping[Color, int]
    known_from: Message | str

    def indices(self, codes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return H x W class indices of H x W color codes, all of which must be known."""
        found, inverse = np.unique(codes, return_inverse=True)
        of_code = [self.index[color_of_code(int(c))] for c in found]
        return np.array(of_code, dtype=np.uint8)[inverse].reshape(codes.shape)


def find_class_colors(root: Path, class_names: Sequence[str], colors: set[Color]) -> ClassColors | None:
    """Return which class each of ``colors`` stands for, or None where that is not known beyond doubt.

    Known are, in this order: one of the files `layout.CLASS_COLORS` in ``root`` (255 for a name that is not a class),
    the palette of Pascal VOC, and the palette of this package's own predictions (black is 255).  A palette is taken
    only if it has every color of the masks, at least two of them not black.

    Raises:
        DataError: the file is malformed, or lacks a class or a color of the masks.
    """
    for name in layout.CLASS_COLORS:
        path = root / name
        if path.is_file():
            index = _read_class_colors(path, class_names)
            missing = sorted(colors - set(index))
            if missing:
                raise DataError(
                    f"{path} lacks the color {' '.join(map(str, missing[0]))} that masks hold (and "
                    f"{len(missing) - 1} more), expected a line R G B NAME for every color"
                )
            return ClassColors(index, name)
    if len(colors - {(0, 0, 0)}) < 2:
        return None
    n_classes = len(class_names)
    pascal = {as_color(row): k for k, row in enumerate(PASCAL_VOC) if k < n_classes or k == IGNORE}
    own = {as_color(row): k for k, row in enumerate(class_colors(n_classes))} | {(0, 0, 0): IGNORE}
    for palette, known_from in ((pascal, say("data.palette-of-voc")), (own, say("data.palette-of-predictions"))):
        if colors <= set(palette):
            return ClassColors(palette, known_from)
    return None


def _read_class_colors(path: Path, class_names: Sequence[str]) -> dict[Color, int]:
    index: dict[Color, int] = {}
    folded = {name.casefold(): place for place, name in enumerate(class_names)}
    named = set()
    for number, line in enumerate(read_text(path, "color list").splitlines(), start=1):
        parts = line.split(maxsplit=3)
        if not parts:
            continue
        if len(parts) != 4 or not all(is_byte(part) for part in parts[:3]):
            raise DataError(f"line {number} of {path} is {line!r}, expected R G B NAME with numbers from 0 to 255")
        color = (int(parts[0]), int(parts[1]), int(parts[2]))
        place = folded.get(parts[3].strip().casefold(), IGNORE)
        if index.setdefault(color, place) != place:
            raise DataError(f"line {number} of {path} gives the color {' '.join(parts[:3])} a second class")
        named.add(place)
    missing = [name for place, name in enumerate(class_names) if place not in named]
    if missing:
        raise DataError(f"{path} has no color for class {missing[0]!r}, expected a line R G B NAME for every class")
    return index
