"""Pictures of masks: palette, overlay, legend (Pillow alone)."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["class_colors", "encode_png", "indexed_mask", "overlay_with_legend"]

Picture = NDArray[np.uint8]

GOLDEN_ANGLE = 0.381966


def class_colors(n_classes: int) -> Picture:
    """Return C x 3 RGB colours that differ in hue, then in lightness; the same for every C of at least the index."""
    colors = []
    for index in range(n_classes):
        hue = (0.58 + index * GOLDEN_ANGLE) % 1.0
        lightness = (0.55, 0.38, 0.70)[(index // 7) % 3]
        colors.append([round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.75)])
    return np.array(colors, dtype=np.uint8).reshape(n_classes, 3)


def indexed_mask(mask: Picture) -> Image.Image:
    """Return an 8-bit palette image whose values are the class indices; 255 is black."""
    picture = Image.fromarray(mask, mode=None).convert("L")
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:255] = class_colors(255)
    indexed = Image.frombytes("P", picture.size, picture.tobytes())
    indexed.putpalette(palette.ravel().tolist())
    return indexed


def overlay_with_legend(
    image: Picture, mask: Picture, class_names: Sequence[str], opacity: float = 0.55
) -> Image.Image:
    """Return the image with the mask laid over it and, to the right, the classes present with their share of pixels.

    Args:
        image: H x W x 3 RGB.
        mask: H x W class indices; 255 is left as the image is.
        class_names: C names.
        opacity: of the mask's colours, in [0, 1].
    """
    colors = class_colors(max(1, len(class_names)))
    labelled = mask != 255
    blended = image.astype(np.float32)
    blended[labelled] = (1 - opacity) * blended[labelled] + opacity * colors[mask[labelled]]
    # Thin outlines keep neighbouring classes apart where colours are close.
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    blended[edge] *= 0.45
    height, width = mask.shape
    zoom = max(1, round(360 / height))
    shown = Image.fromarray(blended.astype(np.uint8)).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)

    counts = np.bincount(mask[labelled], minlength=len(class_names))
    present = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    font = ImageFont.load_default(size=14)
    line = 20
    labels = [f"{class_names[index]}  {100 * counts[index] / mask.size:.1f} %" for index in present]
    column = 44 + max((int(font.getlength(label)) for label in labels), default=0)
    sheet = Image.new("RGB", (shown.width + column, max(shown.height, 12 + line * len(labels))), "white")
    sheet.paste(shown, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, (index, label) in enumerate(zip(present, labels, strict=True)):
        top = 8 + row * line
        left = shown.width + 10
        draw.rectangle((left, top, left + 16, top + 14), fill=tuple(int(v) for v in colors[index]), outline="black")
        draw.text((left + 24, top - 1), label, fill="black", font=font)
    return sheet


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as PNG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
