"""Writes a corrected copy of a data folder; the original is only read.

What is changed is what `semalign.data.check.evidence` calls beyond doubt, every change is written down, and the copy
appears whole or not at all.  This module finds no faults itself and does not depend on torch.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semalign import layout
from semalign.data.check.evidence import Evidence
from semalign.data.check.findings import DataReport
from semalign.data.folder import Folder
from semalign.data.images import PNG_PALETTE, png_kind
from semalign.data.listing import Key, listed_files
from semalign.data.masks import MINUS_ONE, read_color_codes, read_indices
from semalign.data.metadata import image_of_line
from semalign.data.reading import read_bytes
from semalign.errors import DataError
from semalign.files import write_bytes, write_folder_aside, write_json
from semalign.metrics import IGNORE
from semalign.wording import Message, say

__all__ = ["Change", "write_corrected"]

Progress = Callable[[int, int], None]


Mask = NDArray[np.int64]

_STEPS: Final[Mapping[str, tuple[str, Callable[[Mask], Mask]]]] = {
    "channel": ("mask-color", lambda mask: mask),
    "palette": ("palette", lambda mask: mask),
    "void": ("mask-void", lambda mask: np.where(mask == MINUS_ONE, IGNORE, mask)),
    "binary": ("mask-binary", lambda mask: np.where(mask == IGNORE, 1, mask)),
    "shift": ("mask-off-by-one", lambda mask: mask - (mask != IGNORE)),
}
"""By step the finding that it mends, and what becomes of a mask's values."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        code: the finding it mends.
        file: below the data folder.
        what: what was done.
    """

    code: str
    file: str
    what: Message


def write_corrected(
    folder: Folder, report: DataReport, out: Path, *, progress: Progress | None = None
) -> tuple[Change, ...]:
    """Write a copy of ``folder`` to ``out`` with what can be mended beyond doubt, and return the changes.

    Files without a partner, files that cannot be decoded and training images that are in another split too are left
    out with their partners and their lines of texts.jsonl and clusters.txt, unless half of a split or more would be
    gone.  Everything else is copied byte for byte, with what still needs a person.  Files beside classes.txt are
    copied, other folders are not.

    Args:
        folder: the data.
        report: of `check_data` on ``folder``.
        out: the folder to make; it must not exist, or be empty, and lie outside ``folder``.
        progress: called with (images done, images).

    Raises:
        OutputError: ``out`` is taken, lies inside the data, or cannot be written.
    """
    with write_folder_aside(out, "corrected copy", option="--fix", apart_from=folder.root) as part:
        changes = tuple(_Copy(folder, report.evidence, part).write(progress))
        write_json(
            part / layout.FIXES,
            {
                "format": layout.FIXES_FORMAT,
                "changes": [{"code": one.code, "file": one.file, "what": str(one.what)} for one in changes],
                "not_changed": sorted({f.code for f in report.findings} - {change.code for change in changes}),
            },
        )
    return changes


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A copy in the making.

    Attributes:
        folder: what is copied.
        evidence: what is changed.
        part: where the copy is made.
    """

    folder: Folder
    evidence: Evidence
    part: Path

    @functools.cached_property
    def mends(self) -> dict[Key, list[str]]:
        """By mask what is done to it."""
        return self.evidence.masks.mends()

    def write(self, progress: Progress | None) -> Iterator[Change]:
        """Copy everything, and yield the changes."""
        folders = [kind for kind in (layout.MASKS, layout.DEPTH) if (self.folder.root / kind).is_dir()]
        # Even where they stay empty: without them the copy could not be opened, or would seem to have no depth.
        for kind in folders:
            (self.part / kind).mkdir()
        images = {split: listed_files(self.folder.root, layout.IMAGES, split) for split in self.folder.splits}
        total = sum(map(len, images.values()))
        done = 0
        for split, paths in images.items():
            for path in paths:
                yield from self._image(split, path)
                done += 1
                if progress is not None:
                    progress(done, total)
            stems = {path.stem for path in paths if (split, path.stem) not in self.evidence.drop}
            for kind in folders:
                for path in listed_files(self.folder.root, kind, split):
                    yield from self._partner(kind, split, path, has_image=path.stem in stems)
        for kind in folders:
            yield from self._strange_splits(kind)
        yield from self._files()

    def _image(self, split: str, path: Path) -> Iterator[Change]:
        why = self.evidence.drop.get((split, path.stem))
        if why is None:
            self._as_it_is(path)
        else:
            yield self._left_out(why, path)

    def _partner(self, kind: str, split: str, path: Path, *, has_image: bool) -> Iterator[Change]:
        """Copy a mask or depth."""
        if not has_image:
            yield self._left_out(self.evidence.drop.get((split, path.stem), "pairing"), path)
            return
        changes: list[Change] = []
        mask = self._mended_mask((split, path.stem), path, changes) if kind == layout.MASKS else None
        # A value that no rule knows, such as 300, is left for a person to decide.
        if mask is None or mask.min() < 0 or mask.max() > IGNORE:
            self._as_it_is(path)
            return
        target = self._target(path)
        Image.fromarray(mask.astype(np.uint8)).save(target)
        yield from changes

    def _mended_mask(self, key: Key, path: Path, changes: list[Change]) -> Mask | None:
        """Return the mended values of a mask, or None where there is nothing to mend; add to ``changes``."""
        masks, file = self.evidence.masks, self._below(path)
        steps = self.mends.get(key, [])
        if key[0] in masks.values.shifted and key not in masks.colors.undecided:
            steps = [*steps, "shift"]
        if "colors" in steps:
            known = masks.colors.known
            assert known is not None
            code = "palettes-differ" if png_kind(read_bytes(path, "mask", 26)).color == PNG_PALETTE else "mask-color"
            changes.append(Change(code, file, say("data.change.colors", source=known.known_from)))
            return known.indices(read_color_codes(path)).astype(np.int64)
        if not steps:
            return None
        try:
            mask = read_indices(path)
        except DataError:
            # Not every mask of a split that is to be shifted holds indices.
            return None
        for step in steps:
            code, apply = _STEPS[step]
            mask = apply(mask)
            changes.append(Change(code, file, say(f"data.change.{step}")))
        return mask

    def _strange_splits(self, kind: str) -> Iterator[Change]:
        """Leave out folders of masks or depth that have no folder of images."""
        for path in sorted((self.folder.root / kind).iterdir()):
            if path.is_dir() and path.name[0] != "." and path.name not in self.folder.splits:
                yield Change("pairing", self._below(path), say("data.change.no-images", split=path.name))

    def _files(self) -> Iterator[Change]:
        """Copy the files beside classes.txt, lists without the lines of images that are left out."""
        for path in sorted(self.folder.root.iterdir()):
            if not path.is_file() or path.name.startswith(".") or path.name == layout.FIXES:
                continue
            if path.name in (layout.TEXTS, layout.CLUSTERS) and self.evidence.drop:
                yield from self._lines(path)
            else:
                self._as_it_is(path)

    def _lines(self, path: Path) -> Iterator[Change]:
        kept = []
        for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
            reference = image_of_line(raw, is_json=path.name == layout.TEXTS)
            keys = [] if reference is None else self.folder.listing.find_images(reference)
            if keys and all(key in self.evidence.drop for key in keys):
                yield Change(self.evidence.drop[keys[0]], f"{path.name}:{number}", say("data.change.line"))
            else:
                kept.append(raw)
        write_bytes(self.part / path.name, b"\n".join(kept))

    def _as_it_is(self, path: Path) -> None:
        # Contents alone: links become files, and the copy can be written to.
        shutil.copyfile(path, self._target(path))

    def _target(self, path: Path) -> Path:
        target = self.part / self._below(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _below(self, path: Path) -> str:
        return path.relative_to(self.folder.root).as_posix()

    def _left_out(self, why: str, path: Path) -> Change:
        how = {"pairing": "no-partner", "duplicate-across": "duplicate"}.get(why, "broken")
        return Change(why, self._below(path), say(f"data.change.{how}"))
