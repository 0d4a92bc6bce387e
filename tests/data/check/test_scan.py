"""The scan finds every fault at once, and what it found is cached."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from semalign.data.check import scan as scan_module
from semalign.data.check.scan import scan
from semalign.data.folder import Folder
from semalign.data.open import open_data
from semalign.data.scenes import Scenes
from semalign.errors import DataError, TextError
from tests.data.conftest import SIZE, save

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def test_counts(tmp_path: Path) -> None:
    """Pixels, images and sizes of a 2 x 3 and a 5 x 1 mask are counted by class; unused and rare ones are named."""
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\n")
    for name, mask in {"a": [[0, 0, 1], [0, 255, 0]], "b": [[0], [0], [0], [0], [255]]}.items():
        array = np.array(mask, np.uint8)
        save(tmp_path / f"masks/train/{name}.png", array)
        save(tmp_path / f"images/train/{name}.png", np.zeros((*array.shape, 3), np.uint8))
        save(tmp_path / f"depth/train/{name}.png", array * 0 + (9 if name == "a" else 0))
    report = scan(Folder(tmp_path))
    train = report.splits["train"]

    assert not report.problems
    assert train.pixels == {"sky": 8, "road": 1, "tree": 0}
    assert train.images_with == {"sky": 2, "road": 1, "tree": 0}
    assert (train.images, train.ignored_pixels, train.with_texts, train.clusters) == (2, 2, 0, 2)
    assert (train.least_size, train.greatest_size) == ((2, 1), (5, 3))
    assert train.unused == ("tree",)
    assert not train.rare
    assert train.depth_range == (9.0, 9.0)
    assert train.hole_share == 0.0
    found = json.loads(json.dumps(report.to_dict()))
    assert found["splits"]["train"]["unused"] == ["tree"]
    assert found["source"]["classes"] == ["sky", "road", "tree"]


def test_rare(tmp_path: Path) -> None:
    """A class below one in a thousand labelled pixels is rare; at one in a thousand it is not."""
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    save(tmp_path / "images/train/a.png", np.zeros((1001, 1, 3), np.uint8))
    for labelled, expected in [(1000, ()), (1001, ("road",))]:
        mask = np.zeros((1001, 1), np.uint8)
        mask[0] = 1
        mask[labelled:] = 255
        save(tmp_path / "masks/train/a.png", mask)
        assert scan(Folder(tmp_path)).splits["train"].rare == expected


def test_every_problem_is_found(root: Path) -> None:
    """One scan lists all faults of all kinds; the raised error is the first and says how many more there are."""
    (root / "masks/train/a.png").unlink()
    save(root / "masks/train/lost.png", np.zeros(SIZE, np.uint8))
    save(root / "masks/train/b.png", np.full(SIZE, 3, np.uint8))
    data = (root / "images/train/b.png").read_bytes()
    (root / "images/train/b.png").write_bytes(data[: len(data) // 2])
    save(root / "images/train/c.png", np.zeros((7, 5, 3), np.uint8))
    save(root / "masks/val/d.png", np.zeros((*SIZE, 3), np.uint8))
    (root / "images/test").mkdir()
    (root / "masks/extra").mkdir()
    (root / "texts.jsonl").write_text("{\n" + '{"image": "train/zz", "texts": []}')
    (root / "clusters.txt").write_text("d")
    report = scan(Folder(root))
    expected = [
        r"image .*train/a\.png has no mask",
        r"mask .*train/lost\.png has no image",
        r"split 'test' of data folder .* is empty",
        r"has masks/extra but no images/extra",
        r"mask .*train/b\.png holds the value 3",
        r"image .*train/b\.png is corrupt or truncated",
        r"image .*train/c\.png is 7 x 5",
        r"mask .*val/d\.png is an image of RGB",
        r"line 1 of .*texts\.jsonl is not JSON",
        r"line 2 of .*texts\.jsonl has texts for an unknown image",
        r"line 1 of .*clusters\.txt is 'd'",
    ]

    assert len(report.problems) == len(expected)
    for problem, pattern in zip(report.problems, expected, strict=True):
        with pytest.raises(type(problem), match=pattern):
            raise problem
        assert "\n" not in str(problem)
    with pytest.raises(DataError, match=r"train/a.png has no mask.* \(and 10 more: `semalign data check .*set` lists"):
        report.raise_for_problems()
    assert len(report.to_dict()["problems"]) == 11


def test_a_text_problem_is_a_text_error(root: Path) -> None:
    """A lone fault is raised as it is, with its own class."""
    (root / "texts.jsonl").write_text("{")
    with pytest.raises(TextError, match=r"line 1 of .*texts.jsonl is not JSON") as caught:
        open_data(root)

    assert "more" not in str(caught.value)
    (root / "texts.jsonl").write_text("{\n[]")
    with pytest.raises(TextError, match=r"line 1 of .*texts.jsonl is not JSON .* \(and 1 more: `semalign data check"):
        open_data(root)


def test_a_missing_folder_of_masks_is_one_problem(root: Path) -> None:
    """Where a split's masks are all missing, one sentence says so; the same for depth."""
    shutil.rmtree(root / "masks/val")
    save(root / "depth/val/d.png", np.zeros(SIZE, np.uint8))
    found = [str(problem) for problem in scan(Folder(root)).problems]

    assert len(found) == 3
    assert "has images/train but no depth/train, expected a depth NAME.png there for each of its 3 images" in found[0]
    assert "has images/val but no masks/val" in found[1]
    assert "e.png has no depth" in found[2]


def test_twins(root: Path) -> None:
    """Two images of one name cannot share a mask."""
    save(root / "images/train/a.jpg", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"images .*a\.jpg and .*a\.png share one name"):
        open_data(root)


def test_the_second_scan_only_looks_at_times(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was good and has the same size and time is not read again, and gives the same report and fingerprint."""
    first_source, second_source = Folder(root), Folder(root)
    first = scan(first_source)
    assert (first.read, first.cached) == (5, 0)

    def refuse(*_: object) -> bytes:
        raise AssertionError("a known file was read")

    monkeypatch.setattr(scan_module, "read_bytes", refuse)
    monkeypatch.setattr("semalign.data.folder.read_bytes", refuse)
    second = scan(second_source)

    assert (second.read, second.cached) == (0, 5)
    assert second.splits == first.splits
    assert second_source.fingerprint("train") == first_source.fingerprint("train")
    assert second_source.mask_classes("val", "d") == first_source.mask_classes("val", "d")


def test_a_changed_file_is_read_again(root: Path) -> None:
    """Another time, another size, or another number of classes makes files be read again; others stay known."""
    scan(Folder(root))
    path = root / "masks/train/a.png"
    old = path.stat()
    save(path, np.full(SIZE, 9, np.uint8))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    report = scan(Folder(root))
    assert (report.read, report.cached) == (1, 4)
    with pytest.raises(DataError, match=r"a\.png holds the value 9"):
        report.raise_for_problems()

    (root / "classes.txt").write_text("sky\nroad\n")
    assert scan(Folder(root)).read == 5


def test_bad_samples_are_not_cached(root: Path) -> None:
    """A fault is found again by every scan until it is mended."""
    save(root / "masks/train/a.png", np.full(SIZE, 9, np.uint8))
    reports = [scan(Folder(root)) for _ in range(3)]

    assert [report.read for report in reports] == [5, 1, 1]
    assert [len(report.problems) for report in reports] == [1, 1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: [],
        lambda value: None,
        lambda value: dict.fromkeys(value, 3),
        lambda value: {name: {} for name in value},
        lambda value: {n: {**r, "size": None} for n, r in value.items()},
        lambda value: {n: {**r, "pixels": {"x": 1}} for n, r in value.items()},
        lambda value: {n: {**r, "hashes": []} for n, r in value.items()},
    ],
)
def test_a_damaged_cache_is_rebuilt(root: Path, cache: Path, damage: object) -> None:
    """A cache that is JSON but no record costs a scan, nothing else."""
    expected = scan(Folder(root)).splits
    (path,) = (cache / "scan").iterdir()
    kept = json.loads(path.read_text())
    kept["value"] = damage(kept["value"])  # type: ignore[operator]
    path.write_text(json.dumps(kept))
    report = scan(Folder(root))

    assert report.splits == expected
    assert report.read == 5
    assert not report.problems


def test_without_cache(root: Path, cache: Path) -> None:
    """Where no cache can be kept, the scan reads everything and succeeds."""
    cache.write_text("in the way")

    assert [scan(Folder(root)).read for _ in range(2)] == [5, 5]


def test_deferred_problems_have_the_same_sentences(root: Path) -> None:
    """With scan=False a fault surfaces on loading, word for word as the scan says it."""
    save(root / "masks/train/b.png", np.full(SIZE, 3, np.uint8))
    with pytest.raises(DataError) as scanned:
        open_data(root)
    source = open_data(root, scan=False)
    assert source.load("train", "a").mask.shape == SIZE
    with pytest.raises(DataError) as loaded:
        source.load("train", "b")

    assert str(loaded.value) == str(scanned.value)


def test_progress(root: Path) -> None:
    """The callback counts what has to be read."""
    seen: list[tuple[int, int]] = []
    scan(Folder(root), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 5) for k in range(1, 6)]

    scan(Folder(root), progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 5


def test_scenes() -> None:
    """Scenes are counted by the same report; every pixel has a label."""
    report = scan(Scenes(n_train=7, n_val=3, size=(17, 19)))

    assert not report.problems
    assert sum(report.splits["train"].pixels.values()) == 7 * 17 * 19
    assert report.splits["val"].with_texts == 3
    assert report.splits["val"].hole_share is not None


@pytest.mark.parametrize(
    ("name", "counts", "classes", "size", "depth"),
    [("camvid", (367, 101), 11, (360, 480), False), ("nyuv2", (636, 159), 40, (480, 640), True)],
)
def test_real_sets_open_as_they_are(
    name: str, counts: tuple[int, int], classes: int, size: tuple[int, int], depth: bool
) -> None:
    """CamVid and NYUv2 open without a change; a few of their samples load in full."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no real data at {SHARED / name}")
    source = open_data(SHARED / name, scan=False)

    assert tuple(len(source.names(split)) for split in ("train", "val")) == counts
    assert len(source.class_names) == classes
    assert source.has_depth == depth
    assert isinstance(source, Folder)
    assert source.listing.problems() == []
    for split in ("train", "val"):
        for image in source.names(split)[:3]:
            sample = source.load(split, image)
            assert sample.image.shape == (*size, 3)
            assert sample.mask.shape == size
            assert (sample.depth is not None) == depth
            assert sample.depth is None or 0 < sample.depth.max() <= 255
