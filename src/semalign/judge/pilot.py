"""The noise that an A/A pilot shows, two arms with the same recipe, before a study is planned.

This module does not depend on arms that differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from semalign.errors import ResultsError
from semalign.judge.metric import MIOU, Metric
from semalign.judge.statistics import block_contrasts, direction_p, resolvable_margin, summarise
from semalign.judge.types import Judgement
from semalign.seeds import numpy_generator
from semalign.wording import Message, say

__all__ = ["Pilot", "judge_pilot", "pilot_doubts"]

PLANNED_BLOCKS = (5, 8, 12)
LEVEL = 0.95
LEAST_SWAPPED = 6
MOST_ENUMERATED = 12


@dataclasses.dataclass(frozen=True)
class Pilot:
    """Noise of identical recipes, in the metric's unit.

    Attributes:
        n: blocks.
        mean_difference: its true value is 0.
        p: two-sided, that it is 0; identical recipes give a small p by chance only.
        sd_paired: standard deviation of the paired difference over blocks: the noise of an effect.
        sd_paired_low: lower end of its 95 % chi-square interval; with few blocks it is wide.
        sd_paired_high: upper end.
        sd_single: standard deviation of single runs over seeds, both recipes pooled.
        correlation: of the two runs of a block; None where one does not vary.
        correlation_low: lower end of its 95 % interval (Fisher's z); None below 4 blocks or without correlation.
        correlation_high: upper end.
        false_positives: share of all ways to swap the two runs within blocks in which the t test finds a direction at
            the planned level; its true value is that level (alpha/m) where the noise is normal.  None below 6 blocks.
        level: alpha/m.
        pairing: "pays" (interval above 0: sd_paired is below sqrt(2) x sd_single), "costs" (below 0) or "open".
        margins: by number of blocks, the margin that such a study resolves (see `resolvable_margin`).
        notes: sentences that a reader must know.
    """

    n: int
    mean_difference: float
    p: float
    sd_paired: float
    sd_paired_low: float
    sd_paired_high: float
    sd_single: float
    correlation: float | None
    correlation_low: float | None
    correlation_high: float | None
    false_positives: float | None
    level: float
    pairing: Literal["pays", "costs", "open"]
    margins: dict[int, float]
    notes: tuple[Message, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; the keys of ``margins`` become texts."""
        value = dataclasses.asdict(self)
        return value | {
            "margins": {str(n): margin for n, margin in self.margins.items()},
            "notes": [str(note) for note in self.notes],
        }


def judge_pilot(
    first: ArrayLike,
    second: ArrayLike,
    *,
    alpha: float = 0.05,
    m: int = 1,
    power: float = 0.8,
    planned_blocks: Sequence[int] = PLANNED_BLOCKS,
    metric: Metric = MIOU,
) -> Pilot:
    """Judge the noise of two runs per block that differ in nothing but their randomness.

    Args:
        first: scores of one run per block, in the metric's range.
        second: scores of the other run of the same blocks.
        alpha: family-wise level of the study that is planned.
        m: effects in its family.
        power: see `resolvable_margin`.
        planned_blocks: numbers of blocks to plan with.
        metric: what the scores measure.

    Raises:
        ResultsError: scores that do not pair up, fewer than two blocks, or scores outside the range.
        StudyError: alpha, m or power out of range.
    """
    scores = [np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)]
    if scores[0].ndim != 1 or scores[0].shape != scores[1].shape or len(scores[0]) < 2:
        raise ResultsError(
            f"the pilot's scores have shapes {scores[0].shape} and {scores[1].shape}, "
            "expected two lists with one score per block and at least 2 blocks"
        )
    points = metric.scale * np.stack(scores)
    low_end, high_end = metric.bounds
    if not np.all(np.isfinite(points) & (points >= low_end) & (points <= high_end)):
        raise ResultsError(f"a pilot's score is missing or out of range, expected for each run {metric.valid_range}")

    differences = block_contrasts(points, [1, -1])
    mean, sd, se, df = summarise(differences)
    variances = summarise(points).sd ** 2
    chi_low, chi_high = (float(stats.chi2.ppf(q, df)) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    correlation, low, high = _correlation(points)
    notes = []
    if sd == 0:
        notes.append(say("judge.pilot no noise"))
    level = alpha / m
    false_positives = _false_positives(differences, level)
    if _has_heavy_tails(false_positives, level, df + 1):
        notes.append(say("judge.pilot heavy tails", found=false_positives, level=level))
    p = float(direction_p(mean, se, df))
    if p < 0.01:
        notes.append(say("judge.pilot differs", amount=metric.amount(float(mean)), p=p))
    if low is None:
        notes.append(say("judge.pilot pairing unknown"))
    return Pilot(
        n=df + 1,
        mean_difference=float(mean),
        p=p,
        sd_paired=float(sd),
        sd_paired_low=float(sd * np.sqrt(df / chi_high)),
        sd_paired_high=float(sd * np.sqrt(df / chi_low)),
        sd_single=float(np.sqrt(variances.mean())),
        correlation=correlation,
        correlation_low=low,
        correlation_high=high,
        false_positives=false_positives,
        level=level,
        pairing="open" if low is None or high is None or low <= 0 <= high else "pays" if low > 0 else "costs",
        margins={n: float(resolvable_margin(sd, n, alpha, m, power)) for n in planned_blocks},
        notes=tuple(notes),
    )


def pilot_doubts(pilot: Pilot, judgement: Judgement) -> tuple[Message, ...]:
    """Return the doubts that the noise of identical recipes raises about a study's verdicts; empty without any.

    Args:
        pilot: of the study's baseline.
        judgement: of the study.
    """
    doubts = []
    metric = judgement.metric
    heavy = _has_heavy_tails(pilot.false_positives, pilot.level, pilot.n)
    for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True):
        name, mean = estimate.contrast.name, estimate.mean
        directed = verdict.word in ("better", "worse")
        word = say(f"verdict.{verdict.word}")
        size = float(np.sqrt(sum(weight * weight for weight in estimate.contrast.weights.values()) / 2))
        if directed and mean is not None and abs(mean) <= size * abs(pilot.mean_difference):
            amount, seen = metric.amount(mean), metric.show(pilot.mean_difference)
            doubts.append(say("judge.doubt size", name=name, word=word, amount=amount, pilot=seen))
        if directed and heavy:
            doubts.append(say("judge.doubt tails", name=name, word=word))
        most = size * pilot.sd_paired_high
        if estimate.sd is not None and 0 < most < estimate.sd:
            amount, limit = metric.amount(estimate.sd, signed=False), metric.show(most, signed=False)
            doubts.append(say("judge.doubt spread", name=name, amount=amount, most=limit))
    return tuple(doubts)


def _has_heavy_tails(false_positives: float | None, level: float, n: int) -> bool:
    """Return whether swapped pairs of ``n`` blocks give at least twice as many directions as the level allows."""
    return false_positives is not None and false_positives > 2 * level + 2 / 2**n


def _false_positives(differences: NDArray[np.float64], level: float) -> float | None:
    """Return the share of sign patterns of the differences whose t test rejects at ``level``.

    Under identical recipes each difference is as likely as its negative, so that all 2^n patterns are equally likely
    (Fisher's sign-flip test); above 12 blocks 4096 of them are drawn.
    """
    n = len(differences)
    if n < LEAST_SWAPPED or not np.any(differences):
        return None
    if n <= MOST_ENUMERATED:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = 1 - 2 * numpy_generator(0, "pilot").integers(0, 2, (2**MOST_ENUMERATED, n))
    swapped = signs * differences
    mean, sd = swapped.mean(axis=1), swapped.std(axis=1, ddof=1)
    critical = float(stats.t.isf(level / 2, n - 1))
    return float(np.mean(np.abs(mean) > critical * sd / np.sqrt(n)))


def _correlation(points: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float | None, float | None, float | None]:
    """Return Pearson's correlation of 2 x blocks and the ends of its interval, each None where undefined."""
    if np.ptp(points, axis=1).min() == 0:
        return None, None, None
    correlation = float(np.corrcoef(points)[0, 1])
    n = points.shape[1]
    if n < 4:
        return correlation, None, None
    # Identical runs: arctanh(1) is infinite, and the interval is the point 1.
    if abs(correlation) >= 1 - 1e-12:
        return correlation, correlation, correlation
    centre, half = np.arctanh(correlation), stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(n - 3)
    return correlation, float(np.tanh(centre - half)), float(np.tanh(centre + half))
