from __future__ import annotations

import errno
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from semalign.errors import CheckpointError, OutputError
from semalign.tensors_file import load_into, read_tensors, write_tensors


def tensors() -> dict[str, Tensor]:
    """Return two tensors of different shapes and types."""
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7, dtype=torch.int64)}


def test_round_trip(tmp_path: Path) -> None:
    """Tensors come back with type and bits, facts as they were; shared and strided tensors are written too.

    The same content gives the same bytes.
    """
    path = tmp_path / "x.safetensors"
    shared = torch.arange(6.0).reshape(2, 3)
    given = {**tensors(), "view": shared.T, "again": shared}

    write_tensors(path, given, {"name": "ä", "n": [1, None]})
    found, facts = read_tensors(path)

    for number in range(5):
        write_tensors(tmp_path / f"{number}.safetensors", given, {"name": "ä", "n": [1, None]})
        assert (tmp_path / f"{number}.safetensors").read_bytes() == path.read_bytes()
    assert facts == {"name": "ä", "n": [1, None]}
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_facts_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """NaN is never written as if it were a number, and nothing is left behind."""
    with pytest.raises(ValueError, match="JSON compliant"):
        write_tensors(tmp_path / "x.safetensors", tensors(), {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file stays as it was, and no part of the new one is left."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors(), {"version": "old"})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("semalign.tensors_file.save_file", full)
    with pytest.raises(OutputError, match=r"cannot write .*x\.safetensors: No space left on device, free space"):
        write_tensors(path, tensors(), {"version": "new"})

    assert read_tensors(path)[1] == {"version": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


def test_missing(tmp_path: Path) -> None:
    """The path is named, whatever its ending."""
    for name in ("none.safetensors", "none"):
        with pytest.raises(CheckpointError, match=re.escape(f"no checkpoint at {tmp_path / name}, expected")):
            read_tensors(tmp_path / name)


class Bomb:
    """Reading this as a pickle would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin", "weights.safetensors"])
def test_a_pickle_is_never_run(tmp_path: Path, name: str) -> None:
    """By its own ending or renamed, a pickle is refused and its code is not run."""
    path, trace = tmp_path / name, tmp_path / "trace"
    path.write_bytes(pickle.dumps({"weights": Bomb(trace), "filler": list(range(1000))}))

    expected = "cannot read the checkpoint" if name.endswith(".safetensors") else "other formats can run code"
    with pytest.raises(CheckpointError, match=expected):
        read_tensors(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no format version, expected 1: read it with the version of semalign"),
        ({"other": "1"}, "no format version, expected 1"),
        ({"semalign": '{"format": 99, "facts": {}}'}, "format version 99, expected 1"),
        ({"semalign": '{"format": 1}'}, r"cannot read the checkpoint .*no facts of a run"),
        ({"semalign": '{"format": 1, "facts": []}'}, r"cannot read the checkpoint .*no facts of a run"),
        ({"semalign": "{"}, "cannot read the checkpoint"),
        ({"semalign": "[]"}, "cannot read the checkpoint"),
    ],
)
def test_another_format(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    """A foreign file, another version and damaged facts are told apart in one line."""
    path = tmp_path / "x.safetensors"
    save_file(tensors(), path, metadata)

    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_truncated(tmp_path: Path, length: int) -> None:
    """A file cut anywhere is refused."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors(), {})
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(CheckpointError, match="expected a whole safetensors file"):
        read_tensors(path)


def test_load_into_says_what_differs() -> None:
    """A missing tensor, one too many and another shape are named."""
    module = nn.Linear(3, 2)
    good = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}

    load_into(module, good, "the file")

    assert torch.equal(module.weight.detach(), torch.ones(2, 3))
    with pytest.raises(CheckpointError, match=r"the file lacks the tensor bias, expected one of shape \(2,\)"):
        load_into(module, {"weight": good["weight"]}, "the file")
    with pytest.raises(CheckpointError, match="the file has the tensor extra that the model lacks"):
        load_into(module, {**good, "extra": torch.ones(1)}, "the file")
    with pytest.raises(CheckpointError, match=r"has weight of shape \(3, 2\), expected \(2, 3\)"):
        load_into(module, {**good, "weight": torch.ones(3, 2)}, "the file")
