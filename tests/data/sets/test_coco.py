"""Annotations in COCO's format: polygons, run-length codes, and the rule where instances overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semalign.data.sets.coco import decode_counts, polygon_mask, rle_mask
from semalign.errors import DataError
from tests.data.sets.conftest import Importer, picture

SIZE = (5, 7)


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Return a rectangle as a polygon."""
    return [left, top, right, top, right, bottom, left, bottom]


def write(source: Path, annotations: list[dict[str, Any]], name: str = "instances_train.json", **changes: Any) -> Path:
    """Write an annotation file of two images with the categories cat (3), sky (7, stuff) and dog (9)."""
    for image in ("a.png", "b.png"):
        picture(source / image)
    document = {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 5, "width": 7},
            {"id": 2, "file_name": "b.png", "height": 5, "width": 7},
        ],
        "annotations": [{"id": place, "image_id": 1, **item} for place, item in enumerate(annotations)],
        "categories": [
            {"id": 9, "name": "dog"},
            {"id": 3, "name": "cat"},
            {"id": 7, "name": "sky", "isthing": 0},
        ],
        **changes,
    }
    path = source / name
    path.write_text(json.dumps(document))
    return path


def grid(*rows: str) -> NDArray[np.uint8]:
    """Return a mask from a drawing: a digit is a class, x is 255."""
    return np.array([[255 if letter == "x" else int(letter) for letter in row] for row in rows], dtype=np.uint8)


def test_polygons(source: Path, imported: Importer) -> None:
    """A box of whole coordinates is its pixels and no more; categories count by id after the background."""
    write(source, [{"category_id": 3, "segmentation": [box(1, 1, 4, 3)]}, {"category_id": 9, "segmentation": []}])

    folder, found = imported("coco", annotations=["instances_train.json"])

    assert folder.class_names == ("background", "cat", "sky", "dog")
    np.testing.assert_array_equal(
        folder.load("train", "a").mask, grid("0000000", "0111000", "0111000", "0000000", "0000000")
    )
    np.testing.assert_array_equal(folder.load("train", "b").mask, np.zeros(SIZE))
    assert list(map(str, found.notes)) == ["1 image of train has no annotation, all its pixels are background"]


def test_the_rule_where_instances_overlap(source: Path, imported: Importer) -> None:
    """Stuff lies below crowds, crowds below things, larger below smaller, whatever the order of the file."""
    crowd = {"size": [5, 7], "counts": [15, 15, 5]}  # columns 3 to 5
    annotations = [
        {"category_id": 9, "segmentation": [box(0, 4, 1, 5)]},
        {"category_id": 3, "segmentation": [box(0, 2, 5, 5)]},
        {"category_id": 3, "segmentation": crowd, "iscrowd": 1},
        {"category_id": 7, "segmentation": [box(0, 0, 7, 3)]},
        {"category_id": 9, "segmentation": [box(6, 4, 7, 5)]},
        {"category_id": 3, "segmentation": [box(6, 4, 7, 5)]},
    ]
    write(source, annotations)

    folder, found = imported("coco", annotations=["instances_train.json"], background=None)

    assert folder.class_names == ("cat", "sky", "dog")
    np.testing.assert_array_equal(
        folder.load("train", "a").mask, grid("111xxx1", "111xxx1", "00000x1", "00000xx", "20000x0")
    )
    np.testing.assert_array_equal(folder.load("train", "b").mask, np.full(SIZE, 255))
    assert "pixels of no instance become 255" in str(found.rule)
    assert list(map(str, found.notes)) == ["1 image of train has no annotation, all its pixels are ignored"]


def test_splits_and_places(source: Path, imported: Importer) -> None:
    """The split is given or read from the file's name; images lie in the source or in a folder named so."""
    write(source, [])
    (source / "val2017").mkdir()
    (source / "annotations").mkdir()
    (source / "b.png").rename(source / "val2017" / "b.png")
    images = [{"id": 2, "file_name": "b.png", "height": 5, "width": 7}]
    write(source, [], "annotations/instances_val2017.json", images=images)
    (source / "b.png").unlink()
    one = [{"id": 1, "file_name": "a.png", "height": 5, "width": 7}]
    write(source, [], "extra.json", images=one)
    (source / "b.png").unlink()

    folder, _ = imported("coco", annotations=["annotations/instances_val2017.json", "test=extra.json"])

    assert {split: folder.names(split) for split in folder.splits} == {"val": ("b",), "test": ("a",)}


def test_polygons_by_their_centres() -> None:
    """A pixel counts where its centre is inside; holes by crossing lines; what lies outside the image is cut."""
    triangle = np.array([(0.0, 0.0), (4.0, 0.0), (0.0, 4.0)])
    inside = np.array([[x + 0.5 + y + 0.5 < 4 for x in range(7)] for y in range(5)])
    bow = np.array([(0.0, 0.0), (6.0, 4.0), (6.0, 0.0), (0.0, 4.0)])

    np.testing.assert_array_equal(polygon_mask(triangle, SIZE), inside)
    np.testing.assert_array_equal(polygon_mask(triangle[::-1], SIZE), inside)
    assert polygon_mask(np.array([(-9.0, -9.0), (99.0, -9.0), (99.0, 99.0), (-9.0, 99.0)]), SIZE).all()
    assert not polygon_mask(np.array([(8.0, 1.0), (9.0, 1.0), (9.0, 3.0)]), SIZE).any()
    assert polygon_mask(bow, (4, 6))[:, [0, 5]].all()
    assert not polygon_mask(bow, (4, 6))[[0, 3]][:, [2, 3]].any()


def test_run_lengths_by_hand() -> None:
    """Counts run down the columns and begin with zeros; the packed string is COCO's."""
    expected = np.zeros(SIZE, dtype=bool)
    expected[3:, 0] = expected[:2, 1] = True

    np.testing.assert_array_equal(rle_mask({"size": [5, 7], "counts": [3, 4, 28]}, SIZE, "it"), expected)
    assert decode_counts("34l0", "it") == [3, 4, 28]
    np.testing.assert_array_equal(rle_mask({"size": [5, 7], "counts": "34l0"}, SIZE, "it"), expected)


def test_run_lengths_against_pycocotools() -> None:
    """Packed codes of random masks are decoded to the pixel."""
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    for size in ((5, 7), (31, 43), (211, 97)):
        for share in (0.01, 0.5, 0.999):
            bits = rng.random(size) < share
            code = tools.encode(np.asfortranarray(bits.astype(np.uint8)))
            packed = {"size": list(size), "counts": code["counts"].decode()}

            np.testing.assert_array_equal(rle_mask(packed, size, "it"), bits)


def distance(centres: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each centre is from a polygon's outline."""
    edges = np.roll(points, -1, axis=0) - points
    reach = centres[:, None] - points
    along = np.clip((reach * edges).sum(axis=-1) / (edges**2).sum(axis=-1), 0, 1)
    away: NDArray[np.float64] = np.linalg.norm(reach - along[..., None] * edges, axis=-1).min(axis=1)
    return away


# Its own use of numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_against_pycocotools() -> None:
    """They differ in a few pixels, all less than 1 from the outline, which COCO rounds to a fifth of a pixel."""
    tools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    size, differing, total = (83, 101), 0, 0
    for _ in range(40):
        angles = np.sort(rng.random(11)) * 2 * np.pi
        reach = rng.uniform(10, 40, size=11)
        points = np.stack([50 + reach * np.cos(angles), 41 + reach * np.sin(angles)], axis=1)
        ours = polygon_mask(points, size)
        theirs = tools.decode(tools.frPyObjects([points.ravel().tolist()], *size))[..., 0].astype(bool)
        rows, columns = np.nonzero(ours != theirs)
        away = distance(np.stack([columns + 0.5, rows + 0.5], axis=1), points)

        assert away.max(initial=0) < 1
        differing, total = differing + int((ours != theirs).sum()), total + int(ours.sum())
    assert differing < 0.02 * total


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {"category_id": 3, "segmentation": [[1, 2, 3, 4]]},
            r"polygon of 4 numbers, expected x1, y1, x2, y2, ... of 3",
        ),
        ({"category_id": 3, "segmentation": [["a", 2, 3, 4, 5, 6]]}, r"polygon that is not a list of numbers"),
        ({"category_id": 3, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, r"polygon with a corner at nan"),
        ({"category_id": 3, "segmentation": [[1e308, 2, -1e308, 4, 5, 6]]}, r"corner at 1e\+308, expected pixels of"),
        ({"category_id": 3, "segmentation": [[10**400, 2, 3, 4, 5, 6]]}, r"polygon that is not a list of numbers"),
        ({"category_id": 3}, r"annotation 0 in .* has no segmentation"),
        ({"category_id": 4, "segmentation": []}, r"annotation 0 of an unknown category 4"),
        ({"category_id": 3, "image_id": 8, "segmentation": []}, r"annotation 0 of an unknown image 8"),
        ({"category_id": 3, "segmentation": {"size": [7, 5], "counts": [35]}}, r"does not fit its image of 5 x 7"),
        ({"category_id": 3, "segmentation": {"size": 35, "counts": [35]}}, r"does not fit its image of 5 x 7"),
        ({"category_id": 3, "segmentation": {"size": None, "counts": [35]}}, r"does not fit its image of 5 x 7"),
        ({"category_id": 3, "segmentation": {"size": [5, 7], "counts": [36, -1]}}, r"does not fit its image of 5 x 7"),
        ({"category_id": 3, "segmentation": {"size": [5, 7], "counts": "34"}}, r"does not fit its image of 5 x 7"),
        ({"category_id": 3, "segmentation": {"size": [5, 7], "counts": "3 "}}, r"with the letter ' ', expected COCO's"),
        ({"category_id": 3, "segmentation": {"size": [5, 7], "counts": "34l"}}, r"that is cut short"),
        ({"category_id": 3, "image_id": [1], "segmentation": []}, r"expected a number as its image_id"),
    ],
)
def test_bad_annotations(source: Path, imported: Importer, item: dict[str, Any], message: str) -> None:
    """Each is refused with its number and file."""
    write(source, [item])
    with pytest.raises(DataError, match=message):
        imported("coco", annotations=["instances_train.json"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1, "file_name": "../a.png", "height": 5, "width": 7}]}, r"leads out of the data set by"),
        (
            {"images": [{"id": 1, "file_name": "/etc/a.png", "height": 5, "width": 7}]},
            r"expected a name below the source",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 7}]},
            r"a.png is 5 x 7 .* its mask is 6 x 7",
        ),
        ({"images": [{"id": 1, "file_name": "a.png"}]}, r"without file_name, height or width"),
        ({"images": [{"id": 1, "file_name": "c.png", "height": 5, "width": 7}]}, r"image .*c.png of .* is missing"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 60000, "width": 60000}]}, r"60000 x 60000 pixels"),
        ({"images": 3}, r"is not in COCO's format"),
        ({"images": [3]}, r"has entries that are not objects"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, r"distinct names: rename or merge"),
        ({"categories": [{"id": 1, "name": "background"}]}, r"or choose another --background"),
        ({"categories": [{"id": 1, "name": "a\nb"}]}, r"'a\\nb' with a control character: rename it"),
        ({"categories": [{"id": 1}]}, r"has the category .* expected an id of its own and a name"),
        ({"categories": []}, None),
    ],
)
def test_bad_files(source: Path, imported: Importer, changes: dict[str, Any], message: str | None) -> None:
    """What a file lacks, or should not name; without categories there is the background alone."""
    write(source, [], **changes)
    if message is None:
        assert imported("coco", annotations=["instances_train.json"])[0].class_names == ("background",)
        return
    with pytest.raises(DataError, match=message):
        imported("coco", annotations=["instances_train.json"])
