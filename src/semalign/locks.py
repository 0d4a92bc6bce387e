"""Locks on folders, which end with their process whatever ends it."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semalign.errors import OutputError
from semalign.files import make_folder
from semalign.layout import LOCK

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:
    # Windows.
    fcntl = None

__all__ = ["folder_lock", "run_lock"]


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, for this process; taken back when nothing was put into it.

    Raises:
        OutputError: another process holds it, or it cannot be made or written.
    """
    is_new = not folder.exists()
    make_folder(folder)
    file = folder / LOCK
    handle = _locked(file)
    try:
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        # Still locked: one that opened it before and locks it now finds that it is no longer there.
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(handle)
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _locked(file: Path) -> int:
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(
                f"cannot write {file}: {error.strerror}, make the folder writable or name another with --out"
            ) from error
        try:
            if _try_lock(handle, file) and not _is_there(handle, file):
                os.close(handle)
                continue
        except BlockingIOError as error:
            holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
            os.close(handle)
            raise OutputError(
                f"the output folder {file.parent} is in use by {holder}, expected one command at a time: wait for it "
                "or end it, then start the same command again, or name another folder with --out"
            ) from error
        return handle


def _try_lock(handle: int, file: Path) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        warnings.warn(
            f"the folder {file.parent} cannot be locked ({error.strerror}): see to it that only one command writes "
            "there",
            stacklevel=4,
        )
        return False
    return True


def _is_there(handle: int, file: Path) -> bool:
    """Return whether the opened file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Wait until no other process is in ``folder``, an existing one, then hold it.

    A worker whose study was killed may need a moment to end; what it still writes must not meet what its successor
    does.  Where folders cannot be locked (some network file systems) there is no waiting.
    """
    handle: Any = None
    if fcntl is not None:
        handle = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
