"""Decoded images of one split in memory, and batches of them as tensors.

The order of an epoch and the views of a step depend on the seed, the epoch and the step alone (`semalign.seeds`), so
that a run can go on from any step and every arm of a study sees the same images.  It knows nothing of text and models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from semalign.data.sample import DataSource
from semalign.data.transforms import (
    Augmentation,
    jitter_color,
    normalize_image,
    random_view,
    resize_depth,
    resize_image,
    resize_mask,
)
from semalign.errors import DataError
from semalign.metrics import IGNORE
from semalign.seeds import numpy_generator

__all__ = ["Batch", "DepthScale", "ImageSet", "augmented_batch", "epoch_order", "load_images", "plain_batches"]


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


def load_images(source: DataSource, split: str, *, depth: bool, size: tuple[int, int], zoom: float = 1.0) -> ImageSet:
    """Decode a split, each image shrunk to at most ``zoom`` times ``size``, which is all that training can show.

    Raises:
        DataError: a file is broken, or depth is asked for where there is none.
    """
    if depth and not source.has_depth:
        raise DataError(f"data.depth=true, but the {source.kind} data have no depth, expected depth/SPLIT/NAME.png")
    names = source.names(split)
    images, masks, depths = [], [], []
    for name in names:
        sample = source.load(split, name)
        height, width = sample.image.shape[:2]
        target = (min(height, round(size[0] * zoom)), min(width, round(size[1] * zoom)))
        image = resize_image(torch.from_numpy(sample.image), target)
        images.append(image.permute(1, 2, 0).contiguous())
        masks.append(resize_mask(torch.from_numpy(sample.mask), target))
        if depth:
            assert sample.depth is not None
            depths.append(resize_depth(torch.from_numpy(sample.depth), target))
    return ImageSet(names, images, masks, depths if depth else None)


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
) -> Batch:
    """Return random views of the images at ``index``, drawn from the stream of this seed and step."""
    generator = numpy_generator(seed, "augment", step)
    views = [
        random_view(
            images.images[i],
            images.masks[i],
            None if images.depths is None else images.depths[i],
            size,
            augmentation,
            generator,
        )
        for i in index
    ]
    image = normalize_image(torch.stack([view for view, _, _ in views]))
    image = jitter_color(image, augmentation.color, numpy_generator(seed, "color", step))
    mask = torch.stack([labels for _, labels, _ in views]).long()
    depth = None
    if depth_scale is not None:
        depth = depth_scale.normalize(torch.stack([d for _, _, d in views if d is not None])[:, None])
    return Batch(torch.from_numpy(np.ascontiguousarray(index)), image, mask, depth)


def plain_batches(
    source: DataSource,
    split: str,
    names: Sequence[str],
    *,
    size: tuple[int, int] | None,
    depth_scale: DepthScale | None,
    batch_size: int,
) -> Iterator[tuple[Batch, list[NDArray[np.uint8]]]]:
    """Yield images as they are, resized to ``size`` (None: as stored, one by one), with their masks at full size.

    The batch's own mask is empty (B x 0 x 0): scoring happens at each mask's own size.
    """
    if size is None:
        batch_size = 1
    for start in range(0, len(names), batch_size):
        some = names[start : start + batch_size]
        samples = [source.load(split, name) for name in some]
        target = size or (samples[0].image.shape[0], samples[0].image.shape[1])
        image = normalize_image(torch.stack([resize_image(torch.from_numpy(s.image), target) for s in samples]))
        depth = None
        if depth_scale is not None:
            planes = []
            for sample in samples:
                if sample.depth is None:
                    raise DataError(
                        f"the model was trained with depth, but {split}/{sample.name} has none, "
                        "expected depth/SPLIT/NAME.png"
                    )
                planes.append(resize_depth(torch.from_numpy(sample.depth), target))
            depth = depth_scale.normalize(torch.stack(planes)[:, None])
        index = torch.arange(start, start + len(some))
        yield Batch(index, image, torch.empty(len(some), 0, 0, dtype=torch.long), depth), [s.mask for s in samples]
