"""The corrected copy: what is beyond doubt is mended and written down, everything else is as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semalign.data.check.findings import check_data
from semalign.data.check.repair import write_corrected
from semalign.data.folder import Folder
from semalign.errors import OutputError

from .broken import CLASSES, change, load, make_clean, masks, save, write_texts
from .test_findings import (
    VOC,
    binary,
    clusters,
    color_file,
    copied,
    deep_rgb,
    every,
    in_colors,
    quantised,
    rgb,
    with_palette,
)
from .test_findings import (
    message as said_of,
)

Damage = Callable[[Path], None]


def contents(root: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def mend(root: Path, out: Path) -> dict[str, Any]:
    """Write the copy and return what it says of itself; the original must be as it was."""
    before = contents(root)
    changes = write_corrected(Folder(root), check_data(Folder(root)), out)

    assert contents(root) == before
    said: dict[str, Any] = json.loads((out / "fixes.json").read_text(encoding="utf-8"))
    assert said["format"] == 1
    assert [change["file"] for change in said["changes"]] == [change.file for change in changes]
    assert [entry.name for entry in out.parent.iterdir() if entry.name.endswith(".part")] == []
    return said


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Return a sound folder without depth."""
    return make_clean(tmp_path / "set")


def plus_one(path: Path) -> None:
    """Count a mask's classes from 1."""
    change(path, lambda v: np.where(v == 255, v, v + 1))


@pytest.mark.parametrize(
    ("code", "damage", "kept"),
    [
        ("mask-off-by-one", every(plus_one), True),
        ("mask-off-by-one", every(plus_one, "val"), True),
        ("mask-void", every(lambda p: change(p, lambda v: np.where(v == 255, 65535, v), np.uint16)), True),
        ("mask-color", every(rgb), True),
        ("palette", every(lambda path: with_palette(path, VOC)), True),
        ("mask-color", every(lambda path: in_colors(path, VOC), "train"), False),
        ("mask-color", color_file, False),
        ("palettes-differ", quantised, False),
    ],
)
def test_masks_become_class_indices(clean: Path, tmp_path: Path, code: str, damage: Damage, kept: bool) -> None:
    """The copy's masks are those from before the damage, and it has nothing left to mend."""
    before = {path.name: load(path) for path in masks(clean)}
    damage(clean)
    said = mend(clean, tmp_path / "out")

    assert {entry["code"] for entry in said["changes"]} == {code}
    assert check_data(Folder(tmp_path / "out")).findings == ()
    for path in masks(tmp_path / "out"):
        expected = before[path.name].copy()
        if not kept:
            # Pictures in colors have no color for "ignored" here.
            found = load(path)
            assert np.array_equal(found[expected != 255], expected[expected != 255])
        else:
            assert np.array_equal(load(path), expected)
    assert contents(tmp_path / "out" / "images") == contents(clean / "images")


def test_binary_masks(clean: Path, tmp_path: Path) -> None:
    """255 becomes 1 where it must be the second class."""
    binary(clean)
    said = mend(clean, tmp_path / "out")

    assert {entry["code"] for entry in said["changes"]} == {"mask-binary"}
    assert {int(value) for path in masks(tmp_path / "out") for value in np.unique(load(path))} == {0, 1}


def test_everything_at_once(tmp_path: Path) -> None:
    """Channels, shift and 65535 in the same masks; what has no partner or stands in val too is left out everywhere."""
    root = make_clean(tmp_path / "set", depth=True)
    before = {path.name: load(path) for path in masks(root)}
    write_texts(root, lambda split, number, present: [f"view {number}"])
    clusters(root)
    text = (root / "clusters.txt").read_text()
    (root / "clusters.txt").write_text(text.replace("s0val", "s0"))
    (root / "README.md").write_text("as it is")
    every(plus_one)(root)
    for path in masks(root, "val"):
        change(path, lambda v: np.where(v == 255, 65535, v), np.uint16)
    copied("val/val03", "train/train05")(root)
    (root / "depth/train/train07.png").unlink()
    (root / "images/train/train09.png").write_bytes(b"no image")
    shutil.copytree(root / "masks/val", root / "masks/old")
    said = mend(root, tmp_path / "out")
    out = Folder(tmp_path / "out")

    assert {entry["code"] for entry in said["changes"]} == {
        "pairing", "image-broken", "duplicate-across", "mask-off-by-one", "mask-void"
    }  # fmt: skip
    assert said["not_changed"] == ["cluster-across"]
    gone = {"train05", "train07", "train09"}
    assert set(out.names("train")) == {f"train{k:02d}" for k in range(11)} - gone
    assert len(out.names("val")) == 7
    assert not check_data(out).has_errors
    for path in masks(tmp_path / "out"):
        assert np.array_equal(load(path), before[path.name])
    for name in ("texts.jsonl", "clusters.txt"):
        lines = (root / name).read_text().split("\n")
        assert (out.root / name).read_text().split("\n") == [x for x in lines if not any(part in x for part in gone)]
    assert (out.root / "README.md").read_text() == "as it is"
    assert not (out.root / "masks/old").exists()
    left_out = {entry["file"] for entry in said["changes"] if entry["what"].startswith(("left out", "line"))}
    assert {"images/train/train05.bmp", "masks/train/train05.png", "depth/train/train05.png", "masks/old"} <= left_out


def test_what_is_in_doubt_stays(clean: Path, tmp_path: Path) -> None:
    """Unknown values and colors, duplicates within a split and most missing masks are copied as they are."""
    change(clean / "masks/val/val02.png", lambda v: np.where(v == 1, 77, v))
    every(lambda path: in_colors(path, [(1, 2, 3), (3, 2, 1), (9, 9, 0), (4, 4, 9), (0, 7, 7)]), "train")(clean)
    copied("train/train02", "train/train08")(clean)
    said = mend(clean, tmp_path / "out")

    assert said["changes"] == []
    assert said["not_changed"] == ["duplicate-within", "mask-color", "mask-range"]
    copy = contents(tmp_path / "out")
    del copy["fixes.json"]
    assert copy == contents(clean)


def test_missing_masks_of_most_images_are_no_reason_to_drop_them(clean: Path, tmp_path: Path) -> None:
    """Where the masks are what is missing, the images stay."""
    for path in masks(clean, "train")[:7]:
        path.unlink()
    mend(clean, tmp_path / "out")

    assert len(list((tmp_path / "out/images/train").iterdir())) == 11


def not_png(path: Path) -> None:
    """Save a mask as JPEG under its name."""
    Image.open(path).save(path, "JPEG")


def test_no_split_loses_half_of_its_images(clean: Path, tmp_path: Path) -> None:
    """Masks of a wrong format, broken images and copies of a whole split stay, and the findings say so; fewer go."""
    every(not_png, "val")(clean)
    for path in masks(clean, "train")[:6]:
        (clean / "images/train" / path.name).write_bytes(b"no image")
    said = mend(clean, tmp_path / "out")
    findings = check_data(Folder(tmp_path / "out")).findings

    assert said["changes"] == []
    assert [str(finding.message) for finding in findings] == [
        "6 images of train cannot be decoded; --fix keeps them, since 6 of 11 images of train would be left out",
        "7 masks of val cannot be decoded as PNG; --fix keeps them, since 7 of 7 images of val would be left out",
    ]
    save(clean / "images/train/train00.png", np.random.default_rng(7).integers(256, size=(29, 37, 3), dtype=np.uint8))
    fewer = mend(clean, tmp_path / "fewer")
    assert {entry["code"] for entry in fewer["changes"]} == {"image-broken"}
    assert [finding.code for finding in check_data(Folder(tmp_path / "fewer")).findings] == ["mask-broken"]


def test_a_split_that_is_a_copy_of_train(clean: Path, tmp_path: Path) -> None:
    """Train is not emptied where val is the same; of several mends those stop that together would drop half of it."""
    for kind in ("images", "masks"):
        shutil.rmtree(clean / kind / "val")
        shutil.copytree(clean / kind / "train", clean / kind / "val")
    said = mend(clean, tmp_path / "out")
    assert (said["changes"], said["not_changed"]) == ([], ["duplicate-across"])
    (finding,) = check_data(Folder(tmp_path / "out")).findings
    assert str(finding.message).endswith("--fix keeps them, since 11 of 11 images of train would be left out")

    for name in [path.name for path in masks(clean, "val")[3:]]:
        for kind in ("images", "masks"):
            (clean / kind / "val" / name).unlink()
    for path in masks(clean, "train")[5:8]:
        path.write_bytes(b"no mask")
    report = check_data(Folder(clean))
    assert set(report.evidence.drop.values()) == {"mask-broken"}
    assert said_of(report, -1).endswith("--fix keeps them, since 6 of 11 images of train would be left out")


def test_a_copy_without_masks_can_be_opened(clean: Path, tmp_path: Path) -> None:
    """Where every mask or depth file is missing, the copy says so as the original does."""
    (clean / "depth").mkdir()
    every(Path.unlink)(clean)
    mend(clean, tmp_path / "out")

    before = [str(problem).replace(str(clean), "X") for problem in check_data(Folder(clean)).scan.problems]
    after = check_data(Folder(tmp_path / "out"))
    assert {finding.code for finding in after.findings} == {"pairing"}
    assert sum("has no mask" in problem or "no masks/" in problem for problem in before) == 18
    assert any("depth" in str(problem) for problem in after.scan.problems)


GREYS = [(9, 8, 7), (128, 128, 128), (200, 10, 10), (5, 250, 5), (77, 77, 0), (0, 0, 0)]
"""A grey among the classes' colors; black is no class."""


def name_greys(root: Path, colors: list[tuple[int, int, int]]) -> None:
    """Write colors.txt for the five classes and a name that is none of them."""
    names = [*CLASSES, "Void"]
    lines = [f"{r} {g} {b} {name}" for (r, g, b), name in zip(colors, names, strict=True)]
    (root / "colors.txt").write_text("\n".join(lines))


def paint(path: Path, colors: list[tuple[int, int, int]]) -> None:
    """Rewrite a mask in colors; 255 becomes the last of them."""
    values = load(path)
    values[values == 255] = len(colors) - 1
    save(path, np.array(colors, dtype=np.uint8)[values])


def test_grey_masks_among_masks_in_colors(clean: Path, tmp_path: Path) -> None:
    """Black is what colors.txt says, also in a mask that holds nothing else, and so is grey."""
    change(clean / "masks/train/train00.png", lambda v: v * 0 + 255)
    change(clean / "masks/train/train01.png", lambda v: np.where(v == 0, 1, 255))
    before = {path.name: load(path) for path in masks(clean)}
    name_greys(clean, GREYS)
    every(lambda path: paint(path, GREYS))(clean)
    found = check_data(Folder(clean)).findings
    said = mend(clean, tmp_path / "out")

    assert [(f.code, f.split, len(f.files)) for f in found] == [("mask-color", "train", 11), ("mask-color", "val", 7)]
    assert {entry["what"] for entry in said["changes"]} == {"colors read as classes by colors.txt"}
    for path in masks(tmp_path / "out"):
        assert np.array_equal(load(path), before[path.name])


def test_colors_that_are_all_grey(clean: Path, tmp_path: Path) -> None:
    """Where no mask has a color, colors.txt is followed if its greys are what the masks hold."""
    greys = [(value, value, value) for value in (50, 100, 150, 200, 255, 0)]
    before = {path.name: load(path) for path in masks(clean)}
    name_greys(clean, greys)
    every(lambda path: paint(path, greys))(clean)
    mend(clean, tmp_path / "out")

    assert check_data(Folder(tmp_path / "out")).findings == ()
    for path in masks(tmp_path / "out"):
        assert np.array_equal(load(path), before[path.name])


@pytest.mark.parametrize("first", [0, 1])
def test_grey_masks_among_masks_of_indices(clean: Path, tmp_path: Path, first: int) -> None:
    """Beside a colors.txt that nothing uses, three equal channels are class indices, counted from 0 or 1."""
    change(clean / "masks/train/train00.png", lambda v: v * 0 + 255 * first)
    before = {path.name: load(path) for path in masks(clean)}
    name_greys(clean, [*GREYS[:4], (255, 255, 255), (0, 0, 0)])
    every(lambda path: change(path, lambda v: np.where(v == 255, 255, v + first)))(clean)
    every(rgb)(clean)
    mend(clean, tmp_path / "out")

    for path in masks(tmp_path / "out"):
        assert np.array_equal(load(path), before[path.name])


@pytest.mark.parametrize("others", ["colors and indices", "unknown colors", "one channel"])
def test_black_masks_in_doubt_stay(clean: Path, tmp_path: Path, others: str) -> None:
    """Black among both kinds, among colors that nothing explains, or alone of three channels, stays an error."""
    if others != "unknown colors":
        name_greys(clean, GREYS)
    if others == "colors and indices":
        every(rgb, "val")(clean)
    if others != "one channel":
        every(lambda path: paint(path, GREYS), "train")(clean)
    black = clean / "masks/train/train00.png"
    save(black, np.zeros((29, 37, 3), np.uint8))
    said = mend(clean, tmp_path / "out")

    assert "masks/train/train00.png" not in {entry["file"] for entry in said["changes"]}
    assert (tmp_path / "out/masks/train/train00.png").read_bytes() == black.read_bytes()
    finding = next(f for f in check_data(Folder(clean)).findings if f.files == ("masks/train/train00.png",))
    assert (finding.code, finding.severity) == ("mask-color", "error")
    assert str(finding.message).startswith("1 mask of train has three equal channels that may be colors or class")


def test_channels_of_16_bits_stay(clean: Path, tmp_path: Path) -> None:
    """Masks of which the high bytes alone can be read are copied, whatever their colors would be."""
    name_greys(clean, GREYS)
    for path in masks(clean):
        path.write_bytes(deep_rgb())
    said = mend(clean, tmp_path / "out")

    assert said["changes"] == []
    assert contents(tmp_path / "out/masks") == contents(clean / "masks")
    found = check_data(Folder(tmp_path / "out")).findings
    assert {finding.code for finding in found} == {"mask-color"}
    assert str(found[0].message).startswith("11 masks of train have several channels of 16 bits, which --fix leaves")


def test_a_shifted_split_with_a_picture_in_colors(clean: Path, tmp_path: Path) -> None:
    """A mask of unknown colors and one of 16-bit channels are copied; the others' classes are counted from 0."""
    before = {path.name: load(path) for path in masks(clean)}
    every(plus_one)(clean)
    kept = clean / "masks/train/train04.png"
    paint(kept, [(1, 2, 3), (3, 2, 1), (9, 9, 0), (4, 4, 9), (0, 7, 7), (8, 8, 1)])
    (clean / "masks/val/val02.png").write_bytes(deep_rgb())
    mend(clean, tmp_path / "out")

    for path in masks(tmp_path / "out"):
        original = clean / path.relative_to(tmp_path / "out")
        if path.name in ("train04.png", "val02.png"):
            assert path.read_bytes() == original.read_bytes()
        else:
            assert np.array_equal(load(path), before[path.name])


def test_refusals(clean: Path, tmp_path: Path) -> None:
    """A folder with something in it, a file, and any place inside the data are refused; an empty folder is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    report = check_data(Folder(clean))
    for out, message in (
        (tmp_path / "full", "is not empty, expected a new or empty folder"),
        (tmp_path / "file", "is not a folder, expected the name of a new one"),
        (clean, "lies inside the data"),
        (clean / "images" / "fixed", "lies inside the data .*, which are never changed"),
    ):
        with pytest.raises(OutputError, match=message):
            write_corrected(Folder(clean), report, out)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["empty", "file", "full", "set"]

    assert mend(clean, tmp_path / "empty")["changes"] == []
    mend(clean, tmp_path / "new" / "deep")


def test_all_or_nothing(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves neither the copy nor a part of it."""
    seen = []

    def full(source: Path, target: Path) -> None:
        seen.append(target)
        if len(seen) == 9:
            raise OSError(28, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("semalign.data.check.repair.shutil.copyfile", full)
    with pytest.raises(OutputError, match=r"cannot write the corrected copy .*out: No space left on device"):
        write_corrected(Folder(clean), check_data(Folder(clean)), tmp_path / "out")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "set"]
