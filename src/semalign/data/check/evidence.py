"""Everything that the rules of a data check look at, gathered once after the scan, as plain data.

This module draws conclusions that several rules and the repair share; it reads nothing but ``texts.jsonl`` and
``clusters.txt``.  It does not depend on batches, models and torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from semalign.data.check.duplicates import Twins, find_twins
from semalign.data.check.masks import MaskEvidence, look_at_masks
from semalign.data.check.scan import BadSample, Record, ScanReport, SplitReport
from semalign.data.folder import Folder
from semalign.data.listing import Key
from semalign.data.sample import DataSource
from semalign.wording import Message, say

__all__ = ["Evidence", "Found", "gather"]

Sample: TypeAlias = Record | BadSample


@dataclasses.dataclass(frozen=True)
class Found:
    """One thing that a rule has found.

    Attributes:
        split: the split it concerns; "" for all.
        message: what, where, how many.
        files: the files concerned, below the data folder.
        details: one sentence per file, where there is more to say of each.
    """

    split: str
    message: Message
    files: tuple[str, ...] = ()
    details: tuple[Message | str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known of a data set.

    Attributes:
        source: the data.
        scan: what was read and counted.
        masks: how the masks of a folder are stored.
        twins: images that are, or look like, another image.
        drop: images that a corrected copy leaves out, with the code that says why; always less than half of a split.
        kept: by code and split of a finding, why its images are kept all the same.
    """

    source: DataSource
    scan: ScanReport
    masks: MaskEvidence
    twins: tuple[Twins, ...]
    drop: Mapping[Key, str]
    kept: Mapping[tuple[str, str], Message]

    @property
    def folder(self) -> Folder | None:
        """The folder; None for the built-in scenes, which have no files."""
        return self.source if isinstance(self.source, Folder) else None

    @functools.cached_property
    def class_counts(self) -> Mapping[str, SplitReport]:
        """Counts by split; none where masks are broken or binary, as counts of the other masks would say nothing."""
        return {} if self.scan.problems or self.masks.values.binary else self.scan.splits

    def files(self, split: str, names: Iterable[str], kind: str) -> tuple[str, ...]:
        """Return files below the data folder; ``kind`` is image, mask or depth."""
        if self.folder is None:
            return ()
        paths = (getattr(self.folder.files(split, name), kind) for name in names)
        return tuple(path.relative_to(self.folder.root).as_posix() for path in paths)

    def counted(
        self, key: str, split: str, names: Iterable[str], kind: str, details: Iterable[Message | str] = ()
    ) -> Iterable[Found]:
        """Yield what sentence ``key`` says of n files of a split; nothing where there are none."""
        names = tuple(names)
        if names:
            message = say(f"data.{key}", n=len(names), split=split)
            yield Found(split, message, self.files(split, names, kind), tuple(details))

    def with_kept(self, code: str, found: Found) -> Found:
        """Return a finding that says why ``--fix`` keeps its images, where it does."""
        why = self.kept.get((code, found.split))
        return (
            found if why is None else dataclasses.replace(found, message=say("data.kept", what=found.message, why=why))
        )


def gather(source: DataSource, scan: ScanReport) -> Evidence:
    """Return what the scan of ``source`` shows.

    Raises:
        DataError: the folder's file of class colors is malformed.
    """
    twins = find_twins({split: _hashes(scan, split) for split in scan.records})
    masks = look_at_masks(source, scan)
    drop, kept = _plan_drops(source, scan, masks, twins) if isinstance(source, Folder) else ({}, {})
    return Evidence(source, scan, masks, twins, drop, kept)


def _hashes(scan: ScanReport, split: str) -> dict[str, tuple[str, str]]:
    """Return by name the two hashes of every image that can be decoded, sorted by name."""
    together: dict[str, Sample] = {**scan.records[split], **scan.bad.get(split, {})}
    return {
        name: (sample.pixel_hash, sample.picture_hash) for name, sample in sorted(together.items()) if sample.pixel_hash
    }


def _plan_drops(
    folder: Folder, scan: ScanReport, masks: MaskEvidence, twins: Iterable[Twins]
) -> tuple[dict[Key, str], dict[tuple[str, str], Message]]:
    """Return `Evidence.drop` and `Evidence.kept`."""
    drop: dict[Key, str] = {}
    kept: dict[tuple[str, str], Message] = {}
    for code, about, split, names in _to_drop(folder, scan, masks, twins):
        added = {(split, name): code for name in names}
        gone = len({key for key in drop if key[0] == split} | set(added))
        total = len(folder.listing.images[split])
        # A fault of most images lies in their partners, their format or the split: nobody wants a copy without them.
        if added and 2 * gone >= total:
            kept[code, about] = say("data.kept.why", gone=gone, images=say("common.images", n=total), split=split)
        else:
            drop = added | drop
    return drop, kept


def _to_drop(
    folder: Folder, scan: ScanReport, masks: MaskEvidence, twins: Iterable[Twins]
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
