"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from semalign.errors import OutputError
from semalign.files import make_folder, read_json, write_aside, write_bytes, write_json, write_text
from semalign.tensors_file import write_tensors


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run under the umask of a common user, of a private one and of a group's."""
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_written_files_by_hand(tmp_path: Path) -> None:
    """Bytes, UTF-8 text and JSON stand there as given, and nothing stands beside them."""
    write_bytes(tmp_path / "a.bin", b"\0\1")
    write_text(tmp_path / "b.txt", "Straße\n")
    write_json(tmp_path / "c.json", {"名": [1, None]}, indent=None)

    assert (tmp_path / "a.bin").read_bytes() == b"\0\1"
    assert (tmp_path / "b.txt").read_bytes() == "Straße\n".encode()
    assert (tmp_path / "c.json").read_text(encoding="utf-8") == '{"名": [1, null]}\n'
    assert read_json(tmp_path / "c.json") == {"名": [1, None]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.txt", "c.json"]


def test_the_ending_stays_last(tmp_path: Path) -> None:
    """The temporary path ends as the file does, because writers choose their format by it, and is hidden beside it."""
    with write_aside(tmp_path / "run.tar.gz") as temporary:
        assert temporary.suffix == ".gz"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("ours")])
def test_a_failing_writer_changes_nothing(tmp_path: Path, error: Exception) -> None:
    """A writer that fails half-way leaves the old file as it was and no stray beside it."""
    path = tmp_path / "result.json"
    path.write_text("old")

    def write() -> None:
        with write_aside(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    expected = OutputError if isinstance(error, OSError) else RuntimeError
    with pytest.raises(expected):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    """The message names the file, the system's reason and what to do."""

    def write() -> None:
        with write_aside(tmp_path / "result.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*result\.json: No space left on device, free space .* lost$"):
        write()


def test_a_stopped_writer_leaves_no_stray(tmp_path: Path) -> None:
    """An interrupt passes through as it is, and nothing is left behind."""

    def write() -> None:
        with write_aside(tmp_path / "a.txt"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Writing into a missing folder is our error, not Python's."""
    with pytest.raises(OutputError, match=r"cannot write .*gone.*: No such file or directory"):
        write_text(tmp_path / "gone" / "a.txt", "")


def test_nan_is_refused(tmp_path: Path) -> None:
    """JSON knows no NaN; it is refused before a byte of the old file is touched."""
    path = tmp_path / "a.json"
    write_json(path, 1)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(path, {"x": value})

    assert json.loads(path.read_text()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """New files can be read by whom the user's umask lets read, also where the writer makes a private file."""
    write_text(tmp_path / "a.txt", "")
    with write_aside(tmp_path / "b.txt") as temporary:
        temporary.unlink()
        temporary.touch(0o600)

    assert mode(tmp_path / "a.txt") == 0o666 & ~umask
    assert mode(tmp_path / "b.txt") == 0o666 & ~umask


def test_permissions_of_checkpoints(tmp_path: Path, umask: int) -> None:
    """Safetensors creates files that only their owner may read; a checkpoint follows the umask like any other file."""
    path = tmp_path / "weights.safetensors"
    for _ in range(2):
        write_tensors(path, {"w": torch.zeros(2, 3)}, {})

        assert mode(path) == 0o666 & ~umask
        assert list(tmp_path.iterdir()) == [path]


def test_make_folder(tmp_path: Path) -> None:
    """Parents are made too, an existing folder is fine, and a file in the way is named."""
    path = tmp_path / "a" / "b"

    assert make_folder(path) == path
    assert make_folder(path).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot make the output folder .*file.*: .* --out$"):
        make_folder(tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot make the output folder .*below.*: Not a directory"):
        make_folder(tmp_path / "file" / "below")
