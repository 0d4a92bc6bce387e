"""Where caches live and how plain JSON is kept there.

A cache only saves time: what cannot be read is rebuilt and what cannot be written is skipped, so that it never costs a
run.  Files are written aside and renamed; nothing is ever pickled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from semalign.files import make_folder, read_json, write_json

__all__ = ["cache_folder", "read_cached", "write_cached"]

# History of the format of cached JSON files:
# 1: first.
FORMAT_VERSION = 1


def cache_folder(kind: str) -> Path | None:
    """Return the folder of the caches of one kind; it need not exist.  None where the user has no home folder.

    ``$SEMALIGN_CACHE/KIND``, else ``$XDG_CACHE_HOME/semalign/KIND``, else ``~/.cache/semalign/KIND``.
    """
    own = os.environ.get("SEMALIGN_CACHE")
    if own:
        return Path(own) / kind
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells programs to ignore a relative path here.
    if shared and Path(shared).is_absolute():
        return Path(shared) / "semalign" / kind
    try:
        return Path.home() / ".cache" / "semalign" / kind
    except RuntimeError:
        return None


def read_cached(kind: str, key: str) -> Any | None:
    """Return the JSON value kept under ``kind`` and ``key``, or None when there is none that can be read."""
    folder = cache_folder(kind)
    if folder is None:
        return None
    try:
        kept = read_json(folder / f"{key}.json")
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict) or kept.get("format") != FORMAT_VERSION:
        return None
    return kept.get("value")


def write_cached(kind: str, key: str, value: Any) -> bool:
    """Keep a JSON ``value`` under ``kind`` and ``key``; return whether that was possible."""
    folder = cache_folder(kind)
    if folder is None:
        return False
    try:
        write_json(make_folder(folder) / f"{key}.json", {"format": FORMAT_VERSION, "value": value}, indent=None)
    except (OSError, ValueError):
        # ValueError: a file name that is not Unicode cannot be written as UTF-8.
        return False
    return True
