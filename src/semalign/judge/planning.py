"""What a budget of blocks can decide, before anything is run: by formula for a fixed number, by simulation at looks.

This module does not depend on measured scores; their spread is given to it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semalign.judge.looks import check_looks, look_boundaries
from semalign.judge.metric import MIOU, Metric
from semalign.judge.statistics import (
    blocks_needed,
    fixed_boundary,
    minimum_detectable_effect,
    resolvable_margin,
)
from semalign.judge.types import Contrast
from semalign.seeds import numpy_generator
from semalign.wording import Message, say

__all__ = ["Precision", "cannot_decide", "effect_sd", "precision"]

POWER = 0.8
DRAWN = 20000
"""Studies drawn per plan with looks; the standard error of a probability of 0.8 is then 0.003."""


@dataclasses.dataclass(frozen=True)
class Precision:
    """What a design finds out about one effect whose per-block contrast has the spread ``sd``, in the metric's unit.

    Attributes:
        sd: standard deviation of the per-block contrast.
        resolvable_margin: the margin at which a true effect of 0 ends "equivalent" with probability 0.8.
        minimum_detectable_effect: the true effect whose direction is found with probability 0.8.
        blocks_for_margin: blocks of a study judged once in which every estimate ends in a verdict at the margin.
        half_width: half the width of the last equivalence interval.
        expected_blocks: mean number of blocks until a verdict, or the last look, where the true effect is 0.
    """

    sd: float
    resolvable_margin: float
    minimum_detectable_effect: float
    blocks_for_margin: int
    half_width: float
    expected_blocks: float


def effect_sd(contrast: Contrast, paired_sd: float) -> float:
    """Return the spread of a contrast, given that of a plain difference of two arms.

    Runs of one block share a part and add noise of their own; where that noise is alike in all arms, the variance of a
    contrast is proportional to the sum of its squared weights, which is 2 for a plain difference.

    >>> effect_sd(Contrast("x", {"a": 0.5, "b": 0.5, "c": -0.5, "d": -0.5}), 2.0)
    1.4142135623730951
    """
    return paired_sd * math.sqrt(sum(weight * weight for weight in contrast.weights.values()) / 2)


def precision(
    sd: float, *, seeds: int | None, looks: Sequence[int] | None, margin: float, alpha: float, m: int
) -> Precision:
    """Return what a design can find out about one of ``m`` effects.

    Args:
        sd: true standard deviation of the per-block contrast, above 0.
        seeds: blocks of a study judged once; else None.
        looks: moments of a growing study, in blocks; else None.
        margin: in the unit of ``sd``.
        alpha: family-wise level.
        m: effects in the family.

    Raises:
        StudyError: fewer than 2 blocks, or an argument out of range.
    """
    needed = int(blocks_needed(sd, margin, alpha, m))
    if looks is None:
        assert seeds is not None, "a study has seeds or looks"
        half = fixed_boundary(seeds, alpha, m).equivalence * sd / math.sqrt(seeds)
        resolved = float(resolvable_margin(sd, seeds, alpha, m, POWER))
        detected = float(minimum_detectable_effect(sd, seeds, alpha, m, POWER))
        return Precision(sd, resolved, detected, needed, half, float(seeds))
    moments = check_looks(looks)
    boundaries = look_boundaries(moments, alpha, m)
    paths = _paths(moments)
    half = boundaries[-1].equivalence * sd / math.sqrt(moments[-1])
    within = _equivalent_margins(moments, alpha, m)
    resolved = sd * float(np.quantile(within, POWER, method="higher"))
    found = _detectable(moments, alpha, m)
    # Blocks until a verdict at the margin, by path.
    ended = np.full(DRAWN, moments[-1], dtype=np.int64)
    is_open = np.ones(DRAWN, dtype=np.bool_)
    for (n, (mean, s)), boundary in zip(paths.items(), boundaries, strict=True):
        se = s / math.sqrt(n)
        decided = (np.abs(mean) > boundary.direction * se) | (np.abs(mean) + boundary.equivalence * se < margin / sd)
        ended = np.where(is_open & decided, n, ended)
        is_open &= ~decided
    return Precision(sd, resolved, sd * found, needed, half, float(ended.mean()))


def cannot_decide(best: Precision, margin: float, blocks: int, name: str, metric: Metric = MIOU) -> Message | None:
    """Return why a design cannot decide an effect, None where it may.

    Equivalence is out of reach when already half the width of the last interval exceeds the margin; an effect as large
    as the margin is then found in less than half of such studies, because the interval for direction is wider still.

    Args:
        best: with the least spread that is still credible.
        margin: in the unit of ``best``.
        blocks: the largest number of blocks.
        name: the effect.
        metric: what the scores measure.
    """
    if best.half_width < margin:
        return None
    return say(
        "judge.cannot decide",
        blocks=blocks,
        name=name,
        margin=metric.with_unit(f"{margin:g}"),
        sd=metric.show(best.sd, signed=False),
        half=metric.amount(best.half_width, signed=False),
        needed=best.blocks_for_margin,
        resolved=metric.show(best.resolvable_margin, signed=False),
    )


Paths = dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By look, mean and standard deviation of every drawn study."""


@functools.cache
def _paths(moments: tuple[int, ...]) -> Paths:
    """Return studies of standard normal contrasts at their looks."""
    values = numpy_generator(0, "planning").standard_normal((DRAWN, moments[-1]))
    return {n: (values[:, :n].mean(axis=1), values[:, :n].std(axis=1, ddof=1)) for n in moments}


@functools.cache
def _equivalent_margins(moments: tuple[int, ...], alpha: float, m: int) -> NDArray[np.float64]:
    """Return for every drawn study the smallest margin at which it ends equivalent; infinite where it never does."""
    least = np.full(DRAWN, np.inf)
    directed = np.zeros(DRAWN, dtype=np.bool_)
    for (n, (mean, s)), boundary in zip(_paths(moments).items(), look_boundaries(moments, alpha, m), strict=True):
        se = s / math.sqrt(n)
        directed |= np.abs(mean) > boundary.direction * se
        least = np.where(directed, least, np.minimum(least, np.abs(mean) + boundary.equivalence * se))
    return least


@functools.cache
def _detectable(moments: tuple[int, ...], alpha: float, m: int) -> float:
    """Return the effect, in standard deviations, whose direction is found at some look with probability 0.8."""
    boundaries = look_boundaries(moments, alpha, m)

    # A path finds the direction from the smallest shift on that lifts its mean over the boundary at some look.
    shifts = np.min(
        [
            boundary.direction * s / math.sqrt(n) - mean
            for (n, (mean, s)), boundary in zip(_paths(moments).items(), boundaries, strict=True)
        ],
        axis=0,
    )
    return float(np.quantile(shifts, POWER, method="higher"))
