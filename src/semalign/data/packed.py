"""Decoded arrays in files that are mapped into memory: decoded once, read by every process from the same pages.

A pack is a folder in the cache that holds one file of plain numbers per column and a table of shapes.  It is named
after what its content depends on, written aside and renamed, and checked by length and checksum when it is opened.  As
every cache it only saves time: what cannot be read is decoded again and what cannot be written is skipped.  It does not
depend on images, sources and torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from semalign.data.cache import cache_folder
from semalign.files import make_folder, read_json, remove_strays, write_json

__all__ = ["Row", "packed"]

# History of the format:
# 1: first.
FORMAT_VERSION = 1
KIND = "packed"
TABLE = "table.json"
LARGEST_SHARE = 0.5
"""Of the free space of the cache's disk that a pack may take."""

STRAY_SECONDS = 3600.0
"""Without a change, after which a half-written pack is that of a writer that was killed."""

Array = NDArray[Any]
Row = Sequence[Array]
"""The arrays of one item, one per column."""


def packed(
    facts: Mapping[str, Any], columns: Mapping[str, DTypeLike], count: int, rows: Callable[[], Iterator[Row]]
) -> list[list[Array]] | None:
    """Return the arrays of ``rows``, column by column, mapped from a pack that is written where there is none.

    The arrays are mapped copy-on-write: writing to one changes neither the file nor another process.

    Args:
        facts: everything that the content depends on (JSON values), which becomes the pack's name.
        columns: name and dtype of each column.
        count: number of rows.
        rows: decodes all rows, called at most once; its exceptions are passed on.

    Returns:
        By column the ``count`` arrays, or None where no pack can be kept: decode then as if there were no cache.
    """
    folder = cache_folder(KIND)
    if folder is None:
        return None
    text = json.dumps(
        [FORMAT_VERSION, {name: np.dtype(kind).str for name, kind in columns.items()}, facts], sort_keys=True
    )
    place = folder / hashlib.sha256(text.encode()).hexdigest()
    found = _read(place, columns, count)
    if found is None:
        _write(place, columns, count, rows)
        found = _read(place, columns, count)
    return found


def _read(place: Path, columns: Mapping[str, DTypeLike], count: int) -> list[list[Array]] | None:
    """Return the columns of the pack at ``place``, None where it is not there or damaged."""
    try:
        table = read_json(place / TABLE)
        found = []
        for name, kind in columns.items():
            about = table["columns"][name]
            flat = np.memmap(place / f"{name}.bin", np.dtype(kind), mode="c")
            shapes = [tuple(int(side) for side in shape) for shape in about["shapes"]]
            sizes = [math.prod(shape) for shape in shapes]
            fits = len(sizes) == count and sum(sizes) == len(flat)
            if not fits or zlib.crc32(flat.view(np.uint8).data) != about["crc32"]:
                return None
            ends = np.cumsum(sizes).tolist()
            found.append(
                [flat[end - size : end].reshape(shape) for end, size, shape in zip(ends, sizes, shapes, strict=True)]
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError):
        return None
    return found


def _write(place: Path, columns: Mapping[str, DTypeLike], count: int, rows: Callable[[], Iterator[Row]]) -> None:
    """Write a pack aside and rename it to ``place``; where the disk refuses there is none."""
    aside = place.with_name(f".{place.name[:16]}.{secrets.token_hex(4)}.part")
    try:
        make_folder(place.parent)
        remove_strays(place.parent, older_than=STRAY_SECONDS)
        aside.mkdir()
        if not _fill(aside, columns, count, rows):
            return
        if place.exists():
            if _read(place, columns, count) is not None:
                # Another process was faster with the same bytes.
                return
            shutil.rmtree(place)
        aside.rename(place)
    except OSError:
        # What decoding raises is the caller's to see; an error of the system in there comes again when it decodes.
        pass
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path, columns: Mapping[str, DTypeLike], count: int, rows: Callable[[], Iterator[Row]]) -> bool:
    """Write all rows into ``folder``; False where they would take too much of the disk."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.bin").open("xb")) for name in columns]
        writers = [_Writer(file, np.dtype(kind)) for file, kind in zip(files, columns.values(), strict=True)]
        for index, row in enumerate(rows()):
            if index == 0:
                free = shutil.disk_usage(folder).free
                if count * sum(array.nbytes for array in row) > LARGEST_SHARE * free:
                    return False
            for writer, array in zip(writers, row, strict=True):
                writer.add(array)
    # No flush to the disk: after a power cut the checksum tells what is missing.
    table = {
        name: {"shapes": writer.shapes, "crc32": writer.crc} for name, writer in zip(columns, writers, strict=True)
    }
    write_json(folder / TABLE, {"format": FORMAT_VERSION, "columns": table}, indent=None)
    return True


class _Writer:
    """One file of plain numbers, an array after the other."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self.file, self.dtype = file, dtype
        self.shapes: list[tuple[int, ...]] = []
        self.crc = 0

    def add(self, array: Array) -> None:
        assert array.dtype == self.dtype, (array.dtype, self.dtype)
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        self.file.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.shapes.append(array.shape)
