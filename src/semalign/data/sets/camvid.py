"""CamVid, in the layout of the SegNet tutorial (class indices) and in its own (colors of 32 classes).

The 32 classes become the 11 of the SegNet tutorial as MathWorks' tutorial on SegNet groups them; the split of the
original's frames is the SegNet tutorial's.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from semalign.data.colors import Color, is_byte
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import MaskRule, Unknown
from semalign.data.sets.source import Source
from semalign.errors import DataError, first_line, nearest
from semalign.metrics import IGNORE
from semalign.wording import say

__all__ = ["CLASSES", "COLORS", "EXPECTED", "GROUPS", "TITLE", "plan", "split_of"]

TITLE: Final = "CamVid"
EXPECTED: Final = (
    "train/ and trainannot/ (SegNet tutorial), train/ and train_labels/, or 701_StillsRaw_full/ and "
    "LabeledApproved_full/"
)

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "sky": ("Sky",),
    "building": ("Bridge", "Building", "Wall", "Tunnel", "Archway"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign symbol": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
"""The original's classes by ours; Void is ignored."""

CLASSES: Final = tuple(GROUPS)

COLORS: Final[Mapping[str, Color]] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "SUVPickupTruck": (64, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}

SPLITS = ("train", "val", "test")
_IDS = MaskRule({k: k for k in range(len(CLASSES))} | {len(CLASSES): IGNORE}, "0 to 10, and 11 for void")
_INDEX = {name.casefold(): k for k, ours in enumerate(CLASSES) for name in GROUPS[ours]} | {"void": IGNORE}


def plan(source: Source, unknown: Unknown) -> Plan:
    """Find CamVid below ``source``."""
    stills = ("701_StillsRaw_full", "701_StillsRaw")
    source.enter("trainannot", "train_labels", *stills, below=("CamVid", "SegNet/CamVid", "camvid"))
    if source.folder("trainannot"):
        return _segnet(source, unknown)
    if source.folder("train_labels"):
        return _colored_folders(source, unknown)
    return _stills(source, source.need_folder(*stills), unknown)


def split_of(name: str) -> str:
    """Return the SegNet tutorial's split of a frame of the original, "" for an unknown name.

    367, 101 and 233 frames: val is the densely sampled part of 0016E5, test the second half of 0001TP and Seq05VD.
    """
    match = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", name)
    if match is None:
        return ""
    sequence, frame = match[1], int(match[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame >= 8550):
        return "test"
    if sequence == "0016E5" and 7959 <= frame <= 8159 and frame % 2:
        return "val"
    return "train"


def _entry(split: str, image: Path, mask: Path, rule: MaskRule, unknown: Unknown) -> Entry:
    make = functools.partial(rule.read, mask, unknown)
    return Entry(split, image.stem, image, make, cluster=image.stem.split("_")[0])


def _segnet(source: Source, unknown: Unknown) -> Plan:
    entries = tuple(
        _entry(split, image, mask, _IDS, unknown)
        for split in SPLITS
        if source.folder(f"{split}annot")
        for image, mask in _pairs(source, split)
    )
    return Plan("SegNet tutorial", say("data.camvid.ids"), CLASSES, entries)


def _pairs(source: Source, split: str) -> list[tuple[Path, Path]]:
    """Return image and mask of a split, by its list where there is one, else by the folders."""
    listing = source.root / f"{split}.txt"
    if not listing.is_file():
        return source.pairs(source.need_folder(split), source.need_folder(f"{split}annot"))
    pairs = []
    for line in source.lines(listing):
        parts = line.split()
        if len(parts) != 2:
            raise DataError(
                f"{listing} has the line {line[:80]!r}, expected an image and its mask with a blank between"
            )
        # The lists hold the paths of the tutorial's own machine; the last folder and the name are what counts.
        image, mask = (source.root.joinpath(*source.listed(part, str(listing)).parts[-2:]) for part in parts)
        pairs.append((source.file(image, "image"), source.file(mask, "mask")))
    return pairs


def _colored_folders(source: Source, unknown: Unknown) -> Plan:
    rule = _color_rule(source)
    entries = []
    for split in SPLITS:
        if source.folder(f"{split}_labels") is None:
            continue
        ending = "_L" if any(path.stem.endswith("_L") for path in (source.root / f"{split}_labels").iterdir()) else ""
        for image, mask in source.pairs(source.need_folder(split), source.root / f"{split}_labels", ending):
            entries.append(_entry(split, image, mask, rule, unknown))
    return Plan("folders of a split with colors", say("data.camvid.colors"), CLASSES, tuple(entries))


def _stills(source: Source, stills: Path, unknown: Unknown) -> Plan:
    rule = _color_rule(source)
    masks = source.need_folder("LabeledApproved_full", "LabeledApproved")
    entries = []
    for image, mask in source.pairs(stills, masks, "_L"):
        split = split_of(image.stem)
        if not split:
            raise DataError(
                f"image {image} is not a frame of CamVid's four sequences, such as 0001TP_006690, so that its split is "
                "unknown: remove it or rename it as in the original"
            )
        entries.append(_entry(split, image, mask, rule, unknown))
    return Plan(
        "the original's stills", say("data.camvid.colors"), CLASSES, tuple(entries), (say("data.camvid.split"),)
    )


def _color_rule(source: Source) -> MaskRule:
    """Return our class by color, from class_dict.csv or label_colors.txt where there is one."""
    paths = (source.root / "class_dict.csv", source.root / "label_colors.txt")
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return _by_color({color: _INDEX[name.casefold()] for name, color in COLORS.items()})
    if path.suffix == ".csv":
        try:
            rows = [row for row in csv.reader(source.lines(path)) if row][1:]
        except csv.Error as error:
            raise DataError(f"{path} cannot be read as CSV ({first_line(error)}), copy it again") from error
        named = [(row[0].strip(), row[1:]) for row in rows]
    else:
        parts = [line.split() for line in source.lines(path)]
        named = [(" ".join(part[3:]), part[:3]) for part in parts]
    if not named:
        raise DataError(f"{path} names no color, expected those of CamVid's 32 classes: copy it again")
    rule: dict[Color, int] = {}
    for name, numbers in named:
        if len(numbers) != 3 or not all(is_byte(number.strip()) for number in numbers):
            raise DataError(f"{path} gives {name!r} the color {' '.join(numbers)!r}, expected three numbers to 255")
        if name.casefold() not in _INDEX:
            raise DataError(f"{path} names {name!r}, which is none of CamVid's 32 classes{nearest(name, COLORS)}")
        rule[(int(numbers[0]), int(numbers[1]), int(numbers[2]))] = _INDEX[name.casefold()]
    return _by_color(rule)


def _by_color(classes: Mapping[Color, int]) -> MaskRule:
    return MaskRule.for_colors(classes, "colors of CamVid's 32 classes")
