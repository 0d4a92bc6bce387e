"""The runs of a study as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from semalign.report.numbers import StudyNumbers, score_of

__all__ = ["results_csv", "timings_csv"]


_RESERVED = ("arm", "seed", "miou", "miou_percent")


def results_csv(numbers: StudyNumbers) -> str:
    """Return results.csv: arm, seed, miou and IoU by class in [0, 1], a row for every run with an outcome.

    Rows are in planned order, arm by arm.  An absent class and a failed run have empty cells; a run that was not run
    has no row; so that judging this file gives the study's judgement.  A class whose name is that of another column
    gets the prefix ``iou ``.
    """
    names = numbers.score.class_names
    heads = [f"iou {name}" if name in _RESERVED else name for name in names]
    rows: list[list[str]] = [["arm", "seed", "miou", *heads]]
    for arm in numbers.arms:
        for seed in range(numbers.study.blocks):
            if (arm, seed) in numbers.finished:
                score = score_of(numbers.finished[arm, seed])
                iou = score.iou
                cells = [repr(iou[name]) if name in iou else "" for name in names]
                rows.append([arm, str(seed), repr(score.miou), *cells])
            elif (arm, seed) in numbers.failed:
                rows.append([arm, str(seed), "", *("" for _ in names)])
    return _csv(rows)


def timings_csv(numbers: StudyNumbers) -> str:
    """Return timings.csv: arm, seed and wall-clock seconds by part, a row for every run with an outcome."""
    outcomes = {**numbers.finished, **numbers.failed}
    parts = sorted({part for result in outcomes.values() for part in result.timings})
    rows: list[list[str]] = [["arm", "seed", *parts]]
    for arm in numbers.arms:
        for seed in range(numbers.study.blocks):
            result = outcomes.get((arm, seed))
            if result is not None:
                cells = [repr(result.timings[part]) if part in result.timings else "" for part in parts]
                rows.append([arm, str(seed), *cells])
    return _csv(rows)


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
