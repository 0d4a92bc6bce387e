"""What an import will write: class names and, per image, where everything comes from.

A plan lists files and decodes none; the masks are made one by one as they are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semalign.data.sample import ImageArray, MaskArray
from semalign.wording import Message

__all__ = ["Entry", "Plan"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of a plan.

    Attributes:
        split: train, val, test, or what the data set calls it.
        name: without ending, unique in its split.
        image: a file to copy or link, or a function that reads it (H x W x 3, RGB).
        mask: makes class indices, 255 ignored (H x W).
        depth: a grey PNG to copy or link, a function that reads it (H x W, 16 bits, 0 = no measurement), or None.
        cluster: sequence, city or scene, or None where that is not known.
    """

    split: str
    name: str
    image: Path | Callable[[], ImageArray]
    mask: Callable[[], MaskArray]
    depth: Path | Callable[[], NDArray[np.uint16]] | None = None
    cluster: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A data set as it was found.

    Attributes:
        layout: the name of the layout.
        rule: what its pixel values become.
        class_names: line k of classes.txt is class k-1.
        entries: the images, in the order in which they are written.
        notes: what a user must know.
    """

    layout: str
    rule: Message
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[Message, ...] = ()
