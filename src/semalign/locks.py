"""Locks on folders by `filelock`; a lock ends with its process, whatever ends that.

Some network file systems have no locks.  There a folder is used without one, with a warning: a lock that is only a file
would outlive a process that is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from semalign.errors import OutputError
from semalign.files import make_folder
from semalign.layout import LOCK

__all__ = ["folder_lock", "run_lock"]

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_PATIENCE_SECONDS = 0.1
"""For a holder that is just removing its lock."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; it is made where it is missing, and removed again if it stays empty.

    Raises:
        OutputError: another process holds it, or it cannot be made or written.
    """
    is_new = not folder.exists()
    make_folder(folder)
    file = folder / LOCK
    lock = FileLock(file, timeout=_PATIENCE_SECONDS, poll_interval=0.02, fallback_to_soft=False)
    try:
        _acquire(lock, file)
        with contextlib.suppress(OSError):
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        if lock.is_locked:
            # While it is held: a process that opened the file before finds that it is gone, and makes another.
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _acquire(lock: FileLock, file: Path) -> None:
    try:
        lock.acquire()
    except Timeout as error:
        holder = "another process"
        with contextlib.suppress(OSError):
            holder = file.read_text(errors="replace")[:200] or holder
        raise OutputError(
            f"the output folder {file.parent} is in use by {holder}, expected one command at a time: wait for it "
            "or end it, then start the same command again, or name another folder with --out"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(
                f"cannot write {file}: {error.strerror}, make the folder writable or name another with --out"
            ) from error
        warnings.warn(
            f"the folder {file.parent} cannot be locked ({error.strerror}): make sure that only one command writes "
            "there",
            stacklevel=4,
        )


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Wait until no other process is in ``folder``, an existing one, then hold it.

    The folder itself is locked, so that no file is left in it.  A worker whose study was killed may need a moment to
    end; what it still writes must not meet what its successor does.  Where folders cannot be locked, nothing is waited
    for.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            lock_descriptor(handle)
        yield
