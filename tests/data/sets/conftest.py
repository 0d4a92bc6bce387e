"""Small made-up copies of known data sets, in their own layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semalign.data.folder import Folder
from semalign.data.sets import Imported, import_data
from tests.data.conftest import save

SIZE = (5, 7)
"""H, W of the images."""

Mask = NDArray[np.integer[Any]]
Importer = Callable[..., tuple[Folder, Imported]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an empty folder for the made-up data set."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


@pytest.fixture
def imported(source: Path, tmp_path: Path) -> Importer:
    """Return a function that imports ``source`` and opens what was written."""

    def call(name: str, **options: Any) -> tuple[Folder, Imported]:
        found = import_data(name, source, tmp_path / "ours", **options)
        return Folder(found.out), found

    return call


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    """Write a picture of noise and return its pixels."""
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
    save(path, pixels)
    return pixels


def mask(*rows: list[int]) -> NDArray[np.uint8]:
    """Return a mask of SIZE that begins with ``rows``; the rest repeats the last value."""
    values = [value for row in rows for value in row]
    full = np.full(SIZE[0] * SIZE[1], values[-1], dtype=np.uint8)
    full[: len(values)] = values
    return full.reshape(SIZE)


def colored(colors: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return a picture of SIZE whose first pixels have ``colors`` and whose others have the last."""
    full = np.empty((SIZE[0] * SIZE[1], 3), dtype=np.uint8)
    full[:] = colors[-1]
    full[: len(colors)] = colors
    return full.reshape(*SIZE, 3)


def palette_png(path: Path, values: NDArray[np.uint8], palette: NDArray[np.uint8]) -> None:
    """Write a palette picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    picture.putpalette(palette.ravel().tolist())
    picture.save(path)
