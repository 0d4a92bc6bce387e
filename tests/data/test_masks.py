"""How masks are stored, and which color is which class."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semalign.data.colors import ClassColors, find_class_colors
from semalign.data.masks import look_at_mask, read_color_codes, read_indices
from semalign.data.pictures import indexed_mask
from semalign.errors import DataError
from semalign.palette import PASCAL_VOC, class_colors

from .conftest import grey_png, save

NAMES = ("ground", "water", "boat")


def png(image: Image.Image) -> bytes:
    """Return an image as PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_values() -> None:
    """Values of one channel are counted, of 2 bits unstretched and of 16 bits in full; equal channels count as one."""
    grey = np.array([[0, 3, 255], [3, 3, 7]], np.uint8)

    facts = look_at_mask(png(Image.fromarray(grey)))
    assert facts is not None
    assert (dict(facts.values), facts.channels, facts.colors, facts.palette) == ({0: 1, 3: 3, 7: 1, 255: 1}, 1, (), {})
    stacked = look_at_mask(png(Image.fromarray(np.stack([grey] * 3, axis=-1))))
    assert stacked is not None
    assert (stacked.values, stacked.channels) == (facts.values, 3)
    with_alpha = look_at_mask(png(Image.fromarray(np.stack([grey, grey * 0 + 9], axis=-1), "LA")))
    assert with_alpha is not None
    assert (with_alpha.values, with_alpha.channels) == (facts.values, 3)
    wide = look_at_mask(png(Image.fromarray(grey.astype(np.uint16) * 257)))
    assert wide is not None
    assert set(wide.values) == {0, 771, 1799, 65535}
    two_bits = look_at_mask(grey_png(2, 4, 1, bytes([0b00011011])))
    assert two_bits is not None
    assert dict(two_bits.values) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_colors_and_palettes() -> None:
    """Colors are listed once, up to a limit; of a palette the colors in use; rubbish and JPEG give nothing."""
    rgb = np.array([[[1, 2, 3], [255, 0, 7]], [[1, 2, 3], [0, 0, 0]]], np.uint8)
    facts = look_at_mask(png(Image.fromarray(rgb)))
    assert facts is not None
    assert facts.colors == ((0, 0, 0), (1, 2, 3), (255, 0, 7))
    assert not facts.values
    many = np.random.default_rng(0).integers(256, size=(47, 53, 3), dtype=np.uint8)
    photo = look_at_mask(png(Image.fromarray(many)))
    assert photo is not None
    assert len(photo.colors) == 1025

    drawn = look_at_mask(png(indexed_mask(np.array([[0, 2, 255]], np.uint8))))
    assert drawn is not None
    assert drawn.palette == {
        0: tuple(class_colors(3)[0].tolist()), 2: tuple(class_colors(3)[2].tolist()), 255: (0, 0, 0)
    }  # fmt: skip
    jpeg = io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "JPEG")
    assert look_at_mask(b"") is look_at_mask(b"rubbish") is look_at_mask(jpeg.getvalue()) is None


def test_reading_back(tmp_path: Path) -> None:
    """Values come back as stored, from one channel or three; colors as codes, from RGB or a palette."""
    grey = np.array([[0, 3, 255], [3, 3, 7]], np.uint8)
    save(tmp_path / "one.png", grey)
    save(tmp_path / "three.png", np.stack([grey] * 3, axis=-1))
    save(tmp_path / "rgb.png", np.array([[[1, 2, 3], [255, 0, 7]]], np.uint8))
    indexed_mask(np.array([[1, 255]], np.uint8)).save(tmp_path / "palette.png")

    assert np.array_equal(read_indices(tmp_path / "one.png"), grey)
    assert np.array_equal(read_indices(tmp_path / "three.png"), grey)
    assert read_color_codes(tmp_path / "rgb.png").tolist() == [[0x010203, 0xFF0007]]
    red, green, blue = class_colors(2)[1].tolist()
    assert read_color_codes(tmp_path / "palette.png").tolist() == [[red << 16 | green << 8 | blue, 0]]
    with pytest.raises(DataError, match=r"rgb\.png is a picture in colors, expected one channel"):
        read_indices(tmp_path / "rgb.png")


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_channels_of_16_bits(tmp_path: Path, color_type: int, channels: int) -> None:
    """Several channels of 16 bits, of which Pillow keeps the high bytes, are no class indices, equal or not."""
    values = np.repeat(np.array([[0, 1], [2, 1], [0, 2]], ">u2")[..., None], channels, axis=-1)
    data = grey_png(16, 2, 3, values.tobytes(), color_type)
    (tmp_path / "deep.png").write_bytes(data)
    facts = look_at_mask(data)

    assert facts is not None
    assert facts.is_deep
    assert (facts.size, dict(facts.values), facts.colors) == ((3, 2), {}, ((0, 0, 0),))
    with pytest.raises(DataError, match=r"deep\.png has several channels of 16 bits, expected one channel"):
        read_indices(tmp_path / "deep.png")
    one = look_at_mask(grey_png(16, 2, 3, values[..., 0].tobytes()))
    assert one is not None
    assert (one.is_deep, set(one.values)) == (False, {0, 1, 2})


def test_pascal() -> None:
    """The palette of Pascal VOC, by the entries that its development kit prints."""
    colors = PASCAL_VOC.tolist()

    assert colors[:5] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert (colors[15], colors[20], colors[255]) == ([192, 128, 128], [0, 64, 128], [224, 224, 192])


def test_known_palettes(tmp_path: Path) -> None:
    """A palette is known if it has every color; one color, or one that is none of its classes, is too little."""
    black, red, green, olive = (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)
    known = find_class_colors(tmp_path, NAMES, {black, red, green, (224, 224, 192)})
    assert known is not None
    assert str(known.known_from) == "the palette of Pascal VOC"
    codes = np.array([[0x000000, 0x800000], [0x008000, 0xE0E0C0]], np.int32)
    assert known.indices(codes).tolist() == [[0, 1], [2, 255]]

    assert find_class_colors(tmp_path, NAMES, {black, red}) is None
    assert find_class_colors(tmp_path, NAMES, {black, red, green, olive}) is None
    own = {tuple(row) for row in class_colors(3).tolist()} | {black}
    predicted = find_class_colors(tmp_path, NAMES, own)
    assert predicted is not None
    assert str(predicted.known_from) == "the palette of predictions"
    assert predicted.index[black] == 255


def test_a_file_of_colors(tmp_path: Path) -> None:
    """CamVid's layout: names in any case, classes of no interest are ignored, several colors may mean one class."""
    path = tmp_path / "label_colors.txt"
    path.write_text("1 2 3 Water\n\n9 9 9\tGROUND\n4 4 4 sky with clouds\n7 7 7 boat\n8 8 8 boat\n")
    known = find_class_colors(tmp_path, NAMES, {(9, 9, 9), (4, 4, 4)})
    assert known == ClassColors({(1, 2, 3): 1, (9, 9, 9): 0, (4, 4, 4): 255, (7, 7, 7): 2, (8, 8, 8): 2}, path.name)

    with pytest.raises(DataError, match=r"label_colors\.txt lacks the color 5 5 5 that masks hold \(and 0 more\)"):
        find_class_colors(tmp_path, NAMES, {(9, 9, 9), (5, 5, 5)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 water", "line 1 of .*colors.txt is '1 2 water', expected R G B NAME with numbers from 0 to 255"),
        ("\n1 2 256 water", "line 2 of .* expected R G B NAME"),
        ("1 2 3 water\n1 2 3 boat", "line 2 of .* gives the color 1 2 3 a second class"),
        ("1 2 3 water\n4 5 6 ground", re.escape("has no color for class 'boat', expected a line R G B NAME")),
    ],
)
def test_bad_files_of_colors(tmp_path: Path, text: str, message: str) -> None:
    """A line that is none, a color of two classes, a class without color."""
    (tmp_path / "colors.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        find_class_colors(tmp_path, NAMES, {(1, 2, 3)})
