"""Images, masks, depth, texts and clusters from a folder of the user's.

    ROOT/classes.txt              line k is the name of class k-1
    ROOT/images/SPLIT/NAME.jpg    or .jpeg .png .bmp .tif .tiff .webp .ppm .pgm; 8 bits per channel
    ROOT/masks/SPLIT/NAME.png     class indices, 255 ignored; grey, 16-bit grey or palette (its indices are the classes)
    ROOT/depth/SPLIT/NAME.png     optional; 8- or 16-bit grey, 0 = no measurement
    ROOT/texts.jsonl              optional; {"image": "SPLIT/NAME", "texts": ["...", ...]} per line
    ROOT/clusters.txt             optional; image (SPLIT/NAME or NAME) and sequence per line

Folders and files may be symbolic links.  Hidden files are passed over.  This module knows nothing of caches, batches,
models or torch; `semalign.data.check` reads everything once in full.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from semalign.data.sample import (
    MAX_CLASSES,
    DepthArray,
    ImageArray,
    MaskArray,
    Sample,
    unknown_name,
    unknown_split,
)
from semalign.errors import DataError, TextError, nearest
from semalign.metrics import IGNORE

__all__ = [
    "IMAGE_ENDINGS",
    "MAX_PIXELS",
    "DecodedImage",
    "Files",
    "Folder",
    "check_size",
    "decode_depth",
    "decode_image",
    "decode_indices",
    "decode_mask",
    "image_size",
    "read_bytes",
    "read_image",
]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

MAX_PIXELS = 100_000_000
"""Most pixels of one image: decoding takes up to 16 bytes for each (WebP), 1.6 gigabytes for the largest."""

LAYOUT = "images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png and classes.txt"

# EXIF orientation (tag 0x0112) to Pillow's transposition; 1 is upright.
ORIENTATION_TAG = 0x0112
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Files(NamedTuple):
    """The files of one sample."""

    image: Path
    mask: Path
    depth: Path | None


class DecodedImage(NamedTuple):
    """An image and what became of its EXIF orientation: "" (it has none), "applied", "left" or "ambiguous"."""

    image: ImageArray
    orientation: str


def read_bytes(path: Path, what: str, most: int = -1) -> bytes:
    """Return a file's bytes, or the first ``most`` of them; `DataError` where it cannot be read."""
    try:
        with path.open("rb") as handle:
            return handle.read(most)
    except OSError as error:
        raise DataError(
            f"{what} {path} cannot be read: {error.strerror}, check that the file is there and readable"
        ) from error


def _open_header(data: bytes, path: Path, what: str) -> Image.Image:
    """Open an image without decoding its pixels."""
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{what} {path} is too large: expected at most {MAX_PIXELS} pixels, cut it into tiles"
        ) from error
    except Exception as error:
        raise _undecodable(path, what, error) from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{what} {path} is too large: it has {image.width * image.height} pixels, expected at most {MAX_PIXELS}, "
            "cut it into tiles"
        )
    return image


def _open(data: bytes, path: Path, what: str) -> Image.Image:
    """Decode ``data`` in full."""
    image = _open_header(data, path, what)
    try:
        image.load()
    except Exception as error:
        raise _undecodable(path, what, error) from error
    return image


def _undecodable(path: Path, what: str, error: Exception) -> DataError:
    # Pillow's decoders raise nearly every kind of exception on damaged bytes.
    if isinstance(error, MemoryError):
        raise error
    reason = "it is no image of a known format" if isinstance(error, UnidentifiedImageError) else str(error)
    reason = " ".join((reason or type(error).__name__).split())
    return DataError(
        f"{what} {path} is corrupt or truncated and cannot be decoded ({reason}), replace the file or remove it with "
        "its partners"
    )


def _exif_orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    return orientation if orientation in TRANSPOSITIONS else 1


def decode_image(data: bytes, path: Path, mask_size: tuple[int, int] | None = None) -> DecodedImage:
    """Decode an image as H x W x 3 uint8 RGB; an alpha channel is dropped.

    An EXIF orientation is applied as viewers do.  With a mask, it is applied only if the image then has the mask's
    size.  A square or merely flipped image fits either way: it is turned too, and marked "ambiguous".

    Args:
        data: the file's bytes.
        path: the file's path, for messages.
        mask_size: (H, W) of its mask.

    Raises:
        DataError: corrupt, truncated, too large, or more than 8 bits per channel.
    """
    image = _open(data, path, "image")
    if image.mode.startswith("I") or image.mode == "F":
        raise DataError(
            f"image {path} has pixels of mode {image.mode!r}, expected 8 bits per channel (grey or colour), "
            "convert it to 8 bits"
        )
    try:
        code = _exif_orientation(image)
        if "transparency" in image.info:
            # Straight from a palette with transparency to RGB makes Pillow warn.
            image = image.convert("RGBA")
        image = image.convert("RGB")
    except Exception as error:
        raise _undecodable(path, "image", error) from error
    orientation = ""
    if code != 1:
        turned = image.transpose(TRANSPOSITIONS[code])
        stored_fits = mask_size is not None and (image.height, image.width) == mask_size
        turned_fits = mask_size is None or (turned.height, turned.width) == mask_size
        if turned_fits:
            image = turned
            orientation = "ambiguous" if stored_fits else "applied"
        else:
            orientation = "left"
    return DecodedImage(np.array(image, dtype=np.uint8, order="C"), orientation)


def read_image(path: Path) -> ImageArray:
    """Read any image file as H x W x 3 uint8 RGB, upright by its EXIF orientation.

    Raises:
        DataError: missing, corrupt, truncated, too large, or more than 8 bits per channel.
    """
    return decode_image(read_bytes(path, "image"), path).image


def image_size(path: Path, mask_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return an image's height and width from its header, turned as `decode_image` turns it for a mask of that size.

    Raises:
        DataError: missing, corrupt or too large.
    """
    image = _open_header(read_bytes(path, "image"), path, "image")
    size = (image.height, image.width)
    if size != mask_size and size[::-1] == mask_size and _exif_orientation(image) >= 5:
        return mask_size
    return size


def decode_indices(data: bytes, path: Path, what: str, modes: tuple[str, ...], content: str) -> NDArray[Any]:
    """Decode a PNG of one channel, in one of Pillow's ``modes``, to H x W integers as stored.

    Raises:
        DataError: corrupt, truncated, no PNG, or of another mode; ``content`` says what was expected.
    """
    image = _open(data, path, what)
    if image.format != "PNG":
        raise DataError(f"{what} {path} is a {image.format} file, expected a PNG file of {content}")
    if image.mode not in modes:
        kind = "RGB" if image.mode.startswith("RGB") else f"mode {image.mode!r}"
        raise DataError(
            f"{what} {path} is an image of {kind} with {len(image.getbands())} channel(s), "
            f"expected one channel of {content}, convert it"
        )
    values: NDArray[Any] = np.asarray(image)
    # Pillow stretches grey PNG of 2 and 4 bits to 0..255; bytes 24 and 25 of the header are bit depth and colour type.
    stretch = {(2, 0): 85, (4, 0): 17}.get((data[24], data[25]), 1)
    return values // stretch if stretch > 1 else values


def decode_mask(data: bytes, path: Path, class_count: int) -> MaskArray:
    """Decode a mask as H x W uint8 class indices; of a palette image the indices are taken, not the colours.

    Args:
        data: the file's bytes.
        path: the file's path, for messages.
        class_count: C; values are 0 to C-1, or 255.

    Raises:
        DataError: corrupt, truncated, more than one channel, or a value that is no class.
    """
    content = f"class indices (0 to {class_count - 1}, 255 ignored)"
    values = decode_indices(data, path, "mask", ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"), content)
    is_bad = (values >= class_count) & (values != IGNORE) | (values < 0)
    if is_bad.any():
        bad = np.unique(values[is_bad])
        shown = ", ".join(str(value) for value in bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise DataError(
            f"mask {path} holds the value{'s' if len(bad) > 1 else ''} {shown} ({int(is_bad.sum())} of {values.size} "
            f"pixels), expected {content}, name the missing classes in classes.txt or correct the mask"
        )
    return values.astype(np.uint8)


def decode_depth(data: bytes, path: Path) -> DepthArray:
    """Decode depth as H x W float32 of the stored integers; 0 is a hole.

    Raises:
        DataError: corrupt, truncated, or not one grey channel of 8 or 16 bits.
    """
    content = "8- or 16-bit grey depth"
    return decode_indices(data, path, "depth", ("L", "I", "I;16", "I;16B", "I;16L"), content).astype(np.float32)


def check_size(what: str, path: Path, size: tuple[int, ...], mask_path: Path, mask_size: tuple[int, ...]) -> None:
    """Raise `DataError` where a file's size (H, W) is not its mask's."""
    if size != mask_size:
        raise DataError(
            f"{what} {path} is {size[0]} x {size[1]} (H x W) but its mask {mask_path} is {mask_size[0]} x "
            f"{mask_size[1]}, expected equal sizes, resize one of them (a mask by nearest neighbour)"
        )


class Folder:
    """A `DataSource` of the files below one folder (see the module's docstring for the layout).

    Opening lists the files and reads ``classes.txt``; nothing is decoded.  A file that does not fit raises when it is
    loaded; `semalign.data.check.scan` finds all of them beforehand.

    Args:
        root: the folder.

    Raises:
        DataError: the folder, ``images/``, ``masks/`` or ``classes.txt`` is missing, there is no split, a name is not
            UTF-8, or ``classes.txt`` is empty, too long, or names a class twice.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        _check_layout(self.root)
        self._class_names = _read_class_names(self.root / "classes.txt")
        self._images, self._twins = _list_images(self.root / "images")
        self._names = {split: tuple(images) for split, images in self._images.items()}
        self._masks = _list_png(self.root / "masks")
        self._depths = _list_png(self.root / "depth") if (self.root / "depth").is_dir() else None
        # What is read once and kept.  Two threads that come at the same time compute equal values, so no lock.
        self._texts: dict[str, dict[str, tuple[str, ...]]] | None = None
        self._clusters: dict[str, dict[str, str]] | None = None
        self._classes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._hashes: dict[Path, str] = {}

    @property
    def kind(self) -> str:
        """``"folder"``."""
        return "folder"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The lines of ``classes.txt``."""
        return self._class_names

    @property
    def splits(self) -> tuple[str, ...]:
        """The folders in ``images/``: train, val, then the others by name."""
        return tuple(self._images)

    @property
    def has_depth(self) -> bool:
        """Whether there is a ``depth/`` folder; then every image needs its depth."""
        return self._depths is not None

    @property
    def has_texts(self) -> bool:
        """Whether there is a ``texts.jsonl``."""
        return (self.root / "texts.jsonl").is_file()

    @property
    def has_clusters(self) -> bool:
        """Whether there is a ``clusters.txt``."""
        return (self.root / "clusters.txt").is_file()

    def names(self, split: str) -> tuple[str, ...]:
        """Image names of ``split`` without ending, sorted."""
        if split not in self._names:
            raise unknown_split(split, self.splits, f"data folder {self.root}")
        if not self._names[split]:
            raise self._empty_split(split)
        return self._names[split]

    def files(self, split: str, name: str) -> Files:
        """Paths of one sample's files.

        Raises:
            DataError: unknown image, or it has no mask, or no depth where others have.
        """
        known = self.names(split)
        if name not in self._images[split]:
            raise unknown_name(split, name, f"data folder {self.root}", known)
        image = self._images[split][name]
        if name not in self._masks.get(split, {}):
            raise self._lacks_partner(image, "mask", split, name)
        if self._depths is None:
            return Files(image, self._masks[split][name], None)
        if name not in self._depths.get(split, {}):
            raise self._lacks_partner(image, "depth", split, name)
        return Files(image, self._masks[split][name], self._depths[split][name])

    def load(self, split: str, name: str) -> Sample:
        """Read image, mask, depth, texts and cluster of one image.

        Raises:
            DataError: a file is missing, corrupt or does not fit the others.
            TextError: ``texts.jsonl`` is malformed.
        """
        files = self.files(split, name)
        mask = decode_mask(read_bytes(files.mask, "mask"), files.mask, len(self._class_names))
        size = (mask.shape[0], mask.shape[1])
        image = decode_image(read_bytes(files.image, "image"), files.image, size).image
        check_size("image", files.image, image.shape[:2], files.mask, size)
        depth = None
        if files.depth is not None:
            depth = decode_depth(read_bytes(files.depth, "depth"), files.depth)
            check_size("depth", files.depth, depth.shape, files.mask, size)
        return Sample(name, image, mask, depth, self.texts(split)[name], self.clusters(split)[name])

    def image(self, split: str, name: str) -> ImageArray:
        """Read one image; the mask's header decides whether an EXIF orientation is applied."""
        files = self.files(split, name)
        header = _open_header(read_bytes(files.mask, "mask"), files.mask, "mask")
        mask_size = (header.height, header.width)
        image = decode_image(read_bytes(files.image, "image"), files.image, mask_size).image
        check_size("image", files.image, image.shape[:2], files.mask, mask_size)
        return image

    def texts(self, split: str) -> dict[str, tuple[str, ...]]:
        """Texts of every image of ``split``; an empty tuple where ``texts.jsonl`` has none.

        Raises:
            TextError: ``texts.jsonl`` is malformed or names an unknown image.
        """
        names = self.names(split)
        if self._texts is None:
            texts, problems = self.parse_texts()
            if problems:
                raise problems[0]
            self._texts = texts
        found = self._texts.get(split, {})
        return {name: found.get(name, ()) for name in names}

    def mask_classes(self, split: str, name: str) -> tuple[int, ...]:
        """Sorted class indices in the mask, without 255."""
        key = (split, name)
        if key not in self._classes:
            path = self.files(split, name).mask
            mask = decode_mask(read_bytes(path, "mask"), path, len(self._class_names))
            self._classes[key] = tuple(int(value) for value in np.unique(mask) if value != IGNORE)
        return self._classes[key]

    def clusters(self, split: str) -> dict[str, str]:
        """Sequence of every image of ``split``; where ``clusters.txt`` has none of them, each image is its own.

        Raises:
            DataError: ``clusters.txt`` is malformed, names an unknown image or covers the split in part.
        """
        names = self.names(split)
        if self._clusters is None:
            clusters, problems = self.parse_clusters()
            if problems:
                raise problems[0]
            self._clusters = clusters
        found = self._clusters.get(split)
        return dict(found) if found else {name: f"{split}/{name}" for name in names}

    def fingerprint(self, split: str) -> str:
        """SHA-256 over names, the content of every file, class names, texts and clusters; the place does not matter.

        After a scan the files' hashes are known; else every file is read once.
        """
        texts, clusters = self.texts(split), self.clusters(split)
        digest = hashlib.sha256(json.dumps([self.kind, split, self._class_names]).encode())
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
            "classes": list(self._class_names),
            "splits": {split: len(images) for split, images in self._images.items()},
            "depth": self.has_depth,
            "texts": self.has_texts,
            "clusters": self.has_clusters,
        }

    def remember(self, split: str, name: str, classes: tuple[int, ...], hashes: Mapping[Path, str]) -> None:
        """Keep what a scan found out: the mask's classes and the files' SHA-256 (hex)."""
        self._classes[(split, name)] = classes
        self._hashes.update(hashes)

    def complete_names(self) -> dict[str, tuple[str, ...]]:
        """Names by split of the images that have all their partners."""
        needed = [self._masks] if self._depths is None else [self._masks, self._depths]
        return {
            split: tuple(name for name in images if all(name in listed.get(split, {}) for listed in needed))
            for split, images in self._images.items()
        }

    def pairing_problems(self) -> list[DataError]:
        """Return what the lists of files alone show: empty splits, twins, and files without partners."""
        problems = []
        partners = [("mask", "masks", self._masks)]
        if self._depths is not None:
            partners.append(("depth", "depth", self._depths))
        for split, images in self._images.items():
            if not images:
                problems.append(self._empty_split(split))
                continue
            problems += [
                DataError(f"images {kept} and {twin} share one name, expected one image per mask, rename or remove one")
                for kept, twin in self._twins[split]
            ]
            for what, folder, listed in partners:
                if split not in listed:
                    problems.append(
                        DataError(
                            f"data folder {self.root} has images/{split} but no {folder}/{split}, expected a "
                            f"{what} NAME.png there for each of its {len(images)} images"
                        )
                    )
                    continue
                problems += [
                    self._lacks_partner(path, what, split, name)
                    for name, path in images.items()
                    if name not in listed[split]
                ]
                problems += [
                    DataError(
                        f"{what} {path} has no image: expected {self.root / 'images' / split / name} with one of the "
                        f"endings {', '.join(IMAGE_ENDINGS)}, add the image or remove the {what}"
                    )
                    for name, path in listed[split].items()
                    if name not in images
                ]
        problems += [
            DataError(
                f"data folder {self.root} has {folder}/{split} but no images/{split}, "
                "add its images or remove the folder"
            )
            for _, folder, listed in partners
            for split in listed
            if split not in self._images
        ]
        return problems

    def parse_texts(self) -> tuple[dict[str, dict[str, tuple[str, ...]]], list[TextError]]:
        """Read ``texts.jsonl``: texts by split and name, and one error per bad line.

        Other keys are passed over; runs of blanks within a text become one.
        """
        path = self.root / "texts.jsonl"
        texts: dict[str, dict[str, tuple[str, ...]]] = {}
        problems: list[TextError] = []
        if not self.has_texts:
            return texts, problems
        lines: dict[tuple[str, str], int] = {}
        for number, raw in enumerate(_split_lines(path), start=1):
            where = f"line {number} of {path}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if not line.strip():
                    continue
                entry: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.append(TextError(f'{where} is no JSON ({error}), expected {{"image": ..., "texts": [...]}}'))
                continue
            reason = _entry_problem(entry)
            if reason:
                problems.append(
                    TextError(f'{where} {reason}, expected {{"image": "SPLIT/NAME", "texts": ["...", ...]}}')
                )
                continue
            key = self.find_image(entry["image"])
            if key is None:
                problems.append(TextError(f"{where} has texts for an unknown image {self._unknown(entry['image'])}"))
            elif key in lines:
                problems.append(
                    TextError(
                        f"{where} names image {entry['image']!r} again, first in line {lines[key]}, expected one "
                        "line per image, join their texts"
                    )
                )
            else:
                lines[key] = number
                texts.setdefault(key[0], {})[key[1]] = tuple(" ".join(text.split()) for text in entry["texts"])
        return texts, problems

    def parse_clusters(self) -> tuple[dict[str, dict[str, str]], list[DataError]]:
        """Read ``clusters.txt``: sequence by split and name, and one error per bad line or uncovered split.

        A line is image and sequence, apart by a tab or else by the last blank; the image is SPLIT/NAME, or NAME for
        the image of that name in every split.
        """
        path = self.root / "clusters.txt"
        clusters: dict[str, dict[str, str]] = {}
        problems: list[DataError] = []
        if not self.has_clusters:
            return clusters, problems
        for number, raw in enumerate(_split_lines(path), start=1):
            where = f"line {number} of {path}"
            line = raw.decode("utf-8-sig", errors="replace").strip()
            if not line:
                continue
            parts = [part.strip() for part in (line.split("\t") if "\t" in line else line.rsplit(maxsplit=1))]
            if len(parts) != 2 or not all(parts):
                problems.append(DataError(f"{where} is {line!r}, expected an image name and its sequence"))
                continue
            reference, sequence = parts
            keys = [self.find_image(reference)]
            if keys == [None]:
                keys = [key for split in self.splits if (key := self.find_image(f"{split}/{reference}"))]
            if not keys:
                problems.append(DataError(f"{where} gives a sequence to an unknown image {self._unknown(reference)}"))
            for key in keys:
                assert key is not None
                given = clusters.setdefault(key[0], {}).setdefault(key[1], sequence)
                if given != sequence:
                    problems.append(
                        DataError(
                            f"{where} puts image {reference!r} into sequence {sequence!r}, but it is in {given!r}"
                        )
                    )
        for split, found in clusters.items():
            missing = [name for name in self._images[split] if name not in found]
            if missing and not problems:
                problems.append(
                    DataError(
                        f"{path} has no sequence for image {split}/{missing[0]} (and {len(missing) - 1} more of this "
                        "split), expected a line for every image of a split or for none"
                    )
                )
        return clusters, problems

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = hashlib.sha256(read_bytes(path, "file")).hexdigest()
        return self._hashes[path]

    def find_image(self, reference: str) -> tuple[str, str] | None:
        """Return split and name that ``SPLIT/NAME``, with or without ending, stands for, or None."""
        split, _, name = reference.partition("/")
        images = self._images.get(split, {})
        if name in images:
            return split, name
        stem, dot, ending = name.rpartition(".")
        if dot and f".{ending.lower()}" in IMAGE_ENDINGS and stem in images:
            return split, stem
        return None

    def _unknown(self, reference: str) -> str:
        split, slash, name = reference.partition("/")
        if slash and split in self._images:
            hint = nearest(name, self._images[split])
            hint = hint if "did you mean" in hint else ""
        elif slash:
            hint = f": there is no split {split!r}{nearest(split, self.splits)}"
        else:
            hint = f": it names no split, known: {', '.join(self.splits)}"
        return f"{reference!r}{hint}, correct the name or remove the line"

    def _lacks_partner(self, image: Path, what: str, split: str, name: str) -> DataError:
        expected = self.root / ("masks" if what == "mask" else what) / split / f"{name}.png"
        return DataError(f"image {image} has no {what}: expected {expected}, add the {what} or remove the image")

    def _empty_split(self, split: str) -> DataError:
        return DataError(
            f"split {split!r} of data folder {self.root} is empty: expected images with one of the endings "
            f"{', '.join(IMAGE_ENDINGS)} in {self.root / 'images' / split}, add some or remove the folder"
        )


def _check_layout(root: Path) -> None:
    if not root.exists():
        raise DataError(f"data folder {root} does not exist, expected the word scenes or a folder with {LAYOUT}")
    if not root.is_dir():
        raise DataError(f"data {root} is a file, expected the word scenes or a folder with {LAYOUT}")
    for part in ("images", "masks"):
        if not (root / part).is_dir():
            raise DataError(f"data folder {root} has no folder {part}/, expected {LAYOUT}")
    if not (root / "classes.txt").is_file():
        raise DataError(
            f"data folder {root} has no classes.txt, expected {LAYOUT}, line k naming the class of value k-1"
        )


def _read_class_names(path: Path) -> tuple[str, ...]:
    try:
        lines = read_bytes(path, "class list").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}), save it as UTF-8") from error
    names = [line.strip() for line in lines]
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


def _split_lines(path: Path) -> list[bytes]:
    # Not str.splitlines: JSON strings may hold U+2028, which that would break at.
    return read_bytes(path, "file").split(b"\n")


def _entry_problem(entry: Any) -> str:
    """Return what is wrong with one decoded line of ``texts.jsonl``, or "" when nothing is."""
    if not isinstance(entry, dict):
        return f"holds a JSON {type(entry).__name__}"
    for key in ("image", "texts"):
        if key not in entry:
            return f"has no key {key!r}"
    if not isinstance(entry["image"], str):
        return f"has an image name that is no string but {entry['image']!r}"
    texts = entry["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return f"has texts that are no list of strings but {str(texts)[:80]!r}"
    if not all(text.strip() for text in texts):
        return "has an empty text"
    return ""
