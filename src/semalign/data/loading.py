"""The batches of training: the one that each training step asks for.

The order of an epoch and the views of a step depend on the seed, the epoch and the step alone, so that a run can be
resumed at any step and every arm of a study sees the same images.  This module does not depend on text and models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semalign.data.batches import Batch, DepthScale, ImageSet, augmented_batch, epoch_order
from semalign.data.transforms import Augmentation

__all__ = ["TrainingBatches"]


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
    """The augmented batches of a training split, by step.

    Guarantees:

    - The batch of step k depends on ``images``, the sizes and options below, ``seed`` and k alone: not on which batches
      were asked for before, on the process, or on ``share``.  It has the bits of `augmented_batch` for step k.
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
        order = epoch_order(len(self.images.names), self.seed, epoch)
        return order[place * self.images_per_step : (place + 1) * self.images_per_step]

    def batch(self, step: int) -> Batch:
        """Return the batch of one step, or this process's share of it, on the CPU."""
        return augmented_batch(
            self.images,
            self.index(step),
            size=self.size,
            augmentation=self.augmentation,
            depth_scale=self.depth_scale,
            seed=self.seed,
            step=step,
            share=self.share,
        )

    def between(self, first: int, last: int) -> Iterator[tuple[int, Batch]]:
        """Yield step and batch of the steps from ``first`` to before ``last``, in order."""
        for step in range(first, last):
            yield step, self.batch(step)
