"""What is known of images beside their pixels: the texts of texts.jsonl and the sequences of clusters.txt.

Every line is read; a line that cannot be used gives one error and does not hide the others.  This module does not
depend on what images and masks hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from semalign.data.listing import Key, Listing
from semalign.data.reading import read_bytes
from semalign.errors import DataError, TextError

__all__ = ["Clusters", "Texts", "image_of_line", "read_clusters", "read_texts"]


class Texts(NamedTuple):
    """The texts of a folder.

    Attributes:
        by_image: by split and name of the images that have a line; runs of blanks within a text are one blank.
        problems: one error per line that cannot be used.
    """

    by_image: Mapping[str, Mapping[str, tuple[str, ...]]]
    problems: tuple[TextError, ...]


class Clusters(NamedTuple):
    """The sequences of a folder.

    Attributes:
        by_image: sequence by split and name of the images that have a line.
        problems: one error per line that cannot be used, or per split that is covered in part.
    """

    by_image: Mapping[str, Mapping[str, str]]
    problems: tuple[DataError, ...]


def read_texts(path: Path, listing: Listing) -> Texts:
    """Read ``texts.jsonl``; keys other than "image" and "texts" are ignored.

    Args:
        path: the file; where it is missing no image has texts.
        listing: the folder's images.
    """
    texts: dict[str, dict[str, tuple[str, ...]]] = {}
    problems: list[TextError] = []
    lines: dict[Key, int] = {}
    for number, raw in enumerate(_split_lines(path), start=1):
        where = f"line {number} of {path}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            if not line.strip():
                continue
            entry: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(TextError(f'{where} is not JSON ({error}), expected {{"image": ..., "texts": [...]}}'))
            continue
        reason = _entry_problem(entry)
        if reason:
            problems.append(TextError(f'{where} {reason}, expected {{"image": "SPLIT/NAME", "texts": ["...", ...]}}'))
            continue
        key = listing.find_image(entry["image"])
        if key is None:
            unknown = listing.unknown_image(entry["image"])
            problems.append(TextError(f"{where} has texts for an unknown image {unknown}"))
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
    return Texts(texts, tuple(problems))


def read_clusters(path: Path, listing: Listing) -> Clusters:
    """Read ``clusters.txt``.

    A line is an image and its sequence, separated by a tab or else by the last blank; the image is SPLIT/NAME, or NAME
    for the image of that name in every split.

    Args:
        path: the file; where it is missing no image has a sequence.
        listing: the folder's images.
    """
    clusters: dict[str, dict[str, str]] = {}
    problems: list[DataError] = []
    for number, raw in enumerate(_split_lines(path), start=1):
        where = f"line {number} of {path}"
        line = raw.decode("utf-8-sig", errors="replace").strip()
        if not line:
            continue
        parts = _cluster_parts(line)
        if len(parts) != 2 or not all(parts):
            problems.append(DataError(f"{where} is {line!r}, expected an image name and its sequence"))
            continue
        reference, sequence = parts
        keys = listing.find_images(reference)
        if not keys:
            unknown = listing.unknown_image(reference)
            problems.append(DataError(f"{where} gives a sequence to an unknown image {unknown}"))
        for split, name in keys:
            given = clusters.setdefault(split, {}).setdefault(name, sequence)
            if given != sequence:
                problems.append(
                    DataError(f"{where} puts image {reference!r} into sequence {sequence!r}, but it is in {given!r}")
                )
    for split, found in clusters.items():
        missing = [name for name in listing.images[split] if name not in found]
        if missing and not problems:
            problems.append(
                DataError(
                    f"{path} has no sequence for image {split}/{missing[0]} (and {len(missing) - 1} more of this "
                    "split), expected a line for every image of a split or for none"
                )
            )
    return Clusters(clusters, tuple(problems))


def image_of_line(raw: bytes, *, is_json: bool) -> str | None:
    """Return the image that a line of texts.jsonl or clusters.txt names, or None where the line cannot be read."""
    try:
        line = raw.decode("utf-8-sig").strip()
        if not is_json:
            return _cluster_parts(line)[0] if line else None
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    image = entry.get("image") if isinstance(entry, dict) else None
    return image if isinstance(image, str) else None


def _split_lines(path: Path) -> list[bytes]:
    # Not str.splitlines: JSON strings may hold U+2028, which that would break at.
    return read_bytes(path, "file").split(b"\n") if path.is_file() else []


def _cluster_parts(line: str) -> list[str]:
    return [part.strip() for part in (line.split("\t") if "\t" in line else line.rsplit(maxsplit=1))]


def _entry_problem(entry: Any) -> str:
    """Return what is wrong with one decoded line of ``texts.jsonl``, or "" when nothing is."""
    if not isinstance(entry, dict):
        return f"holds a JSON {type(entry).__name__}"
    for key in ("image", "texts"):
        if key not in entry:
            return f"has no key {key!r}"
    if not isinstance(entry["image"], str):
        return f"has an image name that is not a string but {entry['image']!r}"
    texts = entry["texts"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return f"has texts that are not a list of strings but {str(texts)[:80]!r}"
    if not all(text.strip() for text in texts):
        return "has an empty text"
    return ""
