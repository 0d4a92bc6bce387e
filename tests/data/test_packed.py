"""Packs of decoded arrays: mapped, checked, and never needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semalign.data.packed import Row, packed

COLUMNS = {"images": np.uint8, "depths": np.float32}
ROWS: list[Row] = [
    [np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([[0.5]], dtype=np.float32)],
    [np.arange(5, dtype=np.uint8).reshape(5, 1), np.array([[1.5, 2.5]], dtype=np.float32)],
]


class Decoder:
    """Gives `ROWS` and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Iterator[Row]:
        """Return the rows."""
        self.calls += 1
        yield from ROWS


def pack(decoder: Decoder, **facts: Any) -> list[list[Any]] | None:
    """Return the two columns of the two rows."""
    return packed(facts, COLUMNS, 2, decoder)


def assert_rows(found: list[list[Any]] | None) -> None:
    """Compare the columns with `ROWS`, shapes and types included."""
    assert found is not None
    for place, row in enumerate(ROWS):
        for column, expected in zip(found, row, strict=True):
            assert column[place].dtype == expected.dtype
            np.testing.assert_array_equal(column[place], expected)


def place_of(cache: Path) -> Path:
    """Return the one pack's folder."""
    (place,) = (cache / "packed").iterdir()
    return place


def test_decoded_once() -> None:
    """The second time the arrays come from the pack, with the shapes and types they were given."""
    decoder = Decoder()

    assert_rows(pack(decoder))
    assert_rows(pack(decoder))
    assert decoder.calls == 1


def test_files_by_hand(cache: Path) -> None:
    """A column is a file of plain numbers; the table gives each array's shape."""
    pack(Decoder())

    place = place_of(cache)
    assert sorted(path.name for path in place.iterdir()) == ["depths.bin", "images.bin", "table.json"]
    assert list((place / "images.bin").read_bytes()) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert np.fromfile(place / "depths.bin", np.float32).tolist() == [0.5, 1.5, 2.5]
    table = json.loads((place / "table.json").read_text())
    assert table["columns"]["images"]["shapes"] == [[2, 3], [5, 1]]


def test_other_facts_other_pack() -> None:
    """Whatever the content depends on belongs to the name."""
    decoder = Decoder()

    pack(decoder, size=[3, 5])
    pack(decoder, size=[5, 3])
    pack(decoder, size=[3, 5])

    assert decoder.calls == 2


def test_writing_into_an_array_changes_no_file() -> None:
    """Arrays are mapped copy-on-write: a caller's change is its own."""
    found = pack(Decoder())
    assert found is not None
    found[0][0][:] = 99

    assert_rows(pack(Decoder()))


@pytest.mark.parametrize("name", ["images.bin", "depths.bin", "table.json"])
@pytest.mark.parametrize("damage", ["short", "changed", "empty", "gone", "folder"])
def test_a_damaged_pack_is_decoded_again(cache: Path, name: str, damage: str) -> None:
    """Cut, changed in one bit, or lost: the rows are decoded again and the pack is whole afterwards."""
    decoder = Decoder()
    pack(decoder)
    file = place_of(cache) / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        # A number of the table's first shape, or of the last array.
        spot = whole.index(b"[[") + 2 if name == "table.json" else len(whole) - 1
        changed = whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :]
        file.write_bytes({"short": whole[: len(whole) - 3], "changed": changed, "empty": b""}[damage])

    assert_rows(pack(decoder))

    assert decoder.calls == 2
    assert_rows(pack(decoder))
    assert decoder.calls == 2
    assert file.read_bytes() == whole


@pytest.mark.parametrize("table", [[], {}, {"columns": None}, {"columns": {"images": {"shapes": [["a"]], "crc32": 0}}}])
def test_a_table_of_another_kind(cache: Path, table: Any) -> None:
    """JSON that is no table is damage, not an error."""
    pack(Decoder())
    (place_of(cache) / "table.json").write_text(json.dumps(table))

    assert_rows(pack(Decoder()))


def test_no_cache_no_pack(cache: Path) -> None:
    """Where the folder cannot be made, nothing is decoded here and the caller is told."""
    cache.write_text("a file where the folder should be")
    decoder = Decoder()

    assert pack(decoder) is None
    assert decoder.calls == 0


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """A pack takes no more than half of the free space, and a write that fails leaves nothing."""
    usage = shutil.disk_usage(cache.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 2 * (6 + 4) - 1))
        assert pack(Decoder()) is None
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 2 * (6 + 4)))
        assert_rows(pack(Decoder()))
    shutil.rmtree(cache)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semalign.data.packed._Writer.add", full)
    assert pack(Decoder()) is None
    assert list((cache / "packed").iterdir()) == []


def test_what_decoding_raises_is_passed_on(cache: Path) -> None:
    """A broken image is the caller's to tell; nothing half stays in the cache."""

    def broken() -> Iterator[Row]:
        yield ROWS[0]
        raise ValueError("the second image is broken")

    with pytest.raises(ValueError, match="the second image is broken"):
        packed({}, COLUMNS, 2, broken)

    assert list((cache / "packed").iterdir()) == []


def test_another_process_was_faster(cache: Path) -> None:
    """A whole pack that appears meanwhile stays, and is what is mapped."""
    decoder = Decoder()

    def slow() -> Iterator[Row]:
        yield from ROWS
        pack(decoder)
        place_of_whole = [path for path in (cache / "packed").iterdir() if not path.name.startswith(".")]
        assert len(place_of_whole) == 1
        before.append(place_of_whole[0].stat().st_ino)

    before: list[int] = []
    assert_rows(packed({}, COLUMNS, 2, slow))

    assert place_of(cache).stat().st_ino == before[0]


def test_too_few_rows() -> None:
    """A pack of another number of rows is not taken for one of this."""
    packed({}, COLUMNS, 1, lambda: iter(ROWS[:1]))

    assert_rows(pack(Decoder()))
