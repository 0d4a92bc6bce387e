"""Files made to run code, to fill the memory or to reach outside: each is refused in our words, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import semalign
from semalign.config import read_options, read_yaml
from semalign.data import packed as packs
from semalign.data.depth import decode_depth
from semalign.data.folder import Folder
from semalign.data.images import decode_image
from semalign.data.masks import decode_mask
from semalign.errors import CheckpointError, ConfigError, DataError, ResultsError, SemalignError, TextError
from semalign.judge.table import read_results_csv
from semalign.report.images import picture_of
from semalign.results import read_result
from semalign.study.design import planned_runs, read_study
from semalign.study.score_file import read_score
from semalign.tensors_file import read_tensors
from semalign.text.bank_file import load_bank
from semalign.text.encoders import make_encoder
from tests.small import make_data


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a call of `os.mkdir`."""
        return os.mkdir, (str(self.mark),)


def pickles(mark: Path) -> dict[str, bytes]:
    """Return files that run code in whoever unpickles them: a pickle, torch's zip of one, NumPy's."""
    plain = pickle.dumps({"state_dict": Trap(mark)}, protocol=2)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3\n")
    array = io.BytesIO()
    np.save(array, np.array([Trap(mark)], dtype=object), allow_pickle=True)
    # 0x80 and the protocol read as a header's length would be a small number with six zero bytes behind it.
    padded = b"\x80\x04" + bytes(6) + plain
    return {"pickle": plain, "zip": archive.getvalue(), "npy": array.getvalue(), "padded": padded}


def test_the_trap_works(tmp_path: Path) -> None:
    """What the tests below must not set off does something."""
    pickle.loads(pickles(tmp_path / "mark")["pickle"])  # noqa: S301 (made here)

    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("kind", ["pickle", "zip", "npy", "padded"])
def test_pickles_in_disguise(tmp_path: Path, kind: str) -> None:
    """Whatever a file is called and whoever reads it, nothing in it is run."""
    mark = tmp_path / "mark"
    data = pickles(mark)[kind]
    file = tmp_path / "weights.safetensors"
    file.write_bytes(data)
    readers: list[tuple[type[SemalignError], Callable[[], object]]] = [
        (CheckpointError, lambda: read_tensors(file)),
        (CheckpointError, lambda: semalign.load(tmp_path)),
        (TextError, lambda: load_bank(file)),
        (TextError, lambda: make_encoder(str(file))),
        (ResultsError, lambda: read_result(file)),
        (ResultsError, lambda: read_results_csv(file)),
        (ConfigError, lambda: read_score(file)),
        (ConfigError, lambda: read_yaml(file)),
        (DataError, lambda: decode_image(data, file)),
        (DataError, lambda: decode_mask(data, file, 3)),
    ]
    for error, read in readers:
        with pytest.raises(error):
            read()
    for ending in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        other = tmp_path / f"weights{ending}"
        other.write_bytes(data)
        with pytest.raises(CheckpointError, match="other formats can run code"):
            semalign.load(other)

    assert not mark.exists()


def test_a_pickle_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of objects in a pack is not read; the pack is made anew."""
    monkeypatch.setenv("SEMALIGN_CACHE", str(tmp_path / "cache"))
    rows = [[np.arange(5, dtype=np.int32)]]
    assert packs.packed({"a": 1}, {"x": np.int32}, 1, lambda: iter(rows)) is not None
    (file,) = (tmp_path / "cache").rglob("x.bin")
    file.write_bytes(pickles(tmp_path / "mark")["npy"])

    found = packs.packed({"a": 1}, {"x": np.int32}, 1, lambda: iter(rows))

    assert found is not None
    assert found[0][0].tolist() == [0, 1, 2, 3, 4]
    assert not (tmp_path / "mark").exists()


# ---- headers that lie ----


def with_header(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a safetensors file of this header, whose length is said to be ``length``."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def tensors(**entries: dict[str, Any]) -> bytes:
    """Return a header of these tensors, with our own facts."""
    about = {"semalign": json.dumps({"format": 1, "facts": {}})}
    return json.dumps({"__metadata__": about, **entries}).encode()


LIARS: dict[str, bytes] = {
    "no length": b"\x00\x00",
    "a length beyond the file": with_header(b"{}", length=10_000),
    "a length beyond every file": with_header(b"{}", length=2**63),
    "the greatest length": with_header(b"{}", length=2**64 - 1),
    "an empty header": with_header(b""),
    "no JSON": with_header(b"[[[["),
    "deep JSON": with_header(b"[" * 100_000 + b"]" * 100_000),
    "no text": with_header(b"\xff\xfe{}"),
    "data beyond the file": with_header(
        tensors(a={"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}), bytes(8)
    ),
    "backwards": with_header(tensors(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}), bytes(4)),
    "overlap": with_header(
        tensors(
            a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            b={"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        ),
        bytes(12),
    ),
    "a hole": with_header(tensors(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}), bytes(8)),
    "a shape that is larger": with_header(tensors(a={"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}), bytes(8)),
    "a shape beyond counting": with_header(
        tensors(a={"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}), bytes(8)
    ),
    "a negative shape": with_header(tensors(a={"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}), bytes(8)),
    "another type": with_header(tensors(a={"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}), bytes(8)),
    "no type": with_header(tensors(a={"dtype": "OBJECT", "shape": [2], "data_offsets": [0, 8]}), bytes(8)),
    "bytes left over": with_header(tensors(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}), bytes(80)),
    "facts that are none": with_header(b'{"__metadata__":{"semalign":"[1]"}}'),
    "deep facts": with_header(json.dumps({"__metadata__": {"semalign": "[" * 100_000}}).encode()),
}


@pytest.mark.parametrize("lie", LIARS)
def test_headers_that_lie(tmp_path: Path, lie: str) -> None:
    """A checkpoint and a text bank whose header does not fit are refused, and little memory is asked for."""
    file = tmp_path / "w.safetensors"
    file.write_bytes(LIARS[lie])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"w\.safetensors"):
            read_tensors(file)
        with pytest.raises(TextError, match=r"w\.safetensors"):
            load_bank(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 50 << 20


# ---- pictures that are larger than they look ----


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, data: bytes = b"", more: bytes = b"") -> bytes:
    """Return a PNG whose header says so, whatever stands behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 5)])
def test_huge_pictures(side: tuple[int, int]) -> None:
    """60,000 x 60,000 pixels in a hundred bytes are refused by the header, before a pixel is decoded."""
    path = Path("a.png")
    for decode, colour in (
        (lambda data: decode_image(data, path), 2),
        (lambda data: decode_mask(data, path, 3), 0),
        (lambda data: decode_depth(data, path), 0),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=r"a\.png"):
                decode(png(*side, colour=colour, data=zlib.compress(bytes(100))))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 10 << 20


def test_bombs_in_a_picture_s_text() -> None:
    """A comment of 64 MiB, packed into 64 KiB, is not unpacked."""
    packed = zlib.compress(bytes(64 << 20), 9)
    body = b"Comment\x00\x00" + packed
    bomb = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.png is corrupt"):
            decode_image(png(2, 2, data=zlib.compress(bytes(14)), more=bomb), Path("a.png"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 10 << 20


def test_a_picture_with_more_pixels_than_its_size() -> None:
    """What is packed beyond the image's size is not unpacked."""
    bomb = png(2, 2, data=zlib.compress(bytes(64 << 20), 9))
    tracemalloc.start()
    try:
        decode_image(bomb, Path("a.png"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 10 << 20


def test_a_report_does_without_a_bomb(tmp_path: Path) -> None:
    """A picture for the report that cannot be decoded, or stands outside the data, is left out."""
    for part in ("images", "masks"):
        (tmp_path / "set" / part / "val").mkdir(parents=True)
        (tmp_path / "set" / part / "val" / "a.png").write_bytes(png(60_000, 60_000))
        Image.new("L", (3, 2)).save(tmp_path / "set" / part / "val" / "b.png")
        (tmp_path / part / "val").mkdir(parents=True)
        Image.new("L", (3, 2)).save(tmp_path / part / "val" / "b.png")

    assert picture_of(tmp_path / "set", "val", "a") is None
    assert picture_of(tmp_path / "set", "val", "b") is not None
    for split, name in (("val", "../../../images/val/b"), ("../../images/val", "b"), ("val", ".."), ("..", "b")):
        assert picture_of(tmp_path / "set", split, name) is None


# ---- text that grows ----


BOMBS = {
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "merge keys": "a: &a {x: 1}\nb: {<<: *a}\n",
    "depth": "a: " + "[" * 50_000 + "]" * 50_000,
    "depth of mappings": "{a: " * 20_000,
    "a tag that calls": "a: !!python/object/apply:os.system [echo]\n",
    "a tag that makes": "a: !!python/name:os.system\n",
    "a number without end": "train: {epochs: " + "9" * 100_000 + "}\n",
    "sexagesimal": "train: {epochs: " + "1:" * 500_000 + "1}\n",
    "twice": "train: {epochs: 1, epochs: 2}\n",
    "not a number": "train: {lr: .nan}\n",
    "infinity": "train: {lr: .inf}\n",
    "a size": "a: '" + "x" * (1 << 20) + "'\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml(tmp_path: Path, bomb: str) -> None:
    """Files of options that would blow up or call something are refused."""
    file = tmp_path / "c.yaml"
    file.write_text(BOMBS[bomb])

    with pytest.raises(ConfigError):
        read_options(file)
    with pytest.raises(ConfigError):
        read_study(str(file), data="scenes")


def test_studies_of_too_many_runs(tmp_path: Path) -> None:
    """Ten factors of ten levels are ten thousand million arms; they are counted and not made."""
    file = tmp_path / "s.yaml"
    levels = ", ".join(f"l{level}: {{train.lr: 0.{level + 1}}}" for level in range(9))
    factors = ", ".join(f"f{factor}: {{{levels}}}" for factor in range(10))
    file.write_text(f"name: a\nquestion: b?\nfactors: {{{factors}}}\n")
    with pytest.raises(ConfigError, match="the factors make 3486784401 arms, expected at most 1000"):
        read_study(str(file), data="scenes")
    file.write_text(
        "name: a\nquestion: b?\nbaseline: a0\nseeds: 10000\narms: {" + ", ".join(f"a{i}: {{}}" for i in range(11))
    )
    with file.open("a") as stream:
        stream.write("}\n")
    with pytest.raises(
        ConfigError, match="11 arms in 10000 blocks are 110000 runs, expected at most 1000 arms and 100000"
    ):
        read_study(str(file), data="scenes")


RESULT = (
    '{"format": 2, "arm": "A", "seed": 0, "status": "finished", "score": %s, "curves": %s, "facts": {}, "timings": {}}'
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        RESULT % ("null", '{"train/loss": [[0, NaN]]}'),
        RESULT % ("null", '{"train/loss": [[0, Infinity]]}'),
        RESULT % ("null", '{"train/loss": [[0, 1e999]]}'),
        RESULT % ("null", '{"train/loss": [[1e999, 0]]}'),
        RESULT % ('{"given": {"miou": NaN, "iou": {}}, "split": "val"}', "{}"),
        RESULT % ('{"given": {"miou": 1e999, "iou": {}}, "split": "val"}', "{}"),
        RESULT
        % (
            '{"split": "v", "class_names": ["a"], "images": ["i"], "counts": [[[1e30, 0, 0]]], "confusion": [[1]]}',
            "{}",
        ),
        RESULT
        % (
            '{"split": "v", "class_names": ["a"], "images": ["i"], "counts": [[['
            + "9" * 30
            + ', 0, 0]]], "confusion": []}',
            "{}",
        ),
        (RESULT % ("null", "{}")).replace('"seed": 0', '"seed": ' + "9" * 5000),
    ],
)
def test_results(tmp_path: Path, text: str) -> None:
    """Depth, numbers that are none or without end: a result and a score.json say so."""
    file = tmp_path / "result.json"
    file.write_text(text)

    with pytest.raises(ResultsError, match=r"result\.json"):
        read_result(file)
    with pytest.raises(ConfigError, match=r"result\.json"):
        read_score(file)


# ---- names and links ----

NAMES = ("../../up", "<img src=x onerror=alert(1)>", "a\nb", "\x1b[31mred", "\\input{/etc/passwd}", "=1+1", "..", "con")


def test_names_of_arms_stay_inside(tmp_path: Path) -> None:
    """Whatever an arm is called, its folder lies in the study's."""
    file = tmp_path / "s.yaml"
    arms = {name: {"train.lr": 0.1 + index / 100} for index, name in enumerate(NAMES)}
    file.write_text(json.dumps({"name": "..", "question": "?", "baseline": NAMES[0], "arms": arms, "seeds": 2}))
    study = read_study(str(file), data="scenes")

    folders = {run.folder for run in planned_runs(study)}

    assert len(folders) == 2 * len(NAMES)
    for folder in folders:
        assert (tmp_path / "out" / folder).resolve().is_relative_to(tmp_path / "out" / "runs")
        assert all(character.isalnum() or character in "-/" for character in folder)


def test_texts_and_clusters_reach_no_other_file(tmp_path: Path) -> None:
    """Names in a list that lead elsewhere are unknown images."""
    root = make_data(tmp_path / "set")
    for name in ("../../../etc/passwd", "train/../val/val-0", "/etc/passwd", "train/train-0\0"):
        (root / "texts.jsonl").write_text(json.dumps({"image": name, "texts": ["a"]}) + "\n")
        with pytest.raises(TextError, match="unknown image"):
            Folder(root).texts("train")


def test_a_user_s_own_links_work(tmp_path: Path) -> None:
    """A data set may stand elsewhere, as a whole, by folders or by files."""
    real = make_data(tmp_path / "real")
    (tmp_path / "whole").symlink_to(real)
    parts = tmp_path / "parts"
    parts.mkdir()
    for name in ("images", "masks", "classes.txt"):
        (parts / name).symlink_to(real / name)

    for root in (tmp_path / "whole", parts):
        source = Folder(root)
        assert source.load("val", "val-0").image.shape == (37, 53, 3)
    (real / "images" / "val" / "val-0.png").unlink()
    (real / "images" / "val" / "val-0.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"val-0\.png cannot be read: No such file"):
        Folder(parts).load("val", "val-0")
