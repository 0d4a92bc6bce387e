"""Mask files: class indices of the masks that fit, and how any mask is stored, whether it fits or not.

This module does not depend on images, splits and torch.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semalign.data.colors import Color, as_color, color_codes, color_of_code
from semalign.data.images import PNG_PALETTE, PNG_WITH_COLOR, decode_indices, image_mode, png_kind
from semalign.data.reading import read_bytes
from semalign.data.sample import MaskArray
from semalign.errors import DataError
from semalign.metrics import IGNORE

__all__ = [
    "MINUS_ONE",
    "ONE_CHANNEL",
    "MaskFacts",
    "decode_mask",
    "look_at_mask",
    "read_color_codes",
    "read_indices",
    "read_mask",
]

ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of a mask of one channel."""

MINUS_ONE = 65535
"""What -1 becomes in a mask of 16 bits."""

MOST_COLORS = 1024


@dataclasses.dataclass(frozen=True)
class MaskFacts:
    """What a mask file holds, as stored.

    Attributes:
        size: H, W.
        values: pixel counts by value, of one channel or of equal channels; empty for a picture in colors.
        channels: 1, or 3 for a picture in colors or of equal channels.
        colors: the different colors of a picture in colors (at most 1025), else empty.
        palette: by index used, the color of a palette picture; else empty.
        is_deep: whether it has several channels of 16 bits; ``colors`` are then their high bytes alone.
    """

    size: tuple[int, int]
    values: Mapping[int, int]
    channels: int
    colors: tuple[Color, ...]
    palette: Mapping[int, Color]
    is_deep: bool = False

    def fits(self, n_classes: int, *, also: tuple[int, ...] = ()) -> bool:
        """Return whether every value is a class, 255, or one of ``also``."""
        return all(value < n_classes or value == IGNORE or value in also for value in self.values)


def decode_mask(data: bytes, path: Path, class_count: int) -> MaskArray:
    """Decode a mask as H x W uint8 class indices; of a palette image the indices are taken, not the colors.

    Args:
        data: the file's bytes.
        path: the file's path, for messages.
        class_count: C; values are 0 to C-1, or 255.

    Raises:
        DataError: corrupt, truncated, more than one channel, or a value that is not a class.
    """
    content = f"class indices (0 to {class_count - 1}, 255 ignored)"
    values = decode_indices(data, path, "mask", ONE_CHANNEL, content)
    is_bad = (values >= class_count) & (values != IGNORE) | (values < 0)
    if is_bad.any():
        bad = np.unique(values[is_bad])
        shown = ", ".join(str(value) for value in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise DataError(
            f"mask {path} holds the value{'s' if len(bad) > 1 else ''} {shown} ({int(is_bad.sum())} of {values.size} "
            f"pixels), expected {content}, name the missing classes in classes.txt or correct the mask"
        )
    return values.astype(np.uint8)


def read_mask(path: Path, class_count: int) -> MaskArray:
    """Read a mask file as `decode_mask` decodes it.

    Raises:
        DataError: missing, corrupt, truncated, more than one channel, or a value that is not a class.
    """
    return decode_mask(read_bytes(path, "mask"), path, class_count)


def look_at_mask(data: bytes) -> MaskFacts | None:
    """Return what a mask's bytes hold; None where they are not a PNG that can be decoded."""
    try:
        values = _decode(data)
    except DataError:
        return None
    size = (values.shape[0], values.shape[1])
    if values.ndim == 2:
        counts = _counts(values)
        return MaskFacts(size, counts, 1, (), _palette(data, counts))
    is_deep = _is_deep(data)
    if not is_deep and (values == values[..., :1]).all():
        return MaskFacts(size, _counts(values[..., 0]), 3, (), {})
    codes = np.unique(color_codes(values))[: MOST_COLORS + 1]
    return MaskFacts(size, {}, 3, tuple(color_of_code(int(code)) for code in codes), {}, is_deep)


def _counts(values: NDArray[np.integer]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _palette(data: bytes, used: Mapping[int, int]) -> dict[int, Color]:
    """Return the colors of the indices in use; nothing for a file without a palette."""
    if png_kind(data).color != PNG_PALETTE:
        return {}
    raw = Image.open(io.BytesIO(data)).getpalette("RGB") or []
    table = np.zeros(768, dtype=np.uint8)
    table[: len(raw)] = raw
    return {value: as_color(table.reshape(-1, 3)[value]) for value in used}


def _is_deep(data: bytes) -> bool:
    # Of channels of 16 bits Pillow keeps the upper 8.
    kind = png_kind(data)
    return kind.bits == 16 and kind.color in PNG_WITH_COLOR


def _decode(data: bytes) -> NDArray[np.integer]:
    """Return H x W values of one channel, or H x W x 3 colors."""
    path = Path("mask")
    mode = image_mode(data, path, "mask")
    if mode in ("RGB", "RGBA", "LA"):
        values = decode_indices(data, path, "mask", (mode,), "colors")
        return values[..., :3] if mode != "LA" else np.repeat(values[..., :1], 3, axis=2)
    return decode_indices(data, path, "mask", ONE_CHANNEL, "class indices").astype(np.int64)


def read_indices(path: Path) -> NDArray[np.int64]:
    """Return H x W values of a mask of one channel or of three equal ones, as stored.

    Raises:
        DataError: it cannot be decoded, is a picture in colors, or has several channels of 16 bits.
    """
    data = read_bytes(path, "mask")
    values = _decode(data)
    if values.ndim == 3:
        if _is_deep(data):
            raise DataError(f"mask {path} has several channels of 16 bits, expected one channel of class indices")
        if not (values == values[..., :1]).all():
            raise DataError(f"mask {path} is a picture in colors, expected one channel of class indices")
        values = values[..., 0]
    return values.astype(np.int64)


def read_color_codes(path: Path) -> NDArray[np.int32]:
    """Return the H x W color codes (see `color_codes`) of a mask in colors or with a palette."""
    image = Image.open(io.BytesIO(read_bytes(path, "mask")))
    return color_codes(np.asarray(image.convert("RGBA").convert("RGB")))
