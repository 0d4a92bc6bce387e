"""Anybody's results as a CSV file: arm, seed, score.

This module knows nothing of what the scores mean.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from semalign.errors import ResultsError, nearest
from semalign.judge.judgement import Row

__all__ = ["read_results_csv"]

SCORE_COLUMNS = (("miou", "miou_percent"), ("score", "score_percent"))
"""In order of preference; a column is in percent when its name says so."""


def read_results_csv(path: Path) -> list[Row]:
    """Read rows of arm, seed and score in [0, 1], None for a failed run, from a UTF-8 CSV file with a header.

    The columns ``arm`` and ``seed``, and ``miou`` or else ``score``: fractions in [0, 1], an empty cell for a run that
    failed.  Named ``miou_percent`` or ``score_percent`` the values are percent.  Other columns, such as per-class IoU,
    are ignored.

    Raises:
        ResultsError: the file cannot be read, lacks a column, has a line that does not fit its header, or a cell that
            is no whole-number seed or no score in range; the message names the line.
    """
    try:
        # utf-8-sig: spreadsheets write a byte order mark, which would become part of the first column's name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ResultsError(f"no results at {path}, expected a CSV file with arm, seed and miou") from error
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
        raise ResultsError(f"the results {path} are empty, expected a header with arm, seed and miou")
    header = lines[0][1]
    arm_at, seed_at = (_column(path, header, name) for name in ("arm", "seed"))
    score_at, unit = _score_column(path, header)

    rows: list[Row] = []
    for number, cells in lines[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise ResultsError(f"{where} has {len(cells)} cells, expected {len(header)} as in the header")
        if not cells[arm_at]:
            raise ResultsError(f"{where} names no arm, expected a name in the column 'arm'")
        try:
            seed = int(cells[seed_at])
        except ValueError as error:
            raise ResultsError(f"{where}: the seed is {cells[seed_at]!r}, expected a whole number") from error
        rows.append((cells[arm_at], seed, _score(where, header[score_at], cells[score_at], unit)))
    if not rows:
        raise ResultsError(f"the results {path} hold a header and no run, expected a line per run")
    return rows


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
