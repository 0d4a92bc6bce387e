"""Which images are the same picture: by decoded pixels, or nearly, by a perceptual hash.

The hash is the signs of the lowest frequencies of a picture ("pHash", after Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010), of 16 x 16 cosines where the usual 8 x 8 cannot tell one driving scene from the
next.  Measured on CamVid and NYU Depth v2, in bits of 256 that differ: a copy saved again as a poor JPEG 4, at half the
size 10, brightened by 30 % 32, cropped by 4 % 60; pictures of different places from 80.

This module does not depend on files, masks and torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from semalign.data.sample import ImageArray

__all__ = ["NEAR_BITS", "Twins", "find_twins", "near_pairs", "picture_hash", "pixel_hash"]

NEAR_BITS = 40
"""Pictures whose hashes differ in at most this many of 256 bits are nearly the same."""

SIDE = 64
FREQUENCIES = 16
FLAT = 2.0
"""A picture whose 64 x 64 grey values have a smaller spread has no structure that could be compared."""


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
    # The discrete cosine transform of type II; its scale does not matter for the signs.
    waves = dctn(grey, type=2)[:FREQUENCIES, :FREQUENCIES].ravel()
    waves[0] = 0.0  # the mean brightness
    return np.packbits(waves > np.median(waves)).tobytes().hex()


@dataclasses.dataclass(frozen=True)
class Twins:
    """Images of one split that are an image of another split, or of the same split, already.

    Attributes:
        split: the split of the images.
        other: where their counterparts are; equal to ``split`` for counterparts in the same split.
        same: by name the counterparts with the same pixels.
        alike: by name, of the remaining images, the most similar counterpart that looks nearly the same.
    """

    split: str
    other: str
    same: Mapping[str, tuple[str, ...]]
    alike: Mapping[str, str]


def find_twins(hashes: Mapping[str, Mapping[str, tuple[str, str]]]) -> tuple[Twins, ...]:
    """Return the images that occur more than once, for every split and every pair of splits.

    Args:
        hashes: by split and name `pixel_hash` and `picture_hash`.
    """
    splits = [split for split, own in hashes.items() if own]
    found = []
    for place, split in enumerate(splits):
        found.append(_within(split, hashes[split]))
        found += [_across(split, hashes[split], other, hashes[other]) for other in splits[:place]]
    return tuple(found)


def _within(split: str, hashes: Mapping[str, tuple[str, str]]) -> Twins:
    first: dict[str, str] = {}
    same = {}
    for name, (pixels, _) in hashes.items():
        known = first.setdefault(pixels, name)
        if known != name:
            same[name] = (known,)
    names = list(first.values())
    pairs = near_pairs([hashes[name][1] for name in names])
    alike = {names[j]: names[i] for i, j in reversed(pairs)}
    return Twins(split, split, same, dict(sorted(alike.items())))


def _across(split: str, own: Mapping[str, tuple[str, str]], other: str, others: Mapping[str, tuple[str, str]]) -> Twins:
    by_pixels: dict[str, list[str]] = {}
    for name, (pixels, _) in others.items():
        by_pixels.setdefault(pixels, []).append(name)
    same = {name: tuple(by_pixels[pixels]) for name, (pixels, _) in own.items() if pixels in by_pixels}
    rest, names = [name for name in own if name not in same], list(others)
    pairs = near_pairs([others[name][1] for name in names], [own[name][1] for name in rest])
    alike: dict[str, str] = {}
    for i, j in pairs:
        alike.setdefault(rest[j], names[i])
    return Twins(split, other, same, alike)


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
