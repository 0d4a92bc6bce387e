"""Pascal VOC 2012 (and other years with SegmentationClass): palette masks, 0 is background, 255 the border."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from semalign.data.colors import as_color
from semalign.data.images import image_mode
from semalign.data.reading import read_bytes
from semalign.data.sample import MaskArray
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import MaskRule, Unknown
from semalign.data.sets.source import Source, check_name
from semalign.metrics import IGNORE
from semalign.palette import PASCAL_VOC
from semalign.wording import say

__all__ = ["CLASSES", "EXPECTED", "TITLE", "plan"]

TITLE: Final = "Pascal VOC"
EXPECTED: Final = "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/train.txt"

CLASSES: Final = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv monitor",
)

_INDICES = (*range(len(CLASSES)), IGNORE)
_IDS = MaskRule({k: k for k in _INDICES}, "0 to 20, and 255 for the border")
_COLORS = MaskRule.for_colors({as_color(PASCAL_VOC[k]): k for k in _INDICES}, "colors of Pascal VOC's palette")


def plan(source: Source, unknown: Unknown) -> Plan:
    """Find Pascal VOC below ``source``."""
    source.enter("SegmentationClass", below=("VOC2012", "VOCdevkit/VOC2012"))
    images, masks = source.need_folder("JPEGImages"), source.need_folder("SegmentationClass")
    lists = source.need_folder("ImageSets/Segmentation")
    entries, notes = [], []
    for split in ("train", "val", "test"):
        listing = lists / f"{split}.txt"
        if not listing.is_file():
            continue
        names = [check_name(name, str(listing)) for name in source.lines(listing)]
        if split == "test" and not any((masks / f"{name}.png").is_file() for name in names):
            notes.append(say("data.no-test-masks"))
            continue
        for name in names:
            image = source.file(images / f"{name}.jpg", "image")
            mask = source.file(masks / f"{name}.png", "mask")
            entries.append(Entry(split, name, image, functools.partial(_mask, mask, unknown)))
    return Plan("VOCdevkit", say("data.voc.rule"), CLASSES, tuple(entries), tuple(notes))


def _mask(path: Path, unknown: Unknown) -> MaskArray:
    """Return a mask by its palette's indices, or by its colors where a tool has saved it as RGB."""
    is_rgb = image_mode(read_bytes(path, "mask"), path, "mask") in ("RGB", "RGBA")
    return (_COLORS if is_rgb else _IDS).read(path, unknown)
