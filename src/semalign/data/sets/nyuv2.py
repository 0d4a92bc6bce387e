"""NYU Depth v2, 40 classes: in DFormer's layout (folders), and as published (nyu_depth_v2_labeled.mat).

Of the .mat, the 894 classes become 40 by Gupta's classMapping40.mat, and splits.mat says which images are train and
which test (numbers from 1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from semalign.data.images import decode_indices, png_kind
from semalign.data.reading import read_bytes
from semalign.data.sample import ImageArray, MaskArray
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.rules import MaskRule, Unknown
from semalign.data.sets.source import Source, check_name
from semalign.errors import ConfigError, DataError, first_line
from semalign.metrics import IGNORE
from semalign.wording import say

__all__ = ["CLASSES", "EXPECTED", "TITLE", "plan"]

TITLE: Final = "NYU Depth v2"
EXPECTED: Final = (
    "RGB/, Label/, train.txt and test.txt (DFormer's layout), or nyu_depth_v2_labeled.mat, splits.mat and "
    "classMapping40.mat"
)

CLASSES: Final = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor mat",
    "clothes",
    "ceiling",
    "books",
    "refrigerator",
    "television",
    "paper",
    "towel",
    "shower curtain",
    "box",
    "whiteboard",
    "person",
    "night stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
    "other structure",
    "other furniture",
    "other prop",
)

MAT = "nyu_depth_v2_labeled.mat"
MILLIMETRES = 1000
MOST_MILLIMETRES = 65534  # 65535 would look like a mark of holes

_RULE = MaskRule({k: k - 1 for k in range(1, len(CLASSES) + 1)} | {0: IGNORE}, "0 for void, 1 to 40")
_NO_VAL = say("data.nyuv2.no-val")


def plan(source: Source, unknown: Unknown) -> Plan:
    """Find NYU Depth v2 below ``source``."""
    source.enter("train.txt", MAT, below=("NYUDepthv2", "NYUDepth_v2", "nyuv2"))
    if (source.root / MAT).is_file():
        return _from_mat(source, unknown)
    return _from_folders(source, unknown)


# ---- Folders ----


def _from_folders(source: Source, unknown: Unknown) -> Plan:
    images = source.by_stem(source.need_folder("RGB", "RGBFolder", "rgb"), "image")
    masks = source.by_stem(source.need_folder("Label", "Labels", "labels", "label", "LabelFolder"), "mask")
    folder = source.folder("Depth", "depth", "DepthFolder")
    depths = None if folder is None else source.by_stem(folder, "depth", endings=(".png",))
    entries, notes = [], [_NO_VAL]
    for split in ("train", "val", "test"):
        listing = source.root / f"{split}.txt"
        if not listing.is_file():
            continue
        if split == "val":
            notes.clear()
        for line in source.lines(listing):
            name = source.listed(line.split()[0], str(listing)).stem
            for what, found in (("image", images), ("mask", masks), ("depth", depths)):
                if found is not None and name not in found:
                    raise DataError(
                        f"{listing} names {name!r}, which has no {what} in {source.root}: complete the data"
                    )
            depth = None if depths is None else _grey_depth(depths[name])
            mask = functools.partial(_RULE.read, masks[name], unknown)
            entries.append(Entry(split, name, images[name], mask, depth))
    if depths is None and source.folder("HHA"):
        notes.append(say("data.nyuv2.hha"))
    notes.append(say("data.nyuv2.no-scenes"))
    return Plan("DFormer's folders", say("data.nyuv2.ids"), CLASSES, tuple(entries), tuple(notes))


def _grey_depth(path: Path) -> Path | Callable[[], NDArray[np.uint16]]:
    """Return a grey file as it is, and how to read one that stores one channel three times."""
    is_rgb = png_kind(read_bytes(path, "depth", 26)).color in (2, 6)
    return functools.partial(_equal_channels, path) if is_rgb else path


def _equal_channels(path: Path) -> NDArray[np.uint16]:
    values = decode_indices(read_bytes(path, "depth"), path, "depth", ("RGB", "RGBA"), "depth")[..., :3]
    if not (values == values[..., :1]).all():
        raise DataError(f"depth {path} is a picture in colors, expected one channel: leave depth out with --no-depth")
    return values[..., 0].astype(np.uint16)


# ---- The .mat ----


def _from_mat(source: Source, unknown: Unknown) -> Plan:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"{MAT} needs the package h5py, which is not installed: pip install 'semalign[sets]'"
        ) from error
    path = source.file(source.root / MAT, "data file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not an HDF5 file or is cut short ({error}), download it again") from error
    mat = _Mat(file, path)
    count, width, height = mat.shape("labels", 3)
    for name, expected in (("images", (count, 3, width, height)), ("depths", (count, width, height))):
        if mat.shape(name, len(expected)) != expected:
            raise DataError(f"{path} has {name} of shape {mat.shape(name)}, expected {expected} as its labels say")
    classes = _mapping(source)
    scenes = mat.strings("scenes")
    if len(scenes) != count:
        raise DataError(f"{path} has {len(scenes)} scenes for {count} images, expected one each: download it again")
    entries = tuple(
        Entry(
            split,
            f"{number:04d}",
            functools.partial(mat.image, number - 1),
            functools.partial(_classes, mat, number - 1, classes, unknown),
            functools.partial(mat.depth, number - 1),
            check_name(scenes[number - 1], f"scene of image {number} in {path}"),
        )
        for split, numbers in _splits(source, count).items()
        for number in numbers
    )
    return Plan(MAT, say("data.nyuv2.mapping"), CLASSES, entries, (_NO_VAL, say("data.nyuv2.depth")))


class _Mat:
    """The arrays of the .mat; in HDF5 MATLAB's axes come the other way round."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path

    def array(self, name: str) -> Any:
        """Return a dataset, refusing one whose values lie in other files."""
        import h5py

        link = self.file.get(name, getlink=True) if name in self.file else None
        if not isinstance(link, h5py.HardLink) or not isinstance(self.file[name], h5py.Dataset):
            self._refuse(f"has no array {name!r} of its own")
        found = self.file[name]
        if found.external or found.is_virtual:
            self._refuse(f"keeps {name!r} in other files")
        return found

    def _refuse(self, why: str) -> NoReturn:
        raise DataError(f"{self.path} {why}, expected NYU's labelled data set: download it again")

    def shape(self, name: str, axes: int | None = None) -> tuple[int, ...]:
        """Return the shape of an array, which has as many ``axes``."""
        shape: tuple[int, ...] = self.array(name).shape
        if axes is not None and len(shape) != axes:
            self._refuse(f"has {name!r} of {len(shape)} axes")
        return shape

    def _at(self, name: str, index: int, kind: type[np.generic]) -> NDArray[Any]:
        """Return the part of an array that belongs to one image."""
        try:
            return np.asarray(self.array(name)[index], kind)
        except OSError as error:
            self._refuse(f"has {name!r} of image {index + 1} damaged ({first_line(error)})")

    def image(self, index: int) -> ImageArray:
        """Return H x W x 3."""
        image: ImageArray = np.ascontiguousarray(self._at("images", index, np.uint8).transpose(2, 1, 0))
        return image

    def labels(self, index: int) -> NDArray[np.int64]:
        """Return H x W of 0 to 894."""
        return self._at("labels", index, np.int64).T

    def depth(self, index: int) -> NDArray[np.uint16]:
        """Return H x W millimetres."""
        metres: NDArray[np.float64] = self._at("depths", index, np.float64).T
        metres = np.where(np.isfinite(metres) & (metres > 0), metres, 0)
        return np.clip(np.rint(metres * MILLIMETRES), 0, MOST_MILLIMETRES).astype(np.uint16)

    def strings(self, name: str) -> list[str]:
        """Return a cell array of strings."""
        import h5py

        found = []
        for reference in np.asarray(self.array(name)).ravel():
            if not isinstance(reference, h5py.Reference) or not isinstance(self.file[reference], h5py.Dataset):
                self._refuse(f"has {name!r} that is not a cell array of strings")
            found.append("".join(chr(int(code)) for code in np.asarray(self.file[reference]).ravel()))
        return found


def _classes(mat: _Mat, index: int, classes: NDArray[np.int64], unknown: Unknown) -> MaskArray:
    by_id = {0: IGNORE} | {k + 1: int(forty) - 1 for k, forty in enumerate(classes)}
    return MaskRule(by_id, f"0 for unlabelled, 1 to {len(classes)}").apply(mat.labels(index), mat.path, unknown)


def _mapping(source: Source) -> NDArray[np.int64]:
    """Return the class of 1 to 40 for each of the 894."""
    found = _loadmat(source, "classMapping40.mat", "mapClass")
    if found.size == 0 or found.min() < 1 or found.max() > len(CLASSES):
        raise DataError(f"{source.root / 'classMapping40.mat'} maps to other than 1 to 40, expected Gupta's 40 classes")
    return found


def _splits(source: Source, count: int) -> dict[str, list[int]]:
    """Return the numbers, from 1, of the training and the test images."""
    splits = {}
    for split, name in (("train", "trainNdxs"), ("test", "testNdxs")):
        numbers = _loadmat(source, "splits.mat", name)
        if numbers.size and (numbers.min() < 1 or numbers.max() > count):
            raise DataError(f"{source.root / 'splits.mat'} names images to {numbers.max()}, expected 1 to {count}")
        splits[split] = [int(number) for number in numbers]
    return splits


def _loadmat(source: Source, name: str, key: str) -> NDArray[np.int64]:
    """Return the integers of one variable of a small .mat beside the large one."""
    from scipy.io import loadmat

    path = source.root / name
    if not path.is_file():
        raise DataError(f"{path} is missing, expected {EXPECTED.split(', or ')[1]} in one folder: copy it there")
    try:
        values = loadmat(source.file(path, "data file"), variable_names=[key])[key]
        return np.asarray(values).ravel().astype(np.int64)
    except Exception as error:  # scipy's reader raises many kinds on damaged bytes
        if isinstance(error, MemoryError):
            raise
        reason = f"has no {key}" if isinstance(error, KeyError) else f"cannot be read ({type(error).__name__})"
        raise DataError(f"{path} {reason}, expected the file that goes with {MAT}: download it again") from error
