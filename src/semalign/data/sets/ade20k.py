"""ADE20K as in the scene parsing challenge (ADEChallengeData2016): 150 classes counted from 1, 0 is void."""

from __future__ import annotations

import functools
import re
from typing import Final

from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import MaskRule, Unknown
from semalign.data.sets.source import Source
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.wording import say

__all__ = ["EXPECTED", "TITLE", "plan"]

TITLE: Final = "ADE20K"
EXPECTED: Final = "images/training/, annotations/training/ and objectInfo150.txt"

CLASS_COUNT = 150
_NUMBER = re.compile("[0-9]{1,6}")
SPLITS = {"train": "training", "val": "validation"}
_RULE = MaskRule({k: k - 1 for k in range(1, CLASS_COUNT + 1)} | {0: IGNORE}, f"0 for void, 1 to {CLASS_COUNT}")


def plan(source: Source, unknown: Unknown) -> Plan:
    """Find ADE20K below ``source``."""
    source.enter("annotations", below=("ADEChallengeData2016",))
    names = _class_names(source)
    entries: list[Entry] = []
    for split, theirs in SPLITS.items():
        if source.folder(f"images/{theirs}") is None:
            continue
        pairs = source.pairs(source.root / "images" / theirs, source.need_folder(f"annotations/{theirs}"))
        for image, mask in pairs:
            entries.append(Entry(split, image.stem, image, functools.partial(_RULE.read, mask, unknown)))
    return Plan("ADEChallengeData2016", say("data.ade20k.rule"), names, tuple(entries))


def _class_names(source: Source) -> tuple[str, ...]:
    """Return each class's first name in objectInfo150.txt; all its names where another class has the same first one."""
    path = source.root / "objectInfo150.txt"
    if not path.is_file():
        raise DataError(
            f"{path} is missing, expected the list of {TITLE}'s class names that comes with the data: copy it there"
        )
    rows = [line.split("\t") for line in source.lines(path)]
    by_index = {int(row[0]): row[-1].strip() for row in rows if _NUMBER.fullmatch(row[0].strip()) and len(row) >= 2}
    if sorted(by_index) != list(range(1, CLASS_COUNT + 1)) or not all(by_index.values()):
        raise DataError(
            f"{path} names {len(by_index)} classes, expected {CLASS_COUNT} lines of number, figures and names, "
            "separated by tabs: copy the file that comes with the data"
        )
    lines = [by_index[k] for k in range(1, CLASS_COUNT + 1)]
    first = [line.split(",")[0].split(";")[0].strip() for line in lines]
    return tuple(name if first.count(name) == 1 else line for name, line in zip(first, lines, strict=True))
