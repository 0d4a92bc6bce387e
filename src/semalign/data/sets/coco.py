"""Annotations in COCO's format: polygons and run-length codes of instances, painted into one mask per image.

The rule where instances overlap: first stuff (``isthing: 0``), then crowds, which are ignored, then things; within
each, the larger by its painted pixels first, so that the smaller lies above, and at equal size the later in the file.

A pixel belongs to a polygon whose inside holds the pixel's centre (even-odd).  Pillow's polygons are not used: they cut
coordinates to whole pixels and paint both borders, which makes a square of 3 pixels one of 4.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semalign.data.images import MAX_PIXELS
from semalign.data.sample import MAX_CLASSES, MaskArray
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.source import Source, check_name
from semalign.errors import ConfigError, DataError
from semalign.metrics import IGNORE
from semalign.wording import say

__all__ = ["EXPECTED", "TITLE", "decode_counts", "paint", "plan", "polygon_mask", "rle_mask"]

TITLE: Final = "a data set in COCO's format"
EXPECTED: Final = "images, and --annotations FILE.json"

FARTHEST: Final = 1e9
"""Pixels from the image's corner; differences of what lies nearer are finite."""

Bits = NDArray[np.bool_]


def plan(source: Source, annotations: Sequence[str], background: str | None) -> Plan:
    """Read the annotation files and find their images below ``source``.

    Args:
        source: the folder of images.
        annotations: files, as ``FILE`` or ``SPLIT=FILE``; a split that is not given is taken from the file's name
            (train, val, test), else train.
        background: name of class 0 for pixels of no instance; None: they are ignored.
    """
    if not annotations:
        raise ConfigError("data import coco needs --annotations FILE.json, once for each split, such as val=val.json")
    files: dict[str, Path] = {}
    for given in annotations:
        split, path = _split_and_file(given, source)
        if split in files:
            raise ConfigError(
                f"--annotations {given} is a second file of the split {split!r}: name it as SPLIT={given}"
            )
        files[split] = path
    names: tuple[str, ...] | None = None
    entries: list[Entry] = []
    notes = []
    for split, path in files.items():
        document = _read(path)
        classes = _categories(document, path)
        labels = ((background,) if background is not None else ()) + tuple(item.name for item in classes.values())
        if names is not None and labels != names:
            raise DataError(f"{path} has other categories than the file before, expected the same ids and names")
        names = labels
        if len(set(labels)) != len(labels) or not 1 <= len(labels) <= MAX_CLASSES:
            raise DataError(
                f"{path} gives {len(labels)} classes ({', '.join(labels[:8])}), expected 1 to {MAX_CLASSES} of "
                "distinct names: rename or merge categories, or choose another --background"
            )
        found, empty = _entries(document, path, classes, split, source, background is not None)
        entries += found
        if empty:
            what = background or say("data.coco.ignored")
            notes.append(say("data.coco.empty", n=empty, split=split, what=what))
    assert names is not None
    outside = f"{background!r} (0)" if background is not None else "255"
    return Plan("COCO's annotations", say("data.coco.rule", outside=outside), names, tuple(entries), tuple(notes))


# ---- The file ----


@dataclasses.dataclass(frozen=True)
class _Category:
    name: str
    index: int
    is_thing: bool


def _split_and_file(given: str, source: Source) -> tuple[str, Path]:
    split, sign, name = given.partition("=")
    if not sign or "/" in split:
        split, name = "", given
    path = next((p for p in (Path(name), source.root / name) if p.is_file()), None)
    if path is None:
        raise DataError(f"--annotations {given} is not a file, here or in {source.root}: correct the name")
    if not split:
        split = next((known for known in ("train", "val", "test") if known in path.stem.lower()), "train")
    return check_name(split, "--annotations"), path


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}), expected COCO's annotations") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in lists):
        raise DataError(f"{path} is not in COCO's format, expected an object with {', '.join(lists)}")
    if not all(isinstance(item, dict) for name in lists for item in document[name]):
        raise DataError(f"{path} has entries that are not objects, expected COCO's format")
    return document


def _categories(document: Mapping[str, Any], path: Path) -> dict[int, _Category]:
    """Return the categories by id, in the order of their ids; the index is the place in it."""
    found: dict[int, tuple[str, bool]] = {}
    for item in document["categories"]:
        number, name = item.get("id"), item.get("name")
        if not isinstance(number, int) or not isinstance(name, str) or not name.strip() or number in found:
            raise DataError(f"{path} has the category {str(item)[:80]}, expected an id of its own and a name")
        if any(ord(letter) < 32 for letter in name):
            raise DataError(f"{path} names a category {name[:80]!r} with a control character: rename it")
        found[number] = (name.strip(), item.get("isthing", 1) != 0)
    return {k: _Category(found[k][0], index, found[k][1]) for index, k in enumerate(sorted(found))}


def _entries(
    document: Mapping[str, Any],
    path: Path,
    classes: Mapping[int, _Category],
    split: str,
    source: Source,
    has_background: bool,
) -> tuple[list[Entry], int]:
    """Return the images of a file, and how many have no annotation."""
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for key, items in (("id", document["images"]), ("image_id", document["annotations"])):
        odd = next((item for item in items if not isinstance(item.get(key), int | str)), None)
        if odd is not None:
            raise DataError(f"{path} has the entry {str(odd)[:80]}, expected a number as its {key}")
    images = {item["id"]: item for item in document["images"]}
    if len(images) != len(document["images"]):
        raise DataError(f"{path} has two images of one id, expected distinct ids")
    for item in document["annotations"]:
        if item["image_id"] not in images:
            raise DataError(f"{path} has annotation {item.get('id')} of an unknown image {item['image_id']!r}")
        if not isinstance(item.get("category_id"), int) or item["category_id"] not in classes:
            raise DataError(
                f"{path} has annotation {item.get('id')} of an unknown category {item.get('category_id')!r}"
            )
        by_image.setdefault(item["image_id"], []).append(item)
    folders = (source.root, source.root / path.stem.rpartition("_")[2], source.root / split, source.root / "images")
    entries = []
    for number, item in images.items():
        name, size = item.get("file_name"), (item.get("height"), item.get("width"))
        if not isinstance(name, str) or not all(isinstance(side, int) and side > 0 for side in size):
            raise DataError(f"{path} has the image {number!r} without file_name, height or width, expected all three")
        if size[0] * size[1] > MAX_PIXELS:
            raise DataError(
                f"{path} gives image {name[:80]!r} {size[0]} x {size[1]} pixels, expected at most {MAX_PIXELS}"
            )
        listed = source.listed(name, str(path))
        if listed.is_absolute():
            raise DataError(f"{path} names the image {name[:80]!r}, expected a name below the source: correct it")
        file = next((folder / listed for folder in folders if (folder / listed).is_file()), source.root / listed)
        make = functools.partial(
            paint, by_image.get(number, []), classes, size, where=str(path), background=has_background
        )
        stem = "_".join((*listed.parts[:-1], listed.stem))
        entries.append(Entry(split, check_name(stem, str(path)), source.file(file, "image"), make))
    return entries, sum(number not in by_image for number in images)


# ---- The mask ----


def paint(
    annotations: Sequence[Mapping[str, Any]],
    classes: Mapping[int, Any],
    size: tuple[int, int],
    *,
    where: str,
    background: bool,
) -> MaskArray:
    """Return the mask of one image by the rule of this module.

    Args:
        annotations: of this image, in the file's order.
        classes: by id, with ``index`` and ``is_thing``.
        size: H, W.
        where: the file, for messages.
        background: pixels of no instance are class 0 and the categories count from 1; else they are 255.
    """
    layers = []
    for place, item in enumerate(annotations):
        patch = _patch(item, size, where)
        category = classes[item["category_id"]]
        is_crowd = bool(item.get("iscrowd", 0))
        rank = 1 if is_crowd else 2 if category.is_thing else 0
        value = IGNORE if is_crowd else category.index + background
        layers.append((rank, -int(patch.bits.sum()), place, value, patch))
    mask: MaskArray = np.full(size, 0 if background else IGNORE, dtype=np.uint8)
    for _, _, _, value, patch in sorted(layers, key=lambda layer: layer[:3]):
        height, width = patch.bits.shape
        mask[patch.top : patch.top + height, patch.left : patch.left + width][patch.bits] = value
    return mask


class _Patch(NamedTuple):
    """Pixels of a part of an image that begins at row ``top`` and column ``left``."""

    top: int
    left: int
    bits: Bits


def _patch(item: Mapping[str, Any], size: tuple[int, int], where: str) -> _Patch:
    """Return an annotation's pixels."""
    shape, name = item.get("segmentation"), f"annotation {item.get('id')} in {where}"
    if isinstance(shape, Mapping):
        bits = rle_mask(shape, size, name)
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        if not len(rows):
            return _Patch(0, 0, np.zeros((0, 0), dtype=bool))
        top, left = int(rows[0]), int(columns[0])
        return _Patch(top, left, bits[top : rows[-1] + 1, left : columns[-1] + 1].copy())
    if not isinstance(shape, list):
        raise DataError(f"{name} has no segmentation, expected polygons or a run-length code: leave boxes out")
    polygons = [_points(polygon, name) for polygon in shape]
    if not polygons:
        return _Patch(0, 0, np.zeros((0, 0), dtype=bool))
    least = np.floor(np.concatenate(polygons).min(axis=0))
    most = np.ceil(np.concatenate(polygons).max(axis=0))
    left, top = (int(np.clip(value, 0, side)) for value, side in zip(least, size[::-1], strict=True))
    right, bottom = (int(np.clip(value, 0, side)) for value, side in zip(most, size[::-1], strict=True))
    bits = np.zeros((bottom - top, right - left), dtype=bool)
    for points in polygons:
        bits |= polygon_mask(points - (left, top), (bottom - top, right - left))
    return _Patch(top, left, bits)


def _points(polygon: object, name: str) -> NDArray[np.float64]:
    """Return a polygon's points, N x 2."""
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} has a polygon that is not a list of numbers, expected x1, y1, x2, y2, ...") from error
    if points.ndim != 1 or len(points) % 2 or len(points) < 6:
        raise DataError(
            f"{name} has a polygon of {points.size} numbers, expected x1, y1, x2, y2, ... of 3 points or more"
        )
    far = points[~(np.abs(points) <= FARTHEST)]
    if len(far):
        raise DataError(f"{name} has a polygon with a corner at {far[0]:g}, expected pixels of its image")
    return points.reshape(-1, 2)


def polygon_mask(points: NDArray[np.float64], size: tuple[int, int]) -> Bits:
    """Return the pixels (H x W) whose centres lie inside a polygon of x, y; pixel (row, column) spans 1 from there.

    Each edge flips, in every row whose centre it crosses, the pixels to its right (even-odd).
    """
    height, width = size
    flips = np.zeros((height, width + 1), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points.tolist(), np.roll(points, -1, axis=0).tolist(), strict=True):
        first, last = (int(np.clip(np.ceil(y - 0.5), 0, height)) for y in (min(y0, y1), max(y0, y1)))
        rows = np.arange(first, last)
        if len(rows):
            crossing = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            flips[rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] ^= True
    inside: Bits = np.logical_xor.accumulate(flips[:, :width], axis=1)
    return inside


def rle_mask(code: Mapping[str, Any], size: tuple[int, int], name: str) -> Bits:
    """Return the pixels of a run-length code: counts, as a list or packed in a string, down the columns, 0 first."""
    counts = code.get("counts")
    if isinstance(counts, str):
        counts = decode_counts(counts, name)
    valid = isinstance(counts, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts)
    if not valid or code.get("size") != list(size) or sum(counts or ()) != size[0] * size[1]:
        raise DataError(
            f"{name} has a run-length code that does not fit its image of {size[0]} x {size[1]} pixels, expected that "
            "size, and counts of at least 0 that add up to it"
        )
    assert counts is not None
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size[1], size[0]).T


def decode_counts(text: str, name: str) -> list[int]:
    """Return the counts of COCO's packed string: numbers of 5 bits a letter, from the third on as differences."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise DataError(f"{name} has a run-length code with the letter {letter!r}, expected COCO's packed counts")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise DataError(f"{name} has a run-length code that is cut short, expected COCO's packed counts")
    return counts
