"""How a mask file is stored, right or wrong, and the colours that stand for classes in colour masks.

This module knows nothing of images, splits and torch.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semalign.data.folder import decode_indices, read_bytes
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.palette import PASCAL_VOC, class_colors

__all__ = [
    "COLOUR_FILES",
    "ONE_CHANNEL",
    "ClassColors",
    "Color",
    "MaskFacts",
    "find_class_colors",
    "is_byte",
    "look_at_mask",
    "read_indices",
    "read_rgb",
]

Color = tuple[int, int, int]
"""R, G, B in 0 to 255."""

ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of a mask of one channel."""

COLOUR_FILES = ("colors.txt", "label_colors.txt")
"""Files that say which colour is which class, beside classes.txt: ``R G B NAME`` per line (CamVid's own layout)."""

MOST_COLOURS = 1024


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """What a mask file holds, as stored.

    Attributes:
        size: H, W.
        values: pixel counts by value, of one channel or of equal channels; empty for a picture in colours.
        channels: 1, or 3 for a picture in colours or of equal channels.
        colours: the different colours of a picture in colours (at most 1025), else empty.
        palette: by index used, the colour of a palette picture; else empty.
        is_deep: whether it has several channels of 16 bits; ``colours`` are then their high bytes alone.
    """

    size: tuple[int, int]
    values: Mapping[int, int]
    channels: int
    colours: tuple[Color, ...]
    palette: Mapping[int, Color]
    is_deep: bool = False


def look_at_mask(data: bytes) -> MaskFacts | None:
    """Return what a mask's bytes hold; None where they are no PNG that can be decoded."""
    try:
        values = _decode(data)
    except DataError:
        return None
    size = (values.shape[0], values.shape[1])
    palette: dict[int, Color] = {}
    if values.ndim == 2:
        found, counts = np.unique(values, return_counts=True)
        pixels = {int(value): int(count) for value, count in zip(found, counts, strict=True)}
        if data[25] == 3:  # the header's colour type: palette
            raw = Image.open(io.BytesIO(data)).getpalette("RGB") or []
            table = np.zeros(768, dtype=np.uint8)
            table[: len(raw)] = raw
            palette = {value: _color(table.reshape(-1, 3)[value]) for value in pixels}
        return MaskFacts(size, pixels, 1, (), palette)
    is_deep = _is_deep(data)
    if not is_deep and (values == values[..., :1]).all():
        found, counts = np.unique(values[..., 0], return_counts=True)
        pixels = {int(value): int(count) for value, count in zip(found, counts, strict=True)}
        return MaskFacts(size, pixels, 3, (), {})
    codes = np.unique(_codes(values))[: MOST_COLOURS + 1]
    colours = tuple((int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes)
    return MaskFacts(size, {}, 3, colours, {}, is_deep)


def is_byte(text: str) -> bool:
    """Return whether a text is a number from 0 to 255, in plain digits."""
    return re.fullmatch("[0-9]{1,3}", text) is not None and int(text) <= 255


def _color(row: NDArray[np.uint8]) -> Color:
    return int(row[0]), int(row[1]), int(row[2])


def _codes(rgb: NDArray[np.integer]) -> NDArray[np.int32]:
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _is_deep(data: bytes) -> bool:
    # Bytes 24 and 25 of the header are bit depth and colour type: 2 RGB, 4 grey with alpha, 6 RGB with alpha.  Of their
    # 16 bits Pillow keeps the upper 8.
    return data[24] == 16 and data[25] in (2, 4, 6)


def _decode(data: bytes) -> NDArray[np.integer]:
    """Return H x W values of one channel, or H x W x 3 colours."""
    path = Path("mask")
    try:
        mode = Image.open(io.BytesIO(data)).mode
    except Exception as error:  # Pillow's decoders raise nearly every kind of exception on damaged bytes
        if isinstance(error, MemoryError):
            raise
        raise DataError(f"mask cannot be decoded: {error}") from error
    if mode in ("RGB", "RGBA", "LA"):
        values = decode_indices(data, path, "mask", (mode,), "colours")
        return values[..., :3] if mode != "LA" else np.repeat(values[..., :1], 3, axis=2)
    return decode_indices(data, path, "mask", ONE_CHANNEL, "class indices").astype(np.int64)


def read_indices(path: Path) -> NDArray[np.int64]:
    """Return H x W values of a mask of one channel or of three equal ones, as stored.

    Raises:
        DataError: it cannot be decoded, is a picture in colours, or has several channels of 16 bits.
    """
    data = read_bytes(path, "mask")
    values = _decode(data)
    if values.ndim == 3:
        if _is_deep(data):
            raise DataError(f"mask {path} has several channels of 16 bits, expected one channel of class indices")
        if not (values == values[..., :1]).all():
            raise DataError(f"mask {path} is a picture in colours, expected one channel of class indices")
        values = values[..., 0]
    return values.astype(np.int64)


def read_rgb(path: Path) -> NDArray[np.int32]:
    """Return H x W colour codes R * 65536 + G * 256 + B of a mask in colours or with a palette."""
    image = Image.open(io.BytesIO(read_bytes(path, "mask")))
    return _codes(np.asarray(image.convert("RGBA").convert("RGB")))


# ---- Which colour is which class ----


@dataclasses.dataclass(frozen=True)
class ClassColors:
    """Class indices (255 for none) by colour, and where that is known from."""

    index: Mapping[Color, int]
    known_from: str

    def indices(self, codes: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return H x W class indices of H x W colour codes, all of which must be known."""
        found, inverse = np.unique(codes, return_inverse=True)
        of_code = [self.index[(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255)] for c in found]
        return np.array(of_code, dtype=np.uint8)[inverse].reshape(codes.shape)


def find_class_colors(root: Path, class_names: Sequence[str], colours: set[Color]) -> ClassColors | None:
    """Return which class each of ``colours`` stands for, or None where that is not known beyond doubt.

    Known are, in this order: a file `COLOUR_FILES` in ``root`` (classes it names and classes.txt does not are ignored,
    255), the palette of Pascal VOC, and the palette of this package's own predictions (black is 255).  A palette is
    taken only if it has every colour of the masks, at least two of them not black.

    Raises:
        DataError: the file is malformed, or lacks a class or a colour of the masks.
    """
    for name in COLOUR_FILES:
        path = root / name
        if path.is_file():
            index = _read_class_colors(path, class_names)
            missing = sorted(colours - set(index))
            if missing:
                raise DataError(
                    f"{path} lacks the colour {' '.join(map(str, missing[0]))} that masks hold (and "
                    f"{len(missing) - 1} more), expected a line R G B NAME for every colour"
                )
            return ClassColors(index, name)
    if len(colours - {(0, 0, 0)}) < 2:
        return None
    n_classes = len(class_names)
    pascal = {_color(row): k for k, row in enumerate(PASCAL_VOC) if k < n_classes or k == IGNORE}
    own = {_color(row): k for k, row in enumerate(class_colors(n_classes))} | {(0, 0, 0): IGNORE}
    for palette, known_from in ((pascal, "the palette of Pascal VOC"), (own, "the palette of predictions")):
        if colours <= set(palette):
            return ClassColors(palette, known_from)
    return None


def _read_class_colors(path: Path, class_names: Sequence[str]) -> dict[Color, int]:
    index: dict[Color, int] = {}
    try:
        lines = read_bytes(path, "colour list").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}), save it as UTF-8") from error
    folded = {name.casefold(): place for place, name in enumerate(class_names)}
    named = set()
    for number, line in enumerate(lines, start=1):
        parts = line.split(maxsplit=3)
        if not parts:
            continue
        if len(parts) != 4 or not all(is_byte(part) for part in parts[:3]):
            raise DataError(f"line {number} of {path} is {line!r}, expected R G B NAME with numbers from 0 to 255")
        color = (int(parts[0]), int(parts[1]), int(parts[2]))
        place = folded.get(parts[3].strip().casefold(), IGNORE)
        if index.setdefault(color, place) != place:
            raise DataError(f"line {number} of {path} gives the colour {' '.join(parts[:3])} a second class")
        named.add(place)
    missing = [name for place, name in enumerate(class_names) if place not in named]
    if missing:
        raise DataError(f"{path} has no colour for class {missing[0]!r}, expected a line R G B NAME for every class")
    return index
