"""What each arm scored and cost: means over its finished runs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from semalign.judge.statistics import t_interval
from semalign.report.numbers import StudyNumbers, score_of
from semalign.results import RunResult

__all__ = ["Cost", "Mean", "class_means", "cost_of", "mean_of", "median_seconds", "run_seconds", "train_score"]


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over runs and the half width of its t interval (None with one run), both in points."""

    mean: float
    half: float | None
    n: int


def mean_of(values: Sequence[float], level: float) -> Mean | None:
    """Return mean and half width of the t interval of coverage ``level``; None without values."""
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0], None, 1)
    mean, _, _, _, low, _ = t_interval(values, level)
    return Mean(float(mean), float(mean - low), len(values))


def class_means(numbers: StudyNumbers, arm: str) -> dict[str, Mean]:
    """Return the arm's IoU by class, in points, over its finished runs; absent classes are left out."""
    runs = [score_of(run).iou for run in numbers.runs_of(arm)]
    means: dict[str, Mean] = {}
    for name in numbers.score.class_names:
        mean = mean_of([100 * iou[name] for iou in runs if name in iou], 1 - numbers.study.alpha)
        if mean is not None:
            means[name] = mean
    return means


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an arm costs and how it fits; None where it was not recorded.

    Attributes:
        parameters: learnable numbers; more than one value where runs differ, which they should not.
        steps: optimizer steps, likewise.
        seconds: median wall-clock seconds of a finished run.
        train: mIoU points of the scored weights on a subset of the training images.
        gap: per-run difference of ``train`` and the scored mIoU, points.
    """

    parameters: tuple[int, ...]
    steps: tuple[int, ...]
    seconds: float | None
    train: Mean | None
    gap: Mean | None


def run_seconds(result: RunResult) -> float | None:
    """Return a run's wall-clock seconds: the part "total" where there is one, else the sum of the parts."""
    if not result.timings:
        return None
    return result.timings.get("total", sum(result.timings.values()))


def median_seconds(results: Iterable[RunResult]) -> float | None:
    """Return the median of `run_seconds`; None where no run recorded any."""
    seconds = [value for result in results if (value := run_seconds(result)) is not None]
    return statistics.median(seconds) if seconds else None


def cost_of(numbers: StudyNumbers, arm: str) -> Cost:
    """Return what the arm's finished runs recorded about their cost."""
    runs = numbers.runs_of(arm)
    level = 1 - numbers.study.alpha
    fits = [(100 * train, 100 * score_of(run).miou) for run in runs if (train := train_score(run.facts)) is not None]
    return Cost(
        parameters=_distinct(runs, "parameters"),
        steps=_distinct(runs, "steps"),
        seconds=median_seconds(runs),
        train=mean_of([train for train, _ in fits], level),
        gap=mean_of([train - scored for train, scored in fits], level),
    )


def train_score(facts: Mapping[str, Any]) -> float | None:
    """Return the mIoU in [0, 1] on training images, stored as a number or with the number of images."""
    value = facts.get("train_score")
    if isinstance(value, Mapping):
        value = value.get("miou")
    return float(value) if isinstance(value, (int, float)) else None


def _distinct(runs: Iterable[RunResult], name: str) -> tuple[int, ...]:
    return tuple(sorted({run.facts[name] for run in runs if isinstance(run.facts.get(name), int)}))
