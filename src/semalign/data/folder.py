"""Images, masks, depth, texts and clusters from a folder of the user's.

    ROOT/classes.txt              line k is the name of class k-1
    ROOT/images/SPLIT/NAME.jpg    or .jpeg .png .bmp .tif .tiff .webp .ppm .pgm; 8 bits per channel
    ROOT/masks/SPLIT/NAME.png     class indices, 255 ignored; grey, 16-bit grey or palette (its indices are the classes)
    ROOT/depth/SPLIT/NAME.png     optional; 8- or 16-bit grey, 0 = no measurement
    ROOT/texts.jsonl              optional; {"image": "SPLIT/NAME", "texts": ["...", ...]} per line
    ROOT/clusters.txt             optional; image (SPLIT/NAME or NAME) and sequence per line

Folders and files may be symbolic links; hidden files are ignored.  This module does not depend on caches, batches,
models and torch; `semalign.data.check` reads every file once in full.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semalign import layout
from semalign.data.depth import read_depth
from semalign.data.images import check_size, decode_image, header_size
from semalign.data.listing import list_folder, read_class_names
from semalign.data.masks import read_mask
from semalign.data.metadata import Clusters, Texts, read_clusters, read_texts
from semalign.data.reading import read_bytes
from semalign.data.sample import ImageArray, Sample, unknown_name, unknown_split
from semalign.metrics import IGNORE

__all__ = ["Files", "Folder"]


class Files(NamedTuple):
    """The files of one sample."""

    image: Path
    mask: Path
    depth: Path | None


class Folder:
    """A `DataSource` of the files below one folder (see the module's docstring for the layout).

    Opening lists the files and reads ``classes.txt``; nothing is decoded.  A file that does not fit raises when it is
    loaded; `semalign.data.check.scan` finds all of them beforehand.

    Args:
        root: the folder.

    Attributes:
        listing: the files by split and name.
        class_names: the lines of ``classes.txt``.
        splits: the folders in ``images/``: train, val, then the others by name.
        has_depth: whether there is a ``depth/`` folder; then every image needs its depth.
        has_texts: whether there is a ``texts.jsonl``.
        has_clusters: whether there is a ``clusters.txt``.

    Raises:
        DataError: the folder, ``images/``, ``masks/`` or ``classes.txt`` is missing, there is no split, a name is not
            UTF-8, or ``classes.txt`` is empty, too long, or names a class twice.
    """

    kind = "folder"

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.listing = list_folder(self.root)
        self.class_names = read_class_names(self.root / layout.CLASS_NAMES)
        self._names = {split: tuple(images) for split, images in self.listing.images.items()}
        self.splits = tuple(self._names)
        self.has_depth = self.listing.depths is not None
        self.has_texts = (self.root / layout.TEXTS).is_file()
        self.has_clusters = (self.root / layout.CLUSTERS).is_file()
        # What is read once and kept.  Two threads that come at the same time compute equal values, so no lock.
        self._classes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._hashes: dict[Path, str] = {}

    def names(self, split: str) -> tuple[str, ...]:
        """Image names of ``split`` without ending, sorted."""
        if split not in self._names:
            raise unknown_split(split, self.splits, f"data folder {self.root}")
        if not self._names[split]:
            raise self.listing.empty_split(split)
        return self._names[split]

    def files(self, split: str, name: str) -> Files:
        """Paths of one sample's files.

        Raises:
            DataError: unknown image, or it has no mask, or no depth where others have.
        """
        known = self.names(split)
        if name not in self.listing.images[split]:
            raise unknown_name(split, name, f"data folder {self.root}", known)
        mask = self.listing.partner(layout.MASKS, split, name)
        depth = self.listing.partner(layout.DEPTH, split, name) if self.has_depth else None
        return Files(self.listing.images[split][name], mask, depth)

    def load(self, split: str, name: str) -> Sample:
        """Read image, mask, depth, texts and cluster of one image.

        Raises:
            DataError: a file is missing, corrupt or does not fit the others.
            TextError: ``texts.jsonl`` is malformed.
        """
        files = self.files(split, name)
        mask = read_mask(files.mask, len(self.class_names))
        size = (mask.shape[0], mask.shape[1])
        image = decode_image(read_bytes(files.image, "image"), files.image, size).image
        check_size("image", files.image, image.shape[:2], size, files.mask)
        depth = None
        if files.depth is not None:
            depth = read_depth(files.depth)
            check_size("depth", files.depth, depth.shape, size, files.mask)
        return Sample(name, image, mask, depth, self.texts(split)[name], self.clusters(split)[name])

    def image(self, split: str, name: str) -> ImageArray:
        """Read one image; the mask's header decides whether an EXIF orientation is applied."""
        files = self.files(split, name)
        mask_size = header_size(files.mask, "mask")
        image = decode_image(read_bytes(files.image, "image"), files.image, mask_size).image
        check_size("image", files.image, image.shape[:2], mask_size, files.mask)
        return image

    @functools.cached_property
    def all_texts(self) -> Texts:
        """What ``texts.jsonl`` holds, and its faults; read once."""
        return read_texts(self.root / layout.TEXTS, self.listing)

    @functools.cached_property
    def all_clusters(self) -> Clusters:
        """What ``clusters.txt`` holds, and its faults; read once."""
        return read_clusters(self.root / layout.CLUSTERS, self.listing)

    def texts(self, split: str) -> dict[str, tuple[str, ...]]:
        """Texts of every image of ``split``; an empty tuple where ``texts.jsonl`` has none.

        Raises:
            TextError: ``texts.jsonl`` is malformed or names an unknown image.
        """
        names = self.names(split)
        if self.all_texts.problems:
            raise self.all_texts.problems[0]
        found = self.all_texts.by_image.get(split, {})
        return {name: found.get(name, ()) for name in names}

    def mask_classes(self, split: str, name: str) -> tuple[int, ...]:
        """Sorted class indices in the mask, without 255."""
        key = (split, name)
        if key not in self._classes:
            mask = read_mask(self.files(split, name).mask, len(self.class_names))
            self._classes[key] = tuple(int(value) for value in np.unique(mask) if value != IGNORE)
        return self._classes[key]

    def clusters(self, split: str) -> dict[str, str]:
        """Sequence of every image of ``split``; where ``clusters.txt`` has none of them, each image is its own.

        Raises:
            DataError: ``clusters.txt`` is malformed, names an unknown image or covers the split in part.
        """
        names = self.names(split)
        if self.all_clusters.problems:
            raise self.all_clusters.problems[0]
        found = self.all_clusters.by_image.get(split)
        return dict(found) if found else {name: f"{split}/{name}" for name in names}

    def fingerprint(self, split: str) -> str:
        """SHA-256 over names, the content of every file, class names, texts and clusters; the place does not matter.

        After a scan the files' hashes are known; else every file is read once.
        """
        texts, clusters = self.texts(split), self.clusters(split)
        digest = hashlib.sha256(json.dumps([self.kind, split, self.class_names]).encode())
        for name in self.names(split):
            files = self.files(split, name)
            hashes = [None if path is None else self._hash(path) for path in files]
            digest.update(json.dumps([name, hashes, texts[name], clusters[name]]).encode())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return root, class names, counts and which optional parts there are."""
        return {
            "kind": self.kind,
            "root": str(self.root),
            "classes": list(self.class_names),
            "splits": {split: len(names) for split, names in self._names.items()},
            "depth": self.has_depth,
            "texts": self.has_texts,
            "clusters": self.has_clusters,
        }

    def remember(self, split: str, name: str, classes: tuple[int, ...], hashes: Mapping[Path, str]) -> None:
        """Keep what a scan found out: the mask's classes and the files' SHA-256 (hex)."""
        self._classes[(split, name)] = classes
        self._hashes.update(hashes)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = hashlib.sha256(read_bytes(path, "file")).hexdigest()
        return self._hashes[path]
