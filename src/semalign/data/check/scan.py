"""The full scan of a data source: every file read and decoded once, every problem collected.

What a scan finds out about a folder's files is cached by their paths, sizes and times, so that the next opening costs
one look at each file's size and time.  This module does not depend on batches, models and torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import TypeAdapter

from semalign.data.cache import read_cached, write_cached
from semalign.data.check.duplicates import picture_hash, pixel_hash
from semalign.data.colors import Color, as_color
from semalign.data.depth import decode_depth
from semalign.data.folder import Files, Folder
from semalign.data.images import PNG_PALETTE, check_size, decode_image, png_kind
from semalign.data.masks import MaskFacts, decode_mask, look_at_mask
from semalign.data.reading import read_bytes
from semalign.data.sample import DataSource, Sample
from semalign.errors import DataError, TextError
from semalign.metrics import IGNORE

__all__ = ["RARE_SHARE", "BadSample", "Problem", "Progress", "Record", "ScanReport", "SplitReport", "scan"]

RARE_SHARE = 0.001
"""A class with a smaller share of its split's labelled pixels, but not none, is reported as rare."""

# History of the cached records, raised too whenever a check becomes stricter:
# 1: first.
# 2: how the image looks, how the mask is stored, depth at the end of its range.
RECORDS_VERSION = 2

Problem = DataError | TextError
Progress = Callable[[int, int], None]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Record:
    """What one good sample was found to be.

    Attributes:
        size: H, W.
        pixels: pixel counts by class index, with 255.
        orientation: what became of the image's EXIF orientation, see `DecodedImage`.
        depth: least and greatest measured value, share of holes, share of pixels at the end of the file's range, bits;
            empty without depth or measurement.
        grey: least and greatest value of the image.
        stamps: per file path below the root, bytes, modification time in ns; this and all below is empty for scenes.
        hashes: per file SHA-256 (hex).
        pixel_hash: see `semalign.data.check.duplicates`.
        picture_hash: the same.
        palette: of a palette mask the color (hex) by index used; empty for other masks.
    """

    size: list[int]
    pixels: dict[str, int]
    orientation: str
    depth: list[float]
    grey: list[int]
    stamps: list[list[Any]] = dataclasses.field(default_factory=list)
    hashes: list[str] = dataclasses.field(default_factory=list)
    pixel_hash: str = ""
    picture_hash: str = ""
    palette: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> Record | None:
        """Return the cached record, or None where the value is not shaped as one."""
        try:
            record = _AS_RECORD.validate_python(value)
            height, width = record.size
            good = (
                sum(record.pixels.values()) == height * width
                and all(0 <= value <= IGNORE for value in record.counts)
                and len(record.hashes) == len(record.stamps)
                and len(record.depth) in (0, 5)
                and len(record.grey) == 2
                and len(bytes.fromhex(record.picture_hash)) in (0, 32)
            )
        except ValueError:  # pydantic's errors are among them
            return None
        return record if good else None

    @property
    def counts(self) -> dict[int, int]:
        """Pixel counts by value of the mask."""
        return {int(value): number for value, number in self.pixels.items()}

    @property
    def classes(self) -> tuple[int, ...]:
        """Sorted class indices in the mask, without 255."""
        return tuple(sorted(value for value in self.counts if value != IGNORE))

    @property
    def palette_colors(self) -> dict[int, Color]:
        """Of a palette mask the color of each index in use."""
        return {int(index): as_color(bytes.fromhex(text)) for index, text in self.palette.items()}


_AS_RECORD: Final = TypeAdapter(Record)


@dataclasses.dataclass(frozen=True)
class BadSample:
    """A sample with problems.

    Attributes:
        problems: by what is broken ("image", "mask", "depth" or "size"), the error.
        mask: how its mask is stored, where that can be said.
        pixel_hash: of its image, "" where it cannot be decoded.
        picture_hash: the same.
        grey: least and greatest value of its image, empty where it cannot be decoded.
    """

    problems: dict[str, DataError]
    mask: MaskFacts | None
    pixel_hash: str
    picture_hash: str
    grey: list[int]


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What a scan counted in one split, over the samples without a problem.

    Attributes:
        images: number of images.
        least_size: smallest height and smallest width, pixels.
        greatest_size: greatest height and greatest width, pixels.
        pixels: pixel count by class name, in class order.
        images_with: by class name, the number of images that show it.
        ignored_pixels: pixels of value 255.
        with_texts: number of images that have texts of their own.
        clusters: number of clusters.
        depth_range: least and greatest measured depth, in the source's unit; None without depth.
        hole_share: mean share of pixels without depth, in [0, 1]; None without depth.
    """

    images: int
    least_size: tuple[int, int]
    greatest_size: tuple[int, int]
    pixels: dict[str, int]
    images_with: dict[str, int]
    ignored_pixels: int
    with_texts: int
    clusters: int
    depth_range: tuple[float, float] | None
    hole_share: float | None

    @property
    def unused(self) -> tuple[str, ...]:
        """Classes without a pixel."""
        return tuple(name for name, count in self.pixels.items() if count == 0)

    @property
    def rare(self) -> tuple[str, ...]:
        """Classes with fewer than `RARE_SHARE` of the labelled pixels, but not none."""
        limit = RARE_SHARE * sum(self.pixels.values())
        return tuple(name for name, count in self.pixels.items() if 0 < count < limit)


@dataclasses.dataclass(frozen=True)
class ScanReport:
    """The outcome of `scan`.

    Attributes:
        source: the source's `describe()`.
        splits: counts by split; a split without one good sample is missing.
        problems: what must be mended, as errors ready to be raised, in order of splits and names, texts, clusters.
        read: number of samples that were read and decoded.
        cached: number of samples known from the last scan.
        records: by split and name, the samples without a problem.
        bad: by split and name, the others that have all their files.
    """

    source: dict[str, Any]
    splits: dict[str, SplitReport]
    problems: tuple[Problem, ...]
    read: int
    cached: int
    records: dict[str, dict[str, Record]] = dataclasses.field(default_factory=dict, repr=False)
    bad: dict[str, dict[str, BadSample]] = dataclasses.field(default_factory=dict, repr=False)

    def raise_for_problems(self) -> None:
        """Raise the first problem, saying how many more there are.

        Raises:
            DataError: images, masks, depth, classes or clusters do not fit.
            TextError: texts do not fit.
        """
        if not self.problems:
            return
        first, more = self.problems[0], len(self.problems) - 1
        if more == 0:
            raise first
        where = self.source.get("root", self.source["kind"])
        raise type(first)(f"{first} (and {more} more: `semalign data check {where}` lists them)")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "source": self.source,
            "splits": {
                split: {
                    **dataclasses.asdict(report),
                    "unused": report.unused,
                    "rare": report.rare,
                }
                for split, report in self.splits.items()
            },
            "problems": [str(problem) for problem in self.problems],
            "read": self.read,
            "cached": self.cached,
        }


def scan(source: DataSource, *, progress: Progress | None = None) -> ScanReport:
    """Read every sample of ``source`` once in full and collect every problem.

    Of a folder, files whose path, size and time are those of the last scan are not read again, and only good samples
    are remembered.

    Args:
        source: a folder or scenes.
        progress: called with (samples done, samples in all) after each sample that had to be read.
    """
    if isinstance(source, Folder):
        return _scan_folder(source, progress)
    records: dict[str, dict[str, Record]] = {split: {} for split in source.splits}
    total = sum(len(source.names(split)) for split in source.splits)
    done = 0
    for split in source.splits:
        for name in source.names(split):
            sample = source.load(split, name)
            records[split][name] = _record(sample)
            done += 1
            if progress is not None:
                progress(done, total)
    return _report(source, records, {}, (), read=total, cached=0)


def _scan_folder(folder: Folder, progress: Progress | None) -> ScanReport:
    class_count = len(folder.class_names)
    problems: list[Problem] = [*folder.listing.problems()]
    jobs: list[tuple[str, str, Files]] = []
    for split, names in folder.listing.complete_names().items():
        jobs += [(split, name, folder.files(split, name)) for name in names]

    rules = f"{RECORDS_VERSION} {class_count} {folder.root.resolve()}"
    key = hashlib.sha256(rules.encode(errors="surrogateescape")).hexdigest()[:32]
    old = read_cached("scan", key)
    records: dict[str, dict[str, Record]] = {split: {} for split in folder.splits}
    unread = []
    for split, name, files in jobs:
        record = Record.from_json(old.get(f"{split}/{name}")) if isinstance(old, dict) else None
        if record is not None and record.stamps == _stamps(folder.root, files):
            records[split][name] = record
        else:
            unread.append((split, name, files))
    cached = len(jobs) - len(unread)

    def read(job: tuple[str, str, Files]) -> Record | BadSample:
        return _read_sample(folder.root, job[1], job[2], class_count)

    bad: dict[str, dict[str, BadSample]] = {split: {} for split in folder.splits}
    for done, ((split, name, _), found) in enumerate(zip(unread, _in_threads(read, unread), strict=True), start=1):
        if isinstance(found, Record):
            records[split][name] = found
        else:
            bad[split][name] = found
            problems += found.problems.values()
        if progress is not None:
            progress(done, len(unread))
    if unread:
        samples = {
            f"{split}/{name}": dataclasses.asdict(record)
            for split, found_in in records.items()
            for name, record in found_in.items()
        }
        write_cached("scan", key, samples)

    for split, name, files in jobs:
        if known := records[split].get(name):
            paths = [path for path in files if path is not None]
            folder.remember(split, name, known.classes, dict(zip(paths, known.hashes, strict=True)))
    problems += folder.all_texts.problems
    problems += folder.all_clusters.problems
    return _report(folder, records, bad, tuple(problems), read=len(unread), cached=cached)


def _in_threads(
    read: Callable[[tuple[str, str, Files]], Record | BadSample],
    jobs: list[tuple[str, str, Files]],
) -> Iterator[Record | BadSample]:
    # Pillow decodes outside the interpreter lock.
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(read, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


def _stamps(root: Path, files: Files) -> list[list[Any]] | None:
    stamps = []
    for path in files:
        if path is None:
            continue
        try:
            status = path.stat()
        except OSError:
            return None  # reading it says what is wrong
        stamps.append([path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns])
    return stamps


def _read_sample(root: Path, name: str, files: Files, class_count: int) -> Record | BadSample:
    """Read one sample's files; every file that is bad by itself gives its own problem, then the sizes are compared."""
    problems: dict[str, DataError] = {}
    # Before reading: a file that changes meanwhile then has another stamp at the next scan.
    stamps = _stamps(root, files)
    hashes: list[str] = []

    def contents(path: Path, what: str) -> bytes:
        data = read_bytes(path, what)
        hashes.append(hashlib.sha256(data).hexdigest())
        return data

    def attempt(what: str, read: Callable[..., T], *args: Any) -> T | None:
        try:
            return read(*args)
        except DataError as error:
            # The first problem of a part is kept: the others follow from it.
            problems.setdefault(what, error)
            return None

    image_bytes = attempt("image", contents, files.image, "image") or b""
    mask_bytes = attempt("mask", contents, files.mask, "mask") or b""
    mask = attempt("mask", decode_mask, mask_bytes, files.mask, class_count)
    facts = look_at_mask(mask_bytes) if mask is None else None
    # A mask in colors or with strange values still has a size.
    mask_size = (mask.shape[0], mask.shape[1]) if mask is not None else facts.size if facts is not None else None
    image, orientation = attempt("image", decode_image, image_bytes, files.image, mask_size) or (None, "")
    depth, depth_bytes = None, b""
    if files.depth is not None:
        depth_bytes = attempt("depth", contents, files.depth, "depth") or b""
        depth = attempt("depth", decode_depth, depth_bytes, files.depth)
    for what, path, array in (("image", files.image, image), ("depth", files.depth, depth)):
        if array is not None and mask_size is not None:
            # With both off, the image's: one of the three files is likely to be the odd one.
            attempt("size", check_size, what, path, array.shape[:2], mask_size, files.mask)
    pixels = "" if image is None else pixel_hash(image)
    picture = "" if image is None else picture_hash(image)
    if problems or mask is None or image is None or stamps is None:
        grey = [] if image is None else [int(image.min()), int(image.max())]
        return BadSample(problems, look_at_mask(mask_bytes), pixels, picture, grey)
    sample = Sample(name, image, mask, depth, (), "")
    known = _record(sample, orientation, png_kind(depth_bytes).bits)
    return dataclasses.replace(
        known,
        stamps=stamps,
        hashes=hashes,
        pixel_hash=pixels,
        picture_hash=picture,
        palette=_used_palette(mask_bytes, known.pixels),
    )


def _record(sample: Sample, orientation: str = "", depth_bits: int = 0) -> Record:
    counts = np.bincount(sample.mask.ravel(), minlength=IGNORE + 1)
    measured: list[float] = []
    if sample.depth is not None:
        values = sample.depth[sample.depth > 0]
        if values.size:
            at_end = float((values == 2**depth_bits - 1).mean()) if depth_bits else 0.0
            holes = 1 - values.size / sample.depth.size
            measured = [float(values.min()), float(values.max()), holes, at_end, depth_bits]
    return Record(
        size=[int(side) for side in sample.mask.shape],
        pixels={str(index): int(counts[index]) for index in np.flatnonzero(counts)},
        orientation=orientation,
        depth=measured,
        grey=[int(sample.image.min()), int(sample.image.max())],
    )


def _used_palette(data: bytes, pixels: dict[str, int]) -> dict[str, str]:
    # Grey masks need no second look.
    if png_kind(data).color != PNG_PALETTE:
        return {}
    facts = look_at_mask(data)
    assert facts is not None
    return {index: bytes(facts.palette[int(index)]).hex() for index in pixels}


def _report(
    source: DataSource,
    records: dict[str, dict[str, Record]],
    bad: dict[str, dict[str, BadSample]],
    problems: tuple[Problem, ...],
    *,
    read: int,
    cached: int,
) -> ScanReport:
    splits = {split: _split_report(source, split, found, problems) for split, found in records.items() if found}
    return ScanReport(
        source=source.describe(),
        splits=splits,
        problems=problems,
        read=read,
        cached=cached,
        records=records,
        bad=bad,
    )


def _split_report(
    source: DataSource, split: str, records: dict[str, Record], problems: tuple[Problem, ...]
) -> SplitReport:
    found = list(records.values())
    heights, widths = zip(*(record.size for record in found), strict=True)
    measured = [record.depth for record in found if record.depth]
    # With a malformed texts.jsonl or clusters.txt these cannot be counted; the problem is reported anyway.
    texts = {} if problems else source.texts(split)
    clusters = {} if problems else source.clusters(split)
    return SplitReport(
        images=len(found),
        least_size=(min(heights), min(widths)),
        greatest_size=(max(heights), max(widths)),
        pixels={
            name: sum(record.pixels.get(str(index), 0) for record in found)
            for index, name in enumerate(source.class_names)
        },
        images_with={
            name: sum(str(index) in record.pixels for record in found) for index, name in enumerate(source.class_names)
        },
        ignored_pixels=sum(record.pixels.get(str(IGNORE), 0) for record in found),
        with_texts=sum(bool(some) for some in texts.values()),
        clusters=len(set(clusters.values())),
        depth_range=(min(d[0] for d in measured), max(d[1] for d in measured)) if measured else None,
        hole_share=sum(d[2] for d in measured) / len(measured) if measured else None,
    )
