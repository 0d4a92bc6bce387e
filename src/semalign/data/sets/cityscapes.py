"""Cityscapes: leftImg8bit with gtFine, 34 label ids to the 19 classes that are scored (trainIds)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from semalign.data.sample import MaskArray
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import Unknown, classes_of_ids, read_ids
from semalign.data.sets.source import Source, check_name
from semalign.errors import DataError
from semalign.metrics import IGNORE

__all__ = ["CLASSES", "EXPECTED", "TITLE", "TRAIN_IDS", "plan"]

TITLE: Final = "Cityscapes"
EXPECTED: Final = "leftImg8bit/train/CITY/ and gtFine/train/CITY/"

CLASSES: Final = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)

TRAIN_IDS: Final = {
    id_: k for k, id_ in enumerate((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33))
}
"""Our class by label id; the other ids are ignored."""

# -1 (licence plate) is 255 in a file of 8 bits.
_LABEL_IDS = {k: TRAIN_IDS.get(k, IGNORE) for k in (*range(34), IGNORE)}
_TRAIN_IDS = {k: k for k in (*range(len(CLASSES)), IGNORE)}
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
                mask = functools.partial(_mask, _labels(source, masks / split / city.name, name), unknown)
                entries.append(Entry(split, name, image, mask, depth, city.name))
    if (images / "test").is_dir():
        notes.append("the test split is left out, its masks are not published")
    if disparity is not None:
        notes.append("depth/ holds the disparity as stored: large values are near, 0 is unknown")
    rule = "label ids to the 19 trainIds, all others to 255"
    return Plan("leftImg8bit and gtFine", rule, CLASSES, tuple(entries), tuple(notes))


def _labels(source: Source, folder: Path, name: str) -> Path:
    """Return the mask of an image: its label ids, or the trainIds that the data set's scripts have made."""
    ids, train_ids = (folder / f"{name}_gtFine_label{kind}.png" for kind in ("Ids", "TrainIds"))
    return source.file(train_ids if train_ids.is_file() and not ids.is_file() else ids, "mask")


def _mask(path: Path, unknown: Unknown) -> MaskArray:
    if path.stem.endswith("TrainIds"):
        expected = "0 to 18, and 255"
        return classes_of_ids(read_ids(path, expected), _TRAIN_IDS, path, expected, unknown)
    expected = "label ids 0 to 33"
    return classes_of_ids(read_ids(path, expected), _LABEL_IDS, path, expected, unknown)
