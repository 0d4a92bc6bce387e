"""Pictures of masks."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semalign.data import pictures
from semalign.data.pictures import encode_png, font_file, indexed_mask, overlay_with_legend
from semalign.metrics import IGNORE
from semalign.palette import class_colors

H, W = 5, 7


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Return H x W x 3 RGB values of a picture."""
    return np.asarray(picture.convert("RGB"))


def test_colors_differ() -> None:
    """Every one of the 255 classes has a color of its own, and a class keeps its color when others are added."""
    colors = class_colors(255)

    assert colors.shape == (255, 3)
    assert colors.dtype == np.uint8
    assert len({tuple(color) for color in colors.tolist()}) == 255
    np.testing.assert_array_equal(class_colors(7), colors[:7])
    assert class_colors(0).shape == (0, 3)


def test_neighbouring_classes_are_far_apart() -> None:
    """The first classes, which most data sets stop at, are at least 40 levels apart in some channel."""
    colors = class_colors(11).astype(int)
    distance = np.abs(colors[:, None] - colors[None]).max(axis=-1)

    assert distance[~np.eye(11, dtype=bool)].min() >= 40


def test_an_indexed_mask_round_trip() -> None:
    """A mask's PNG is read back as the class indices, and shows each class in its color, ignored pixels in black."""
    mask = np.arange(H * W, dtype=np.uint8).reshape(H, W)
    mask[1, 2] = IGNORE

    data = encode_png(indexed_mask(mask))

    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (W, H))
        np.testing.assert_array_equal(np.asarray(picture), mask)
        shown = pixels(picture)
    labelled = mask != IGNORE
    np.testing.assert_array_equal(shown[labelled], class_colors(255)[mask[labelled]])
    assert shown[1, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("values", [[0], [0, 1], [3, 3], [IGNORE]])
def test_a_mask_of_few_classes_keeps_its_indices(values: list[int]) -> None:
    """However few classes there are, the file holds the indices and no packed palette of its own."""
    mask = np.resize(np.array(values, dtype=np.uint8), (H, W))

    with Image.open(io.BytesIO(encode_png(indexed_mask(mask)))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), mask)


def test_a_mask_that_is_a_view() -> None:
    """A mirrored mask, whose memory runs backwards, comes out mirrored."""
    mask = np.arange(H * W, dtype=np.uint8).reshape(H, W)[:, ::-1]

    np.testing.assert_array_equal(np.asarray(indexed_mask(mask)), mask)


def test_an_overlay_by_hand() -> None:
    """A pixel is image and color mixed; an ignored one is the image's; edges between classes are darker."""
    image = np.full((360, 8, 3), 100, dtype=np.uint8)
    mask = np.zeros((360, 8), dtype=np.uint8)
    mask[:, 4:] = 1
    mask[200:] = IGNORE

    shown = pixels(overlay_with_legend(image, mask, ["sky", "road"], opacity=0.25))[:, :8]

    for row, column, index in ((5, 1, 0), (5, 6, 1)):
        expected = 0.75 * 100 + 0.25 * class_colors(2)[index].astype(float)
        np.testing.assert_allclose(shown[row, column], expected, atol=1)
        assert shown[row, 4].max() < min(shown[row, 1].max(), shown[row, 6].max())
    assert shown[300, 6].tolist() == [100, 100, 100]


def test_small_images_are_enlarged() -> None:
    """A small picture is shown by whole pixels, large enough to be looked at, beside its legend."""
    image = np.zeros((90, 70, 3), dtype=np.uint8)
    sheet = overlay_with_legend(image, np.zeros((90, 70), dtype=np.uint8), ["sky"])

    assert sheet.height == 360
    assert sheet.width > 280
    assert (pixels(sheet)[:, -1] == 255).all()


def legend_swatches(sheet: Image.Image, left: int) -> list[tuple[int, ...]]:
    """Return the colors of the legend's squares from top to bottom."""
    column = pixels(sheet)[:, left + 18]
    middles = [column[8 + 20 * row + 7] for row in range((sheet.height - 12) // 20)]
    return [tuple(color.tolist()) for color in middles if color.tolist() != [255, 255, 255]]


def test_the_legend_lists_the_classes_present() -> None:
    """Classes that are present stand there, the largest first; absent ones do not."""
    image = np.zeros((360, 10, 3), dtype=np.uint8)
    mask = np.full((360, 10), 3, dtype=np.uint8)
    mask[:100] = 0
    mask[100:110] = IGNORE

    sheet = overlay_with_legend(image, mask, ["sky", "road", "tree", "car"])

    colors = class_colors(4).tolist()
    assert legend_swatches(sheet, 10) == [tuple(colors[3]), tuple(colors[0])]


def test_a_mask_without_a_label() -> None:
    """A picture of which nothing is known is shown as it is, with an empty legend."""
    image = np.full((360, 10, 3), 50, dtype=np.uint8)

    sheet = overlay_with_legend(image, np.full((360, 10), IGNORE, dtype=np.uint8), ["sky"])

    np.testing.assert_array_equal(pixels(sheet)[:, :10], image)
    assert legend_swatches(sheet, 10) == []


def test_a_long_legend_fits() -> None:
    """The sheet grows with the number of classes and the length of their names."""
    image = np.zeros((360, 360, 3), dtype=np.uint8)
    mask = (np.arange(360 * 360).reshape(360, 360) % 40).astype(np.uint8)
    names = [f"class {index}" for index in range(40)]

    sheet = overlay_with_legend(image, mask, names)
    wider = overlay_with_legend(image, mask, [*names[:-1], "a class with a name that is much longer"])

    assert sheet.height >= 40 * 20
    assert len(legend_swatches(sheet, 360)) == 40
    assert wider.width > sheet.width + 100


def test_the_legend_of_a_large_picture_is_larger() -> None:
    """The words grow with the picture, so that they can be read where it is shown as a whole."""
    small, large = (
        overlay_with_legend(np.zeros((height, 10, 3), dtype=np.uint8), np.zeros((height, 10), dtype=np.uint8), ["sky"])
        for height in (360, 1440)
    )

    assert large.width - 10 > 2 * (small.width - 10)


def test_chinese_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn by a font that has them; without one the class is named by its number instead of by boxes."""
    assert font_file("sky, Straße") == ""
    monkeypatch.setattr(pictures, "WIDE_FONTS", ("no such font.ttf",))
    assert font_file("天空") is None
    image, mask = np.zeros((360, 10, 3), dtype=np.uint8), np.ones((360, 10), dtype=np.uint8)

    chinese = overlay_with_legend(image, mask, ["道路", "天空"])

    numbered = overlay_with_legend(image, mask, ["class 0", "class 1"])
    assert np.array_equal(pixels(chinese), pixels(numbered))


def test_a_small_share_is_no_nothing() -> None:
    """One pixel of many is not shown as 0.0 %."""
    assert [pictures.percent(share) for share in (0.0, 0.0004, 0.0005, 0.256, 1.0)] == [
        "0.0",
        "<0.1",
        "0.1",
        "25.6",
        "100.0",
    ]
