from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.data.batches import ScoredImages
from semalign.data.open import open_data
from semalign.errors import ConfigError
from semalign.metrics import confusion
from semalign.train.evaluate import Predictor, score_images, windows
from semalign.train.run import load_run
from semalign.train.run_text import RunText
from tests.small import make_data

NO_TEXT = RunText("none", None, None)


class Colors(nn.Module):
    """Answers by the image's own channels, one per class, and remembers the sizes that it saw."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3)[:n_classes, :, None, None])
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor, *_: Any, size: tuple[int, int], **__: Any) -> Tensor:
        """Return the channels of the image, resized."""
        self.seen.append(tuple(image.shape))
        return F.interpolate(F.conv2d(image, self.weight), size=size, mode="bilinear", align_corners=False)


def test_windows_by_hand() -> None:
    """Windows stand at most half a window apart, rows first; a smaller image is one window."""
    assert windows((4, 6), (4, 4)) == [(slice(0, 4), slice(0, 4)), (slice(0, 4), slice(2, 6))]
    assert windows((5, 3), (7, 11)) == [(slice(0, 5), slice(0, 3))]
    assert [rows.start for rows, _ in windows((10, 1), (4, 1))] == [0, 2, 4, 6]


@given(
    size=st.tuples(st.integers(1, 61), st.integers(1, 61)),
    window=st.tuples(st.integers(1, 23), st.integers(1, 23)),
)
def test_windows_cover_and_overlap(size: tuple[int, int], window: tuple[int, int]) -> None:
    """Every pixel is in a window, no window leaves the image or is of another size, neighbours share half of one."""
    found = windows(size, window)

    count = np.zeros(size, dtype=int)
    for rows, columns in found:
        count[rows, columns] += 1
        assert 0 <= rows.start < rows.stop <= size[0]
        assert (rows.stop - rows.start, columns.stop - columns.start) == tuple(map(min, size, window))
    assert count.min() >= 1
    assert len(set(map(str, found))) == len(found)
    for axis in (0, 1):
        starts = sorted({place[axis].start for place in found})
        reach = min(size[axis], window[axis])
        assert all(0 < later - earlier <= max(1, reach // 2) for earlier, later in itertools.pairwise(starts))


def test_counts_are_taken_at_the_masks_own_size(data: Path) -> None:
    """A model that answers by colour is scored on all pixels of each mask, whatever the size it looks at."""
    source = open_data(data)
    model = Colors()

    score = score_images(
        Predictor(model, (11, 13)), ScoredImages.of_split(source, "val"), NO_TEXT, depth_scale=None, batch_size=2
    )

    assert [shape[2:] for shape in model.seen] == [(11, 13), (11, 13)]
    assert [shape[0] for shape in model.seen] == [2, 1]
    assert score.images == source.names("val")
    assert score.counts.shape == (3, 3, 3)
    assert score.confusion.sum() == 3 * 37 * 53
    # True positives and misses of all classes are all labelled pixels of an image.
    assert (score.counts[:, :, 0] + score.counts[:, :, 2]).sum(axis=1).tolist() == [37 * 53] * 3


def test_confusion_is_that_of_the_argmax(data: Path) -> None:
    """The counts are those of a prediction that is made here by hand."""
    source = open_data(data)
    predictor = Predictor(Colors(), (37, 53))

    score = score_images(predictor, ScoredImages.of_split(source, "val"), NO_TEXT, depth_scale=None)

    total = np.zeros((3, 3), dtype=np.int64)
    for name in source.names("val"):
        sample = source.load("val", name)
        total += confusion(sample.mask, sample.image.argmax(axis=-1), 3)
    assert np.array_equal(score.confusion, total)


def test_batch_size_does_not_matter(trained: Path, data: Path) -> None:
    """One image at a time or all at once: the same counts; a choice of names is scored alone and in its order."""
    run = load_run(trained)
    source = open_data(data)
    assert run.bank is not None
    text, images = RunText("classes", run.bank, None), ScoredImages.of_split(source, "val")
    predictor = Predictor(run.model, run.size)

    scores = [score_images(predictor, images, text, depth_scale=None, batch_size=size).counts for size in (1, 3)]
    some = score_images(predictor, images.only(["val-2", "val-0"]), text, depth_scale=None)

    # Convolutions of other batch sizes round differently: a pixel on the fence may fall to the other side.
    assert np.abs(scores[0] - scores[1]).max() <= 2
    assert some.images == ("val-2", "val-0")
    assert np.abs(some.counts - scores[1][[2, 0]]).max() <= 2


def test_progress_counts_images(data: Path) -> None:
    """Whoever watches hears of images done and images in all."""
    heard: list[tuple[int, int]] = []

    score_images(
        Predictor(Colors(), (11, 13)),
        ScoredImages.of_split(open_data(data), "val"),
        NO_TEXT,
        depth_scale=None,
        batch_size=2,
        progress=lambda *numbers: heard.append(numbers),
    )

    assert heard == [(2, 3), (3, 3)]


def test_another_number_of_classes(data: Path) -> None:
    """A model that answers for fewer classes than the data have is refused."""
    with pytest.raises(ConfigError, match="answers for 2 classes and the data have 3"):
        score_images(
            Predictor(Colors(2), (11, 13)), ScoredImages.of_split(open_data(data), "val"), NO_TEXT, depth_scale=None
        )


@pytest.mark.parametrize("window", [None, (32, 32)])
def test_flip_makes_the_answer_symmetric(trained: Path, window: tuple[int, int] | None) -> None:
    """With flip the mirrored image gets the mirrored answer, and probabilities sum to 1."""
    run = load_run(trained)
    assert run.bank is not None
    predictor = Predictor(run.model, run.size, flip=True, window=window)
    image = torch.randn(1, 3, 37, 43, generator=torch.Generator().manual_seed(0))

    scores = predictor.scores(image, run.bank.features, None, None, (37, 43))
    mirrored = predictor.scores(image.flip(-1), run.bank.features, None, None, (37, 43)).flip(-1)

    torch.testing.assert_close(scores, mirrored, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(1, 37, 43))


def test_one_window_as_large_as_the_image_is_the_whole_image(trained: Path) -> None:
    """A window that holds the image gives the probabilities of one forward at the image's own size."""
    run = load_run(trained)
    assert run.bank is not None
    image = torch.randn(1, 3, 37, 43, generator=torch.Generator().manual_seed(0))

    whole = Predictor(run.model, (37, 43)).scores(image, run.bank.features, None, None, (37, 43))
    windowed = Predictor(run.model, run.size, window=(64, 64)).scores(image, run.bank.features, None, None, (37, 43))

    torch.testing.assert_close(windowed, whole.softmax(dim=1))


def test_windows_need_no_multiple_of_the_stride(trained: Path, data: Path) -> None:
    """Windows of odd sizes on images of odd sizes are scored at the masks' size."""
    run = load_run(trained)
    assert run.bank is not None
    predictor = Predictor(run.model, run.size, window=(33, 47))

    score = score_images(
        predictor,
        ScoredImages.of_split(open_data(data), "val").only(["val-0"]),
        RunText("classes", run.bank, None),
        depth_scale=None,
    )

    assert score.confusion.sum() == 37 * 53


def test_neighbours_of_other_sizes_do_not_matter(tmp_path: Path) -> None:
    """An image has the counts that it has alone, whatever the sizes of those that share its batch."""
    folder = make_data(tmp_path / "set")
    for number, size in enumerate(((59, 83), (61, 31))):
        for part, kind in (("images", Image.Resampling.BILINEAR), ("masks", Image.Resampling.NEAREST)):
            file = folder / part / "val" / f"val-{number}.png"
            with Image.open(file) as picture:
                picture.resize(size[::-1], kind).save(file)
    source = open_data(folder)
    predictor = Predictor(Colors(), (23, 29))

    alone, together = (
        score_images(predictor, ScoredImages.of_split(source, "val"), NO_TEXT, depth_scale=None, batch_size=size)
        for size in (1, 8)
    )

    assert np.array_equal(alone.counts, together.counts)
    assert np.array_equal(alone.confusion, together.confusion)
    assert alone.images == together.images == ("val-0", "val-1", "val-2")
