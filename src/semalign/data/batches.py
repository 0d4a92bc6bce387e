"""Decoded images of one split, mapped from the cache of packs, and the batches in which they are scored.

`semalign.data.loading` makes the batches of training.  This module does not depend on text and models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL
import torch
from jaxtyping import Float, Int
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from semalign.data.packed import Row, packed
from semalign.data.sample import DataSource, Sample
from semalign.data.transforms import normalize_image, resize_depth, resize_image, resize_mask
from semalign.errors import DataError
from semalign.metrics import IGNORE

__all__ = [
    "Batch",
    "DepthScale",
    "ImageSet",
    "ScoredImages",
    "load_images",
    "load_scored",
]


@dataclasses.dataclass(frozen=True)
class DepthScale:
    """Mean and standard deviation of the training split's depth, holes left out, in the data's own unit."""

    mean: float
    std: float

    def normalize(self, depth: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return standardised depth; a hole (0) becomes 0, the mean."""
        return torch.where(depth > 0, (depth - self.mean) / self.std, torch.zeros_like(depth))


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Decoded images of a split, no larger than training needs.

    Attributes:
        names: the images' names.
        images: uint8 h x w x 3 each.
        masks: uint8 h x w each, of the images' sizes here.
        depths: float32 h x w each, or None.
    """

    names: tuple[str, ...]
    images: list[Tensor]
    masks: list[Tensor]
    depths: list[Tensor] | None

    def class_frequency(self, n_classes: int) -> NDArray[np.float64]:
        """Return each class's share of the labelled pixels.

        Raises:
            DataError: no pixel is labelled.
        """
        counts = np.zeros(n_classes, dtype=np.int64)
        for mask in self.masks:
            counts += np.bincount(mask.numpy().ravel(), minlength=IGNORE + 1)[:n_classes]
        if not counts.any():
            raise DataError(
                f"the masks of the training split hold only {IGNORE} (ignored), expected pixels of at least one class: "
                "label some"
            )
        share: NDArray[np.float64] = counts / counts.sum()
        return share

    def depth_scale(self) -> DepthScale:
        """Return the mean and standard deviation of all depths that are not holes.

        Raises:
            DataError: there are no two measured pixels that differ.
        """
        assert self.depths is not None
        values = torch.cat([depth[depth > 0] for depth in self.depths]).double()
        if len(values) < 2 or float(values.std()) == 0:
            raise DataError(
                f"the depth of the training split has {len(values)} measured pixels and no spread, "
                "expected depths that differ: set data.depth=false"
            )
        return DepthScale(float(values.mean()), float(values.std()))


@dataclasses.dataclass(frozen=True)
class Batch:
    """Tensors of one step.

    Attributes:
        index: B positions in the split.
        image: B x 3 x H x W, normalised, channels-last.
        mask: B x H x W class indices, 255 ignored.
        depth: B x 1 x H x W, standardised, or None.
    """

    index: Int[Tensor, " b"]
    image: Float[Tensor, "b 3 h w"]
    mask: Int[Tensor, "b h w"]
    depth: Float[Tensor, "b 1 h w"] | None


@dataclasses.dataclass(frozen=True)
class ScoredImages:
    """Images of a split whose predictions are compared with their masks, decoded when a batch asks for them.

    Attributes:
        source: the data.
        split: the split.
        names: the images, in the order in which they are scored.
        ready: images that are decoded already, by name.
        ready_size: H, W of the images and depths in ``ready``; their masks are as stored.
    """

    source: DataSource
    split: str
    names: tuple[str, ...]
    ready: Mapping[str, Row] = dataclasses.field(default_factory=dict)
    ready_size: tuple[int, int] | None = None

    @classmethod
    def of_split(cls, source: DataSource, split: str) -> ScoredImages:
        """Return all images of ``split``, to be decoded.

        Raises:
            DataError: there is no such split.
        """
        return cls(source, split, source.names(split))

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names; mask value k is the k-th."""
        return self.source.class_names

    @property
    def places(self) -> Int[Tensor, " images"]:
        """Positions of the images in their split."""
        place = {name: index for index, name in enumerate(self.source.names(self.split))}
        return torch.tensor([place[name] for name in self.names])

    def only(self, names: Sequence[str]) -> ScoredImages:
        """Return the images ``names`` of the split alone."""
        return dataclasses.replace(self, names=tuple(names))

    def batches(
        self, size: tuple[int, int] | None, depth_scale: DepthScale | None, batch_size: int
    ) -> Iterator[tuple[Batch, list[NDArray[np.uint8]]]]:
        """Yield images as they are, resized to ``size`` (None: as stored, one by one), with their masks at full size.

        The batch's index is of positions in ``names``.  Its own mask is empty (B x 0 x 0): scoring happens at each
        mask's own size.

        Raises:
            DataError: a file is broken, or depth is asked for where there is none.
        """
        if size is None:
            batch_size = 1
        for start in range(0, len(self.names), batch_size):
            some = self.names[start : start + batch_size]
            rows = [self._row(name, size, depth=depth_scale is not None) for name in some]
            images, masks, *depths = zip(*rows, strict=True)
            image = normalize_image(torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) for pixels in images]))
            depth = None
            if depth_scale is not None:
                depth = depth_scale.normalize(torch.stack(list(map(torch.from_numpy, depths[0])))[:, None])
            index = torch.arange(start, start + len(some))
            yield Batch(index, image, torch.empty(len(some), 0, 0, dtype=torch.long), depth), list(masks)

    def _row(self, name: str, size: tuple[int, int] | None, *, depth: bool) -> Row:
        """Return image and mask, and depth where it is asked for; what is ready at this size is not decoded."""
        columns = 3 if depth else 2
        ready = self.ready.get(name, ())
        if size == self.ready_size and len(ready) >= columns:
            return ready[:columns]
        sample = self.source.load(self.split, name)
        if depth and sample.depth is None:
            raise DataError(
                f"the model was trained with depth, but {self.split}/{name} has none, expected depth/SPLIT/NAME.png"
            )
        return _resized(sample, size or (sample.image.shape[0], sample.image.shape[1]), sample.mask, depth=depth)


def load_images(source: DataSource, split: str, *, depth: bool, size: tuple[int, int], zoom: float = 1.0) -> ImageSet:
    """Decode a split, each image shrunk to at most ``zoom`` times ``size``, which is all that training can show.

    Raises:
        DataError: a file is broken, or depth is asked for where there is none.
    """
    if depth and not source.has_depth:
        raise DataError(f"data.depth=true, but the {source.kind} data have no depth, expected depth/SPLIT/NAME.png")
    names = source.names(split)

    def shown() -> Iterator[Row]:
        for name in names:
            sample = source.load(split, name)
            height, width = sample.image.shape[:2]
            target = (min(height, round(size[0] * zoom)), min(width, round(size[1] * zoom)))
            yield _resized(sample, target, resize_mask(torch.from_numpy(sample.mask), target).numpy(), depth=depth)

    facts = {"use": "training", "size": list(size), "zoom": zoom}
    columns = _packed(source, split, names, depth, facts, shown)
    if columns is None:
        columns = [list(column) for column in zip(*shown(), strict=True)]
    images, masks, *depths = ([torch.from_numpy(array) for array in column] for column in columns)
    return ImageSet(names, images, masks, depths[0] if depth else None)


def load_scored(
    source: DataSource, split: str, names: Sequence[str], *, size: tuple[int, int], depth: bool
) -> ScoredImages:
    """Return the images ``names`` of a split, decoded at ``size`` with masks as stored where that can be cached.

    Raises:
        DataError: a file is broken.
    """
    images = ScoredImages(source, split, tuple(names))
    if depth and not source.has_depth:
        return images

    def resized() -> Iterator[Row]:
        for name in names:
            sample = source.load(split, name)
            yield _resized(sample, size, sample.mask, depth=depth)

    columns = _packed(source, split, names, depth, {"use": "scoring", "size": list(size)}, resized)
    if columns is None:
        return images
    ready = dict(zip(names, zip(*columns, strict=True), strict=True))
    return dataclasses.replace(images, ready=ready, ready_size=size)


def _resized(sample: Sample, size: tuple[int, int], mask: NDArray[np.uint8], *, depth: bool) -> Row:
    """Return the image at ``size``, the mask as given, and perhaps the depth at ``size``."""
    image = resize_image(torch.from_numpy(sample.image), size).permute(1, 2, 0).contiguous().numpy()
    if not depth:
        return [image, mask]
    assert sample.depth is not None
    return [image, mask, resize_depth(torch.from_numpy(sample.depth), size).contiguous().numpy()]


def _packed(
    source: DataSource,
    split: str,
    names: Sequence[str],
    depth: bool,
    facts: dict[str, Any],
    rows: Callable[[], Iterator[Row]],
) -> list[list[NDArray[Any]]] | None:
    """Return images, masks and perhaps depths from a pack named after the data and after what decodes and resizes."""
    columns: dict[str, DTypeLike] = {"images": np.uint8, "masks": np.uint8}
    if depth:
        columns["depths"] = np.float32
    facts = {
        **facts,
        "data": source.fingerprint(split),
        "names": list(names),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    return packed(facts, columns, len(names), rows)
