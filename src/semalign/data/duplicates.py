"""Which images are the same picture: by decoded pixels, or nearly, by a perceptual hash.

The hash is the signs of the lowest frequencies of a picture ("pHash", after Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010), of 16 x 16 cosines where the usual 8 x 8 cannot tell one driving scene from the
next.  Measured on CamVid and NYU Depth v2, in bits of 256 that differ: a copy saved again as a poor JPEG 4, at half the
size 10, brightened by 30 % 32, cropped by 4 % 60; pictures of different places from 80.

This module knows nothing of files, masks and torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semalign.data.sample import ImageArray

__all__ = ["NEAR_BITS", "near_pairs", "picture_hash", "pixel_hash"]

NEAR_BITS = 40
"""Pictures whose hashes differ in at most this many of 256 bits are nearly the same."""

SIDE = 64
FREQUENCIES = 16
FLAT = 2.0
"""A picture whose 64 x 64 grey values have a smaller spread has no structure that could be compared."""

# Type II discrete cosine transform, its lowest frequencies: 16 x 64.
COSINES = np.cos(np.pi * (2 * np.arange(SIDE) + 1) * np.arange(FREQUENCIES)[:, None] / (2 * SIDE))


def pixel_hash(image: ImageArray) -> str:
    """Return SHA-256 (hex) of size and pixels: equal for the same picture in two lossless files."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def picture_hash(image: ImageArray) -> str:
    """Return 64 hexadecimal digits, nearly equal for pictures that look the same; "" for a flat picture.

    Args:
        image: H x W x 3 uint8 RGB.
    """
    small = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64)
    if grey.std() < FLAT:
        return ""
    waves = (COSINES @ grey @ COSINES.T).ravel()
    waves[0] = 0.0  # the mean brightness
    return np.packbits(waves > np.median(waves)).tobytes().hex()


def near_pairs(first: Sequence[str], second: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Return the pairs of places whose hashes differ in at most `NEAR_BITS` bits, nearest first for each of ``second``.

    Args:
        first: hashes of `picture_hash`; "" is like nothing.
        second: other hashes; None: pairs (i, j) with i < j within ``first``.
    """
    one, one_places = _signs(first)
    other, other_places = (one, one_places) if second is None else _signs(second)
    pairs = []
    # In blocks, so that memory does not grow with the square of the number of images.
    for start in range(0, len(other), 1024):
        block = other[start : start + 1024]
        distance = (one.shape[1] - one @ block.T) / 2
        for row, column in zip(*np.nonzero(distance <= NEAR_BITS), strict=True):
            i, j = one_places[row], other_places[start + column]
            if second is not None or i < j:
                pairs.append((j, float(distance[row, column]), i))
    return [(i, j) for j, _, i in sorted(pairs)]


def _signs(hashes: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
    """Return bits as rows of -1 and 1, so that a product counts agreements, and the places of their hashes."""
    places = [place for place, text in enumerate(hashes) if text]
    if not places:
        return np.zeros((0, FREQUENCIES**2), dtype=np.float32), places
    data = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(places), -1)
    return 2 * np.unpackbits(data, axis=1).astype(np.float32) - 1, places
