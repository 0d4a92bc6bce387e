"""The contact sheet shows images beside their masks, broken ones first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semalign.data.check.findings import check_data
from semalign.data.check.sheet import GAP, MOST_TILES, THUMB, contact_sheet, marked_images
from semalign.data.folder import Folder
from semalign.data.scenes import Scenes
from semalign.palette import class_colors

from .broken import CLASSES, SIZE, change, make_clean, save


def tile(sheet: Image.Image, place: int, side: int) -> np.ndarray:
    """Return the picture (side 0) or overlay (side 1) of a place on the sheet."""
    left = GAP + place % 3 * (2 * THUMB[1] + 4 + GAP) + side * (THUMB[1] + 4)
    top = GAP + place // 3 * (THUMB[0] + 22 + GAP)
    return np.asarray(sheet.crop((left, top, left + THUMB[1], top + THUMB[0])))


def test_a_picture_and_its_overlay(tmp_path: Path) -> None:
    """Of one image, the left half is the image, the right half its mask's color over it; 255 is left as it is."""
    root = make_clean(tmp_path / "set")
    for path in (*root.glob("images/*/*"), *root.glob("masks/*/*")):
        if path.stem != "train00":
            path.unlink()
    pixels = np.full((*SIZE, 3), 100, np.uint8)
    pixels[:15] = 60
    save(root / "images/train/train00.png", pixels)
    mask = np.full(SIZE, 2, np.uint8)
    mask[15:] = 255
    save(root / "masks/train/train00.png", mask)
    sheet = contact_sheet(Folder(root), check_data(Folder(root)))
    image, overlay = tile(sheet, 0, 0), tile(sheet, 0, 1)
    middle = THUMB[1] // 2

    assert image[20, middle].tolist() == [60] * 3
    assert image[120, middle].tolist() == [100] * 3
    assert overlay[120, middle].tolist() == [100] * 3
    expected = 0.45 * 60 + 0.55 * class_colors(3)[2].astype(float)
    assert overlay[20, middle].tolist() == [int(value) for value in expected]


def test_broken_ones_come_first_and_are_framed(tmp_path: Path) -> None:
    """Images with errors and warnings stand first in their split and are framed; what cannot be read says so."""
    root = make_clean(tmp_path / "set")
    change(root / "images/train/train08.png", lambda v: v * 0 + 90)
    change(root / "masks/train/train05.png", lambda v: np.stack([v * 0 + 200, v, v], axis=-1))
    (root / "images/train/train07.png").write_bytes(b"no image")
    (root / "masks/train/train06.png").unlink()
    report = check_data(Folder(root))
    sheet = contact_sheet(Folder(root), report)

    assert marked_images(report) == {
        ("train", "train05"): ["mask-color"],
        ("train", "train06"): ["pairing"],
        ("train", "train07"): ["image-broken"],
        ("train", "train08"): ["image-flat"],
    }
    frames = []
    for place in range(6):
        left = GAP + place % 3 * (2 * THUMB[1] + 4 + GAP)
        top = GAP + place // 3 * (THUMB[0] + 22 + GAP)
        frames.append(sheet.getpixel((left - 2, top + 50)))
    assert frames[:3] == [(200, 30, 30)] * 3
    assert frames[3:] == [(200, 120, 0), (255, 255, 255), (255, 255, 255)]


@pytest.mark.parametrize("count", [1, 53])
def test_sizes(tmp_path: Path, count: int) -> None:
    """A sheet has at most 24 images, of every split; Chinese class names and 255 classes fit or are numbered."""
    names = tuple(f"类别{number}" for number in range(255)) if count == 1 else CLASSES
    root = make_clean(tmp_path / "set", classes=names)
    for number in range(count):
        for kind in ("images", "masks"):
            target = root / kind / "test" / f"t{number}.png"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((root / kind / "val" / "val01.png").read_bytes())
    sheet = contact_sheet(Folder(root), check_data(Folder(root)))

    rows = -(-min(MOST_TILES, 8 + 7 + min(count, 8)) // 3)
    legend = 18 * (len(names) + 2) + GAP
    assert sheet.height == max(rows * (THUMB[0] + 22 + GAP) + GAP, legend)


def test_scenes() -> None:
    """Scenes have a sheet too; the same data give the same sheet."""
    source = Scenes(n_train=5, n_val=2, size=(32, 43))
    report = check_data(source)

    one, other = (np.asarray(contact_sheet(source, report)) for _ in range(2))
    assert np.array_equal(one, other)
