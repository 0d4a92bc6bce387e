"""Anybody's results as CSV files: arm, seed, score; and arm, seed, image, class, TP, FP, FN.

This module does not depend on what the scores mean.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semalign.errors import ResultsError, nearest
from semalign.judge.new_images import ImageCounts, image_influence
from semalign.judge.rows import Row
from semalign.judge.types import ArmName

__all__ = [
    "MOST_PIXELS",
    "SAME_MIOU",
    "ImageTable",
    "counts_of_runs",
    "read_image_counts_csv",
    "read_results_csv",
    "read_runs_csv",
    "rows_of_counts",
]

Lines: TypeAlias = list[tuple[int, list[str]]]
"""Of every line its number and cells."""

SAME_MIOU = 1e-3
"""How far a run's mIoU may be from that of its counts.  It allows for rounding to three digits (5e-4) and for single
precision (1e-7); a mean over images in place of the data set's mIoU differs by more."""

MOST_PIXELS = 10**12
"""Of one class in one image; sums over millions of images stay exact."""

SCORE_COLUMNS = (("miou", "miou_percent"), ("score", "score_percent"))
"""In order of preference; a column is in percent when its name says so."""

COUNT_COLUMNS = ("arm", "seed", "image", "class", "tp", "fp", "fn")


def read_results_csv(path: Path) -> list[Row]:
    """Read rows of arm, seed and score in [0, 1], None for a failed run, from a UTF-8 CSV file with a header.

    The columns ``arm`` and ``seed``, and ``miou`` or else ``score``: fractions in [0, 1], an empty cell for a run that
    failed.  Named ``miou_percent`` or ``score_percent`` the values are percent.  Other columns, such as per-class IoU,
    are ignored.

    Raises:
        ResultsError: the file cannot be read, lacks a column, has a line that does not fit its header, or a cell that
            is not a whole-number seed or a score in range; the message names the line.
    """
    return _rows(path, *_lines(path, "arm, seed and miou"))


def read_runs_csv(path: Path) -> tuple[list[Row], ImageTable | None]:
    """Read a file as `read_results_csv` or `read_image_counts_csv` takes it, once: a pipe can be read no second time.

    Returns:
        The runs; and the table where it holds counts by image, whose mIoU are the runs' scores.

    Raises:
        ResultsError: as these two.
    """
    header, lines = _lines(path, "arm, seed and miou, or counts by image")
    if not _has_counts(header):
        return _rows(path, header, lines), None
    table = _table(path, header, lines)
    return rows_of_counts(table), table


def _rows(path: Path, header: list[str], lines: Lines) -> list[Row]:
    arm_at, seed_at = (_column(path, header, name) for name in ("arm", "seed"))
    score_at, unit = _score_column(path, header)

    rows: list[Row] = []
    for number, cells in lines:
        where = f"{path}, line {number}"
        _check_length(where, cells, header)
        arm = _named(where, "arm", cells[arm_at])
        rows.append(
            (arm, _whole(where, "seed", cells[seed_at]), _score(where, header[score_at], cells[score_at], unit))
        )
    if not rows:
        raise ResultsError(f"the results {path} hold a header and no run, expected a line per run")
    return rows


# --- counts by image ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Counts of anybody's runs on the images that they were scored on.

    Attributes:
        counts: by arm and seed images x classes x 3 pixel counts (TP, FP, FN).
        images: the images' names, sorted.
        classes: the classes' names, sorted.
        clusters: of every image; without a column ``cluster`` each image is its own.
    """

    counts: dict[ArmName, dict[int, NDArray[np.int64]]]
    images: tuple[str, ...]
    classes: tuple[str, ...]
    clusters: tuple[str, ...]


def read_image_counts_csv(path: Path) -> ImageTable:
    """Read counts of pixels from a UTF-8 CSV file with a header: arm, seed, image, class, tp, fp, fn.

    A column ``cluster`` names the sequence or scene of each image.  A class that is neither in an image's mask nor
    is predicted there needs no line.  Other columns are ignored.

    Raises:
        ResultsError: the file cannot be read, lacks a column, has a line that does not fit its header or occurs
            twice, a count that is not a whole number from 0, an image without a cluster or in two; or the runs were not
            scored on the same images and masks, whose TP + FN are the same for all.
    """
    return _table(path, *_lines(path, ", ".join(COUNT_COLUMNS)))


def _table(path: Path, header: list[str], lines: Lines) -> ImageTable:
    names = COUNT_COLUMNS
    at = [_column(path, header, name) for name in names]
    cluster_at = _column(path, header, "cluster") if "cluster" in header else None
    found: dict[tuple[str, int], dict[tuple[str, str], tuple[int, int, int]]] = {}
    clusters: dict[str, str] = {}
    for number, cells in lines:
        where = f"{path}, line {number}"
        _check_length(where, cells, header)
        arm, seed_cell, image, kind, *numbers = (cells[place] for place in at)
        for name, cell in (("arm", arm), ("image", image), ("class", kind)):
            _named(where, name, cell)
        run = found.setdefault((arm, _whole(where, "seed", seed_cell)), {})
        if (image, kind) in run:
            raise ResultsError(f"{where}: arm {arm!r}, seed {seed_cell} has image {image!r}, class {kind!r} twice")
        tp, fp, fn = (_pixels(where, name, cell) for name, cell in zip(names[4:], numbers, strict=True))
        run[image, kind] = (tp, fp, fn)
        cluster = image if cluster_at is None else _named(where, "cluster", cells[cluster_at])
        if clusters.setdefault(image, cluster) != cluster:
            raise ResultsError(f"{where}: image {image!r} is of cluster {cluster!r} and of {clusters[image]!r} before")
    if not found:
        raise ResultsError(f"the counts {path} hold a header and no line, expected a line per run, image and class")
    return _image_table(path, found, clusters)


def _has_counts(header: list[str]) -> bool:
    scores = {name for names in SCORE_COLUMNS for name in names}
    return scores.isdisjoint(header) and {"image", "tp", "fp", "fn"}.issubset(header)


def rows_of_counts(table: ImageTable) -> list[Row]:
    """Return the runs of a table of counts, whose scores are the mIoU that the counts make.

    Raises:
        ResultsError: the masks hold no pixel of any class.
    """
    return [
        (arm, seed, float(image_influence(counts)[0]) / 100)
        for arm, runs in table.counts.items()
        for seed, counts in runs.items()
    ]


def _image_table(
    path: Path, found: dict[tuple[str, int], dict[tuple[str, str], tuple[int, int, int]]], clusters: dict[str, str]
) -> ImageTable:
    images = {image: place for place, image in enumerate(sorted(clusters))}
    classes = {kind: place for place, kind in enumerate(sorted({kind for run in found.values() for _, kind in run}))}
    counts: dict[ArmName, dict[int, NDArray[np.int64]]] = {}
    first: tuple[str, NDArray[np.int64]] | None = None
    for (arm, seed), run in found.items():
        who = f"arm {arm!r}, seed {seed}"
        lacking = images.keys() - {image for image, _ in run}
        if lacking:
            raise ResultsError(
                f"{path} has no line of image {min(lacking)!r} for {who}, expected the same images for all runs"
            )
        table = np.zeros((len(images), len(classes), 3), dtype=np.int64)
        for (image, kind), three in run.items():
            table[images[image], classes[kind]] = three
        in_mask = table[..., 0] + table[..., 2]
        if first is None:
            first = (who, in_mask)
        elif not np.array_equal(first[1], in_mask):
            i, c = np.argwhere(first[1] != in_mask)[0]
            raise ResultsError(
                f"{path}: the mask of image {list(images)[i]!r} has {in_mask[i, c]} pixels (TP + FN) of class "
                f"{list(classes)[c]!r} for {who} and {first[1][i, c]} for {first[0]}, expected the same masks for all"
            )
        counts.setdefault(arm, {})[seed] = table
    return ImageTable(counts, tuple(images), tuple(classes), tuple(clusters[image] for image in images))


def counts_of_runs(rows: Iterable[Row], table: ImageTable) -> ImageCounts:
    """Return the counts of the runs in ``rows``, None for a failed run, as `judge_new_images` takes them.

    Raises:
        ResultsError: a run without counts, counts without a run or of one that failed, or a score that is not the
            mIoU of its counts.
    """
    asked = {(arm, seed): score for arm, seed, score in rows}
    for arm, runs in table.counts.items():
        for seed in runs:
            if asked.get((arm, seed)) is None:
                what = "a run that failed" if (arm, seed) in asked else "no run of the results"
                raise ResultsError(
                    f"arm {arm!r}, seed {seed} has counts and is {what}, expected counts of finished runs"
                )
    found: dict[ArmName, dict[int, NDArray[np.int64] | None]] = {}
    for (arm, seed), score in asked.items():
        counts = table.counts.get(arm, {}).get(seed)
        if score is not None:
            if counts is None:
                raise ResultsError(f"arm {arm!r}, seed {seed} has a score and no counts, expected counts of every run")
            miou = float(image_influence(counts)[0]) / 100
            if abs(miou - score) > SAME_MIOU:
                raise ResultsError(
                    f"arm {arm!r}, seed {seed} has the score {score:g} and counts whose mIoU is {miou:.4f}, expected "
                    "the same: the mean over classes with a pixel in the masks of TP / (TP + FP + FN), each summed "
                    "over all images"
                )
        found.setdefault(arm, {})[seed] = counts
    return found


# --- lines and cells ------------------------------------------------------------------------------


def _lines(path: Path, expected: str) -> tuple[list[str], Lines]:
    """Return the header's cells, and of every other line its number and cells."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become part of the first column's name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ResultsError(f"no results at {path}, expected a CSV file with {expected}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read the results {path}: {error}, expected a CSV file in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [
            (reader.line_num, [cell.strip() for cell in cells])
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}, expected comma-separated values") from error
    if not lines:
        raise ResultsError(f"the results {path} are empty, expected a header with {expected}")
    return lines[0][1], lines[1:]


def _check_length(where: str, cells: list[str], header: list[str]) -> None:
    if len(cells) != len(header):
        raise ResultsError(f"{where} has {len(cells)} cells, expected {len(header)} as in the header")


def _named(where: str, name: str, cell: str) -> str:
    if not cell:
        raise ResultsError(f"{where} names no {name}, expected a name in the column '{name}'")
    return cell


def _whole(where: str, name: str, cell: str) -> int:
    try:
        return int(cell)
    except ValueError as error:
        raise ResultsError(f"{where}: the {name} is {cell!r}, expected a whole number") from error


def _pixels(where: str, name: str, cell: str) -> int:
    value = _whole(where, name, cell)
    if not 0 <= value <= MOST_PIXELS:
        raise ResultsError(f"{where}: the {name} is {cell}, expected a number of pixels from 0 to {MOST_PIXELS}")
    return value


def _column(path: Path, header: list[str], name: str) -> int:
    if header.count(name) != 1:
        found = "twice" if name in header else f"not at all{nearest(name, header)}"
        raise ResultsError(f"the results {path} have the column '{name}' {found}, expected it once, comma-separated")
    return header.index(name)


def _score_column(path: Path, header: list[str]) -> tuple[int, float]:
    """Return the index of the score's column and the value that means 1."""
    for plain, percent in SCORE_COLUMNS:
        if plain in header and percent in header:
            raise ResultsError(
                f"the results {path} have both '{plain}' and '{percent}', expected one of them: remove the other"
            )
        if plain in header or percent in header:
            name = plain if plain in header else percent
            return _column(path, header, name), 1.0 if name == plain else 100.0
    raise ResultsError(
        f"the results {path} have no score, expected a column 'miou' or 'score', got {', '.join(header)}"
    )


def _score(where: str, name: str, cell: str, unit: float) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ResultsError(f"{where}: '{name}' is {cell!r}, expected a number, or an empty cell when the run failed")
    if not 0 <= value <= unit:
        fix = f": divide by 100, or name the column '{name}_percent'" if unit == 1 < value <= 100 else ""
        raise ResultsError(f"{where}: '{name}' is {cell}, expected a value in [0, {unit:g}]{fix}")
    return value / unit
