"""The batches of training: the one that each training step asks for.

The order of an epoch and the views of a step depend on the seed, the epoch and the step alone, so that a run can be
resumed at any step and every arm of a study sees the same images.  This module does not depend on text and models.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from semalign.data.batches import Batch, DepthScale, ImageSet
from semalign.data.transforms import Augmentation, normalize_jittered, random_view, skip_view
from semalign.seeds import numpy_generator

__all__ = ["TrainingBatches"]


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
    """The augmented batches of a training split, by step.

    Guarantees:

    - The batch of step k depends on ``images``, the sizes and options below, ``seed`` and k alone: not on which batches
      were asked for before, on the process, or on ``share``.
    - Within an epoch every image is shown at most once; the images left over by ``batch_size`` are not shown.
    - With ``share`` a process gets the images ``share`` of the step, exactly as they are in the whole batch.

    Batches are made in the calling process when they are asked for.

    Attributes:
        images: the decoded training split, N images.
        batch_size: B, images of a step over all processes; at most N are taken.
        size: H, W of the views.
        augmentation: how the views vary.
        depth_scale: how depth is standardised; None: batches without depth.
        seed: of the order and of the augmentation.
        share: which of the step's images this process computes; None: all.
    """

    images: ImageSet
    batch_size: int
    size: tuple[int, int]
    augmentation: Augmentation
    depth_scale: DepthScale | None
    seed: int
    share: slice | None = None

    @property
    def images_per_step(self) -> int:
        """Images of a step over all processes: ``batch_size``, or N where the split is smaller."""
        return min(self.batch_size, len(self.images.names))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one epoch."""
        return len(self.images.names) // self.images_per_step

    def index(self, step: int) -> NDArray[np.int64]:
        """Return the positions in the split of the step's images over all processes, in the batch's order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = numpy_generator(self.seed, "order", epoch).permutation(len(self.images.names))
        return order[place * self.images_per_step : (place + 1) * self.images_per_step]

    def batch(self, step: int) -> Batch:
        """Return the batch of one step, or this process's share of it, on the CPU."""
        return self.views(self.index(step), step)

    def views(self, index: NDArray[np.int64], step: int) -> Batch:
        """Return random views of the images at ``index``, drawn from the streams of this seed and step.

        With a share only those of the share, as they are among all of ``index``.
        """
        images, augmentation = self.images, self.augmentation
        generator = numpy_generator(self.seed, "augment", step)
        share = self.share or slice(None)
        own = range(len(index))[share]
        views = []
        for place, i in enumerate(index):
            if place not in own:
                skip_view(generator)
                continue
            plane = None if images.depths is None else images.depths[i]
            views.append(random_view(images.images[i], images.masks[i], plane, self.size, augmentation, generator))
        image = normalize_jittered(
            torch.stack([view for view, _, _ in views]),
            augmentation.color,
            numpy_generator(self.seed, "color", step),
            of=(len(index), own.start),
        )
        mask = torch.stack([labels for _, labels, _ in views]).long()
        depth = None
        if self.depth_scale is not None:
            depth = self.depth_scale.normalize(torch.stack([d for _, _, d in views if d is not None])[:, None])
        return Batch(torch.from_numpy(np.ascontiguousarray(index[share])), image, mask, depth)
