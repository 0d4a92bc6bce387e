"""The full scan of a data source: every file read and decoded once, every problem collected.

What a scan finds out about a folder's files is cached by their paths, sizes and times, so that the next opening costs
one look at each file's size and time.  This module knows nothing of batches, models or torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from semalign.data.cache import read_cached, write_cached
from semalign.data.folder import Files, Folder, check_size, decode_depth, decode_image, decode_mask, read_bytes
from semalign.data.sample import DataSource, Sample
from semalign.errors import DataError, TextError
from semalign.metrics import IGNORE

__all__ = ["RARE_SHARE", "ScanReport", "SplitReport", "scan"]

RARE_SHARE = 0.001
"""A class with a smaller share of its split's labelled pixels, but not none, is reported as rare."""

# History of the cached records, raised too whenever a check becomes stricter:
# 1: first.
RECORDS_VERSION = 1

Problem = DataError | TextError
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class _Record:
    """What one good sample was found to be."""

    stamps: list[list[Any]]  # per file: path below the root, bytes, modification time in ns
    hashes: list[str]  # per file: SHA-256 (hex)
    size: list[int]  # H, W
    pixels: dict[str, int]  # by class index, with 255
    orientation: str
    depth: list[float]  # least and greatest measured value, share of holes; empty without depth or measurement

    @classmethod
    def from_json(cls, value: Any) -> _Record | None:
        """Return the cached record, or None where the value is not shaped as one."""
        try:
            record = cls(**value)
            height, width = record.size
            good = (
                sum(record.pixels.values()) == height * width
                and all(0 <= int(key) <= IGNORE for key in record.pixels)
                and all(isinstance(digest, str) for digest in record.hashes)
                and len(record.hashes) == len(record.stamps)
                and isinstance(record.orientation, str)
                and len([float(number) for number in record.depth]) in (0, 3)
            )
        except (TypeError, ValueError, AttributeError):
            return None
        return record if good else None

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(sorted(int(key) for key in self.pixels if int(key) != IGNORE))


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
        notes: what is allowed but worth knowing.
        read: number of samples that were read and decoded.
        cached: number of samples known from the last scan.
    """

    source: dict[str, Any]
    splits: dict[str, SplitReport]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    read: int
    cached: int

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
                    "least_size": list(report.least_size),
                    "greatest_size": list(report.greatest_size),
                    "depth_range": None if report.depth_range is None else list(report.depth_range),
                    "unused": list(report.unused),
                    "rare": list(report.rare),
                }
                for split, report in self.splits.items()
            },
            "problems": [str(problem) for problem in self.problems],
            "notes": list(self.notes),
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
    records: dict[str, dict[str, _Record]] = {split: {} for split in source.splits}
    total = sum(len(source.names(split)) for split in source.splits)
    done = 0
    for split in source.splits:
        for name in source.names(split):
            sample = source.load(split, name)
            records[split][name] = _record(sample, "", [], [])
            done += 1
            if progress is not None:
                progress(done, total)
    return _report(source, records, (), read=total, cached=0)


def _scan_folder(folder: Folder, progress: Progress | None) -> ScanReport:
    class_count = len(folder.class_names)
    problems: list[Problem] = list(folder.pairing_problems())
    jobs: list[tuple[str, str, Files]] = []
    for split, names in folder.complete_names().items():
        jobs += [(split, name, folder.files(split, name)) for name in names]

    key = hashlib.sha256(str(folder.root.resolve()).encode(errors="surrogateescape")).hexdigest()[:32]
    kept = read_cached("scan", key)
    same_rules = isinstance(kept, dict) and (kept.get("version"), kept.get("classes")) == (RECORDS_VERSION, class_count)
    old = kept.get("samples") if same_rules and isinstance(kept, dict) else None
    records: dict[str, dict[str, _Record]] = {split: {} for split in folder.splits}
    unread = []
    for split, name, files in jobs:
        record = _Record.from_json(old.get(f"{split}/{name}")) if isinstance(old, dict) else None
        if record is not None and record.stamps == _stamps(folder.root, files):
            records[split][name] = record
        else:
            unread.append((split, name, files))
    cached = len(jobs) - len(unread)

    def read(job: tuple[str, str, Files]) -> tuple[_Record | None, list[DataError]]:
        return _read_sample(folder.root, job[1], job[2], class_count)

    for done, ((split, name, _), (record, found)) in enumerate(
        zip(unread, _in_threads(read, unread), strict=True), start=1
    ):
        problems += found
        if record is not None:
            records[split][name] = record
        if progress is not None:
            progress(done, len(unread))
    if unread:
        samples = {
            f"{split}/{name}": dataclasses.asdict(record)
            for split, found_in in records.items()
            for name, record in found_in.items()
        }
        write_cached("scan", key, {"version": RECORDS_VERSION, "classes": class_count, "samples": samples})

    for split, name, files in jobs:
        if known := records[split].get(name):
            paths = [path for path in files if path is not None]
            folder.remember(split, name, known.classes, dict(zip(paths, known.hashes, strict=True)))
    problems += folder.parse_texts()[1]
    problems += folder.parse_clusters()[1]
    return _report(folder, records, tuple(problems), read=len(unread), cached=cached)


def _in_threads(
    read: Callable[[tuple[str, str, Files]], tuple[_Record | None, list[DataError]]],
    jobs: list[tuple[str, str, Files]],
) -> Iterator[tuple[_Record | None, list[DataError]]]:
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


def _read_sample(root: Path, name: str, files: Files, class_count: int) -> tuple[_Record | None, list[DataError]]:
    """Read one sample's files; every file that is bad by itself gives its own problem, then the sizes are compared."""
    problems: list[DataError] = []
    # Before reading: a file that changes meanwhile then has another stamp at the next scan.
    stamps = _stamps(root, files)
    hashes: list[str] = []

    def contents(path: Path, what: str) -> bytes:
        data = read_bytes(path, what)
        hashes.append(hashlib.sha256(data).hexdigest())
        return data

    mask = image = depth = None
    orientation = ""
    image_bytes: bytes | None = None
    try:
        image_bytes = contents(files.image, "image")
    except DataError as error:
        problems.append(error)
    try:
        mask = decode_mask(contents(files.mask, "mask"), files.mask, class_count)
    except DataError as error:
        problems.append(error)
    mask_size = None if mask is None else (mask.shape[0], mask.shape[1])
    if image_bytes is not None:
        try:
            image, orientation = decode_image(image_bytes, files.image, mask_size)
        except DataError as error:
            problems.append(error)
    if files.depth is not None:
        try:
            depth = decode_depth(contents(files.depth, "depth"), files.depth)
        except DataError as error:
            problems.append(error)
    if mask_size is not None:
        for what, path, array in (("image", files.image, image), ("depth", files.depth, depth)):
            if array is not None and path is not None:
                try:
                    check_size(what, path, array.shape[:2], files.mask, mask_size)
                except DataError as error:
                    problems.append(error)
    if problems or mask is None or image is None or stamps is None:
        return None, problems
    return _record(Sample(name, image, mask, depth, (), ""), orientation, stamps, hashes), []


def _record(sample: Sample, orientation: str, stamps: list[list[Any]], hashes: list[str]) -> _Record:
    counts = np.bincount(sample.mask.ravel(), minlength=IGNORE + 1)
    measured: list[float] = []
    if sample.depth is not None:
        values = sample.depth[sample.depth > 0]
        if values.size:
            measured = [float(values.min()), float(values.max()), 1 - values.size / sample.depth.size]
    return _Record(
        stamps=stamps,
        hashes=hashes,
        size=[int(side) for side in sample.mask.shape],
        pixels={str(index): int(counts[index]) for index in np.flatnonzero(counts)},
        orientation=orientation,
        depth=measured,
    )


def _report(
    source: DataSource, records: dict[str, dict[str, _Record]], problems: tuple[Problem, ...], *, read: int, cached: int
) -> ScanReport:
    splits = {split: _split_report(source, split, found, problems) for split, found in records.items() if found}
    return ScanReport(
        source=source.describe(),
        splits=splits,
        problems=problems,
        notes=tuple(_notes(source, records, splits)),
        read=read,
        cached=cached,
    )


def _split_report(
    source: DataSource, split: str, records: dict[str, _Record], problems: tuple[Problem, ...]
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


def _notes(source: DataSource, records: dict[str, dict[str, _Record]], splits: dict[str, SplitReport]) -> Iterator[str]:
    orientations = {
        "applied": "EXIF orientation applied, as the mask has the upright size",
        "left": "EXIF orientation not applied, as the mask has the stored size",
        "ambiguous": "EXIF orientation applied, but the mask fits either way, so look at some",
    }
    for split, found in records.items():
        for orientation, meaning in orientations.items():
            yield from _note(meaning, split, [n for n, record in found.items() if record.orientation == orientation])
        yield from _note("nothing but 255 (ignored) in the mask", split, [n for n, r in found.items() if not r.classes])
        if source.has_depth:
            yield from _note("no measured depth at all", split, [n for n, r in found.items() if not r.depth])
    never = [name for name in source.class_names if splits and all(name in split.unused for split in splits.values())]
    if never:
        yield f"no mask of any split shows {', '.join(never)}"
    train = {record.hashes[0]: name for name, record in records.get("train", {}).items() if record.hashes}
    for split, found in records.items():
        if split != "train":
            twins = [
                f"{name} (train: {train[record.hashes[0]]})"
                for name, record in found.items()
                if record.hashes and record.hashes[0] in train
            ]
            yield from _note("in train too, byte for byte, so that scores are too good", split, twins)


def _note(what: str, split: str, names: list[str]) -> Iterator[str]:
    if names:
        plural = "" if len(names) == 1 else "s"
        yield f"{what}: {len(names)} image{plural} of {split}, the first is {names[0]}"
