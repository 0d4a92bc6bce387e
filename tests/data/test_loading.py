"""The batches of the training steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from semalign.data.batches import Batch, load_images
from semalign.data.loading import TrainingBatches
from semalign.data.scenes import Scenes
from semalign.data.transforms import Augmentation

N_IMAGES = 7
SIZE = (17, 23)


@pytest.fixture
def batches() -> TrainingBatches:
    """Return batches of three of seven scenes with depth."""
    images = load_images(Scenes(n_train=N_IMAGES, n_val=1, size=SIZE), "train", depth=True, size=SIZE, zoom=1.5)
    return TrainingBatches(images, 3, SIZE, Augmentation(), images.depth_scale(), seed=11)


def same(one: Batch, other: Batch) -> bool:
    """Return whether two batches hold the same bits."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Batch)]
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_bits_of_a_step(batches: TrainingBatches) -> None:
    """A step's batch is of the views of its part of the epoch's order, whatever was asked for before."""
    assert (batches.images_per_step, batches.steps_per_epoch) == (3, 2)
    found = {step: batches.batch(step) for step in range(1, 6)}

    for step in (4, 1):
        assert found[step].index.tolist() == batches.index(step).tolist()
        assert same(found[step], batches.views(batches.index(step), step))
        assert same(batches.batch(step), found[step])


def test_an_epoch_shows_no_image_twice(batches: TrainingBatches) -> None:
    """The steps of an epoch have different images; the next epoch has another order."""
    epochs = [np.concatenate([batches.index(2 * epoch), batches.index(2 * epoch + 1)]) for epoch in range(2)]

    assert all(len(set(epoch.tolist())) == 6 for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_share_is_a_part_of_the_whole_batch(batches: TrainingBatches) -> None:
    """A process gets its images as they are in the whole batch."""
    whole = batches.batch(3)
    part = dataclasses.replace(batches, share=slice(1, 3)).batch(3)

    assert whole.depth is not None
    assert same(part, Batch(whole.index[1:], whole.image[1:], whole.mask[1:], whole.depth[1:]))


def test_a_split_smaller_than_a_batch(batches: TrainingBatches) -> None:
    """It makes a batch of its own size in every step."""
    small = dataclasses.replace(batches, batch_size=16)

    assert (small.images_per_step, small.steps_per_epoch) == (N_IMAGES, 1)
    assert sorted(small.index(5).tolist()) == list(range(N_IMAGES))
