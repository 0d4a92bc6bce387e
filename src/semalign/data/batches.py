"""Decoded images of one split, mapped from the cache of packs, and batches of them as tensors.

The order of an epoch and the views of a step depend on the seed, the epoch and the step alone (`semalign.seeds`), so
that a run can be resumed at any step and every arm of a study sees the same images.  It does not depend on text and
models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL
import torch
from jaxtyping import Float, Int
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from semalign.data.packed import Row, packed
from semalign.data.sample import DataSource
from semalign.data.transforms import (
    Augmentation,
    normalize_image,
    normalize_jittered,
    random_view,
    resize_depth,
    resize_image,
    resize_mask,
    skip_view,
)
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.seeds import numpy_generator

__all__ = [
    "Batch",
    "DepthScale",
    "ImageSet",
    "ScoredImages",
    "ScoredSet",
    "augmented_batch",
    "epoch_order",
    "load_images",
    "load_scored",
    "plain_batches",
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
class ScoredSet:
    """Images of a split at one size, with their masks as stored: what scoring reads, decoded once.

    Attributes:
        size: H, W of images and depths.
        images: by name, uint8 H x W x 3.
        masks: by name, uint8 at the mask's own size.
        depths: by name, float32 H x W; None where they were not asked for.
    """

    size: tuple[int, int]
    images: dict[str, Tensor]
    masks: dict[str, NDArray[np.uint8]]
    depths: dict[str, Tensor] | None

    def holds(self, name: str, size: tuple[int, int] | None, depth: bool) -> bool:
        """Return whether the image is here at ``size``, with its depth where that is asked for."""
        return size == self.size and name in self.images and (self.depths is not None or not depth)


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
            image = resize_image(torch.from_numpy(sample.image), target).permute(1, 2, 0)
            row = [image, resize_mask(torch.from_numpy(sample.mask), target)]
            if depth:
                assert sample.depth is not None
                row.append(resize_depth(torch.from_numpy(sample.depth), target))
            yield [part.contiguous().numpy() for part in row]

    facts = {"use": "training", "size": list(size), "zoom": zoom}
    columns = _packed(source, split, names, depth, facts, shown)
    if columns is None:
        columns = [list(column) for column in zip(*shown(), strict=True)]
    tensors = [[torch.from_numpy(array) for array in column] for column in columns]
    return ImageSet(names, tensors[0], tensors[1], tensors[2] if depth else None)


def load_scored(
    source: DataSource, split: str, names: Sequence[str], *, size: tuple[int, int], depth: bool
) -> ScoredSet | None:
    """Decode the images ``names`` of a split at ``size``, with masks as stored; None where nothing can be cached.

    Raises:
        DataError: a file is broken, or depth is asked for where there is none.
    """
    if depth and not source.has_depth:
        return None

    def resized() -> Iterator[Row]:
        for name in names:
            sample = source.load(split, name)
            image = resize_image(torch.from_numpy(sample.image), size).permute(1, 2, 0).contiguous()
            row = [image.numpy(), sample.mask]
            if depth:
                assert sample.depth is not None
                row.append(resize_depth(torch.from_numpy(sample.depth), size).contiguous().numpy())
            yield row

    columns = _packed(source, split, names, depth, {"use": "scoring", "size": list(size)}, resized)
    if columns is None:
        return None
    images, masks, *depths = columns
    return ScoredSet(
        size,
        {name: torch.from_numpy(image) for name, image in zip(names, images, strict=True)},
        dict(zip(names, masks, strict=True)),
        {name: torch.from_numpy(plane) for name, plane in zip(names, depths[0], strict=True)} if depth else None,
    )


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


def epoch_order(n_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch shows the images."""
    return numpy_generator(seed, "order", epoch).permutation(n_images)


def augmented_batch(
    images: ImageSet,
    index: NDArray[np.int64],
    *,
    size: tuple[int, int],
    augmentation: Augmentation,
    depth_scale: DepthScale | None,
    seed: int,
    step: int,
    share: slice | None = None,
) -> Batch:
    """Return random views of the images at ``index``, drawn from the stream of this seed and step.

    With ``share`` only those of ``index[share]``, as they are in the whole batch.
    """
    generator = numpy_generator(seed, "augment", step)
    own = range(len(index))[share or slice(None)]
    views = []
    for place, i in enumerate(index):
        if place not in own:
            skip_view(generator)
            continue
        depth_plane = None if images.depths is None else images.depths[i]
        views.append(random_view(images.images[i], images.masks[i], depth_plane, size, augmentation, generator))
    image = normalize_jittered(
        torch.stack([view for view, _, _ in views]),
        augmentation.color,
        numpy_generator(seed, "color", step),
        of=(len(index), own.start),
    )
    mask = torch.stack([labels for _, labels, _ in views]).long()
    depth = None
    if depth_scale is not None:
        depth = depth_scale.normalize(torch.stack([d for _, _, d in views if d is not None])[:, None])
    return Batch(torch.from_numpy(np.ascontiguousarray(index[share or slice(None)])), image, mask, depth)


def plain_batches(
    source: DataSource,
    split: str,
    names: Sequence[str],
    *,
    size: tuple[int, int] | None,
    depth_scale: DepthScale | None,
    batch_size: int,
    scored: ScoredSet | None = None,
) -> Iterator[tuple[Batch, list[NDArray[np.uint8]]]]:
    """Yield images as they are, resized to ``size`` (None: as stored, one by one), with their masks at full size.

    The batch's own mask is empty (B x 0 x 0): scoring happens at each mask's own size.  What ``scored`` holds at
    this size is not decoded.
    """
    if size is None:
        batch_size = 1
    for start in range(0, len(names), batch_size):
        some = names[start : start + batch_size]
        images, planes, masks = [], [], []
        for name in some:
            if scored is not None and scored.holds(name, size, depth_scale is not None):
                images.append(scored.images[name].permute(2, 0, 1))
                masks.append(scored.masks[name])
                if scored.depths is not None:
                    planes.append(scored.depths[name])
                continue
            sample = source.load(split, name)
            target = size or (sample.image.shape[0], sample.image.shape[1])
            images.append(resize_image(torch.from_numpy(sample.image), target))
            masks.append(sample.mask)
            if depth_scale is not None:
                if sample.depth is None:
                    raise DataError(
                        f"the model was trained with depth, but {split}/{name} has none, expected depth/SPLIT/NAME.png"
                    )
                planes.append(resize_depth(torch.from_numpy(sample.depth), target))
        image = normalize_image(torch.stack(images))
        depth = None if depth_scale is None else depth_scale.normalize(torch.stack(planes)[:, None])
        index = torch.arange(start, start + len(some))
        yield Batch(index, image, torch.empty(len(some), 0, 0, dtype=torch.long), depth), masks


@dataclasses.dataclass(frozen=True)
class ScoredImages:
    """Images of a split whose predictions are compared with their masks, decoded when a batch asks for them.

    Attributes:
        source: the data.
        split: the split.
        names: the images, in the order in which they are scored.
        ready: images that are decoded already; None decodes all of them.
    """

    source: DataSource
    split: str
    names: tuple[str, ...]
    ready: ScoredSet | None = None

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
        """Yield batches and masks as `plain_batches` does; a batch's index is of positions in ``names``."""
        return plain_batches(
            self.source,
            self.split,
            self.names,
            size=size,
            depth_scale=depth_scale,
            batch_size=batch_size,
            scored=self.ready,
        )
