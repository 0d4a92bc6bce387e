"""Writes a corrected copy of a data folder; the original is only read.

What is changed is what `semalign.data.findings` calls beyond doubt (its `Mending`), every change is written down, and
the copy appears whole or not at all.  This module finds no faults itself and knows nothing of torch.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semalign.data.findings import DataReport, Mending, listed_files
from semalign.data.folder import Folder
from semalign.data.masks import read_indices, read_rgb
from semalign.errors import DataError
from semalign.files import write_bytes, write_folder_aside, write_json
from semalign.metrics import IGNORE

__all__ = ["FIXES_FILE", "FIXES_FORMAT", "Change", "write_corrected"]

FIXES_FILE = "fixes.json"
"""Where the copy says what was changed."""

# History of the format: 1: first.
FIXES_FORMAT = 1

VOID_16 = 65535


@dataclasses.dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        code: the finding it mends.
        file: below the data folder.
        what: what was done.
    """

    code: str
    file: str
    what: str


def write_corrected(
    folder: Folder, report: DataReport, out: Path, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Change, ...]:
    """Write a copy of ``folder`` to ``out`` with what can be mended beyond doubt, and return the changes.

    Files without a partner, files that cannot be decoded and training images that stand in another split too are left
    out with their partners and their lines of texts.jsonl and clusters.txt, unless half of a split or more would be
    gone.  Everything else is copied byte for byte, with what still needs a hand.  Files beside classes.txt are copied,
    other folders are not.

    Args:
        folder: the data.
        report: of `check_data` on ``folder``.
        out: the folder to make; it must not exist, or be empty, and lie outside ``folder``.
        progress: called with (images done, images).

    Raises:
        OutputError: ``out`` is taken, lies inside the data, or cannot be written.
    """
    with write_folder_aside(out, "corrected copy", option="--fix", apart_from=folder.root) as part:
        changes = tuple(_copy(folder, report.mending, part, progress))
        write_json(
            part / FIXES_FILE,
            {
                "format": FIXES_FORMAT,
                "changes": [dataclasses.asdict(change) for change in changes],
                "not_changed": sorted({f.code for f in report.findings} - {change.code for change in changes}),
            },
        )
    return changes


def _copy(
    folder: Folder, mending: Mending, part: Path, progress: Callable[[int, int], None] | None
) -> Iterator[Change]:
    root = folder.root
    total = sum(len(listed_files(root, "images", split)) for split in folder.splits)
    done = 0
    # Even where they stay empty: without them the copy could not be opened, or would pass for one without depth.
    for kind in ("masks", "depth"):
        if (root / kind).is_dir():
            (part / kind).mkdir()
    for split in folder.splits:
        stems = set()
        for path in listed_files(root, "images", split):
            why = mending.drop.get((split, path.stem))
            if why is None:
                stems.add(path.stem)
                _copy_file(path, part / "images" / split)
            else:
                yield Change(why, path.relative_to(root).as_posix(), _left_out(why))
            done += 1
            if progress is not None:
                progress(done, total)
        for kind in ("masks", "depth"):
            for path in listed_files(root, kind, split):
                if path.stem not in stems:
                    why = mending.drop.get((split, path.stem), "pairing")
                    yield Change(why, path.relative_to(root).as_posix(), _left_out(why))
                elif kind == "depth":
                    _copy_file(path, part / kind / split)
                else:
                    yield from _copy_mask(folder, mending, split, path, part / kind / split)
    for kind in ("masks", "depth"):
        for path in sorted((root / kind).iterdir()) if (root / kind).is_dir() else ():
            if path.is_dir() and path.name[0] != "." and path.name not in folder.splits:
                yield Change("pairing", f"{kind}/{path.name}", f"left out, there is no images/{path.name}")
    for path in sorted(root.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != FIXES_FILE:
            if path.name in ("texts.jsonl", "clusters.txt"):
                yield from _copy_lines(folder, mending, path, part)
            else:
                _copy_file(path, part)


def _left_out(why: str) -> str:
    return {
        "pairing": "left out, it has no partner",
        "duplicate-across": "left out, the image is in another split too",
    }.get(why, "left out with its partners, one of them cannot be decoded")


def _copy_file(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Contents alone: links become files, and the copy can be written to.
    shutil.copyfile(path, folder / path.name)


def _copy_mask(folder: Folder, mending: Mending, split: str, path: Path, target: Path) -> Iterator[Change]:
    key = (split, path.stem)
    file = path.relative_to(folder.root).as_posix()
    changes: list[Change] = []
    if key in mending.coloured:
        assert mending.colors is not None
        mask = mending.colors.indices(read_rgb(path)).astype(np.int64)
        code = "palettes-differ" if _has_palette(path) else "mask-colour"
        changes.append(Change(code, file, f"colours read as classes by {mending.colors.known_from}"))
    elif key in mending.one_channel | mending.plain | mending.void | mending.binary or (
        split in mending.shift and key not in mending.undecided
    ):
        try:
            mask = read_indices(path)
        except DataError:
            # Not every mask of a split that is to be shifted holds indices.
            _copy_file(path, target)
            return
        if key in mending.one_channel:
            changes.append(Change("mask-colour", file, "one of three equal channels kept"))
        if key in mending.plain:
            changes.append(Change("palette", file, "indices kept, palette removed"))
        if key in mending.void:
            mask[mask == VOID_16] = IGNORE
            changes.append(Change("mask-void", file, f"{VOID_16} became {IGNORE}"))
        if key in mending.binary:
            mask[mask == IGNORE] = 1
            changes.append(Change("mask-binary", file, f"{IGNORE} became 1"))
        if split in mending.shift:
            mask[mask != IGNORE] -= 1
            changes.append(Change("mask-off-by-one", file, f"1 subtracted from every value but {IGNORE}"))
    else:
        _copy_file(path, target)
        return
    if mask.min() < 0 or mask.max() > IGNORE:
        # A value that no rule knows, such as 300: it stays for a person to decide.
        _copy_file(path, target)
        return
    target.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(target / path.name)
    yield from changes


def _has_palette(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(26)[25] == 3  # the header's colour type


def _copy_lines(folder: Folder, mending: Mending, path: Path, part: Path) -> Iterator[Change]:
    """Copy texts.jsonl or clusters.txt without the lines of images that are left out."""
    if not mending.drop:
        _copy_file(path, part)
        return
    kept = []
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        reference = _reference(raw, path.suffix == ".jsonl")
        names = [] if reference is None else [reference, *(f"{split}/{reference}" for split in folder.splits)]
        keys = [key for name in names if (key := folder.find_image(name))]
        why = mending.drop[keys[0]] if keys and all(key in mending.drop for key in keys) else None
        if why is None:
            kept.append(raw)
        else:
            yield Change(why, f"{path.name}:{number}", "line left out with its image")
    write_bytes(part / path.name, b"\n".join(kept))


def _reference(raw: bytes, is_json: bool) -> str | None:
    """Return the image that a line names, or None where the line cannot be read."""
    try:
        line = raw.decode("utf-8-sig").strip()
        if not is_json:
            return line.split("\t")[0].strip() if "\t" in line else line.rsplit(maxsplit=1)[0] if line else None
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    image = entry.get("image") if isinstance(entry, dict) else None
    return image if isinstance(image, str) else None
