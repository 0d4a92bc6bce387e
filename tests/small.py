"""Small data and options, on which a run takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from semalign.config import Options, merge, read_options, resolve_defaults
from semalign.config.kinds import Kind
from semalign.config.reader import nested, settings
from semalign.data.open import open_data
from semalign.data.sample import DataSource

__all__ = ["CLASSES", "SIZE", "TINY", "edit", "make_data", "scenes", "tiny_options"]

SIZE = (37, 53)
"""H, W of the images."""
CLASSES = ("sky", "road", "tree")
TINY = ("data.size=[32,43]", "train.epochs=2", "train.batch_size=3", "train.val_every=1")
"""Four steps on `make_data`."""


def make_data(root: Path) -> Path:
    """Write 7 training and 3 validation images of sky above road, with a tree at a random place."""
    rng = np.random.default_rng(0)
    colors = np.array([[90, 150, 240], [110, 110, 110], [30, 140, 40]])
    root.mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for split, count in (("train", 7), ("val", 3)):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros(SIZE, dtype=np.uint8)
            mask[rng.integers(10, 30) :] = 1
            left = rng.integers(2, 40)
            mask[5:21, left : left + 9] = 2
            image = colors[mask] + rng.integers(-15, 16, size=(*SIZE, 3))
            name = f"{split}-{number}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / split / name)
            Image.fromarray(mask).save(root / "masks" / split / name)
    return root


def edit(path: Path, **changes: Any) -> None:
    """Change an image file: ``value`` sets its first pixel, ``fill`` all, ``rows`` cuts it, ``rgb`` stacks it."""
    with Image.open(path) as picture:
        pixels = np.array(picture)
    if "value" in changes:
        pixels[0, 0] = changes["value"]
    if "fill" in changes:
        pixels[:] = changes["fill"]
    if "rows" in changes:
        pixels = pixels[: changes["rows"]]
    if changes.get("rgb"):
        pixels = np.stack([pixels] * 3, axis=-1)
    Image.fromarray(pixels).save(path)


def tiny_options(kind: Kind = "folder", **overrides: Any) -> Options:
    """Return resolved options of a run of four steps, changed by dotted names with ``__`` for the dots."""
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return resolve_defaults(read_options(overrides=merge(settings(TINY), nested(changes))), kind)


def scenes(n_train: int = 5, n_val: int = 3, **options: Any) -> DataSource:
    """Return a few small scenes."""
    return open_data("scenes", n_train=n_train, n_val=n_val, scenes_size=(32, 43), **options)
