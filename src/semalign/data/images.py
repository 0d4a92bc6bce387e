"""Image files: the one place where bytes become pixels.

Images become RGB arrays; the PNG files of masks and depth become arrays of one channel, as stored.  This module does
not depend on the layout of data sets and on torch.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from semalign.data.reading import read_bytes
from semalign.data.sample import ImageArray
from semalign.errors import DataError

__all__ = [
    "IMAGE_ENDINGS",
    "MAX_PIXELS",
    "PNG_PALETTE",
    "PNG_WITH_COLOR",
    "DecodedImage",
    "PngKind",
    "check_size",
    "decode_image",
    "decode_indices",
    "header_size",
    "image_mode",
    "image_size",
    "png_kind",
    "read_image",
]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

MAX_PIXELS = 100_000_000
"""Most pixels of one image: decoding takes up to 16 bytes for each (WebP), 1.6 gigabytes for the largest."""

# EXIF orientation (tag 0x0112) to Pillow's transposition; 1 is upright.
ORIENTATION_TAG = 0x0112
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


PNG_PALETTE = 3
"""The color type of a PNG file with a palette."""
PNG_WITH_COLOR = (2, 4, 6)
"""The color types of a PNG file with several channels: RGB, grey with alpha, RGB with alpha."""


class DecodedImage(NamedTuple):
    """An image and what was done with its EXIF orientation: "" (it has none), "applied", "left" or "ambiguous"."""

    image: ImageArray
    orientation: str


class PngKind(NamedTuple):
    """How a PNG file stores its pixels: bits per channel, and the color type of the PNG specification."""

    bits: int
    color: int


def png_kind(data: bytes) -> PngKind:
    """Return what the header of a PNG file tells; (0, -1) for other bytes."""
    return PngKind(data[24], data[25]) if data[1:4] == b"PNG" and len(data) > 25 else PngKind(0, -1)


def _open_header(data: bytes, path: Path, what: str) -> Image.Image:
    """Open an image without decoding its pixels."""
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{what} {path} is too large: expected at most {MAX_PIXELS} pixels, cut it into tiles"
        ) from error
    except Exception as error:
        raise _undecodable(path, what, error) from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{what} {path} is too large: it has {image.width * image.height} pixels, expected at most {MAX_PIXELS}, "
            "cut it into tiles"
        )
    return image


def _open(data: bytes, path: Path, what: str) -> Image.Image:
    """Decode ``data`` in full."""
    image = _open_header(data, path, what)
    try:
        image.load()
    except Exception as error:
        raise _undecodable(path, what, error) from error
    return image


def _undecodable(path: Path, what: str, error: Exception) -> DataError:
    # Pillow's decoders raise nearly every kind of exception on damaged bytes.
    if isinstance(error, MemoryError):
        raise error
    reason = "it is not an image of a known format" if isinstance(error, UnidentifiedImageError) else str(error)
    reason = " ".join((reason or type(error).__name__).split())
    return DataError(
        f"{what} {path} is corrupt or truncated and cannot be decoded ({reason}), replace the file or remove it with "
        "its partners"
    )


def _exif_orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    return orientation if orientation in TRANSPOSITIONS else 1


def decode_image(data: bytes, path: Path, mask_size: tuple[int, int] | None = None) -> DecodedImage:
    """Decode an image as H x W x 3 uint8 RGB; an alpha channel is dropped.

    An EXIF orientation is applied as viewers do.  With a mask, it is applied only if the image then has the mask's
    size.  A square or merely flipped image fits either way: it is turned too, and marked "ambiguous".

    Args:
        data: the file's bytes.
        path: the file's path, for messages.
        mask_size: (H, W) of its mask.

    Raises:
        DataError: corrupt, truncated, too large, or more than 8 bits per channel.
    """
    image = _open(data, path, "image")
    if image.mode.startswith("I") or image.mode == "F":
        raise DataError(
            f"image {path} has pixels of mode {image.mode!r}, expected 8 bits per channel (grey or color), "
            "convert it to 8 bits"
        )
    try:
        code = _exif_orientation(image)
        if "transparency" in image.info:
            # Straight from a palette with transparency to RGB makes Pillow warn.
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except Exception as error:
        raise _undecodable(path, "image", error) from error
    orientation = ""
    if code != 1:
        turned = image.transpose(TRANSPOSITIONS[code])
        stored_fits = mask_size is not None and (image.height, image.width) == mask_size
        turned_fits = mask_size is None or (turned.height, turned.width) == mask_size
        if turned_fits:
            image = turned
            orientation = "ambiguous" if stored_fits else "applied"
        else:
            orientation = "left"
    return DecodedImage(np.array(image, dtype=np.uint8, order="C"), orientation)


def read_image(path: Path) -> ImageArray:
    """Read any image file as H x W x 3 uint8 RGB, upright by its EXIF orientation.

    Raises:
        DataError: missing, corrupt, truncated, too large, or more than 8 bits per channel.
    """
    return decode_image(read_bytes(path, "image"), path).image


def header_size(path: Path, what: str) -> tuple[int, int]:
    """Return the height and width of an image file as stored, without decoding its pixels.

    Raises:
        DataError: missing, corrupt or too large.
    """
    image = _open_header(read_bytes(path, what), path, what)
    return image.height, image.width


def image_mode(data: bytes, path: Path, what: str) -> str:
    """Return Pillow's mode of an image, without decoding its pixels.

    Raises:
        DataError: corrupt or too large.
    """
    return _open_header(data, path, what).mode


def image_size(path: Path, mask_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return an image's height and width from its header, turned as `decode_image` turns it for a mask of that size.

    Raises:
        DataError: missing, corrupt or too large.
    """
    image = _open_header(read_bytes(path, "image"), path, "image")
    size = (image.height, image.width)
    if size != mask_size and size[::-1] == mask_size and _exif_orientation(image) >= 5:
        return mask_size
    return size


def decode_indices(data: bytes, path: Path, what: str, modes: tuple[str, ...], content: str) -> NDArray[Any]:
    """Decode a PNG of one channel, in one of Pillow's ``modes``, to H x W integers as stored.

    Raises:
        DataError: corrupt, truncated, not a PNG, or of another mode; ``content`` says what was expected.
    """
    image = _open(data, path, what)
    if image.format != "PNG":
        raise DataError(f"{what} {path} is a {image.format} file, expected a PNG file of {content}")
    if image.mode not in modes:
        kind = "RGB" if image.mode.startswith("RGB") else f"mode {image.mode!r}"
        raise DataError(
            f"{what} {path} is an image of {kind} with {len(image.getbands())} channel(s), "
            f"expected one channel of {content}, convert it"
        )
    values: NDArray[Any] = np.asarray(image)
    # Pillow stretches grey PNG of 2 and 4 bits to 0..255.
    stretch = {PngKind(2, 0): 85, PngKind(4, 0): 17}.get(png_kind(data), 1)
    return values // stretch if stretch > 1 else values


def check_size(
    what: str, path: Path, size: tuple[int, ...], mask_size: tuple[int, ...], mask_path: Path | None = None
) -> None:
    """Raise `DataError` where a file's size (H, W) is not its mask's."""
    if size != mask_size:
        mask = "mask" if mask_path is None else f"mask {mask_path}"
        raise DataError(
            f"{what} {path} is {size[0]} x {size[1]} (H x W) but its {mask} is {mask_size[0]} x {mask_size[1]}, "
            "expected equal sizes, resize one of them (a mask by nearest neighbour)"
        )
