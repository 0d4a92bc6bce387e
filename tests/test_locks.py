"""Locks on folders."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from semalign.errors import OutputError
from semalign.layout import LOCK
from semalign.locks import folder_lock, run_lock

HOLDER = """
import sys, time
from pathlib import Path
from semalign.locks import {lock}
with {lock}(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(lock: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds ``folder``, and return once it does."""
    words = [sys.executable, "-c", HOLDER.format(lock=lock), str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("lock", ["folder_lock", "run_lock"])
def test_a_lock_ends_with_its_process(tmp_path: Path, lock: str) -> None:
    """A process that is killed holds nothing, though it could not take anything back."""
    with hold(lock, tmp_path) as process:
        if lock == "folder_lock":
            with pytest.raises(OutputError, match=rf"is in use by process {process.pid} on"), folder_lock(tmp_path):
                pass
        process.send_signal(signal.SIGKILL)

    with folder_lock(tmp_path), run_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is warned of, and nothing is left that would outlive the process."""

    def missing(*_: object) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(filelock._unix, "lock_fd_nonblocking", missing)
    monkeypatch.setattr(filelock._descriptor, "_lock_fd_nonblocking", missing)

    with pytest.warns(UserWarning, match="cannot be locked .*only one command writes there"), folder_lock(tmp_path):
        (tmp_path / "result").touch()
    with run_lock(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that could not be made is named."""

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        with pytest.raises(OutputError, match=r"cannot write .*\.lock: Permission denied"), folder_lock(tmp_path):
            pass
