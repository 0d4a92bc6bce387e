"""Which files a data folder holds, by split and name, and its class names; no image is decoded.

This module does not depend on what images, masks and texts hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from semalign import layout
from semalign.data.images import IMAGE_ENDINGS
from semalign.data.reading import read_text
from semalign.data.sample import MAX_CLASSES
from semalign.errors import DataError, nearest

__all__ = ["Key", "Listing", "list_folder", "listed_files", "read_class_names"]

Key = tuple[str, str]
"""Split and name of an image."""

EXPECTED = f"{layout.IMAGES}/SPLIT/NAME.jpg, {layout.MASKS}/SPLIT/NAME.png and {layout.CLASS_NAMES}"

ByName = Mapping[str, Mapping[str, Path]]
"""Files by split and name without ending."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a data folder.

    Attributes:
        root: the folder.
        images: by split and name; splits are train, val, then the others by name.
        twins: by split, the pairs of images that share a name; the first of a pair is in ``images``.
        masks: by split and name.
        depths: by split and name; None where the folder has no depth.
    """

    root: Path
    images: ByName
    twins: Mapping[str, list[tuple[Path, Path]]]
    masks: ByName
    depths: ByName | None

    @property
    def partners(self) -> dict[str, ByName]:
        """The files that every image needs, by their folder: masks, and depth where there is some."""
        return {layout.MASKS: self.masks} | ({} if self.depths is None else {layout.DEPTH: self.depths})

    def complete_names(self) -> dict[str, tuple[str, ...]]:
        """Return by split the names of the images that have all their partners."""
        needed = self.partners.values()
        return {
            split: tuple(name for name in images if all(name in listed.get(split, {}) for listed in needed))
            for split, images in self.images.items()
        }

    def partner(self, folder: str, split: str, name: str) -> Path:
        """Return the mask or depth of one image.

        Args:
            folder: `layout.MASKS` or `layout.DEPTH`.
            split: the image's split.
            name: the image's name.

        Raises:
            DataError: it is missing.
        """
        listed = self.partners[folder].get(split, {})
        if name not in listed:
            raise self._lacks_partner(folder, split, name)
        return listed[name]

    def problems(self) -> list[DataError]:
        """Return what the lists of files alone show: empty splits, twins, and files without partners."""
        problems = []
        for split, images in self.images.items():
            if not images:
                problems.append(self.empty_split(split))
                continue
            problems += [
                DataError(f"images {kept} and {twin} share one name, expected one image per mask, rename or remove one")
                for kept, twin in self.twins[split]
            ]
            for folder in self.partners:
                problems += self._partner_problems(folder, split)
        problems += [
            DataError(
                f"data folder {self.root} has {folder}/{split} but no {layout.IMAGES}/{split}, "
                "add its images or remove the folder"
            )
            for folder, listed in self.partners.items()
            for split in listed
            if split not in self.images
        ]
        return problems

    def _partner_problems(self, folder: str, split: str) -> Iterator[DataError]:
        images, what = self.images[split], _NOUN[folder]
        if split not in self.partners[folder]:
            yield DataError(
                f"data folder {self.root} has {layout.IMAGES}/{split} but no {folder}/{split}, expected a "
                f"{what} NAME.png there for each of its {len(images)} images"
            )
            return
        listed = self.partners[folder][split]
        yield from (self._lacks_partner(folder, split, name) for name in images if name not in listed)
        for name, path in listed.items():
            if name not in images:
                yield DataError(
                    f"{what} {path} has no image: expected {self.root / layout.IMAGES / split / name} with one of the "
                    f"endings {', '.join(IMAGE_ENDINGS)}, add the image or remove the {what}"
                )

    def _lacks_partner(self, folder: str, split: str, name: str) -> DataError:
        what = _NOUN[folder]
        expected = self.root / folder / split / f"{name}.png"
        return DataError(
            f"image {self.images[split][name]} has no {what}: expected {expected}, add the {what} or remove the image"
        )

    def empty_split(self, split: str) -> DataError:
        """Return the error for a split without images."""
        return DataError(
            f"split {split!r} of data folder {self.root} is empty: expected images with one of the endings "
            f"{', '.join(IMAGE_ENDINGS)} in {self.root / layout.IMAGES / split}, add some or remove the folder"
        )

    def find_image(self, reference: str) -> Key | None:
        """Return split and name to which ``SPLIT/NAME``, with or without ending, refers, or None."""
        split, _, name = reference.partition("/")
        images = self.images.get(split, {})
        if name in images:
            return split, name
        stem, dot, ending = name.rpartition(".")
        if dot and f".{ending.lower()}" in IMAGE_ENDINGS and stem in images:
            return split, stem
        return None

    def find_images(self, reference: str) -> list[Key]:
        """Return the image to which ``SPLIT/NAME`` refers, or the images named ``NAME`` in any split."""
        references = (reference, *(f"{split}/{reference}" for split in self.images))
        found = [self.find_image(reference) for reference in references]
        return [key for key in found if key is not None]

    def unknown_image(self, reference: str) -> str:
        """Return the end of a sentence about a reference to no image: the reference and what is near."""
        split, slash, name = reference.partition("/")
        if slash and split in self.images:
            hint = nearest(name, self.images[split])
            hint = hint if "did you mean" in hint else ""
        elif slash:
            hint = f": there is no split {split!r}{nearest(split, tuple(self.images))}"
        else:
            hint = f": it names no split, known: {', '.join(self.images)}"
        return f"{reference!r}{hint}, correct the name or remove the line"


_NOUN = {layout.MASKS: "mask", layout.DEPTH: "depth"}


def list_folder(root: Path) -> Listing:
    """Return the files of a data folder.

    Raises:
        DataError: the folder, images/, masks/ or classes.txt is missing, there is no split, or a name is not UTF-8.
    """
    _check_layout(root)
    images, twins = _list_images(root / layout.IMAGES)
    depth = root / layout.DEPTH
    return Listing(root, images, twins, _list_png(root / layout.MASKS), _list_png(depth) if depth.is_dir() else None)


def listed_files(root: Path, kind: str, split: str) -> list[Path]:
    """Return the files that count in ``root/kind/split``, sorted: images of any ending, masks and depth as PNG."""
    folder = root / kind / split
    endings = IMAGE_ENDINGS if kind == layout.IMAGES else (".png",)
    return _list_files(folder, endings) if folder.is_dir() else []


def _check_layout(root: Path) -> None:
    if not root.exists():
        raise DataError(f"data folder {root} does not exist, expected the word scenes or a folder with {EXPECTED}")
    if not root.is_dir():
        raise DataError(f"data {root} is a file, expected the word scenes or a folder with {EXPECTED}")
    for part in (layout.IMAGES, layout.MASKS):
        if not (root / part).is_dir():
            raise DataError(f"data folder {root} has no folder {part}/, expected {EXPECTED}")
    if not (root / layout.CLASS_NAMES).is_file():
        raise DataError(
            f"data folder {root} has no {layout.CLASS_NAMES}, expected {EXPECTED}, line k naming the class of value k-1"
        )


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the lines of classes.txt: line k is the name of class k-1.

    Raises:
        DataError: the file cannot be read, is not UTF-8, is empty or too long, or has a blank or repeated line.
    """
    names = [line.strip() for line in read_text(path, "class list").splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataError(f"{path} is empty, expected one class name per line, line k naming the class of value k-1")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{path} names {len(names)} classes, expected at most {MAX_CLASSES}, merge rare ones")
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(f"line {number} of {path} is blank, expected the name of the class of value {number - 1}")
        if name in first:
            raise DataError(f"{path} names class {name!r} in lines {first[name]} and {number}, expected distinct names")
        first[name] = number
    return tuple(names)


def _entries(folder: Path) -> list[Path]:
    try:
        # By name: to compare paths takes several times as long.
        return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be listed: {error.strerror}, make it readable") from error


def _check_names(folder: Path, names: list[str]) -> None:
    # Names go into results, reports and caches, all of which are UTF-8; Python reads other bytes as half surrogates.
    bad = [name for name in names if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"folder {folder} holds the name {bad[0]!r}{more}, expected names in UTF-8, rename it")


def _subfolders(folder: Path) -> list[str]:
    found = [entry.name for entry in _entries(folder) if entry.is_dir()]
    _check_names(folder, found)
    return sorted(found, key=lambda name: {"train": 0, "val": 1}.get(name, 2))


def _list_files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    # A folder or a broken link with such an ending is listed too: reading it says what is wrong.
    found = [entry for entry in _entries(folder) if entry.suffix.lower() in endings]
    _check_names(folder, [entry.name for entry in found])
    return found


def _list_images(
    folder: Path,
) -> tuple[dict[str, dict[str, Path]], dict[str, list[tuple[Path, Path]]]]:
    """Return by split the images by name, and the pairs of images that share a name."""
    splits = _subfolders(folder)
    if not splits:
        raise DataError(
            f"{folder} has no folder of a split, expected images in {folder / 'train'} and {folder / 'val'}"
        )
    images: dict[str, dict[str, Path]] = {}
    twins: dict[str, list[tuple[Path, Path]]] = {}
    for split in splits:
        images[split], twins[split] = {}, []
        for path in _list_files(folder / split, IMAGE_ENDINGS):
            kept = images[split].setdefault(path.stem, path)
            if kept != path:
                twins[split].append((kept, path))
        images[split] = dict(sorted(images[split].items()))
    return images, twins


def _list_png(folder: Path) -> dict[str, dict[str, Path]]:
    return {
        split: {path.stem: path for path in _list_files(folder / split, (".png",))} for split in _subfolders(folder)
    }
