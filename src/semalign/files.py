"""Files that appear whole or not at all: write aside, flush to disk, rename.

This module does not depend on what is written.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semalign.errors import OutputError

__all__ = [
    "make_folder",
    "read_json",
    "remove_strays",
    "write_aside",
    "write_bytes",
    "write_folder_aside",
    "write_json",
    "write_text",
]

_STRAY = re.compile(r"\..+\.[0-9a-f]{8}\.part(\..*)?")


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents; raise `OutputError` where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the output folder {path}: {error.strerror}, name a folder that can be written with --out"
        ) from error
    return path


@contextlib.contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and renamed to ``path``, else removed.

    The file gets the permissions that the user's umask gives to new files; those that the writer sets are replaced.

    Raises:
        OutputError: the disk is full or the folder cannot be written; an earlier file at ``path`` is kept.
    """
    # The ending stays last: image and archive writers choose their format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        with temporary.open("xb") as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
        yield temporary
        # Some writers (safetensors) put a file of their own here that only its owner may read.
        temporary.chmod(mode)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}, "
            "free space or make the folder writable and start the same command again; nothing finished is lost"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder_aside(path: Path, what: str, *, option: str, apart_from: Path | None = None) -> Iterator[Path]:
    """Yield a new folder beside ``path``; on success it is renamed to ``path``, else removed.

    Args:
        path: the folder to make; it must not exist, or be empty.
        what: names the content in messages.
        option: the option that named ``path``.
        apart_from: data that are only read; ``path`` must lie outside; None: there are none.

    Raises:
        OutputError: ``path`` is taken, lies inside ``apart_from`` or cannot be written.
    """
    if apart_from is not None and path.resolve().is_relative_to(apart_from.resolve()):
        raise OutputError(
            f"{option} {path} lies inside the data {apart_from}, which are never changed: name a folder elsewhere"
        )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{option} {path} is not a folder, expected the name of a new one")
    if path.is_dir() and any(path.iterdir()):
        raise OutputError(f"{option} {path} is not empty, expected a new or empty folder: name another or empty it")
    place = path.resolve()  # "." has no name
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            path.rmdir()
        part.rename(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write the {what} {path}: {error.strerror or error}, free space or name another folder"
        ) from error
    finally:
        if part.exists():
            shutil.rmtree(part, ignore_errors=True)


def remove_strays(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove what writers that were killed have left aside in ``folder``; what cannot be removed stays.

    Args:
        folder: whose own files and folders are looked at, not those below.
        older_than: seconds without a change; 0 only where no other process can be writing there.
    """
    now = time.time()
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if _STRAY.fullmatch(path.name)]:
            with contextlib.suppress(OSError):
                inside = [*path.iterdir()] if path.is_dir() else []
                if now - max(one.stat().st_mtime for one in [path, *inside]) >= older_than:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with write_aside(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path``, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write ``value`` as JSON, whole or not at all; NaN and infinity are refused by a ValueError."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from ``path``; raises OSError or ValueError as Python does, also for NaN and what is beyond a float."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is beyond every float")
    return value
