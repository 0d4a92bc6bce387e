"""What a study knows about the source document's statements, as plain numbers.

A field of `Evidence` that is None is one that the study cannot speak to.  The effects come from a judgement and share
its alpha; the other intervals are each at their own level and are not adjusted for there being several.  This module
does not depend on runs, files or curves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from semalign.errors import StudyError
from semalign.judge.metric import MIOU, Metric
from semalign.judge.statistics import check_level, t_interval
from semalign.judge.types import Estimate, LeftOut, Verdict, Word

__all__ = [
    "AlignmentCost",
    "Change",
    "Effect",
    "Evidence",
    "Failures",
    "Fusion",
    "effect_of",
    "paired_change",
    "spread_ratio",
]


@dataclasses.dataclass(frozen=True)
class Effect:
    """A judged effect; bounds as in `semalign.judge.types.Estimate`, None where it has none.

    ``aliased``: the design cannot tell it from others (a two-factor effect in a half fraction).
    ``counts``: the bounds are those of all planned blocks, and these are not copies of one; where it is false, only the
    word may be used.
    """

    word: Word
    below_margin: bool
    mean: float | None
    low: float | None
    high: float | None
    low_equivalence: float | None
    high_equivalence: float | None
    blocks_needed: int | None = None
    aliased: bool = False
    counts: bool = True


@dataclasses.dataclass(frozen=True)
class Change:
    """A mean paired change, learnable minus fixed, with its t interval over ``n`` blocks."""

    mean: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Failures:
    """Failed runs of both arms over the same blocks, and the exact paired p that they fail equally often."""

    fixed: int
    learnable: int
    blocks: int
    p: float


@dataclasses.dataclass(frozen=True)
class Fusion:
    """What freeing a gate and freeing a temperature change: |g a| / |x|, and the entropy of attention (1 = uniform).

    All as changes of the natural logarithm, so that the two quantities can be compared.
    """

    strength_by_gate: Change
    strength_by_temperature: Change
    entropy_by_gate: Change
    entropy_by_temperature: Change


@dataclasses.dataclass(frozen=True)
class AlignmentCost:
    """Totals over the ``sites`` of one kind of alignment: parameters, operations and seconds per image."""

    sites: int
    parameters: int
    operations: float | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a study knows about the document's statements; None: it cannot speak to it.

    Attributes:
        margin: of the study, in the metric's unit.
        alpha: of the failure test.
        gain: A - Baseline, the encoder temperature learnable instead of fixed.
        fixed_gates: B - Baseline, the gates fixed instead of learnable.
        competition: (A - Baseline) - (C - B), on the worse side of 0 where temperature and gate compete.
        value_matched: learnable temperature minus the one fixed at the value that the learnable run ended with.
        with_more: gain with the most data and training minus the gain with the least.
        parameters: of the model with fixed and with learnable encoder temperature.
        gap: change of the difference of training and validation score.
        spread: ratio of the scores' standard deviations over seeds, learnable over fixed (`spread_ratio`).
        failures: failed runs.
        spikes: change of the number of loss spikes in a run.
        gradients: by encoder stage, the earliest first, change of the gradient norm's natural logarithm.
        steps_to_90: change of the optimizer steps to 90 % of a run's own final score.
        gates: lowest and highest value that any learnable gate took.
        log_scales: lowest and highest logarithm that any learnable temperature took.
        log_scale_starts: lowest and highest logarithm that any of them started with.
        fusion: what gate and temperature change.
        encoder: cost of all encoder alignments.
        decoder: cost of all decoder alignments.
        metric: what the scores measure; effects and ``gap`` are in its unit.
    """

    margin: float
    alpha: float = 0.05
    gain: Effect | None = None
    fixed_gates: Effect | None = None
    competition: Effect | None = None
    value_matched: Effect | None = None
    with_more: Effect | None = None
    parameters: tuple[int, int] | None = None
    gap: Change | None = None
    spread: Change | None = None
    failures: Failures | None = None
    spikes: Change | None = None
    gradients: tuple[Change, ...] | None = None
    steps_to_90: Change | None = None
    gates: tuple[float, float] | None = None
    log_scales: tuple[float, float] | None = None
    log_scale_starts: tuple[float, float] | None = None
    fusion: Fusion | None = None
    encoder: AlignmentCost | None = None
    decoder: AlignmentCost | None = None
    metric: Metric = MIOU


def effect_of(estimate: Estimate, verdict: Verdict, left_out: Iterable[LeftOut]) -> Effect:
    """Return a judgement's estimate and verdict as evidence; ``left_out`` is the judgement's."""
    lost = any(item.contrast == estimate.contrast.name for item in left_out)
    # Without spread an effect is better, worse or equivalent, unless its blocks are copies.
    copies = estimate.sd == 0 and verdict.word == "inconclusive"
    return Effect(
        verdict.word,
        verdict.below_margin,
        estimate.mean,
        estimate.low,
        estimate.high,
        estimate.low_equivalence,
        estimate.high_equivalence,
        verdict.blocks_needed,
        counts=not lost and not copies,
    )


def paired_change(learnable: ArrayLike, fixed: ArrayLike, level: float = 0.95) -> Change:
    """Return the mean of learnable minus fixed over blocks, with its t interval.

    Raises:
        StudyError: fewer than two blocks, values that do not pair up, or a level outside (0, 1).
    """
    one, other = np.asarray(learnable, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise StudyError(f"values of shape {one.shape} and {other.shape} are not pairs, expected one per block in both")
    mean, _, _, df, low, high = t_interval(one - other, level)
    return Change(float(mean), float(low), float(high), df + 1)


def spread_ratio(learnable: ArrayLike, fixed: ArrayLike, level: float = 0.95) -> Change | None:
    """Return the ratio of two arms' standard deviations over paired blocks, with its interval; None without spread.

    Pitman and Morgan (1939): with the variances' ratio w and the correlation r of n pairs the bounds of the ratio are
    w (K ± sqrt(K^2 - 1)), K = 1 + 2 (1 - r^2) t^2 / (n - 2), t the quantile with n - 2 degrees of freedom.

    Raises:
        StudyError: fewer than three blocks, values that do not pair up, or a level outside (0, 1).
    """
    check_level("level", level)
    one, other = np.asarray(learnable, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or len(one) < 3:
        raise StudyError(
            f"values of shape {one.shape} and {other.shape} give no ratio of spreads, expected at least 3 pairs"
        )
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    n = len(one)
    ratio = float(np.var(one, ddof=1) / np.var(other, ddof=1))
    correlation = float(np.corrcoef(one, other)[0, 1])
    t = float(stats.t.isf((1 - level) / 2, n - 2))
    k = 1 + 2 * max(0.0, 1 - correlation**2) * t**2 / (n - 2)
    wide = k + math.sqrt(k**2 - 1)
    return Change(math.sqrt(ratio), math.sqrt(ratio / wide), math.sqrt(ratio * wide), n)
