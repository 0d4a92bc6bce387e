"""Writes a plan as a folder in this package's layout, whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from semalign import layout
from semalign.data.images import IMAGE_ENDINGS, check_size, image_size
from semalign.data.reading import read_bytes
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.source import check_name
from semalign.errors import DataError
from semalign.files import make_folder, write_json, write_text

__all__ = ["write_plan"]

Progress = Callable[[int, int], None]


def write_plan(
    plan: Plan, part: Path, *, link: bool, depth: bool, name: str, source: Path, progress: Progress | None = None
) -> None:
    """Write ``plan`` into the empty folder ``part``.

    Args:
        plan: what to write.
        part: the folder.
        link: link to images and depth in place of copying them.
        depth: write depth where the plan has it.
        name: of the data set, for `layout.IMPORTED`.
        source: where it was, for `layout.IMPORTED`.
        progress: called with (images done, images).

    Raises:
        DataError: a mask, image or depth does not fit.
    """
    _check_distinct(plan.entries)
    write_text(part / layout.CLASS_NAMES, "".join(f"{label}\n" for label in plan.class_names))
    for done, entry in enumerate(plan.entries, start=1):
        _write_entry(entry, part, link=link, depth=depth)
        if progress is not None:
            progress(done, len(plan.entries))
    clusters = _cluster_lines(plan.entries)
    if clusters:
        write_text(part / layout.CLUSTERS, "".join(clusters))
    write_json(
        part / layout.IMPORTED,
        {
            "format": layout.IMPORTED_FORMAT,
            "data_set": name,
            "layout": plan.layout,
            "rule": str(plan.rule),
            "source": str(source.resolve()),
            "linked": link,
            "splits": dict(Counter(entry.split for entry in plan.entries)),
            "notes": list(map(str, plan.notes)),
        },
    )


def _check_distinct(entries: Iterable[Entry]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        check_name(entry.split, "a split")
        if (entry.split, entry.name) in seen:
            raise DataError(
                f"the split {entry.split!r} has two images {entry.name!r}, expected distinct names: correct the list"
            )
        seen.add((entry.split, entry.name))


def _write_entry(entry: Entry, part: Path, *, link: bool, depth: bool) -> None:
    mask = entry.mask()

    def place(kind: str, ending: str) -> Path:
        return make_folder(part / kind / entry.split) / f"{entry.name}{ending}"

    Image.fromarray(mask).save(place(layout.MASKS, ".png"))
    size = (mask.shape[0], mask.shape[1])
    if isinstance(entry.image, Path):
        ending = entry.image.suffix.lower()
        if ending not in IMAGE_ENDINGS:
            raise DataError(f"image {entry.image} ends in {ending!r}, expected one of {', '.join(IMAGE_ENDINGS)}")
        check_size("image", entry.image, image_size(entry.image, size), size)
        _put(entry.image, place(layout.IMAGES, ending), link=link)
    else:
        Image.fromarray(entry.image()).save(place(layout.IMAGES, ".png"))
    if entry.depth is None or not depth:
        return
    if isinstance(entry.depth, Path):
        check_size("depth", entry.depth, image_size(entry.depth), size)
        _put(entry.depth, place(layout.DEPTH, ".png"), link=link)
    else:
        values = np.ascontiguousarray(entry.depth())
        check_size("depth of", Path(entry.name), values.shape, size)
        Image.fromarray(values).save(place(layout.DEPTH, ".png"))


def _put(path: Path, target: Path, *, link: bool) -> None:
    if link:
        target.symlink_to(Path(os.path.realpath(path)))
    else:
        target.write_bytes(read_bytes(path, "file"))


def _cluster_lines(entries: Iterable[Entry]) -> list[str]:
    """Return the lines of clusters.txt, for splits all of whose images have a cluster."""
    entries = list(entries)
    partial = {entry.split for entry in entries if entry.cluster is None}
    return [
        f"{entry.split}/{entry.name}\t{check_name(entry.cluster, 'a sequence')}\n"
        for entry in entries
        if entry.cluster is not None and entry.split not in partial
    ]
