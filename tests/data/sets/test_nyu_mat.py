"""NYU Depth v2 as published: the .mat, its splits and the mapping to 40 classes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from semalign.errors import ConfigError, DataError
from tests.data.sets.conftest import SIZE, Importer

COUNT, NAMES = 3, 6
MAPPING = [40, 1, 2, 39, 1, 3]
"""Class of 1 to 40 by class of 1 to 6."""


@pytest.fixture
def h5py() -> Any:
    """Return the package, skipping where the extra is not installed."""
    return pytest.importorskip("h5py", reason="the extra `sets` is not installed")


def write(source: Path, h5py: Any) -> dict[str, Any]:
    """Write a made-up .mat of three images as MATLAB does: axes turned round, strings behind references."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(256, size=(COUNT, 3, SIZE[1], SIZE[0]), dtype=np.uint8),
        "labels": rng.integers(NAMES + 1, size=(COUNT, SIZE[1], SIZE[0]), dtype=np.uint16),
        "depths": rng.uniform(0.7, 10, size=(COUNT, SIZE[1], SIZE[0])).astype(np.float32),
    }
    arrays["labels"][0].flat[: NAMES + 1] = range(NAMES + 1)
    arrays["depths"][0, 0, :4] = (0.0, np.nan, 99.0, np.inf)
    with h5py.File(source / "nyu_depth_v2_labeled.mat", "w") as file:
        for name, values in arrays.items():
            file[name] = values
        cells = []
        for place, scene in enumerate(("kitchen_0001", "kitchen_0001", "office_0002")):
            file[f"#refs#/{place}"] = np.array([[ord(letter)] for letter in scene], dtype=np.uint16)
            cells.append(file[f"#refs#/{place}"].ref)
        file["scenes"] = np.array([cells], dtype=h5py.ref_dtype)
    savemat(source / "splits.mat", {"trainNdxs": np.array([[3], [1]]), "testNdxs": np.array([[2]])})
    savemat(source / "classMapping40.mat", {"mapClass": np.array([MAPPING])})
    return arrays


def test_the_mat(source: Path, imported: Importer, h5py: Any) -> None:
    """Images, classes by the mapping, depth in millimetres, scenes as clusters, numbers from 1 as names."""
    arrays = write(source, h5py)

    folder, found = imported("nyuv2")
    sample = folder.load("train", "0001")
    rule = np.array([255] + [forty - 1 for forty in MAPPING])
    depth = arrays["depths"][0].T

    assert folder.names("train") == ("0001", "0003")
    assert folder.names("test") == ("0002",)
    np.testing.assert_array_equal(sample.image, arrays["images"][0].transpose(2, 1, 0))
    np.testing.assert_array_equal(sample.mask, rule[arrays["labels"][0].T])
    assert sample.depth is not None
    np.testing.assert_array_equal(sample.depth[:4, 0], [0, 0, 65534, 0])
    np.testing.assert_allclose(sample.depth[4:], 1000 * depth[4:], atol=0.5)
    assert sample.cluster == "kitchen_0001"
    assert found.clusters == {"train": 2, "test": 1}
    assert found.depth


@pytest.mark.parametrize("name", ["splits.mat", "classMapping40.mat"])
def test_what_goes_with_it(source: Path, imported: Importer, h5py: Any, name: str) -> None:
    """The small files are needed, and named where they are missing or damaged."""
    write(source, h5py)
    (source / name).write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match=rf"{name} cannot be read \(.*\), expected the file that goes with"):
        imported("nyuv2")
    savemat(source / name, {"other": np.array([1])})
    with pytest.raises(DataError, match=rf"{name} has no "):
        imported("nyuv2")
    (source / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing, expected nyu_depth_v2_labeled.mat, splits.mat and class"):
        imported("nyuv2")


def test_numbers_out_of_range(source: Path, imported: Importer, h5py: Any) -> None:
    """A split that names an image too many, a mapping to a class too many, a label without a class."""
    write(source, h5py)
    savemat(source / "classMapping40.mat", {"mapClass": np.array([[1, 2]])})
    with pytest.raises(DataError, match=r"labeled.mat holds the id 3, the id 4, .* expected 0 for unlabelled, 1 to 2"):
        imported("nyuv2")
    savemat(source / "classMapping40.mat", {"mapClass": np.array([[41]])})
    with pytest.raises(DataError, match=r"maps to other than 1 to 40"):
        imported("nyuv2")
    savemat(source / "splits.mat", {"trainNdxs": np.array([[4]]), "testNdxs": np.array([[2]])})
    savemat(source / "classMapping40.mat", {"mapClass": np.array([MAPPING])})
    with pytest.raises(DataError, match=r"splits.mat names images to 4, expected 1 to 3"):
        imported("nyuv2")


def test_what_is_no_such_mat(source: Path, imported: Importer, h5py: Any, tmp_path: Path) -> None:
    """Bytes that are no HDF5, arrays that do not fit together, and arrays that lie in other files."""
    arrays = write(source, h5py)
    path = source / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "r+") as file:
        del file["depths"]
        file["depths"] = arrays["depths"][:2]
    with pytest.raises(DataError, match=r"has depths of shape \(2, 7, 5\), expected \(3, 7, 5\) as its labels say"):
        imported("nyuv2")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["depths"] = arrays["depths"]
    with h5py.File(path, "r+") as file:
        del file["depths"]
        file["depths"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "depths")
    with pytest.raises(DataError, match=r"has no array 'depths' of its own, expected NYU's labelled data set"):
        imported("nyuv2")
    with h5py.File(path, "r+") as file:
        del file["depths"]
        file.create_dataset("depths", (3, 7, 5), "f4", external=[(str(tmp_path / "raw"), 0, 420)])
    with pytest.raises(DataError, match=r"keeps 'depths' in other files"):
        imported("nyuv2")
    path.write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"labeled.mat is not an HDF5 file or is cut short"):
        imported("nyuv2")


def test_a_damaged_array(source: Path, imported: Importer, h5py: Any, tmp_path: Path) -> None:
    """Bytes that cannot be unpacked are the source's fault, not the output's."""
    arrays = write(source, h5py)
    path = source / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "r+") as file:
        del file["images"]
        packed = file.create_dataset("images", data=arrays["images"], chunks=(1, 3, 7, 5), compression="gzip")
        start = packed.id.get_chunk_info(2).byte_offset
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"damaged!"
    path.write_bytes(data)

    with pytest.raises(DataError, match=r"labeled.mat has 'images' of image 3 damaged \(.*\), expected NYU's"):
        imported("nyuv2")
    assert not (tmp_path / "ours").exists()


def test_the_package_is_named(source: Path, imported: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without h5py the error names the extra."""
    (source / "nyu_depth_v2_labeled.mat").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ConfigError, match=r"needs the package h5py, which is not installed: pip install 'semalign\[sets\]'"
    ):
        imported("nyuv2")
