"""Cityscapes: leftImg8bit with gtFine, 34 label ids to the 19 classes that are scored (trainIds)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

from semalign.data.sample import MaskArray
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import MaskRule, Unknown
from semalign.data.sets.source import Source, check_name
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.wording import say

__all__ = ["CLASSES", "EXPECTED", "TITLE", "TRAIN_IDS", "plan"]

TITLE: Final = "Cityscapes"
EXPECTED: Final = "leftImg8bit/train/CITY/ and gtFine/train/CITY/"

SCORED: Final = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Class by label id; the other ids are ignored."""

CLASSES: Final = tuple(SCORED.values())

TRAIN_IDS: Final = {label: place for place, label in enumerate(SCORED)}
"""Our class by label id."""

# -1 (licence plate) is 255 in a file of 8 bits.
_LABEL_RULE = MaskRule({k: TRAIN_IDS.get(k, IGNORE) for k in (*range(34), IGNORE)}, "label ids 0 to 33")
_TRAIN_RULE = MaskRule({k: k for k in (*range(len(CLASSES)), IGNORE)}, "0 to 18, and 255")
IMAGE_ENDING = "_leftImg8bit"


def plan(source: Source, unknown: Unknown) -> Plan:
    """Find Cityscapes below ``source``."""
    source.enter("leftImg8bit", below=("cityscapes",))
    images, masks = source.need_folder("leftImg8bit"), source.need_folder("gtFine")
    disparity = source.folder("disparity")
    entries, notes = [], []
    for split in ("train", "val"):
        if not (images / split).is_dir():
            continue
        for city in sorted(path for path in (images / split).iterdir() if path.is_dir()):
            check_name(city.name, f"a city in {images / split}")
            for stem, image in source.by_stem(city, "image").items():
                if not stem.endswith(IMAGE_ENDING):
                    raise DataError(f"image {image} does not end in {IMAGE_ENDING}.png as {TITLE}'s do: remove it")
                name = stem.removesuffix(IMAGE_ENDING)
                depth = None
                if disparity is not None:
                    place = disparity / split / city.name / f"{name}_disparity.png"
                    depth = source.file(place, "disparity")
                read, labels = _labels(source, masks / split / city.name, name)
                mask = functools.partial(read, labels, unknown)
                entries.append(Entry(split, name, image, mask, depth, city.name))
    if (images / "test").is_dir():
        notes.append(say("data.no-test-masks"))
    if disparity is not None:
        notes.append(say("data.cityscapes.disparity"))
    return Plan("leftImg8bit and gtFine", say("data.cityscapes.rule"), CLASSES, tuple(entries), tuple(notes))


def _labels(source: Source, folder: Path, name: str) -> tuple[Callable[[Path, Unknown], MaskArray], Path]:
    """Return how an image's mask is read, and its file: label ids, or the trainIds that the data set's scripts make."""
    ids, train_ids = (folder / f"{name}_gtFine_label{kind}.png" for kind in ("Ids", "TrainIds"))
    if train_ids.is_file() and not ids.is_file():
        return _TRAIN_RULE.read, source.file(train_ids, "mask")
    return _LABEL_RULE.read, source.file(ids, "mask")
