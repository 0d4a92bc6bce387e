"""Judging a growing study at a few moments fixed beforehand, without fooling its owner.

A study that is judged at 5, 8 and 12 blocks has three chances of a false claim, so each look needs wider intervals than
a single one would.  These are repeated confidence intervals (Jennison & Turnbull 1989): the intervals of all looks hold
the effect at once with probability 1 - alpha/m, whatever rule stops the study, so that a stop for futility is not
binding.  Their shape is O'Brien-Fleming's, as Lan & DeMets (1983) spend it (`spending`): little early, so that the last
look costs hardly more than a single one.  The statistic has few degrees of freedom and is not a normal variate, so the
boundaries come from Monte Carlo of the t path (``scripts/boundaries.py``).

The last axis is always the blocks of one study, in the order in which they were planned; any axes before it are
independent studies.  This module does not depend on arms, sentences or files.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from semalign.errors import StudyError
from semalign.judge.statistics import Boundary, check_level
from semalign.judge.verdict import decide_blocks
from semalign.presets import EARLIEST_LOOK, LOOKS

__all__ = [
    "FUTILE",
    "LookDecision",
    "at_fewer_blocks",
    "check_looks",
    "decide_at_looks",
    "decision_chance",
    "look_boundaries",
    "spending",
]

FUTILE = 0.1
"""An open effect whose chance of a verdict by the last look is below this may be given up; nothing forces it."""

_TABLE: dict[float, tuple[float, ...]] = {
    0.1: (4.499, 2.567, 1.948, 2.835, 1.954, 1.582),
    0.1 / 2: (6.837, 3.220, 2.313, 4.499, 2.567, 1.948),
    0.1 / 3: (8.660, 3.629, 2.527, 5.764, 2.943, 2.162),
    0.1 / 4: (10.223, 3.933, 2.678, 6.837, 3.220, 2.313),
    0.1 / 5: (11.621, 4.179, 2.796, 7.790, 3.442, 2.431),
    0.1 / 6: (12.899, 4.388, 2.893, 8.660, 3.629, 2.527),
    0.1 / 7: (14.088, 4.570, 2.976, 9.467, 3.791, 2.608),
    0.1 / 8: (15.205, 4.729, 3.047, 10.223, 3.933, 2.678),
    0.1 / 9: (16.263, 4.873, 3.110, 10.939, 4.061, 2.740),
    0.1 / 10: (17.271, 5.005, 3.167, 11.621, 4.179, 2.796),
    0.1 / 11: (18.237, 5.127, 3.219, 12.273, 4.288, 2.847),
    0.1 / 12: (19.166, 5.237, 3.265, 12.899, 4.388, 2.893),
    0.1 / 13: (20.063, 5.343, 3.309, 13.504, 4.482, 2.936),
    0.1 / 14: (20.930, 5.441, 3.350, 14.088, 4.570, 2.976),
    0.1 / 15: (21.771, 5.534, 3.388, 14.655, 4.651, 3.012),
    0.1 / 16: (22.589, 5.625, 3.423, 15.205, 4.729, 3.047),
    0.05 / 9: (24.161, 5.788, 3.488, 16.263, 4.873, 3.110),
    0.05 / 10: (25.661, 5.938, 3.546, 17.271, 5.005, 3.167),
    0.05 / 11: (27.098, 6.076, 3.599, 18.237, 5.127, 3.219),
    0.05 / 12: (28.481, 6.203, 3.647, 19.166, 5.237, 3.265),
    0.05 / 13: (29.815, 6.321, 3.691, 20.063, 5.343, 3.309),
    0.05 / 14: (31.107, 6.439, 3.732, 20.930, 5.441, 3.350),
    0.05 / 15: (32.360, 6.551, 3.770, 21.771, 5.534, 3.388),
    0.05 / 16: (33.579, 6.656, 3.806, 22.589, 5.625, 3.423),
    0.01 / 4: (38.159, 7.003, 3.933, 25.661, 5.938, 3.546),
    0.01 / 5: (43.370, 7.371, 4.062, 29.154, 6.264, 3.669),
    0.01 / 6: (48.157, 7.686, 4.167, 32.360, 6.551, 3.770),
    0.01 / 7: (52.618, 7.974, 4.256, 35.348, 6.797, 3.857),
    0.01 / 8: (56.818, 8.214, 4.334, 38.159, 7.003, 3.933),
    0.01 / 9: (60.802, 8.443, 4.404, 40.826, 7.198, 4.001),
    0.01 / 10: (64.605, 8.635, 4.465, 43.370, 7.371, 4.062),
    0.01 / 11: (68.251, 8.838, 4.525, 45.810, 7.535, 4.117),
    0.01 / 12: (71.760, 9.014, 4.577, 48.157, 7.686, 4.167),
    0.01 / 13: (75.149, 9.187, 4.624, 50.424, 7.837, 4.213),
    0.01 / 14: (78.431, 9.331, 4.668, 52.618, 7.974, 4.256),
    0.01 / 15: (81.615, 9.473, 4.710, 54.747, 8.091, 4.296),
    0.01 / 16: (84.712, 9.596, 4.750, 56.818, 8.214, 4.334),
}
"""Printed by ``scripts/boundaries.py`` (4e7 paths): by level alpha/m, which alone decides, direction at looks 5, 8, 12,
then equivalence.  Monte Carlo error: 0.1 % at a level of 0.05, 0.5 % at the smallest."""


def _key(level: float) -> float:
    return float(f"{level:.9g}")


_ROWS = {_key(level): row for level, row in _TABLE.items()}


class LookDecision(NamedTuple):
    """Decisions of any number of growing studies at once.

    Attributes:
        code: index into `semalign.judge.verdict.WORDS` of the first look that decides; 0 when none does.
        below_margin: whether that look shows the effect to be below the margin.
        look: index of the deciding look; of the last one where none decides.
    """

    code: NDArray[np.int8]
    below_margin: NDArray[np.bool_]
    look: NDArray[np.int64]


def check_looks(looks: Sequence[int]) -> tuple[int, ...]:
    """Return ``looks`` as ints.

    Raises:
        StudyError: no look, one that is not a whole number of at least 2 blocks, looks that do not grow, or a first one
            below 1 / `EARLIEST_LOOK` of the last.
    """
    try:
        moments = tuple(operator.index(n) for n in looks)
    except TypeError:
        moments = ()
    if not moments or moments[0] < 2 or any(later <= n for n, later in itertools.pairwise(moments)):
        raise StudyError(
            f"the looks are {looks!r}, expected growing whole numbers of blocks, the first at least 2, such as 5, 8, 12"
        )
    if moments[0] * EARLIEST_LOOK < moments[-1]:
        raise StudyError(
            f"the look at {moments[0]} of {moments[-1]} blocks could decide nothing, its share of alpha being next to "
            f"nothing, expected the first one at {math.ceil(moments[-1] / EARLIEST_LOOK)} blocks or later"
        )
    return moments


def spending(level: float, sides: int, looks: Sequence[int]) -> NDArray[np.float64]:
    """Return the part of ``level`` that each look spends; they add up to ``level``.

    Lan & DeMets' function of O'Brien-Fleming type: by the share t = n / n_last of the blocks,
    sides (1 - Phi(z / sqrt t)) is spent, where z is the normal quantile that leaves ``level`` / sides above it.

    Args:
        level: probability of a false claim over all looks, in (0, 1).
        sides: 2 for a direction, 1 for each of the two tests of equivalence.
        looks: blocks of every look, growing.
    """
    share = np.asarray(looks, dtype=np.float64) / looks[-1]
    spent = sides * stats.norm.sf(stats.norm.isf(level / sides) / np.sqrt(share))
    return np.diff(spent, prepend=0.0)


def look_boundaries(looks: Sequence[int], alpha: float, m: int = 1) -> tuple[Boundary, ...]:
    """Return the boundary of every look for one of a family of ``m`` effects, each judged at alpha/m (Bonferroni).

    At looks 5, 8, 12 and alpha 0.1, 0.05 or 0.01 with up to 16 effects, from the table.  For any other looks or level a
    conservative rule: look k is a t test of its own at the level that `spending` gives it, so that by the union bound
    all looks together spend no more than alpha/m.  At alpha/m = 0.05 it widens the last intervals by 5 % (direction)
    and 10 % (equivalence) against the table, at smaller levels by less.

    Args:
        looks: blocks of every look, growing.
        alpha: family-wise level in (0, 1).
        m: effects in the family.

    Raises:
        StudyError: looks that do not grow, alpha outside (0, 1), or an empty family.

    >>> [tuple(boundary) for boundary in look_boundaries((5, 8, 12), 0.05)]
    [(6.837, 4.499), (3.22, 2.567), (2.313, 1.948)]
    """
    moments = check_looks(looks)
    check_level("alpha", alpha)
    if m < 1:
        raise StudyError(f"the family has {m} effects, expected at least 1")
    row = _ROWS.get(_key(alpha / m)) if moments == LOOKS else None
    if row is not None:
        return tuple(Boundary(*pair) for pair in zip(row[: len(LOOKS)], row[len(LOOKS) :], strict=True))
    df = np.asarray(moments) - 1.0
    direction = np.asarray(stats.t.isf(spending(alpha / m, 2, moments) / 2, df))
    equivalence = np.asarray(stats.t.isf(spending(alpha / m, 1, moments), df))
    return tuple(Boundary(float(one), float(other)) for one, other in zip(direction, equivalence, strict=True))


def at_fewer_blocks(boundary: Boundary, planned: int, n: int) -> Boundary:
    """Return the boundary of a look at ``planned`` blocks of which only ``n`` are complete.

    It keeps the tail probability of the t distribution: n - 1 degrees of freedom instead of planned - 1.
    """
    if n == planned:
        return boundary
    tails = stats.t.sf(np.asarray(boundary), planned - 1)
    return Boundary(*(float(value) for value in stats.t.isf(tails, n - 1)))


def decide_at_looks(
    contrasts: ArrayLike, looks: Sequence[int], boundaries: Sequence[Boundary], margin: float
) -> LookDecision:
    """Return the decision of the first look that decides, for ... x blocks of per-block contrasts.

    Args:
        contrasts: ... x at least as many blocks as the last look has.
        looks: blocks of every look, growing.
        boundaries: one per look, of `look_boundaries`.
        margin: in the unit of the contrasts.
    """
    values = np.asarray(contrasts, dtype=np.float64)
    code = np.zeros(values.shape[:-1], dtype=np.int8)
    below = np.zeros(values.shape[:-1], dtype=np.bool_)
    at = np.full(values.shape[:-1], len(looks) - 1, dtype=np.int64)
    for index, (n, boundary) in enumerate(zip(looks, boundaries, strict=True)):
        decision = decide_blocks(values[..., :n], boundary, margin)
        first = (code == 0) & (decision.code != 0)
        code = np.where(first, decision.code, code)
        below = np.where(first, decision.below_margin, below)
        at = np.where(first, index, at)
    return LookDecision(code, below, at)


def decision_chance(
    mean: ArrayLike, sd: ArrayLike, n: int, last: int, boundary: Boundary, margin: float
) -> NDArray[np.float64]:
    """Return the chance that the last look decides an effect that is open after ``n`` blocks, if nothing changes.

    The blocks to come are taken as normal with the mean and the spread seen so far, so the last look's mean is normal
    around ``mean`` with standard deviation sd sqrt(last - n) / last.  It is undecided between
    margin - C_eq sd/sqrt(last) and C_dir sd/sqrt(last) on either side of 0.

    Args:
        mean: any shape.
        sd: standard deviation over the ``n`` blocks.
        n: blocks seen, fewer than ``last``.
        last: blocks of the last look.
        boundary: of the last look.
        margin: in the unit of the contrasts.
    """
    centre, spread = np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    outer = boundary.direction * spread / math.sqrt(last)
    inner = np.minimum(np.maximum(margin - boundary.equivalence * spread / math.sqrt(last), 0.0), outer)
    unit = np.where(spread > 0, spread, 1.0) * math.sqrt(last - n) / last
    open_above = stats.norm.cdf((outer - centre) / unit) - stats.norm.cdf((inner - centre) / unit)
    open_below = stats.norm.cdf((-inner - centre) / unit) - stats.norm.cdf((-outer - centre) / unit)
    return np.asarray(np.where(spread > 0, 1.0 - open_above - open_below, 1.0))
