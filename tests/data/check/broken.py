"""A sound folder, large enough that every finding can be made of it, and ways to damage it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (29, 37)
CLASSES = ("sky", "road", "tree", "car", "person")
COUNTS = {"train": 11, "val": 7}

Array = NDArray[np.generic]


def save(path: Path, array: Array, **options: Any) -> None:
    """Write an array as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def load(path: Path) -> NDArray[np.int64]:
    """Return an image file's values."""
    with Image.open(path) as image:
        return np.array(image).astype(np.int64)


def change(path: Path, rule: Callable[[NDArray[np.int64]], Array], kind: type = np.uint8) -> None:
    """Rewrite an image file by a rule of its values."""
    save(path, np.asarray(rule(load(path)), dtype=kind))


def make_clean(root: Path, *, depth: bool = False, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write 11 training and 7 validation images; every mask has classes 0 to 2, half have 3, half have 4."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for split, count in COUNTS.items():
        for number in range(count):
            name = f"{split}{number:02d}.png"
            small = rng.integers(256, size=(11, 13, 3), dtype=np.uint8)
            save(root / "images" / split / name, np.array(Image.fromarray(small).resize(SIZE[::-1])))
            mask = rng.integers(3, size=SIZE, dtype=np.uint8) % len(classes)
            if number % 2 and len(classes) > 3:
                mask[2:9, 3:14] = 3
            if number % 3 and len(classes) > 4:
                mask[12:23, 5:11] = 4
            mask[0, 0] = 255
            save(root / "masks" / split / name, mask)
            if depth:
                values = rng.integers(500, 5000, size=SIZE).astype(np.uint16)
                values[0] = 0
                save(root / "depth" / split / name, values)
    return root


def masks(root: Path, split: str | None = None) -> list[Path]:
    """Return the mask files, sorted."""
    return sorted((root / "masks").glob(f"{split or '*'}/*.png"))


def write_texts(root: Path, texts_of: Callable[[str, int, list[str]], list[str]]) -> None:
    """Write texts.jsonl; ``texts_of`` gets split, number and the mask's class names."""
    lines = []
    names = (root / "classes.txt").read_text(encoding="utf-8").split("\n")
    for path in masks(root):
        present = [names[value] for value in np.unique(load(path)) if value != 255]
        split, number = path.parent.name, int(path.stem[-2:])
        texts = texts_of(split, number, present)
        lines.append(json.dumps({"image": f"{split}/{path.stem}", "texts": texts}))
    (root / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
