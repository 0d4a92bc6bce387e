"""Reading a folder: each kind of file as it is stored, each kind of fault by one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semalign.data import images as images_module
from semalign.data.depth import decode_depth
from semalign.data.folder import Folder
from semalign.data.images import decode_image, read_image
from semalign.data.leaking import texts_from_masks
from semalign.data.masks import decode_mask
from semalign.errors import DataError, TextError

from .conftest import SIZE, grey_png, save

HERE = Path("x.png")


def png(image: Image.Image, **options: object) -> bytes:
    """Return a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


# What a sound folder gives.


def test_load(tmp_path: Path) -> None:
    """Pixels, indices, depth, texts and cluster of a 2 x 3 image come as they were stored."""
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    mask = np.array([[0, 1, 255], [1, 0, 0]], np.uint8)
    depth = np.array([[0, 1, 700], [65535, 2, 3]], np.uint16)
    save(tmp_path / "images/val/one.two.png", image)
    save(tmp_path / "masks/val/one.two.png", mask)
    save(tmp_path / "depth/val/one.two.png", depth)
    (tmp_path / "classes.txt").write_text("sky\nroad surface\n")
    (tmp_path / "texts.jsonl").write_text('{"image": "val/one.two", "texts": ["a  road", "sky"]}\n')
    (tmp_path / "clusters.txt").write_text("val/one.two seq7\n")
    source = Folder(tmp_path)
    sample = source.load("val", "one.two")

    assert sample.name == "one.two"
    assert np.array_equal(sample.image, image)
    assert np.array_equal(sample.mask, mask)
    assert sample.mask.dtype == np.uint8
    assert np.array_equal(sample.depth, depth)  # type: ignore[arg-type]
    assert sample.depth is not None
    assert sample.depth.dtype == np.float32
    assert sample.texts == ("a road", "sky")
    assert sample.cluster == "seq7"
    assert sample.image.flags.c_contiguous
    assert all(array.flags.writeable for array in (sample.image, sample.mask, sample.depth))
    assert source.class_names == ("sky", "road surface")
    assert (source.kind, source.has_depth, source.has_texts) == ("folder", True, True)
    assert source.mask_classes("val", "one.two") == (0, 1)
    assert texts_from_masks(source, "val") == {"one.two": ("sky", "road surface")}
    assert np.array_equal(source.image("val", "one.two"), image)


def test_optional_parts_may_be_absent(root: Path) -> None:
    """Without depth/, texts.jsonl and clusters.txt there is no depth, no text, and each image is its own cluster."""
    source = Folder(root)
    sample = source.load("train", "b")

    assert (source.has_depth, source.has_texts) == (False, False)
    assert (sample.depth, sample.texts, sample.cluster) == (None, (), "train/b")
    assert source.texts("val") == {"d": (), "e": ()}
    assert source.clusters("val") == {"d": "val/d", "e": "val/e"}
    assert source.describe()["splits"] == {"train": 3, "val": 2}


def test_order_of_splits_and_names(root: Path) -> None:
    """Splits are train, val, then the others by name; names are sorted and hidden files passed over."""
    for split in ("zoo", "extra"):
        shutil.copytree(root / "images/val", root / "images" / split)
        shutil.copytree(root / "masks/val", root / "masks" / split)
    (root / "images/train/._a.png").write_bytes(b"\0")
    (root / "images/.cache").mkdir()
    (root / "images/train/notes.txt").write_text("no image")

    assert Folder(root).splits == ("train", "val", "extra", "zoo")
    assert Folder(root).names("train") == ("a", "b", "c")
    assert Folder(root).listing.problems() == []


def test_symlinks(root: Path, tmp_path: Path) -> None:
    """A root, a split or a file may be a symbolic link."""
    (root / "images/val").rename(tmp_path / "elsewhere")
    (root / "images/val").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "masks/val/d.png").rename(tmp_path / "mask.png")
    (root / "masks/val/d.png").symlink_to(tmp_path / "mask.png")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)

    assert Folder(tmp_path / "link").load("val", "d").mask.shape == SIZE


def test_threads_and_copies(root: Path) -> None:
    """Loading from several threads and from a pickled copy gives the same samples."""
    (root / "texts.jsonl").write_text('{"image": "train/a", "texts": ["x"]}')
    source = Folder(root)
    jobs = [("train", name) for name in "abc"] * 5
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: pickle.dumps(source.load(*job)), jobs))

    assert found == [pickle.dumps(Folder(root).load(*job)) for job in jobs]
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301  # our own bytes
    assert pickle.dumps(copy.load("train", "a")) == found[0]


# Images.


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_image_modes(mode: str) -> None:
    """Grey, palette, CMYK and alpha images become RGB."""
    image = Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode)
    data = io.BytesIO()
    image.save(data, "TIFF" if mode == "CMYK" else "PNG")

    assert np.array_equal(decode_image(data.getvalue(), HERE).image, np.full((2, 3, 3), 255))


def test_palette_with_transparency() -> None:
    """A palette image whose palette holds transparency gives its colors, without a warning."""
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])

    assert decode_image(png(image, transparency=b"\x00\x80"), HERE).image.tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_image_of_16_bits_is_refused() -> None:
    """Pillow would clip 16-bit grey to 255: the image is refused instead."""
    data = png(Image.fromarray(np.full((2, 3), 3000, np.uint16)))
    with pytest.raises(DataError, match=r"image x.png has pixels of mode 'I;16', expected 8 bits per channel"):
        decode_image(data, HERE)


def rotated(code: int, size: tuple[int, int] = (2, 3)) -> bytes:
    """Return a PNG of H x W with an EXIF orientation, its pixels counting up."""
    exif = Image.Exif()
    exif[0x0112] = code
    array = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    return png(Image.fromarray(array), exif=exif)


def test_orientation_follows_the_mask() -> None:
    """A 2 x 3 image turned by EXIF is turned for a 3 x 2 mask or without mask, and left for a 2 x 3 mask."""
    stored = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    # Code 6: the camera was turned left, the picture is upright after a turn to the right.
    upright = np.rot90(stored, -1)
    for size, expected, meaning in [((3, 2), upright, "applied"), (None, upright, "applied"), ((2, 3), stored, "left")]:
        image, orientation = decode_image(rotated(6), HERE, size)
        assert np.array_equal(image, expected)
        assert image.flags.c_contiguous
        assert orientation == meaning


def test_orientation_that_keeps_the_size_is_ambiguous() -> None:
    """Upside down fits the mask either way: it is turned, and marked; codes that do not exist are upright."""
    stored = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)

    image, orientation = decode_image(rotated(3), HERE, (2, 3))
    assert np.array_equal(image, stored[::-1, ::-1])
    assert orientation == "ambiguous"
    assert decode_image(rotated(1), HERE, (2, 3)).orientation == ""
    assert np.array_equal(decode_image(rotated(9), HERE, (2, 3)).image, stored)


@pytest.mark.parametrize("code", range(2, 9))
def test_orientation_agrees_with_pillow(code: int, tmp_path: Path) -> None:
    """All eight codes turn as Pillow's `exif_transpose` does."""
    from PIL import ImageOps

    path = tmp_path / "a.png"
    path.write_bytes(rotated(code))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))

    assert np.array_equal(read_image(path), expected)


def test_image_alone_is_turned_as_in_the_sample(root: Path) -> None:
    """`image` and `load` agree on a turned image, whichever size its mask has."""
    save(root / "masks/train/a.png", np.zeros((3, 2), np.uint8))
    save(root / "masks/train/b.png", np.zeros((2, 3), np.uint8))
    for name in "ab":
        (root / "images/train" / f"{name}.png").write_bytes(rotated(8))
        source = Folder(root)
        assert np.array_equal(source.image("train", name), source.load("train", name).image)

    assert source.image("train", "a").shape == (3, 2, 3)
    assert source.image("train", "b").shape == (2, 3, 3)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8])
def test_truncated_image(tmp_path: Path, ending: str, kept: float) -> None:
    """A cut file of any format is refused by a sentence that names it, never shown in part."""
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(256, size=(31, 37, 3), dtype=np.uint8)
    save(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])

    with pytest.raises(DataError, match=rf"image .*a\.{ending} is corrupt or truncated and cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, ending: str) -> None:
    """Whatever bytes are damaged, the file is read or refused by a `DataError`."""
    rng = np.random.default_rng(1)
    path = tmp_path / f"a.{ending}"
    save(path, rng.integers(256, size=(7, 11, 3), dtype=np.uint8))
    sound = path.read_bytes()
    refusals = []
    for _ in range(200):
        data = bytearray(sound)
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(256)
        try:
            assert decode_image(bytes(data), path).image.ndim == 3
        except DataError as error:
            refusals.append(str(error))

    assert refusals
    assert not any("\n" in refusal for refusal in refusals)


def test_missing_file(tmp_path: Path) -> None:
    """A missing image is refused by name."""
    with pytest.raises(DataError, match=r"image .*no\.png cannot be read: No such file"):
        read_image(tmp_path / "no.png")


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with too many pixels is refused before it is decoded, by our limit and by Pillow's."""
    data = png(Image.new("L", (40, 50)))
    monkeypatch.setattr(images_module, "MAX_PIXELS", 1999)
    with pytest.raises(DataError, match=r"x.png is too large: it has 2000 pixels, expected at most 1999, cut it"):
        decode_image(data, HERE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(DataError, match=r"x.png is too large: expected at most 1999 pixels"):
        decode_image(data, HERE)


# Masks and depth.


def test_masks_give_stored_values() -> None:
    """Palette masks give indices, not colors; 1-, 2-, 4- and 16-bit grey give the values as stored."""
    palette = Image.fromarray(np.array([[2, 0, 1]], np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    files = {
        "palette": png(palette),
        "8 bits": grey_png(8, 3, 1, bytes([2, 0, 1])),
        "16 bits": grey_png(16, 3, 1, bytes([0, 2, 0, 0, 0, 1])),
        "4 bits": grey_png(4, 3, 1, bytes([0x20, 0x10])),
        "2 bits": grey_png(2, 3, 1, bytes([0b10000100])),
    }
    for kind, data in files.items():
        assert decode_mask(data, HERE, 3).tolist() == [[2, 0, 1]], kind
        assert decode_mask(data, HERE, 3).dtype == np.uint8
    assert decode_mask(grey_png(1, 3, 1, bytes([0b10100000])), HERE, 2).tolist() == [[1, 0, 1]]


def test_mask_values() -> None:
    """255 is ignored and every other value must be a class; the sentence names the values and how many pixels."""
    assert decode_mask(grey_png(8, 3, 1, bytes([2, 255, 0])), HERE, 3).tolist() == [[2, 255, 0]]
    with pytest.raises(
        DataError, match=r"mask x.png holds the value 3 \(2 of 3 pixels\), expected class indices \(0 to 2"
    ):
        decode_mask(grey_png(8, 3, 1, bytes([3, 3, 0])), HERE, 3)
    with pytest.raises(DataError, match=r"holds the values 254, 256, 65535 \(3 of 3 pixels\)"):
        decode_mask(grey_png(16, 3, 1, bytes([0, 254, 1, 0, 255, 255])), HERE, 3)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "RGB"), ("RGBA", "RGB"), ("LA", "mode 'LA'")])
def test_mask_with_channels(mode: str, kind: str) -> None:
    """A mask of colors is refused."""
    with pytest.raises(DataError, match=rf"mask x.png is an image of {kind} with . channel\(s\), expected one channel"):
        decode_mask(png(Image.new(mode, (3, 2))), HERE, 3)


def test_mask_that_is_no_png() -> None:
    """A JPEG by the name of a PNG is refused: its compression alters indices."""
    data = io.BytesIO()
    Image.new("L", (3, 2)).save(data, "JPEG")
    with pytest.raises(DataError, match=r"mask x.png is a JPEG file, expected a PNG file of class indices"):
        decode_mask(data.getvalue(), HERE, 3)


def test_depth() -> None:
    """Depth of 8 and 16 bits comes as stored; colors are refused."""
    assert decode_depth(grey_png(8, 2, 1, bytes([0, 255])), HERE).tolist() == [[0, 255]]
    assert decode_depth(grey_png(16, 2, 1, bytes([1, 2, 255, 255])), HERE).tolist() == [[258, 65535]]
    with pytest.raises(DataError, match=r"depth x.png is an image of RGB"):
        decode_depth(png(Image.new("RGB", (3, 2))), HERE)
    with pytest.raises(DataError, match=r"depth x.png is an image of mode 'P'"):
        decode_depth(png(Image.new("P", (3, 2))), HERE)


def test_sizes_differ(root: Path) -> None:
    """Image and depth must have their mask's size."""
    save(root / "images/train/a.png", np.zeros((7, 5, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"image .*a\.png is 7 x 5 \(H x W\) but its mask .*a\.png is 5 x 7, expected equal"
    ):
        Folder(root).load("train", "a")
    with pytest.raises(DataError, match="expected equal sizes"):
        Folder(root).image("train", "a")
    for split, name in [("train", "b"), ("val", "d")]:
        save(root / "depth" / split / f"{name}.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match=r"depth .*b\.png is 5 x 6 .* but its mask"):
        Folder(root).load("train", "b")


# Pairs, splits and classes.


def test_missing_partners(root: Path) -> None:
    """An image without mask and one without depth are refused when they are asked for, with what was expected."""
    (root / "masks/train/a.png").unlink()
    with pytest.raises(
        DataError, match=r"images/train/a\.png has no mask: expected .*masks/train/a\.png, add the mask"
    ):
        Folder(root).load("train", "a")
    save(root / "depth/train/c.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DataError, match=r"images/train/b\.png has no depth: expected .*depth/train/b\.png"):
        Folder(root).image("train", "b")
    assert Folder(root).load("train", "c").depth is not None


def test_unknown_names(root: Path) -> None:
    """Unknown splits and images are refused, naming near ones."""
    with pytest.raises(DataError, match="has no split 'vall', did you mean 'val'"):
        Folder(root).names("vall")
    with pytest.raises(DataError, match=r"split 'train' of data folder .* has no image 'zz', it has 3 images"):
        Folder(root).load("train", "zz")


def test_empty_split(root: Path) -> None:
    """A split without images is refused when it is asked for."""
    (root / "images/test").mkdir()
    with pytest.raises(DataError, match=r"split 'test' of data folder .* is empty: expected images .*\.jpg"):
        Folder(root).names("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "classes.txt is empty, expected one class name per line"),
        (b" \n\n", "classes.txt is empty"),
        (b"sky\n\nroad\n", "line 2 of .*classes.txt is blank, expected the name of the class of value 1"),
        (b"sky\nroad\nsky \n", "names class 'sky' in lines 1 and 3, expected distinct names"),
        (b"sky\n\xff\n", "classes.txt is not UTF-8 text .* at byte 4"),
        ("\n".join(map(str, range(256))).encode(), "names 256 classes, expected at most 255"),
    ],
)
def test_bad_classes(root: Path, content: bytes, message: str) -> None:
    """A classes.txt that does not name each class once is refused."""
    (root / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Folder(root)


def test_classes_are_stripped(root: Path) -> None:
    """A byte order mark, Windows line ends and trailing blank lines do not count."""
    (root / "classes.txt").write_bytes("\ufeffsky\r\nroad \r\nпуть\r\n\r\n".encode())

    assert Folder(root).class_names == ("sky", "road", "путь")


def test_bad_layout(root: Path, tmp_path: Path) -> None:
    """What is missing from the layout is named together with the whole layout."""
    with pytest.raises(
        DataError, match=r"does not exist, expected .* images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png and cl"
    ):
        Folder(tmp_path / "no")
    with pytest.raises(DataError, match=r"classes.txt is a file, expected"):
        Folder(root / "classes.txt")
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"has no classes.txt, expected"):
        Folder(root)
    shutil.rmtree(root / "masks")
    with pytest.raises(DataError, match=r"has no folder masks/, expected"):
        Folder(root)
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match=r"has no folder images/, expected"):
        Folder(root)


def test_images_without_split(root: Path) -> None:
    """Images directly in images/ are no split."""
    shutil.rmtree(root / "images")
    save(root / "images/a.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"images has no folder of a split, expected images in .*images/train and"):
        Folder(root)


# Texts and clusters.


def test_texts_by_name_with_or_without_ending(root: Path) -> None:
    """An image is named with or without its ending; blank lines and other keys are passed over."""
    lines = [
        {"image": "train/a", "texts": ["one", "two"]},
        {"image": "train/b.PNG", "texts": [], "source": "me"},
        {"image": "val/d.jpg", "texts": ["дом\u2028x"]},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\r\n"
    (root / "texts.jsonl").write_bytes(text.encode())
    source = Folder(root)

    assert source.texts("train") == {"a": ("one", "two"), "b": (), "c": ()}
    assert source.texts("val") == {"d": ("дом x",), "e": ()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", r"line 2 of .*texts.jsonl is not JSON \(.*\), expected"),
        (b"\xff", r"line 2 of .* is not JSON"),
        (b"[" * 100_000, r"line 2 of .* is not JSON"),
        (b"[1]", "line 2 of .* holds a JSON list, expected"),
        (b"null", "line 2 of .* holds a JSON NoneType, expected"),
        (b'{"text": []}', "line 2 of .* has no key 'image', expected"),
        (b'{"image": "train/a", "text": []}', "line 2 of .* has no key 'texts', expected"),
        (b'{"image": 3, "texts": []}', "line 2 of .* image name that is not a string but 3"),
        (b'{"image": "train/a", "texts": "x"}', "line 2 of .* has texts that are not a list of strings but 'x'"),
        (b'{"image": "train/a", "texts": [1]}', r"line 2 of .* not a list of strings but '\[1\]'"),
        (b'{"image": "train/a", "texts": [" "]}', "line 2 of .* has an empty text"),
        (b'{"image": "val/e", "texts": []}', "line 2 of .* names image 'val/e' again, first in line 1, .* join"),
        (b'{"image": "train/aa", "texts": []}', "line 2 of .* unknown image 'train/aa', did you mean 'a'"),
        (b'{"image": "train/xyz", "texts": []}', "line 2 of .* unknown image 'train/xyz', correct"),
        (
            b'{"image": "test/a", "texts": []}',
            "unknown image 'test/a': there is no split 'test', known: train, val, corr",
        ),
        (b'{"image": "a", "texts": []}', "unknown image 'a': it names no split, known: train, val, correct"),
    ],
)
def test_bad_texts(root: Path, line: bytes, message: str) -> None:
    """A line that is no entry, or names an unknown image, is refused with its number."""
    (root / "texts.jsonl").write_bytes(b'{"image": "val/e", "texts": ["x"]}\n' + line)
    with pytest.raises(TextError, match=message):
        Folder(root).texts("train")
    with pytest.raises(TextError, match=message):
        Folder(root).load("val", "d")


def test_clusters(root: Path) -> None:
    """A line names SPLIT/NAME or a NAME of any split; a tab allows blanks in the sequence; other splits stay single."""
    (root / "clusters.txt").write_text("train/a  s1\nb.png s1\n\nc\tday two\n")
    source = Folder(root)

    assert source.clusters("train") == {"a": "s1", "b": "s1", "c": "day two"}
    assert source.clusters("val") == {"d": "val/d", "e": "val/e"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "d s1",
            "clusters.txt has no sequence for image val/e .* expected a line for every image of a split or for none",
        ),
        ("d s1\ne\n", "line 2 of .*clusters.txt is 'e', expected an image name and its sequence"),
        ("d s1\nee s1", "line 2 of .* gives a sequence to an unknown image 'ee'"),
        ("d s1\nval/d s2\ne s1", "line 2 of .* puts image 'val/d' into sequence 's2', but it is in 's1'"),
    ],
)
def test_bad_clusters(root: Path, content: str, message: str) -> None:
    """A clusters.txt that is malformed, incomplete or contradicts itself is refused."""
    (root / "clusters.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        Folder(root).clusters("val")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("images/train/a.png", b"images/train/\xffa.png", "images/train"),
        ("masks/val/e.png", b"masks/val/\xffa.png", "masks/val"),
        ("images/train", b"images/\xffa.png", "images"),
    ],
)
def test_names_that_are_not_utf8(root: Path, old: str, new: bytes, where: str) -> None:
    """Such a file or split is refused with its folder before anything has to be written with its name."""
    try:
        (root / old).rename(root / os.fsdecode(new))
    except OSError:
        pytest.skip("this file system holds names in UTF-8 alone")

    with pytest.raises(DataError) as caught:
        Folder(root)
    assert str(caught.value) == (
        f"folder {root / where} holds the name '\\udcffa.png', expected names in UTF-8, rename it"
    )


def test_other_names(root: Path) -> None:
    """Names beyond ASCII are read, and what is no image may be called anything."""
    (root / "images/val/d.png").rename(root / "images/val/日本 ü.png")
    (root / "masks/val/d.png").rename(root / "masks/val/日本 ü.png")
    with contextlib.suppress(OSError):  # a file system of UTF-8 names alone
        (root / "images/val" / os.fsdecode(b"\xff.txt")).touch()

    assert Folder(root).names("val") == ("e", "日本 ü")


# Fingerprint.


def test_fingerprint(root: Path, tmp_path: Path) -> None:
    """A copy elsewhere has the same fingerprint; any other content, text, class name or cluster changes it."""
    prints = [Folder(root).fingerprint("train")]
    shutil.copytree(root, tmp_path / "copy")
    assert Folder(tmp_path / "copy").fingerprint("train") == prints[0]

    assert Folder(root).fingerprint("val") != prints[0]
    (root / "texts.jsonl").write_text('{"image": "train/a", "texts": ["x"]}')
    prints.append(Folder(root).fingerprint("train"))
    (root / "clusters.txt").write_text("a x\nb x\nc x")
    prints.append(Folder(root).fingerprint("train"))
    (root / "classes.txt").write_text("sky\nroad\nbush\n")
    prints.append(Folder(root).fingerprint("train"))
    save(root / "masks/train/c.png", np.full(SIZE, 255, np.uint8))
    prints.append(Folder(root).fingerprint("train"))
    (root / "images/train/c.png").rename(root / "images/train/x.png")
    (root / "masks/train/c.png").rename(root / "masks/train/x.png")
    (root / "clusters.txt").unlink()
    prints.append(Folder(root).fingerprint("train"))

    assert len(set(prints)) == 6
