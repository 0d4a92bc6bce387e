"""Bytes and text of files, or one sentence that says why they cannot be read.

This module does not depend on what the files hold.
"""

from __future__ import annotations

from pathlib import Path

from semalign.errors import DataError

__all__ = ["read_bytes", "read_text"]


def read_bytes(path: Path, what: str, most: int = -1) -> bytes:
    """Return a file's bytes, or the first ``most`` of them.

    Raises:
        DataError: the file cannot be read; ``what`` names its content in the message.
    """
    try:
        with path.open("rb") as handle:
            return handle.read(most)
    except OSError as error:
        raise DataError(
            f"{what} {path} cannot be read: {error.strerror}, check that the file is there and readable"
        ) from error


def read_text(path: Path, what: str) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{what} {path} is not UTF-8 text ({error.reason} at byte {error.start}), save it as UTF-8"
        ) from error
