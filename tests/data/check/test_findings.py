"""Every finding from a folder with exactly that fault, none from a sound one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semalign.data.check.findings import RULES, DataReport, check_data
from semalign.data.folder import Folder
from semalign.data.scenes import Scenes
from semalign.wording import Catalogue, say
from tests.data.conftest import grey_png

from .broken import CLASSES, SIZE, change, load, make_clean, masks, save, write_texts

SHARED = Path(__file__).parents[3].parent / "shared" / "data"

VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
"""The first five colors of Pascal VOC's palette."""


def in_colors(path: Path, colors: list[tuple[int, int, int]]) -> None:
    """Rewrite a mask as a picture in colors; 255 becomes the last class."""
    values = load(path)
    values[values == 255] = len(colors) - 1
    save(path, np.array(colors, dtype=np.uint8)[values])


def with_palette(path: Path, colors: list[tuple[int, int, int]]) -> None:
    """Rewrite a mask with a palette; its values stay."""
    image = Image.fromarray(load(path).astype(np.uint8))
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    image.putpalette(table.ravel().tolist())
    image.save(path)


def every(rule: Callable[[Path], None], split: str | None = None) -> Callable[[Path], None]:
    """Return what does ``rule`` to every mask of a split."""

    def apply(root: Path) -> None:
        for path in masks(root, split):
            rule(path)

    return apply


def color_file(root: Path) -> None:
    """Odd colors in masks, which colors.txt explains."""
    colors = [(9, 8, 7), (1, 2, 3), (200, 10, 10), (5, 250, 5), (77, 77, 0)]
    every(lambda path: in_colors(path, colors))(root)
    lines = [f"{r} {g} {b}\t{name.upper()}" for (r, g, b), name in zip(colors, CLASSES, strict=True)]
    (root / "colors.txt").write_text("\n".join(lines))


def quantised(root: Path) -> None:
    """Each file has a palette in an order of its own, as converting pictures in colors gives."""
    for number, path in enumerate(masks(root)):
        values = load(path)
        values[values == 255] = 0
        shift = number % 5
        save(path, ((values + shift) % 5).astype(np.uint8))
        with_palette(path, [VOC[(index - shift) % 5] for index in range(5)])


def binary(root: Path) -> None:
    """Two classes, stored as 0 and 255."""
    (root / "classes.txt").write_text("ground\nwater\n")
    every(lambda path: change(path, lambda v: np.where(v % 2 == 1, 255, 0)))(root)


def copied(one: str, other: str) -> Callable[[Path], None]:
    """Copy an image as another format's pixels."""

    def apply(root: Path) -> None:
        image = Image.open(root / "images" / f"{one}.png")
        (root / "images" / f"{other}.png").unlink()
        image.save(root / "images" / f"{other}.bmp")

    return apply


def alike(one: str, other: str) -> Callable[[Path], None]:
    """Put a JPEG of an image in the place of another."""

    def apply(root: Path) -> None:
        (root / "images" / f"{other}.png").unlink()
        Image.open(root / "images" / f"{one}.png").save(root / "images" / f"{other}.jpg", quality=85)

    return apply


def turned(root: Path) -> None:
    """Give an image an EXIF orientation; its mask is upright."""
    path = root / "images" / "train" / "train03.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = load(path).astype(np.uint8)
    save(path, np.rot90(pixels).copy(), exif=exif)


def mirrored(root: Path) -> None:
    """Give an image an EXIF orientation that keeps its size."""
    path = root / "images" / "val" / "val03.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    save(path, load(path).astype(np.uint8), exif=exif)


def clusters(root: Path) -> None:
    """Sequences of which one is in both splits."""
    lines = [f"{path.parent.name}/{path.stem} s{int(path.stem[-2:]) // 2}{path.parent.name}" for path in masks(root)]
    lines[0] = lines[0].replace("s0train", "s0val")
    lines[1] = lines[1].replace("s0train", "s0val")
    (root / "clusters.txt").write_text("\n".join(lines))


def depth_of(rule: Callable[[np.ndarray], np.ndarray], pattern: str) -> Callable[[Path], None]:
    """Change depth files."""

    def apply(root: Path) -> None:
        for path in sorted((root / "depth").glob(pattern)):
            change(path, rule, np.uint16)

    return apply


def rgb(path: Path) -> None:
    """Stack a mask to three equal channels."""
    change(path, lambda v: np.stack([v] * 3, axis=-1))


def deep_rgb() -> bytes:
    """Return a PNG of three equal channels of 16 bits that hold 0, 1 and 2."""
    values = np.arange(SIZE[0] * SIZE[1], dtype=">u2").reshape(SIZE) % 3
    return grey_png(16, SIZE[1], SIZE[0], np.repeat(values[..., None], 3, axis=-1).astype(">u2").tobytes(), 2)


def message(report: DataReport, place: int) -> str:
    """Return what a finding says."""
    return str(report.findings[place].message)


FAULTS: list[tuple[str, str, int, Callable[[Path], object]]] = [
    # code, split, files, damage
    ("sizes-differ", "val", 1, lambda root: save(root / "masks/val/val01.png", np.eye(41, 31, dtype=np.uint8))),
    ("pairing", "", 1, lambda root: (root / "masks/train/train04.png").unlink()),
    ("pairing", "", 1, lambda root: (root / "images/val/val02.png").unlink()),
    ("image-broken", "train", 1, lambda root: (root / "images/train/train01.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")),
    ("mask-broken", "val", 1, lambda root: (root / "masks/val/val05.png").write_bytes(b"nothing")),
    ("sizes-differ", "train", 1, lambda root: save(root / "images/train/train00.png", np.eye(31, dtype=np.uint8) + 90)),
    ("texts-file", "", 1, lambda root: (root / "texts.jsonl").write_text('{"image": "train/zz", "texts": []}')),
    ("clusters-file", "", 1, lambda root: (root / "clusters.txt").write_text("nobody s1")),
    ("mask-color", "val", 7, every(lambda path: in_colors(path, VOC), "val")),
    ("mask-color", "train", 11, every(rgb, "train")),
    ("mask-color", "val", 1, lambda root: (root / "masks/val/val03.png").write_bytes(deep_rgb())),
    ("mask-void", "train", 11, every(lambda p: change(p, lambda v: np.where(v == 255, 65535, v), np.uint16), "train")),
    ("mask-range", "val", 1, lambda root: change(root / "masks/val/val02.png", lambda v: np.where(v == 1, 77, v))),
    ("mask-range", "val", 1, lambda root: change(root / "masks/val/val02.png", lambda v: np.where(v == 1, 5, v))),
    ("mask-empty", "val", 1, lambda root: change(root / "masks/val/val02.png", lambda v: v * 0 + 255)),
    ("palettes-differ", "", 18, quantised),
    ("palette", "", 18, every(lambda path: with_palette(path, VOC))),
    ("class-unused", "", 0, lambda root: (root / "classes.txt").write_text("\n".join([*CLASSES, "boat"]))),
    ("class-unlearned", "train", 0, every(lambda p: change(p, lambda v: np.where(v == 4, 1, v)), "train")),
    ("class-absent", "val", 0, every(lambda p: change(p, lambda v: np.where(v == 4, 1, v)), "val")),
    ("image-flat", "train", 1, lambda root: change(root / "images/train/train07.png", lambda v: v * 0 + 90)),
    ("image-dark", "val", 1, lambda root: change(root / "images/val/val01.png", lambda v: v // 20)),
    ("orientation-ambiguous", "val", 1, mirrored),
    ("orientation", "train", 1, turned),
    ("duplicate-across", "val", 1, copied("train/train02", "val/val06")),
    ("duplicate-within", "train", 1, copied("train/train02", "train/train08")),
    ("near-duplicate-across", "val", 1, alike("train/train02", "val/val06")),
    ("near-duplicate-within", "train", 1, alike("train/train02", "train/train08")),
    ("cluster-across", "", 0, clusters),
    ("depth-broken", "val", 1, lambda root: save(root / "depth/val/val01.png", np.zeros((*SIZE, 3), np.uint8))),
    ("depth-empty", "train", 1, depth_of(lambda v: v * 0, "train/train05.png")),
    ("depth-flat", "val", 1, depth_of(lambda v: v * 0 + 2000, "val/val05.png")),
    ("depth-end", "train", 11, depth_of(lambda v: np.where(v < 2000, 65535, v), "train/*.png")),
    ("depth-ranges-differ", "", 0, depth_of(lambda v: v // 10, "val/*.png")),
    ("depth-holes", "val", 0, depth_of(lambda v: np.where(v < 4000, 0, v), "val/*.png")),
]  # fmt: skip


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Return a sound folder without depth."""
    return make_clean(tmp_path / "set")


@pytest.mark.parametrize("depth", [False, True])
def test_a_sound_folder_gives_none(tmp_path: Path, depth: bool) -> None:
    """Nothing is found where nothing is wrong; JSON says the same."""
    report = check_data(Folder(make_clean(tmp_path / "set", depth=depth)))

    assert report.findings == ()
    assert not report.has_errors
    value = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (value["format"], value["errors"], value["warnings"], value["notes"]) == (1, 0, 0, [])
    assert value["problems"] == value["findings"] == []
    assert set(value["splits"]) == {"train", "val"}


@pytest.mark.parametrize(
    ("code", "split", "files", "damage"), FAULTS, ids=[f"{f[0]}-{k}" for k, f in enumerate(FAULTS)]
)
def test_one_fault_gives_its_finding(
    tmp_path: Path, code: str, split: str, files: int, damage: Callable[[Path], object]
) -> None:
    """Exactly the one finding, of its split, with its files; the second look, from the cache, finds the same."""
    root = make_clean(tmp_path / "set", depth=code.startswith("depth"))
    damage(root)
    report = check_data(Folder(root))

    assert [finding.code for finding in report.findings] == [code]
    (finding,) = report.findings
    assert (finding.split, len(finding.files)) == (split, files)
    assert finding.severity == {rule.code: rule.severity for rule in RULES}[code]
    assert report.has_errors == (finding.severity == "error") == bool(report.scan.problems)
    assert "\n" not in str(finding.message)
    for file in finding.files:
        assert not Path(file).is_absolute()
    assert check_data(Folder(root)).findings == report.findings
    assert finding.to_dict().keys() == {
        "code", "severity", "split", "message", "count", "files", "details", "fix", "fixed_by_option"
    }  # fmt: skip


def test_every_code_is_tested() -> None:
    """No code stands in the table without a folder that shows it."""
    own = {"mask-off-by-one", "mask-binary", "ignored-much", "class-rare", "class-dominant", "split-missing"}
    texts = {"texts-leak", "texts-missing", "texts-same"}

    assert {fault[0] for fault in FAULTS} | own | texts == {rule.code for rule in RULES}


def test_findings_in_chinese(tmp_path: Path) -> None:
    """Every rule says what to do in both languages, and what it finds can be written in Chinese."""
    chinese = Catalogue("zh")
    for rule in RULES:
        fix = say(f"data.{rule.code}.fix")
        assert chinese.text(fix) != str(fix)
    for number, (code, _, _, damage) in enumerate(FAULTS):
        root = make_clean(tmp_path / str(number), depth=code.startswith("depth"))
        damage(root)
        (finding,) = check_data(Folder(root)).findings
        if finding.message.key != "data.pairing.single":  # an error's own words
            assert chinese.text(finding.message) != str(finding.message)
        assert all(chinese.text(detail) for detail in finding.details)


def test_off_by_one(clean: Path) -> None:
    """Masks that count classes from 1 are found out, whether they are all of them or one split."""
    every(lambda path: change(path, lambda v: np.where(v == 255, v, v + 1)), "val")(clean)
    one = check_data(Folder(clean))
    assert [(f.code, f.split) for f in one.findings] == [("mask-off-by-one", "val")]
    assert one.evidence.masks.values.shifted == {"val"}
    assert "no mask of the split holds 0: the classes are counted from 1, expected 0 to 4" in message(one, 0)

    every(lambda path: change(path, lambda v: np.where(v == 255, v, v + 1)), "train")(clean)
    both = check_data(Folder(clean))
    assert [(f.code, f.split) for f in both.findings] == [("mask-off-by-one", "train"), ("mask-off-by-one", "val")]
    assert both.evidence.masks.values.shifted == {"train", "val"}


def test_not_off_by_one(clean: Path) -> None:
    """One value too many is no shift while 0 is in use: a class may be missing, or 0 may mean no label."""
    (clean / "classes.txt").write_text("\n".join(CLASSES[:4]))
    report = check_data(Folder(clean))

    assert {finding.code for finding in report.findings} == {"mask-range"}
    assert report.evidence.masks.values.shifted == set()
    assert "4 is one too high: classes.txt lacks a name, or 0 means no label" in str(report.findings[0].message)


def test_a_shift_that_does_not_fit_the_other_split_is_none(clean: Path) -> None:
    """A split without class 0 and with a wrong value is not shifted where its shares say otherwise."""
    every(lambda path: change(path, lambda v: np.where(v == 0, 1, v)), "val")(clean)
    change(clean / "masks/val/val00.png", lambda v: np.where((v == 2) & (np.arange(37) == 5), 5, v))
    report = check_data(Folder(clean))

    assert [(f.code, f.split, len(f.files)) for f in report.findings] == [("mask-range", "val", 1)]
    assert report.evidence.masks.values.shifted == set()


def test_binary(clean: Path) -> None:
    """0 and 255 alone, with two classes: 255 seems to be 1."""
    binary(clean)
    report = check_data(Folder(clean))

    assert [(f.code, f.split) for f in report.findings] == [("mask-binary", "train"), ("mask-binary", "val")]
    assert "water has no pixel: 255 seems to stand for 1" in str(report.findings[0].message)


def test_colors_and_their_file(clean: Path) -> None:
    """Unknown colors stay an error that asks for colors.txt; with it, they are known; a bad file is named."""
    color_file(clean)
    known = check_data(Folder(clean))
    assert {finding.code for finding in known.findings} == {"mask-color"}
    assert "known from colors.txt" in str(known.findings[0].message)
    assert len(known.evidence.masks.mends()) == 18

    (clean / "colors.txt").unlink()
    unknown = check_data(Folder(clean))
    assert "5 colors, which none of the known palettes has" in str(unknown.findings[0].message)
    assert unknown.evidence.masks.mends() == {}


def test_shares_of_classes(clean: Path) -> None:
    """A rare class, one that covers nearly everything, and pixels that are mostly ignored."""
    for path in masks(clean, "train"):
        change(path, lambda v: np.where(v == 2, 0, np.where(v == 1, 0, v)))
    change(clean / "masks/train/train00.png", lambda v: np.where(np.arange(37) == 3, 1, np.where(v == 3, 0, v)))
    change(clean / "masks/train/train02.png", lambda v: v * 0)
    save(clean / "masks/train/train02.png", np.pad(np.full((1, 1), 2, np.uint8), ((0, 28), (0, 36))))
    every(lambda path: change(path, lambda v: np.where(v > 2, 0, v)), "train")(clean)
    change(
        clean / "masks/train/train01.png", lambda v: np.where((np.arange(29)[:, None] == 0) & (np.arange(37) < 3), 3, v)
    )
    change(
        clean / "masks/train/train01.png", lambda v: np.where((np.arange(29)[:, None] == 1) & (np.arange(37) < 3), 4, v)
    )
    found = {finding.code: finding for finding in check_data(Folder(clean)).findings}

    assert set(found) == {"class-rare", "class-dominant"}
    assert "tree 0.0085 % in 1, car 0.025 % in 1, person 0.025 % in 1" in str(found["class-rare"].message)
    assert str(found["class-dominant"].message) == "99.7 % of the labelled pixels of train are sky"

    every(lambda path: change(path, lambda v: np.where(np.arange(37) < 25, 255, v)), "val")(clean)
    after = [str(f.message) for f in check_data(Folder(clean)).findings if f.code == "ignored-much"]
    assert after == ["67.6 % of the pixels of val are ignored"]


def test_a_missing_split(clean: Path) -> None:
    """A folder without val is allowed."""
    shutil.rmtree(clean / "images/val")
    shutil.rmtree(clean / "masks/val")

    assert [str(f.message) for f in check_data(Folder(clean)).findings] == ["there is no split val"]


def test_texts(clean: Path) -> None:
    """Texts made from masks leak; texts of a person do not; missing and equal ones are noted."""
    write_texts(clean, lambda split, number, present: [f"a photo of {name}" for name in present])
    leaking = check_data(Folder(clean))
    assert [(f.code, f.split) for f in leaking.findings] == [("texts-leak", "train"), ("texts-leak", "val")]
    assert "made from the masks (leaking): over 11 images 100 % of the classes" in str(leaking.findings[0].message)

    write_texts(clean, lambda split, number, present: [f"picture {number} of a road with {'cars' * (number % 4 > 1)}"])
    assert check_data(Folder(clean)).findings == ()

    write_texts(clean, lambda split, number, present: ["a street"] if split == "train" and number else [])
    found = [(f.code, f.split, str(f.message)) for f in check_data(Folder(clean)).findings]
    assert found == [
        ("texts-missing", "train", "1 of 11 images of train has no text"),
        ("texts-missing", "val", "no image of val has a text"),
        ("texts-same", "train", "all images of train have the same texts"),
    ]


def test_duplicates_say_which(clean: Path) -> None:
    """The details name both; duplicates of broken samples are found as well, and other masks are said."""
    copied("train/train02", "val/val06")(clean)
    copied("train/train03", "train/train09")(clean)
    every(lambda path: in_colors(path, VOC), "val")(clean)
    found = {finding.code: finding for finding in check_data(Folder(clean)).findings}

    assert set(found) == {"duplicate-across", "duplicate-within", "mask-color"}
    assert list(map(str, found["duplicate-across"].details)) == ["val/val06 is train/train02"]
    assert "so that scores on val are too good" in str(found["duplicate-across"].message)
    assert str(found["duplicate-within"].message).endswith("pixel for pixel, 1 of them with another mask")


def test_a_bad_mask_hides_nothing_of_its_image(clean: Path) -> None:
    """Size and darkness of an image are seen beside a mask in colors."""
    every(lambda path: in_colors(path, VOC), "val")(clean)
    change(clean / "images/val/val01.png", lambda v: v[:23] // 20)

    assert [f.code for f in check_data(Folder(clean)).findings] == ["sizes-differ", "mask-color", "image-dark"]


def test_scenes_are_sound() -> None:
    """The built-in scenes give nothing; their captions name the masks' classes on purpose."""
    assert check_data(Scenes(n_train=31, n_val=29, size=(48, 64))).findings == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camvid", {("near-duplicate-within", "train"), ("near-duplicate-within", "val")}),
        ("nyuv2", {("class-absent", "val")}),
    ],
)
def test_real_sets(name: str, expected: set[tuple[str, str]]) -> None:
    """CamVid's frames follow each other within a split alone; no mask of NYU's val shows a whiteboard."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no real data at {SHARED / name}")

    assert {(finding.code, finding.split) for finding in check_data(Folder(SHARED / name)).findings} == expected
