"""A small folder of data and a cache of its own for every test."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SIZE = (5, 7)
"""H, W of the images of `folder`."""

Array = NDArray[np.generic]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's caches in its own folder."""
    path = tmp_path / "cache"
    monkeypatch.setenv("SEMALIGN_CACHE", str(path))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a sound folder: train a, b, c and val d, e; three classes; 5 x 7 pixels."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "classes.txt").write_text("sky\nroad\ntree\n")
    rng = np.random.default_rng(0)
    for split, names in {"train": "abc", "val": "de"}.items():
        for name in names:
            save(folder / "images" / split / f"{name}.png", rng.integers(256, size=(*SIZE, 3), dtype=np.uint8))
            save(folder / "masks" / split / f"{name}.png", rng.integers(3, size=SIZE, dtype=np.uint8))
    return folder


def save(path: Path, array: Array, **options: Any) -> None:
    """Write an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def grey_png(bits: int, width: int, height: int, rows: bytes, color_type: int = 0) -> bytes:
    """Return a PNG, grey or of another color type, from its packed rows, also such as Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
