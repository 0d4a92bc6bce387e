"""Known data sets by name: which module reads which, and the one function that imports any of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from semalign.data.sets import ade20k, camvid, cityscapes, coco, nyuv2, voc
from semalign.data.sets.plan import Plan
from semalign.data.sets.rules import Unknown
from semalign.data.sets.source import Source
from semalign.data.sets.writing import Progress, write_plan
from semalign.errors import ConfigError, DataError, nearest
from semalign.files import write_folder_aside
from semalign.wording import Message, say

__all__ = ["NAMES", "Imported", "import_data"]

# Each module has a TITLE, the layout EXPECTED in words, and `plan`, which finds it.
_SETS: Final = {"ade20k": ade20k, "camvid": camvid, "cityscapes": cityscapes, "nyuv2": nyuv2, "voc": voc}

NAMES: Final = (*_SETS, "coco")
"""What can be imported."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        out: the folder.
        layout: the name of the source's layout.
        rule: what its pixel values became.
        class_names: of the folder.
        splits: images by split.
        clusters: sequences, cities or scenes by split; 0 where they are not known.
        depth: whether there is depth.
        notes: what a user must know.
    """

    out: Path
    layout: str
    rule: Message
    class_names: tuple[str, ...]
    splits: dict[str, int]
    clusters: dict[str, int]
    depth: bool
    notes: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; sentences are English."""
        return {**vars(self), "out": str(self.out), "rule": str(self.rule), "notes": list(map(str, self.notes))}


def import_data(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    link: bool = False,
    follow_links: bool = False,
    ignore_unknown: bool = False,
    depth: bool = True,
    splits: Mapping[str, str] | None = None,
    annotations: Sequence[str] = (),
    background: str | None = "background",
    progress: Progress | None = None,
) -> Imported:
    """Read a known data set as people have it on disk, and write it as a folder in this package's layout.

    Args:
        name: one of `NAMES`.
        source: its folder, which is only read.
        out: the folder to make; it appears whole or not at all.
        link: link to the images in place of copying them.
        follow_links: allow symbolic links in ``source`` that lead out of it.
        ignore_unknown: ignore (255) pixels of ids and colors that the data set's rule does not name, and count them.
        depth: take depth where there is some.
        splits: new names by old, such as ``{"test": "val"}``; "" leaves a split out.
        annotations: of ``coco``: its files, as FILE or SPLIT=FILE.
        background: of ``coco``: the class of pixels of no instance; None ignores them.
        progress: called with (images done, images).

    Raises:
        ConfigError: an unknown name or an option that has no effect.
        DataError: the source is laid out otherwise, or a file of it does not fit; nothing is written then.
        OutputError: ``out`` is taken or cannot be written.
    """
    if name not in NAMES:
        raise ConfigError(f"data import got {name!r}, which is not a known data set{nearest(name, NAMES)}")
    if name != "coco" and annotations:
        raise ConfigError(f"--annotations is for coco and has no effect on {name}: leave it out")
    unknown = Unknown(ignore=ignore_unknown)
    root, target = Path(source), Path(out)
    if name == "coco":
        found = Source(root, coco.TITLE, coco.EXPECTED, follow_links=follow_links)
        plan = coco.plan(found, annotations, background)
    else:
        known = _SETS[name]
        found = Source(root, known.TITLE, known.EXPECTED, follow_links=follow_links)
        plan = known.plan(found, unknown)
    plan = _with_splits(plan, dict(splits or {}))
    if not plan.entries:
        raise found.wrong_layout("no image was found")
    with write_folder_aside(target, "data", option="--out", apart_from=root) as part:
        write_plan(plan, part, link=link, depth=depth, name=name, source=root, progress=progress)
    notes = list(plan.notes)
    if unknown.pixels:
        notes.append(say("data.unknown-ignored", n=unknown.pixels, masks=unknown.masks))
    counts = Counter(entry.split for entry in plan.entries)
    clusters = {
        split: len({entry.cluster for entry in plan.entries if entry.split == split and entry.cluster is not None})
        for split in counts
    }
    has_depth = depth and any(entry.depth is not None for entry in plan.entries)
    return Imported(target, plan.layout, plan.rule, plan.class_names, dict(counts), clusters, has_depth, tuple(notes))


def _with_splits(plan: Plan, renames: dict[str, str]) -> Plan:
    """Return the plan with splits renamed; a split renamed to "" is left out."""
    known = {entry.split for entry in plan.entries}
    for old, new in renames.items():
        if old not in known:
            raise DataError(f"--split {old}={new} names a split that is not there{nearest(old, known)}")
        if new in known and new not in renames:
            raise DataError(f"--split {old}={new} would mix two splits, expected a name that is free")
    taken = [new for new in renames.values() if new]
    twice = next((new for new in taken if taken.count(new) > 1), None)
    if twice is not None:
        both = " and ".join(old for old, new in renames.items() if new == twice)
        raise DataError(f"--split names {both} both {twice!r}, which would mix them, expected distinct names")
    entries = (dataclasses.replace(entry, split=renames.get(entry.split, entry.split)) for entry in plan.entries)
    return dataclasses.replace(plan, entries=tuple(entry for entry in entries if entry.split))
