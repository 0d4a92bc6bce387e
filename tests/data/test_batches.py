"""Batches of a split."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semalign.data.batches import (
    Batch,
    DepthScale,
    ImageSet,
    ScoredImages,
    load_images,
    load_scored,
)
from semalign.data.folder import Folder
from semalign.data.loading import TrainingBatches
from semalign.data.sample import MaskArray, Sample
from semalign.data.scenes import Scenes
from semalign.data.transforms import Augmentation, normalize_image
from semalign.errors import DataError
from semalign.metrics import IGNORE

from .conftest import SIZE, save


@pytest.fixture
def scenes() -> Scenes:
    """Return five training and three validation scenes with depth."""
    return Scenes(n_train=5, n_val=3, size=(17, 23))


def masks_only(*masks: list[list[int]]) -> ImageSet:
    """Return a set of which only the masks matter."""
    tensors = [torch.tensor(mask, dtype=torch.uint8) for mask in masks]
    return ImageSet(tuple(map(str, range(len(masks)))), [], tensors, None)


def depths_only(*depths: list[list[float]]) -> ImageSet:
    """Return a set of which only the depths matter."""
    return ImageSet(("a",), [], [], [torch.tensor(depth) for depth in depths])


# ---- What is loaded ----


def test_images_that_are_small_stay_as_they_are(root: Path) -> None:
    """An image smaller than training can show is kept bit for bit, with its mask."""
    source = Folder(root)

    images = load_images(source, "train", depth=False, size=(48, 64))

    assert images.names == ("a", "b", "c")
    assert images.depths is None
    for name, image, mask in zip(images.names, images.images, images.masks, strict=True):
        sample = source.load("train", name)
        assert image.is_contiguous()
        np.testing.assert_array_equal(image.numpy(), sample.image)
        np.testing.assert_array_equal(mask.numpy(), sample.mask)


@pytest.mark.parametrize(
    ("size", "zoom", "expected"),
    [((3, 5), 1.0, (3, 5)), ((3, 5), 1.3, (4, 6)), ((3, 5), 9.0, SIZE), ((9, 2), 2.0, (5, 4))],
)
def test_images_are_shrunk_to_what_training_can_show(
    root: Path, size: tuple[int, int], zoom: float, expected: tuple[int, int]
) -> None:
    """Each side is at most zoom times the input's, and never larger than it is."""
    images = load_images(Folder(root), "train", depth=False, size=size, zoom=zoom)

    assert {(*image.shape[:2],) for image in images.images} == {expected}
    assert {(*mask.shape,) for mask in images.masks} == {expected}


def test_depth_is_loaded_where_it_is(scenes: Scenes, root: Path) -> None:
    """Depth comes with the images at their size; where there is none, asking for it names what is expected."""
    images = load_images(scenes, "val", depth=True, size=(7, 11))

    assert images.depths is not None
    assert {(*depth.shape,) for depth in images.depths} == {(7, 11)}
    with pytest.raises(
        DataError, match=r"data\.depth=true, but the folder data have no depth, expected depth/SPLIT/NAME"
    ):
        load_images(Folder(root), "train", depth=True, size=(7, 11))


def undecodable(source: Folder | Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test where the source decodes an image."""

    def load(split: str, name: str) -> Sample:
        raise AssertionError(f"{split}/{name} was decoded")

    monkeypatch.setattr(source, "load", load)


def test_what_was_decoded_is_mapped(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is decoded, and images, masks and depths are the same bits."""
    first = load_images(scenes, "train", depth=True, size=(13, 19), zoom=1.5)
    undecodable(scenes, monkeypatch)

    again = load_images(scenes, "train", depth=True, size=(13, 19), zoom=1.5)

    assert again.names == first.names
    for column in ("images", "masks", "depths"):
        one, other = getattr(first, column), getattr(again, column)
        assert len(one) == len(other) == 5
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))
    with pytest.raises(AssertionError, match="train/00000 was decoded"):
        load_images(scenes, "train", depth=True, size=(13, 19), zoom=1.25)


def test_a_cache_changes_no_bit(root: Path, cache: Path) -> None:
    """Images of several sizes are equal with a cache and where none can be kept."""
    save(root / "images" / "train" / "b.png", np.full((11, 13, 3), 7, dtype=np.uint8))
    save(root / "masks" / "train" / "b.png", np.ones((11, 13), dtype=np.uint8))
    mapped = load_images(Folder(root), "train", depth=False, size=(6, 6), zoom=1.5)
    scored = load_scored(Folder(root), "train", ("c", "b"), size=(3, 2), depth=False)
    shutil.rmtree(cache)
    cache.write_text("a file where the folder should be")

    decoded = load_images(Folder(root), "train", depth=False, size=(6, 6), zoom=1.5)

    assert [(*image.shape,) for image in mapped.images] == [(5, 7, 3), (9, 9, 3), (5, 7, 3)]
    for one, other in ((mapped.images, decoded.images), (mapped.masks, decoded.masks)):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert scored.ready.keys() == {"c", "b"}
    assert load_scored(Folder(root), "train", ("c", "b"), size=(3, 2), depth=False).ready == {}


def test_changed_data_are_decoded_again(root: Path) -> None:
    """A pack belongs to the content of the files: a changed one is seen."""
    load_images(Folder(root), "train", depth=False, size=(48, 64))
    save(root / "images" / "train" / "b.png", np.full((*SIZE, 3), 9, dtype=np.uint8))

    assert (load_images(Folder(root), "train", depth=False, size=(48, 64)).images[1] == 9).all()


def test_a_broken_image_is_told(root: Path, cache: Path) -> None:
    """What decoding raises is passed on, and nothing half is left in the cache."""
    (root / "images" / "train" / "b.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"b\.png is corrupt or truncated"):
        load_images(Folder(root), "train", depth=False, size=(48, 64))

    assert list((cache / "packed").iterdir()) == []


def test_class_frequency_by_hand() -> None:
    """Shares of the labelled pixels of all masks together; ignored pixels count nowhere, a class may have none."""
    images = masks_only([[0, 0, 2], [IGNORE, 2, 2]], [[0, 2, 2]])

    assert images.class_frequency(4).tolist() == [3 / 8, 0, 5 / 8, 0]


def test_no_labelled_pixel() -> None:
    """Masks without a label have no frequencies, and that is said; it is not NaN."""
    with pytest.raises(
        DataError, match=r"masks of the training split hold only 255 \(ignored\), expected pixels of at"
    ):
        masks_only([[IGNORE, IGNORE]]).class_frequency(3)


def test_depth_scale_by_hand() -> None:
    """Mean and standard deviation over all pixels that were measured, whatever the images' sizes."""
    scale = depths_only([[0.0, 1.0], [0.0, 3.0]], [[5.0, 7.0, 0.0]]).depth_scale()

    assert scale.mean == 4.0
    assert scale.std == pytest.approx((20 / 3) ** 0.5)
    torch.testing.assert_close(
        scale.normalize(torch.tensor([[[[0.0, 4.0, 9.0]]]])), torch.tensor([[[[0.0, 0.0, 5 / scale.std]]]])
    )


@pytest.mark.parametrize(("depth", "count"), [([[0.0, 0.0]], 0), ([[0.0, 2.0]], 1), ([[2.0, 2.0]], 2)])
def test_depth_without_spread(depth: list[list[float]], count: int) -> None:
    """Depth that says nothing cannot be standardised."""
    with pytest.raises(DataError, match=rf"has {count} measured pixels and no spread, .*: set data\.depth=false"):
        depths_only(depth).depth_scale()


# ---- Training batches ----


def training(
    images: ImageSet, *, seed: int = 0, scale: DepthScale | None = None, color: float = 0.3
) -> TrainingBatches:
    """Return batches at 13 x 19 of all images."""
    return TrainingBatches(images, len(images.names), (13, 19), Augmentation(color=color), scale, seed)


def test_an_epoch_shows_each_image_once() -> None:
    """The order is a permutation that depends on seed and epoch alone."""
    images = masks_only(*[[[0]]] * 13)
    orders = {
        (seed, epoch): training(images, seed=seed).index(epoch).tolist() for seed in range(3) for epoch in range(3)
    }

    assert all(sorted(order) == list(range(13)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 9
    assert training(images, seed=2).index(1).tolist() == orders[2, 1]


def batch(
    images: ImageSet, index: list[int], *, seed: int = 0, step: int = 0, scale: DepthScale | None = None
) -> Batch:
    """Return views of some images at 13 x 19."""
    return training(images, seed=seed, scale=scale).views(np.array(index), step)


def equal(one: Batch, other: Batch) -> bool:
    """Return whether image and mask of two batches are the same bits."""
    return torch.equal(one.image, other.image) and torch.equal(one.mask, other.mask)


def test_shapes_of_a_training_batch(scenes: Scenes) -> None:
    """Image B x 3 x H x W in channels-last memory, mask of class indices, depth standardised."""
    images = load_images(scenes, "train", depth=True, size=(13, 19), zoom=1.75)

    made = batch(images, [4, 1], scale=images.depth_scale())

    assert made.index.tolist() == [4, 1]
    assert made.image.shape == (2, 3, 13, 19)
    assert made.image.is_contiguous(memory_format=torch.channels_last)
    assert (made.mask.shape, made.mask.dtype) == ((2, 13, 19), torch.int64)
    assert set(made.mask.flatten().tolist()) <= {*range(len(scenes.class_names)), IGNORE}
    assert made.depth is not None
    assert made.depth.shape == (2, 1, 13, 19)
    assert made.depth.isfinite().all()
    assert abs(float(made.depth.mean())) < 1


def test_a_batch_depends_on_seed_and_step_alone(scenes: Scenes) -> None:
    """The same step of the same seed is the same bits, other steps and seeds differ."""
    images = load_images(scenes, "train", depth=False, size=(13, 19))

    first = batch(images, [0, 1, 2], seed=3, step=5)
    torch.manual_seed(1)
    np.random.default_rng(1).random(7)

    assert equal(first, batch(images, [0, 1, 2], seed=3, step=5))
    assert not equal(first, batch(images, [0, 1, 2], seed=3, step=6))
    assert not equal(first, batch(images, [0, 1, 2], seed=4, step=5))


def test_all_arms_see_the_same_images(scenes: Scenes) -> None:
    """Depth, more images in the set or a longer batch shift nothing in the images that are shown."""
    rgb = load_images(scenes, "train", depth=False, size=(13, 19))
    depth = load_images(scenes, "train", depth=True, size=(13, 19))
    few = dataclasses.replace(rgb, names=rgb.names[:3], images=rgb.images[:3], masks=rgb.masks[:3])
    plain = batch(rgb, [2, 0])

    assert equal(plain, batch(depth, [2, 0], scale=depth.depth_scale()))
    assert equal(plain, batch(few, [2, 0]))
    assert torch.equal(plain.mask, batch(rgb, [2, 0, 4]).mask[:2])


def test_color_does_not_touch_masks_or_places(scenes: Scenes) -> None:
    """Colors have a stream of their own: without them the same views are shown."""
    images = load_images(scenes, "train", depth=False, size=(13, 19))

    def views(color: float) -> Batch:
        return training(images, color=color).views(np.array([0, 3]), 0)

    assert torch.equal(views(0.0).mask, views(0.3).mask)
    assert not torch.equal(views(0.0).image, views(0.3).image)


# ---- Plain batches ----


def test_scored_batches_by_hand(root: Path) -> None:
    """Images in the given order at the asked size, the last batch shorter, masks whole at their own size."""
    source = Folder(root)
    names = ("c", "a", "b")

    made = list(ScoredImages(source, "train", names).batches(SIZE, None, 2))

    assert [part.index.tolist() for part, _ in made] == [[0, 1], [2]]
    flat = [(image, mask) for part, masks in made for image, mask in zip(part.image, masks, strict=True)]
    for name, (image, mask) in zip(names, flat, strict=True):
        sample = source.load("train", name)
        pixels = torch.from_numpy(sample.image).permute(2, 0, 1)[None]
        assert torch.equal(image, normalize_image(pixels)[0])
        np.testing.assert_array_equal(mask, sample.mask)
    assert {(*part.mask.shape,) for part, _ in made} == {(2, 0, 0), (1, 0, 0)}
    assert {part.depth for part, _ in made} == {None}


def test_scored_images_are_decoded_once(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a scored set come the bits that decoding gives, for any of its names, without decoding."""
    names = scenes.names("val")
    depth = DepthScale(2.0, 3.0)

    def made(images: ScoredImages) -> list[tuple[Batch, list[MaskArray]]]:
        return list(images.batches((7, 11), depth, 2))

    scored = load_scored(scenes, "val", names, size=(7, 11), depth=True)
    plain = ScoredImages.of_split(scenes, "val")
    decoded = [made(plain), made(plain.only(names[1:2]))]
    undecodable(scenes, monkeypatch)

    for expected, found in zip(decoded, [made(scored), made(scored.only(names[1:2]))], strict=True):
        for (batch, masks), (other, others) in zip(expected, found, strict=True):
            assert torch.equal(batch.image, other.image)
            assert batch.image.stride() == other.image.stride()
            assert batch.depth is not None
            assert other.depth is not None
            assert torch.equal(batch.depth, other.depth)
            assert all(np.array_equal(a, b) for a, b in zip(masks, others, strict=True))


def test_a_scored_set_of_another_size_is_not_used(scenes: Scenes) -> None:
    """Images at their own size are decoded, whatever is at hand."""
    scored = load_scored(scenes, "val", scenes.names("val"), size=(7, 11), depth=False)

    made = scored.only(["00001"]).batches(None, None, 1)

    assert next(made)[0].image.shape == (1, 3, 17, 23)


def test_scored_batches_of_several_sizes(root: Path) -> None:
    """With a size images of different sizes share a batch; without one each comes alone, as stored."""
    save(root / "images" / "train" / "b.png", np.zeros((11, 13, 3), dtype=np.uint8))
    save(root / "masks" / "train" / "b.png", np.zeros((11, 13), dtype=np.uint8))
    source = Folder(root)

    def shapes(size: tuple[int, int] | None) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
        made = ScoredImages.of_split(source, "train").batches(size, None, 3)
        return [((*part.image.shape,), [mask.shape for mask in masks]) for part, masks in made]

    assert shapes((3, 2)) == [((3, 3, 3, 2), [SIZE, (11, 13), SIZE])]
    assert shapes(None) == [((1, 3, 5, 7), [SIZE]), ((1, 3, 11, 13), [(11, 13)]), ((1, 3, 5, 7), [SIZE])]


def test_scored_batches_do_not_depend_on_their_length(scenes: Scenes) -> None:
    """One by one or all at once, the images are the same bits."""

    def images(batch_size: int) -> Tensor:
        made = ScoredImages.of_split(scenes, "val").batches((7, 11), DepthScale(2.0, 3.0), batch_size)
        return torch.cat([torch.cat([part.image, part.depth], dim=1) for part, _ in made if part.depth is not None])

    assert images(1).shape == (3, 4, 7, 11)
    assert torch.equal(images(1), images(3))


def test_a_model_with_depth_and_data_without(root: Path) -> None:
    """The image without depth is named."""
    source = Folder(root)

    with pytest.raises(DataError, match=r"the model was trained with depth, but val/d has none, expected depth/SPLIT/"):
        next(ScoredImages(source, "val", ("d",)).batches(SIZE, DepthScale(0.0, 1.0), 1))
