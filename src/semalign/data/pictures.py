"""Pictures of masks: overlay, legend.  This module does not depend on models, files and torch."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from semalign.metrics import IGNORE
from semalign.palette import class_colors, mask_palette

__all__ = ["blend", "encode_png", "font_file", "indexed_mask", "overlay_with_legend", "percent"]

OPACITY = 0.55
"""Of a mask over its image."""

Picture = NDArray[np.uint8]


WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "simhei.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
)
"""Fonts with Chinese characters, of Linux, Windows and macOS; the fonts that libraries bring have none."""


def indexed_mask(mask: Picture) -> Image.Image:
    """Return an 8-bit palette image whose values are the class indices; 255 is black."""
    indexed = Image.fromarray(mask)
    indexed.putpalette(mask_palette().ravel().tolist())
    return indexed


def blend(image: Picture, mask: Picture, colors: Picture, opacity: float = OPACITY) -> Picture:
    """Return the image (H x W x 3) with the classes of the mask (H x W) laid over it; 255 is left as the image is."""
    labelled = mask != IGNORE
    blended = image.astype(np.float32)
    blended[labelled] = (1 - opacity) * blended[labelled] + opacity * colors[mask[labelled]]
    # Thin outlines keep neighbouring classes apart where colors are close.
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    blended[edge] *= 0.45
    return blended.astype(np.uint8)


def overlay_with_legend(
    image: Picture, mask: Picture, class_names: Sequence[str], opacity: float = OPACITY
) -> Image.Image:
    """Return the image with the mask laid over it and, to the right, the classes present with their share of pixels.

    Args:
        image: H x W x 3 RGB.
        mask: H x W class indices; 255 is left as the image is.
        class_names: C names.
        opacity: of the mask's colors, in [0, 1].
    """
    colors = class_colors(max(1, len(class_names)))
    height, width = mask.shape
    zoom = max(1, round(360 / height))
    shown = Image.fromarray(blend(image, mask, colors, opacity))
    shown = shown.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)

    counts = np.bincount(mask[mask != IGNORE], minlength=len(class_names))
    present = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    # Large pictures are looked at from further away.
    size = max(14, shown.height // 40)
    line, gap = size + 6, size // 2 + 3
    names = [class_names[index] for index in present]
    found = font_file("".join(names))
    if found is None:
        names = [f"class {index}" for index in present]
    font = ImageFont.truetype(found, size) if found else ImageFont.load_default(size=size)
    labels = [f"{name}  {percent(counts[index] / mask.size)} %" for name, index in zip(names, present, strict=True)]
    column = 3 * gap + size + max((int(font.getlength(label)) for label in labels), default=0)
    sheet = Image.new("RGB", (shown.width + column, max(shown.height, gap + line * len(labels) + 2)), "white")
    sheet.paste(shown, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, (index, label) in enumerate(zip(present, labels, strict=True)):
        top = gap + row * line
        left = shown.width + gap
        draw.rectangle((left, top, left + size, top + size), fill=tuple(int(v) for v in colors[index]), outline="black")
        draw.text((left + size + gap, top + size / 2), label, fill="black", font=font, anchor="lm")
    return sheet


def percent(share: float) -> str:
    """Return a share of pixels in per cent; what is there is never shown as nothing."""
    return "<0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"


def font_file(text: str) -> str | None:
    """Return the font that ``text`` needs: "" for a library's own, a file for Chinese, None where there is none."""
    if all(ord(character) < 0x300 for character in text):
        return ""
    for name in WIDE_FONTS:
        try:
            return str(ImageFont.truetype(name, 14).path)
        except OSError:
            continue
    return None


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
