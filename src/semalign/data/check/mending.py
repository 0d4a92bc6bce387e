"""What of a data folder can be mended without a doubt; `semalign.data.check.repair` does it.

This module reads and writes no file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from semalign.data.check.duplicates import Twins
from semalign.data.check.masks import MaskEvidence
from semalign.data.check.scan import ScanReport
from semalign.data.colors import ClassColors
from semalign.data.folder import Folder
from semalign.data.listing import Key
from semalign.data.masks import MINUS_ONE
from semalign.data.sample import DataSource
from semalign.wording import Message, say

__all__ = ["Mending", "plan_mending"]


@dataclasses.dataclass(frozen=True)
class Mending:
    """What can be mended without a doubt.

    Attributes:
        drop: images to leave out, with the code that says why; always less than half of a split.
        colored: masks whose colors are to be read as classes.
        colors: what the colors stand for.
        single: masks of which one of three equal channels is to be taken.
        undecided: masks of three equal channels that may be colors or class indices, to be left as they are.
        plain: palette masks to be saved as grey indices.
        shift: splits whose values are one too high.
        void: masks in which 65535 stands for 255.
        binary: masks in which 255 stands for 1.
    """

    drop: Mapping[Key, str] = dataclasses.field(default_factory=dict)
    colored: frozenset[Key] = frozenset()
    colors: ClassColors | None = None
    single: frozenset[Key] = frozenset()
    undecided: frozenset[Key] = frozenset()
    plain: frozenset[Key] = frozenset()
    shift: frozenset[str] = frozenset()
    void: frozenset[Key] = frozenset()
    binary: frozenset[Key] = frozenset()


def plan_mending(
    source: DataSource, scan: ScanReport, masks: MaskEvidence, twins: Sequence[Twins]
) -> tuple[Mending, dict[tuple[str, str], Message]]:
    """Return what can be mended, and by code and split of a finding why its images are kept all the same."""
    if not isinstance(source, Folder):
        return Mending(), {}
    colors, values = masks.colors, masks.values
    drop: dict[Key, str] = {}
    kept: dict[tuple[str, str], Message] = {}
    for code, about, split, names in _to_drop(source, scan, masks, twins):
        added = {(split, name): code for name in names}
        gone = len({key for key in drop if key[0] == split} | set(added))
        total = len(source.listing.images[split])
        # A fault of most images lies in their partners, their format or the split: nobody wants a copy without them.
        if added and 2 * gone >= total:
            kept[code, about] = say("data.kept.why", gone=gone, images=say("common.images", n=total), split=split)
        else:
            drop = added | drop
    readable = frozenset(colors.colored) | frozenset(colors.palettes if colors.differing else ())
    return Mending(
        drop=drop,
        colored=frozenset() if colors.known is None else readable,
        colors=colors.known,
        single=frozenset(colors.single),
        undecided=frozenset(colors.undecided),
        plain=frozenset() if colors.differing else frozenset(colors.palettes),
        shift=values.shifted,
        void=frozenset(key for key in values.out_of_range if MINUS_ONE in masks.facts(key).values),
        binary=frozenset(values.binary),
    ), kept


def _to_drop(
    folder: Folder, scan: ScanReport, masks: MaskEvidence, twins: Sequence[Twins]
) -> Iterator[tuple[str, str, str, Iterable[str]]]:
    """Yield code and split of a finding, and split and names of the images that the copy is to leave out."""
    complete = folder.listing.complete_names()
    for split, images in folder.listing.images.items():
        yield "pairing", split, split, [name for name in images if name not in complete[split]]
    for split, bad in scan.bad.items():
        yield "image-broken", split, split, [name for name, sample in bad.items() if "image" in sample.problems]
    for split in scan.bad:
        broken = [name for (own, name), sample in masks.bad.items() if own == split and sample.mask is None]
        yield "mask-broken", split, split, broken
    for pair in twins:
        if pair.other == "train" != pair.split:
            yield "duplicate-across", pair.split, "train", [twin for found in pair.same.values() for twin in found]
