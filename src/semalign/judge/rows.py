"""Runs as anybody has them, checked: rows of arm, seed and score."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from semalign.errors import ResultsError
from semalign.judge.metric import Metric
from semalign.judge.types import ArmName

__all__ = ["Row", "Rows", "Scores", "scores_of"]

Row: TypeAlias = tuple[ArmName, int, float | None]
"""(arm, seed, score as the metric has it, such as a fraction in [0, 1], or None for a run that failed)."""

Rows: TypeAlias = Iterable[Row] | Mapping[ArmName, Mapping[int, float | None]]
"""Rows in any order, or the same as {arm: {seed: score}}."""

Scores: TypeAlias = dict[ArmName, dict[int, float | None]]
"""By arm and seed the score in the metric's unit, None for a failed run; what is missing was not run."""


def scores_of(rows: Rows, metric: Metric) -> Scores:
    """Return the scores by arm and seed, in the metric's unit.

    Raises:
        ResultsError: no rows, a malformed row, a pair of arm and seed twice, or a score outside the metric's range.
    """
    flat: Iterable[Any] = rows
    if isinstance(rows, (str, bytes, os.PathLike)):
        raise ResultsError(
            f"the rows are {rows!r}, expected rows of arm, seed and score: read a file with "
            "semalign.judge.read_results_csv(path)"
        )
    if isinstance(rows, Mapping):
        flat = ((arm, seed, score) for arm, runs in rows.items() for seed, score in runs.items())
    scores: Scores = {}
    for row in flat:
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 3:
            raise ResultsError(f"a row is {row!r}, expected (arm, seed, score) with None as the score of a failed run")
        arm, seed, score = row
        if not isinstance(arm, str) or not arm:
            raise ResultsError(f"the arm of the row {row!r} is {arm!r}, expected a name")
        seed = _seed(seed, row)
        runs = scores.setdefault(arm, {})
        if seed in runs:
            raise ResultsError(f"arm {arm!r} has seed {seed} twice, expected one run of an arm per seed")
        runs[seed] = None if score is None else _score(score, f"the score of arm {arm!r}, seed {seed}", metric)
    if not scores:
        raise ResultsError("there is no run to judge, expected rows of arm, seed and score")
    return scores


def _seed(seed: Any, row: Any) -> int:
    try:
        if not isinstance(seed, (bool, np.bool_)):
            return operator.index(seed)
    except TypeError:
        pass
    raise ResultsError(f"the seed of the row {tuple(row)!r} is {seed!r}, expected a whole number")


def _score(score: Any, what: str, metric: Metric) -> float:
    """Return a checked score in the metric's unit; ``what`` names it in an error."""
    if isinstance(score, (bool, np.bool_)) or not isinstance(score, (int, float, np.integer, np.floating)):
        raise ResultsError(f"{what} is {score!r}, expected {metric.valid_range} or None")
    value = float(score)
    if not math.isfinite(value):
        raise ResultsError(f"{what} is {value}, expected {metric.valid_range}, or None when the run failed")
    if not metric.is_in_range(value):
        percent = metric.highest == 1 < value <= 100
        raise ResultsError(f"{what} is {value:g}, expected {metric.valid_range}{': divide percent by 100' * percent}")
    return metric.scale * value
