"""The files of somebody's data set: found by name, kept inside their folder, and refused in one sentence.

This module does not depend on any one data set.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from semalign.data.images import IMAGE_ENDINGS
from semalign.data.reading import read_text
from semalign.errors import DataError

__all__ = ["Source", "check_name"]

LONGEST_NAME = 200


def check_name(name: str, where: str) -> str:
    """Return ``name`` if it can be a file's name in any folder.

    Raises:
        DataError: it is empty, hidden, too long, or holds a separator or a control character (a newline).
    """
    why = ""
    if not name or name in (".", ".."):
        why = "is not a name"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        why = "holds a control character"
    elif "/" in name or "\\" in name:
        why = "holds a separator of folders"
    elif name.startswith("."):
        why = "is hidden"
    elif len(name.encode()) > LONGEST_NAME:
        why = f"is longer than {LONGEST_NAME} bytes"
    if why:
        raise DataError(f"{where} has the name {name[:80]!r}, which {why}: rename it")
    return name


class Source:
    """A folder that is only read.

    Args:
        root: the folder.
        title: the data set's name in messages.
        expected: its layout in messages.
        follow_links: whether a symbolic link may lead out of ``root``.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, root: Path, title: str, expected: str, *, follow_links: bool = False) -> None:
        self.root, self.title, self.expected, self.follow_links = root, title, expected, follow_links
        self._bounds = root.resolve()
        if not root.is_dir():
            state = "is a file" if root.exists() else "does not exist"
            raise DataError(f"the source {root} of {title} {state}, expected a folder with {expected}")

    def enter(self, *markers: str, below: tuple[str, ...] = ()) -> None:
        """Go to the first of the root and the folders ``below`` it that holds one of ``markers``, files or folders."""
        for place in (self.root, *(self.root / path for path in below)):
            if any((place / marker).exists() for marker in markers):
                self.root = place
                return
        raise self.wrong_layout()

    def wrong_layout(self, why: str = "") -> DataError:
        """Return the error for a folder that holds something else."""
        found = sorted(path.name for path in self.root.iterdir())[:6]
        listed = ", ".join(repr(name) for name in found) + (", ..." if len(found) == 6 else "") if found else "nothing"
        return DataError(
            f"{self.root} is not laid out as {self.title} is{f' ({why})' if why else ''}: it holds {listed}, expected "
            f"{self.expected}, name the folder that holds these"
        )

    def folder(self, *names: str) -> Path | None:
        """Return the first of ``names`` that is a folder below the root."""
        return next((self.root / name for name in names if (self.root / name).is_dir()), None)

    def need_folder(self, *names: str) -> Path:
        """Return the first of ``names`` that is a folder below the root; `DataError` where none is."""
        found = self.folder(*names)
        if found is None:
            raise self.wrong_layout(f"it lacks {names[0]}/")
        return found

    def file(self, path: Path, what: str) -> Path:
        """Return ``path`` if it is a file inside the source.

        Raises:
            DataError: it is missing, or a symbolic link leads out of the source and that is not allowed.
        """
        if not path.is_file():
            raise DataError(f"{what} {path} of {self.title} is missing, complete the data set")
        return self.inside(path, what)

    def inside(self, path: Path, what: str) -> Path:
        """Return ``path``, refusing one that leads out of the source."""
        if not self.follow_links and not path.resolve().is_relative_to(self._bounds):
            raise DataError(
                f"{what} {path} is a symbolic link that leads out of {self._bounds}, expected files below it: check "
                "where it leads, and allow it with --follow-links"
            )
        return path

    def lines(self, path: Path, what: str = "list") -> list[str]:
        """Return the lines of a text file that are not blank."""
        # Not splitlines: a list's own separators are newlines alone.
        return [line.strip() for line in read_text(self.file(path, what), what).split("\n") if line.strip()]

    def by_stem(self, folder: Path, what: str, *, endings: tuple[str, ...] = IMAGE_ENDINGS) -> dict[str, Path]:
        """Return the image files of ``folder`` by name without ending, sorted; hidden ones are ignored.

        Raises:
            DataError: two have one name, a name cannot be used, or a link leads out of the source.
        """
        found: dict[str, Path] = {}
        for path in sorted(self.inside(folder, f"folder of {what}s").iterdir()):
            if path.suffix.lower() not in endings or path.name.startswith("."):
                continue
            check_name(path.stem, f"a {what} in {folder}")
            if path.stem in found:
                raise DataError(
                    f"{what}s {found[path.stem]} and {path} have one name, expected one {what} per name: remove one"
                )
            found[path.stem] = self.inside(path, what)
        return found

    def pairs(self, images: Path, masks: Path, ending: str = "") -> list[tuple[Path, Path]]:
        """Return each image of a folder, sorted, with its mask NAME + ``ending`` of another folder.

        Raises:
            DataError: an image has no mask, or as `by_stem`.
        """
        labels = self.by_stem(masks, "mask", endings=(".png",))
        found = []
        for name, image in self.by_stem(images, "image").items():
            stem = name + ending
            if stem not in labels:
                raise DataError(
                    f"image {image} has no mask: expected {masks / stem}.png, add the mask or remove the image"
                )
            found.append((image, labels[stem]))
        return found

    def listed(self, line: str, where: str) -> PurePosixPath:
        """Return the path that a line of a list gives.

        Raises:
            DataError: it holds "..", or a name that cannot be used.
        """
        path = PurePosixPath(line.replace("\\", "/"))
        parts = path.parts[1:] if path.is_absolute() else path.parts
        if ".." in parts:
            raise DataError(
                f"{where} names {line[:80]!r}, which leads out of the data set by '..', expected a name in it"
            )
        for part in parts:
            check_name(part, where)
        return path
