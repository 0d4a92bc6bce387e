"""Views of training images, and plain resizing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semalign.data.transforms import (
    PAD_VALUE,
    Augmentation,
    normalize_image,
    normalize_jittered,
    random_view,
    resize_depth,
    resize_image,
    resize_mask,
)
from semalign.metrics import IGNORE

H, W = 11, 17
SIZE = (7, 13)


class Fixed(np.random.Generator):
    """A generator whose draws are given: the zoom, then where the crop stands and whether it is mirrored."""

    def __init__(self, zoom: float, top: float, left: float, mirror: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.zoom, self.rest = zoom, np.array([top, left, mirror])

    def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
        """Return the logarithm of the given zoom."""
        assert low - 1e-9 <= math.log(self.zoom) <= high + 1e-9
        return math.log(self.zoom)

    def random(self, count: int) -> np.ndarray:  # type: ignore[override]
        """Return the other three draws."""
        assert count == 3
        return self.rest


def coded(height: int = H, width: int = W) -> tuple[Tensor, Tensor, Tensor]:
    """Return image, mask and depth whose every pixel says where it came from: 17 times the row plus the column."""
    code = 17 * torch.arange(height)[:, None] + torch.arange(width)
    assert code.max() < IGNORE
    image = torch.stack([code, code + 1, code + 2], dim=-1).to(torch.uint8)
    return image, code.to(torch.uint8), code.float() + 1


# ---- Resizing ----


def test_resizing_to_the_own_size_changes_nothing() -> None:
    """At the size that it has an image comes back bit for bit, channels first."""
    image, mask, depth = coded(5, 7)

    assert torch.equal(resize_image(image, (5, 7)), image.permute(2, 0, 1))
    assert torch.equal(resize_mask(mask, (5, 7)), mask)
    assert torch.equal(resize_depth(depth, (5, 7)), depth)


def test_resizing_by_hand() -> None:
    """Half the size: an image's pixels are averaged, a mask's and a depth's are taken from one place, never mixed."""
    values = torch.tensor([[0, 0, 200, 200], [0, 0, 200, 200]], dtype=torch.uint8)
    image = values[..., None].expand(2, 4, 3).contiguous()
    holes = torch.tensor([[0.0, 3.0, 0.0, 5.0]])

    small = resize_image(image, (1, 2))

    assert small.shape == (3, 1, 2)
    assert small.dtype == torch.uint8
    assert 0 < int(small[0, 0, 0]) < 100 < int(small[0, 0, 1]) < 200
    # The centre of a pixel of half the size lies between two; the second is taken.
    assert resize_mask(torch.tensor([[1, 2, 3, 4]], dtype=torch.uint8), (1, 2)).tolist() == [[2, 4]]
    assert resize_depth(holes, (1, 2)).tolist() == [[3.0, 5.0]]
    assert resize_depth(holes, (1, 8)).tolist() == [[0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 5.0, 5.0]]


@given(st.integers(0, 99), st.integers(1, 19), st.integers(1, 19))
def test_resizing_invents_no_class(seed: int, height: int, width: int) -> None:
    """A resized mask holds classes of the mask alone, a resized depth measured values alone, an image its range."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.tensor([0, 3, 7, IGNORE], dtype=torch.uint8)[torch.randint(4, (H, W), generator=rng)]
    image = torch.randint(50, 60, (H, W, 3), generator=rng).to(torch.uint8)

    assert set(resize_mask(mask, (height, width)).flatten().tolist()) <= {0, 3, 7, IGNORE}
    assert set(resize_depth(mask.float(), (height, width)).flatten().tolist()) <= {0.0, 3.0, 7.0, 255.0}
    small = resize_image(image, (height, width))
    assert small.shape == (3, height, width)
    assert (int(small.min()) >= 50) & (int(small.max()) <= 59)


# ---- Views ----


def test_a_view_at_zoom_one_is_the_whole_image() -> None:
    """Zoom 1 at the image's own size shows every pixel in its place."""
    image, mask, depth = coded()

    view, labels, distances = random_view(image, mask, depth, (H, W), Augmentation(), Fixed(1.0, 0.9, 0.9, 0.9))

    assert torch.equal(view, image.permute(2, 0, 1))
    assert torch.equal(labels, mask)
    assert distances is not None
    assert torch.equal(distances, depth)


@pytest.mark.parametrize(("top", "left", "row", "column"), [(0, 0, 0, 0), (0.999, 0.999, 6, 8), (0.5, 0.25, 3, 2)])
def test_a_crop_by_hand(top: float, left: float, row: int, column: int) -> None:
    """Zoom 2 shows half of each side, from row and column that the draws choose; all three agree pixel by pixel."""
    image, mask, depth = coded(12, 16)

    view, labels, distances = random_view(
        image, mask, depth, (6, 8), Augmentation((2.0, 2.0)), Fixed(2.0, top, left, 0.9)
    )

    expected = mask[row : row + 6, column : column + 8]
    assert torch.equal(labels, expected)
    assert torch.equal(view[0], expected)
    assert distances is not None
    assert torch.equal(distances, expected.float() + 1)


def test_a_border_by_hand() -> None:
    """Zoom 1/2 shows the whole image in half of each side; around it grey that is not trained on nor measured."""
    image, mask, depth = coded(4, 6)

    view, labels, distances = random_view(
        image, mask, depth, (8, 12), Augmentation((0.5, 0.5)), Fixed(0.5, 0.2, 0.99, 0.9)
    )

    # Free are 4 rows and 6 columns: floor(0.2 * 5) = 1 above, floor(0.99 * 7) = 6 to the left.
    inside = (slice(1, 5), slice(6, 12))
    assert torch.equal(labels[inside], mask)
    assert torch.equal(view[0][inside], image[..., 0])
    assert (labels != IGNORE).sum() == 24
    assert distances is not None
    assert torch.equal(distances[inside], depth)
    assert (distances != 0).sum() == 24
    outside = torch.ones(8, 12, dtype=torch.bool)
    outside[inside] = False
    assert (view[:, outside] == PAD_VALUE).all()
    assert (normalize_image(view[None])[0][:, outside].abs() < 0.01).all()


def test_mirroring() -> None:
    """A draw below one half mirrors image, mask and depth alike, unless flips are off."""
    image, mask, depth = coded()

    def view(mirror: float, flip: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        return random_view(image, mask, depth, (H, W), Augmentation(flip=flip), Fixed(1.0, 0, 0, mirror))

    plain, mirrored = view(0.5, True), view(0.49, True)
    for before, after in zip(plain, mirrored, strict=True):
        assert before is not None
        assert after is not None
        assert torch.equal(before.flip(-1), after)
    assert torch.equal(view(0.49, False)[1], plain[1])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(0.25, 0.5), (0.75, 1.75), (1.0, 1.0), (3.0, 40.0)]))
def test_every_view_keeps_image_mask_and_depth_together(seed: int, zoom: tuple[float, float]) -> None:
    """Whatever is drawn, shapes are as asked for, and a pixel of mask and depth is the same pixel of the image."""
    code = torch.arange(H * W).reshape(H, W)
    mask = (code % 7).to(torch.uint8)

    view, labels, distances = random_view(
        mask[..., None].expand(H, W, 3), mask, mask.float() + 1, SIZE, Augmentation(zoom), np.random.default_rng(seed)
    )

    assert view.shape == (3, *SIZE)
    assert distances is not None
    assert labels.shape == distances.shape == SIZE
    seen = labels != IGNORE
    assert torch.equal(distances[seen], labels[seen].float() + 1)
    assert (distances[~seen] == 0).all()
    assert seen.all() or zoom[0] < 1
    assert seen.any()


def test_same_stream_same_view() -> None:
    """The same generator gives the same view, another one another, and depth changes nothing."""
    image, mask, depth = coded()

    def view(seed: int, depth: Tensor | None) -> Tensor:
        return random_view(image, mask, depth, SIZE, Augmentation(), np.random.default_rng(seed))[1]

    assert torch.equal(view(3, depth), view(3, None))
    assert not torch.equal(view(3, depth), view(4, depth))


def test_the_stream_does_not_depend_on_what_was_drawn() -> None:
    """Every view draws four numbers, so that the views after it are the same whatever its options are."""
    image, mask, _ = coded()
    states = []
    for augmentation in (Augmentation(), Augmentation((1.0, 1.0), flip=False), Augmentation((0.5, 0.6))):
        generator = np.random.default_rng(5)
        random_view(image, mask, None, SIZE, augmentation, generator)
        states.append(generator.random())

    generator = np.random.default_rng(5)
    generator.random(4)
    assert states == [generator.random()] * 3


# ---- Colors ----


def test_normalizing_by_hand() -> None:
    """(x / 255 - 0.45) / 0.25 in channels-last memory."""
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 5, 7)

    normal = normalize_image(image)

    assert normal.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normal[1, :, 4, 6], torch.tensor([-1.8, -1.0, 2.2]))


def test_no_color_strength_changes_nothing() -> None:
    """Strength 0 normalises and draws nothing."""
    image, generator = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8), np.random.default_rng(0)

    assert torch.equal(normalize_jittered(image, 0.0, generator), normalize_image(image))
    assert generator.random() == np.random.default_rng(0).random()


def test_colors_by_hand() -> None:
    """Contrast, brightness, saturation and channel shift of each image, from its own draws, in this order."""
    image = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    rng = np.random.default_rng(8)
    contrast, brightness, saturation = (rng.uniform(-0.3, 0.3, 2) for _ in range(3))
    shift = rng.uniform(-0.075, 0.075, (2, 3))

    changed = normalize_jittered(image, 0.3, np.random.default_rng(8))

    assert changed.dtype == torch.float32
    assert changed.is_contiguous(memory_format=torch.channels_last)
    for i in range(2):
        x = (image[i].double() / 255 - 0.45) / 0.25 * (1 + contrast[i]) + brightness[i]
        grey = x.mean(dim=0)
        expected = grey + (x - grey) * (1 + saturation[i]) + torch.from_numpy(shift[i])[:, None, None]
        torch.testing.assert_close(changed[i].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 3, 37, 53), (2, 3, 144, 193)])
def test_colors_keep_their_bits(shape: tuple[int, ...]) -> None:
    """Plane by plane gives the bits of the plain formula on the whole batch, with which earlier results were made."""
    torch.manual_seed(0)
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    rng = np.random.default_rng(8)

    def draw(reach: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(-reach, reach, (len(image), channels, 1, 1)).astype(np.float32))

    plain = normalize_image(image)
    plain = plain * (1 + draw(0.3)) + draw(0.3)
    grey = plain.mean(dim=1, keepdim=True)
    plain = grey + (plain - grey) * (1 + draw(0.3))
    plain = plain + draw(0.3 / 4, 3)

    assert torch.equal(normalize_jittered(image, 0.3, np.random.default_rng(8)), plain)
