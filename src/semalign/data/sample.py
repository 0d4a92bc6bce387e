"""One labelled image and the protocol that every source of them fulfils.

This module does not depend on files, rendering, batches and torch.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semalign.errors import DataError, nearest

__all__ = [
    "MAX_CLASSES",
    "DataSource",
    "DepthArray",
    "ImageArray",
    "MaskArray",
    "Sample",
    "unknown_name",
    "unknown_split",
]

MAX_CLASSES = 255
"""Most classes that a uint8 mask can tell apart beside `semalign.metrics.IGNORE` (255)."""

ImageArray = NDArray[np.uint8]
"""H x W x 3, RGB in [0, 255], C-contiguous."""

MaskArray = NDArray[np.uint8]
"""H x W class indices, `semalign.metrics.IGNORE` (255) where there is no label."""

DepthArray = NDArray[np.float32]
"""H x W, finite and >= 0 in the source's own unit as stored; 0 marks a hole (no measurement)."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with everything known about it.

    Attributes:
        name: the image's name within its split, without ending.
        image: H x W x 3 uint8 RGB.
        mask: H x W uint8 class indices, 255 ignored.
        depth: H x W float32 in the source's unit (scenes: metres; folder: the stored integers), 0 where there is no
            measurement, never NaN; None when the source has no depth.
        texts: the image's own sentences; empty when it has none.
        cluster: the sequence or scene the image belongs to; images of one cluster are not independent.
    """

    name: str
    image: ImageArray
    mask: MaskArray
    depth: DepthArray | None
    texts: tuple[str, ...]
    cluster: str


class DataSource(Protocol):
    """Images with masks, by split and name.  All methods may be called from several threads at once.

    Every method that takes a split raises `DataError` for an unknown or empty one, and every method that takes a name
    for an unknown one.

    Attributes:
        kind: the source's kind, ``"folder"`` or ``"scenes"``.
        class_names: C names; mask value k is the k-th.
        splits: names of the splits, train and val first.
        has_depth: whether every sample has depth.
        has_texts: whether images have texts of their own (a single image may still have none).
    """

    kind: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    has_depth: bool
    has_texts: bool

    def names(self, split: str) -> tuple[str, ...]:
        """Names of the images of ``split``, sorted, at least one."""
        ...

    def load(self, split: str, name: str) -> Sample:
        """Read one sample in full; each call returns fresh arrays."""
        ...

    def image(self, split: str, name: str) -> ImageArray:
        """Read the image alone, H x W x 3 uint8 RGB."""
        ...

    def texts(self, split: str) -> dict[str, tuple[str, ...]]:
        """Texts of every image of ``split`` (empty tuple: none), without decoding an image."""
        ...

    def mask_classes(self, split: str, name: str) -> tuple[int, ...]:
        """Sorted class indices present in the mask, without 255."""
        ...

    def clusters(self, split: str) -> dict[str, str]:
        """Cluster of every image of ``split``."""
        ...

    def fingerprint(self, split: str) -> str:
        """SHA-256 (hex) of what ``split`` contains; equal for a copy elsewhere, different when any content differs."""
        ...

    def describe(self) -> dict[str, Any]:
        """Plain facts for logs and reports (JSON values)."""
        ...


def unknown_split(split: str, known: tuple[str, ...], where: str) -> DataError:
    """Return the error for a split that ``where`` does not have."""
    return DataError(f"{where} has no split {split!r}{nearest(split, known)}")


def unknown_name(split: str, name: str, where: str, known: tuple[str, ...]) -> DataError:
    """Return the error for an image that ``split`` does not have."""
    # All known names would be thousands: the nearest and the count are enough.
    close = nearest(name, known)
    hint = close if "did you mean" in close else f", it has {len(known)} images, the first is {known[0]!r}"
    return DataError(f"split {split!r} of {where} has no image {name!r}{hint}")
