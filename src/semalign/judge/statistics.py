"""The arithmetic of a judgement: contrasts per block, t intervals, p values, family levels, plans.

Scores, effects, spreads and margins are in one unit, that of the metric (`semalign.judge.metric`).  The last axis is
always the blocks of one study; any axes before it are independent studies, and a study judged alone gets the same bits
as one judged among many.  This module does not depend on arms' names, verdicts or files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from semalign.errors import StudyError

__all__ = [
    "Boundary",
    "PairedFailures",
    "Summary",
    "TInterval",
    "block_contrasts",
    "blocks_needed",
    "check_level",
    "check_planned",
    "direction_p",
    "direction_power",
    "equivalence_p",
    "equivalence_power",
    "factor_weights",
    "fixed_boundary",
    "holm",
    "minimum_detectable_effect",
    "paired_failure_test",
    "resolvable_margin",
    "summarise",
    "t_interval",
]

Floats: TypeAlias = NDArray[np.float64]

DECIMALS = 9
"""Contrasts are rounded to 1e-9 of the metric's unit."""


class Summary(NamedTuple):
    """Mean, standard deviation and standard error over the last axis, and degrees of freedom S - 1."""

    mean: Floats
    sd: Floats
    se: Floats
    df: int


class TInterval(NamedTuple):
    """A `Summary` with the bounds of its t interval."""

    mean: Floats
    sd: Floats
    se: Floats
    df: int
    low: Floats
    high: Floats


class Boundary(NamedTuple):
    """Half widths of the two intervals that judge an effect, in standard errors.

    Attributes:
        direction: the effect has a direction when mean ± direction * se excludes 0.
        equivalence: the effect is within the margin when mean ± equivalence * se lies inside ± margin.
    """

    direction: float
    equivalence: float


class PairedFailures(NamedTuple):
    """Blocks in which only the first arm failed, in which only the second failed, and the exact two-sided p."""

    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]
    p: Floats


def _floats(values: ArrayLike) -> Floats:
    # C order: NumPy sums a strided axis in another order, and the same study would get other last bits.
    return np.asarray(values, dtype=np.float64, order="C")


# --- effects --------------------------------------------------------------------------------------


def block_contrasts(scores: ArrayLike, weights: ArrayLike) -> Floats:
    """Return sum over arms of weight x score for every block.

    Args:
        scores: ... x arms x blocks.
        weights: arms, or contrasts x arms.

    Returns:
        ... x blocks, or ... x contrasts x blocks, rounded to 1e-9 so that the rounding error of equal scores
        (7e-15 at scores of 50 with no spread) never counts as an effect.

    >>> block_contrasts([[52.0, 54.0, 53.0], [51.0, 53.5, 51.0]], [1, -1])
    array([1. , 0.5, 2. ])
    """
    table, factors = _floats(scores), _floats(weights)
    if factors.ndim == 2:
        return np.stack([block_contrasts(table, row) for row in factors], axis=-2)
    if table.ndim < 2 or factors.shape != (table.shape[-2],):
        raise StudyError(
            f"scores of shape {table.shape} and weights of shape {factors.shape} do not fit, "
            "expected ... x arms x blocks and one weight per arm"
        )
    total = np.zeros(table.shape[:-2] + table.shape[-1:])
    # One arm after the other, not a matrix product, whose order of summation depends on the shapes.
    for index, factor in enumerate(factors):
        total = total + factor * table[..., index, :]
    return np.round(total, DECIMALS)


def factor_weights(signs: ArrayLike) -> Floats:
    """Return the R weights (2/R) x sign of a 2-level design's effect.

    Args:
        signs: R values, -1 or +1, as many of one as of the other; for an interaction the product of the factors' signs.

    Raises:
        StudyError: other values, or unbalanced signs.
    """
    values = _floats(signs)
    if values.ndim != 1 or not len(values) or not np.all(np.abs(values) == 1) or values.sum() != 0:
        raise StudyError(
            f"the signs of a factor are {values.tolist()}, expected -1 and +1 equally often, one per run of the block"
        )
    return values * (2 / len(values))


def summarise(contrasts: ArrayLike) -> Summary:
    """Return mean, sd (S - 1 in the denominator), se and df over the last axis.

    Raises:
        StudyError: fewer than two blocks.
    """
    values = _floats(contrasts)
    n = values.shape[-1] if values.ndim else 0
    if n < 2:
        raise StudyError(f"{n} blocks give no standard deviation, expected at least 2: run more seeds")
    # Around the first value, so that equal values have a standard deviation of exactly 0.
    first = values[..., :1]
    shifted = values - first
    sd = np.std(shifted, axis=-1, ddof=1)
    return Summary(first[..., 0] + np.mean(shifted, axis=-1), np.asarray(sd), np.asarray(sd / np.sqrt(n)), n - 1)


def t_interval(contrasts: ArrayLike, level: float) -> TInterval:
    """Return the two-sided t interval of the mean over the last axis, S - 1 degrees of freedom.

    Args:
        contrasts: ... x blocks.
        level: coverage in (0, 1), such as 0.95.

    Raises:
        StudyError: fewer than two blocks or a level outside (0, 1).
    """
    check_level("level", level)
    mean, sd, se, df = summarise(contrasts)
    half = stats.t.ppf((1 + level) / 2, df) * se
    return TInterval(mean, sd, se, df, np.asarray(mean - half), np.asarray(mean + half))


# --- p values and family levels --------------------------------------------------------------------------------------


def _t_statistic(difference: Floats, se: Floats) -> Floats:
    # No spread: any difference is infinitely many standard errors, none is 0 of them.
    certain = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    return np.where(se > 0, difference / np.where(se > 0, se, 1.0), certain)


def direction_p(mean: ArrayLike, se: ArrayLike, df: float) -> Floats:
    """Return the two-sided p of the t test that the effect is 0; without spread it is 1 at mean 0 and else 0."""
    statistic = _t_statistic(_floats(mean), _floats(se))
    return np.asarray(2 * stats.t.sf(np.abs(statistic), df))


def equivalence_p(mean: ArrayLike, se: ArrayLike, df: float, margin: float) -> Floats:
    """Return the p of the two one-sided t tests that the effect is not inside ± margin: the larger of the two.

    Schuirmann 1987.  It is below a exactly when the (1 - 2a) t interval lies inside the open interval ± margin.
    """
    centre, error = _floats(mean), _floats(se)
    above_low = stats.t.sf(_t_statistic(centre + margin, error), df)
    below_high = stats.t.sf(_t_statistic(margin - centre, error), df)
    return np.asarray(np.maximum(above_low, below_high))


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's (1979) adjusted p values of the family along the last axis.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = _floats(p_values)
    m = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    scaled = np.take_along_axis(p, order, axis=-1) * np.arange(m, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0)
    result = np.empty_like(p)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def fixed_boundary(n: int, alpha: float, m: int = 1) -> Boundary:
    """Return the boundary of a design judged once, at ``n`` blocks, for a family of ``m`` effects.

    Bonferroni: each effect is judged at alpha/m.  Direction t_{1 - alpha/2m, n-1} (two-sided), equivalence
    t_{1 - alpha/m, n-1} (two one-sided tests, each at alpha/m).

    Raises:
        StudyError: fewer than two blocks, alpha outside (0, 1), or an empty family.
    """
    _check_plan(n, alpha, m)
    direction, equivalence = _fixed_quantiles(np.asarray(n), alpha, m)
    return Boundary(float(direction), float(equivalence))


def _fixed_quantiles(n: NDArray[np.int64], alpha: float, m: int) -> tuple[Floats, Floats]:
    each, df = alpha / m, n - 1.0
    return np.asarray(stats.t.isf(each / 2, df)), np.asarray(stats.t.isf(each, df))


def paired_failure_test(first: ArrayLike, second: ArrayLike) -> PairedFailures:
    """Return the exact McNemar (sign) test of two arms' failures over the blocks along the last axis.

    Args:
        first: ... x blocks booleans, whether the first arm's run of the block failed.
        second: the same of the second arm.

    Only blocks where exactly one of the two failed carry evidence: under equal failure rates each is a fair coin, so
    p = min(1, 2 P(Binomial(n, 1/2) <= smaller count)).
    """
    one, other = np.asarray(first, dtype=np.bool_), np.asarray(second, dtype=np.bool_)
    only_first = np.asarray((one & ~other).sum(axis=-1))
    only_second = np.asarray((other & ~one).sum(axis=-1))
    tail = stats.binom.cdf(np.minimum(only_first, only_second), only_first + only_second, 0.5)
    return PairedFailures(only_first, only_second, np.asarray(np.minimum(1.0, 2 * tail)))


# --- planning -------------------------------------------------------------------------------------


def blocks_needed(sd: ArrayLike, margin: float, alpha: float = 0.05, m: int = 1) -> NDArray[np.int64]:
    """Return the smallest number of blocks at which every estimate ends in a verdict, if the spread stays ``sd``.

    n >= ((C_dir + C_eq) sd / margin)^2 with C_dir = t_{1 - alpha/2m, n-1} and C_eq = t_{1 - alpha/m, n-1} at that very
    n.  Reason: an estimate without direction is at most C_dir se from 0, so its equivalence interval
    reaches at most (C_dir + C_eq) se, which is within the margin from this n on.

    Args:
        sd: standard deviation of the per-block contrast, any shape.
        margin: above 0.
        alpha: family-wise level.
        m: effects in the family.

    Returns:
        integers of sd's shape, at least 2: blocks of a new pre-registered study, not blocks to add to this one.

    Raises:
        StudyError: a level, family size or margin out of range, or a margin no study can resolve (n above 2^50).
    """
    _check_plan(2, alpha, m)
    if not margin > 0:
        raise StudyError(f"margin is {margin:g}, expected above 0: the smallest effect that matters")
    spread = _floats(sd)

    def decides(n: NDArray[np.int64]) -> NDArray[np.bool_]:
        direction, equivalence = _fixed_quantiles(n, alpha, m)
        return np.asarray(np.sqrt(n) * margin >= (direction + equivalence) * spread)

    # sqrt(n) / (C_dir + C_eq) grows with n, so doubling and then halving the bracket finds the first n that decides.
    enough = np.full(spread.shape, 2, dtype=np.int64)
    too_few = np.ones(spread.shape, dtype=np.int64)
    while not (done := decides(enough)).all():
        too_few = np.where(done, too_few, enough)
        enough = np.where(done, enough, 2 * enough)
        if enough.max() > 2**50:
            raise StudyError(
                f"a margin of {margin:g} is out of reach at a spread of {float(spread.max()):g}, "
                "expected a margin that matters: enlarge it"
            )
    while (gap := enough - too_few > 1).any():
        middle = (too_few + enough) // 2
        good = decides(np.maximum(middle, 2)) & gap
        enough = np.where(good, middle, enough)
        too_few = np.where(gap & ~good, middle, too_few)
    return np.asarray(enough)


def direction_power(effect: ArrayLike, sd: ArrayLike, n: int, alpha: float = 0.05, m: int = 1) -> Floats:
    """Return the probability that ``n`` blocks find the effect's direction, and find the right one.

    P(T > C_dir) for T noncentral t with n - 1 degrees of freedom and noncentrality |effect| sqrt(n) / sd, where sd is
    the true standard deviation of the per-block contrast.
    """
    _check_plan(n, alpha, m)
    critical = fixed_boundary(n, alpha, m).direction
    return np.asarray(stats.nct.sf(critical, n - 1, np.abs(_floats(effect)) / _floats(sd) * np.sqrt(n)))


def minimum_detectable_effect(sd: ArrayLike, n: int, alpha: float = 0.05, m: int = 1, power: float = 0.8) -> Floats:
    """Return the true effect (above 0) whose direction ``n`` blocks find with probability ``power``.

    Args:
        sd: true standard deviation of the per-block contrast, any shape.
        n: blocks, at least 2.
        alpha: family-wise level.
        m: effects in the family.
        power: in (alpha/2m, 1).

    Raises:
        StudyError: an argument out of range.
    """
    return _floats(sd) * _unit_detectable_effect(n, alpha, m, power)


@functools.cache
def _unit_detectable_effect(n: int, alpha: float, m: int, power: float) -> float:
    _check_plan(n, alpha, m)
    if not alpha / (2 * m) < power < 1:
        raise StudyError(f"power is {power:g}, expected above {alpha / (2 * m):g} (no effect at all) and below 1")
    return _root(lambda effect: float(direction_power(effect, 1.0, n, alpha, m)) - power)


def equivalence_power(effect: ArrayLike, sd: float, n: int, margin: float, alpha: float = 0.05, m: int = 1) -> Floats:
    """Return the probability that ``n`` blocks end "equivalent" at a true ``effect``.

    That is: the equivalence interval lies inside ± margin and the direction interval holds 0.  With u = s/sd, whose
    square is chi-square with n - 1 degrees of freedom over n - 1, and Z standard normal,
    P = E_u P(|effect sqrt(n)/sd + Z| < min(margin sqrt(n)/sd - C_eq u, C_dir u)); the expectation is taken over 2000
    midpoints of u's distribution.

    Args:
        effect: any shape.
        sd: true standard deviation of the per-block contrast, above 0.
        n: blocks, at least 2.
        margin: above 0.
        alpha: family-wise level.
        m: effects in the family.
    """
    _check_plan(n, alpha, m)
    direction, equivalence = fixed_boundary(n, alpha, m)
    unit = np.sqrt(n) / sd
    u = _spread_ratios(n - 1)
    reach = np.maximum(np.minimum(margin * unit - equivalence * u, direction * u), 0.0)
    centre = _floats(effect)[..., None] * unit
    inside = stats.norm.cdf(reach - centre) - stats.norm.cdf(-reach - centre)
    return np.asarray(np.mean(inside, axis=-1))


@functools.cache
def _spread_ratios(df: int) -> Floats:
    quantiles = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(stats.chi2.ppf(quantiles, df) / df))


def resolvable_margin(sd: ArrayLike, n: int, alpha: float = 0.05, m: int = 1, power: float = 0.8) -> Floats:
    """Return the margin that a budget of ``n`` blocks resolves.

    Defined as the smallest margin at which a true effect of exactly 0 ends in the verdict "equivalent" with probability
    ``power``.  It is smaller than the margin at which *every* estimate ends in a verdict, which `blocks_needed` asks
    for.

    Args:
        sd: true standard deviation of the per-block contrast, any shape.
        n: blocks, at least 2.
        alpha: family-wise level.
        m: effects in the family.
        power: in (0, 1 - alpha/m); no margin gives more, because a true zero has a direction with probability alpha/m.

    Raises:
        StudyError: an argument out of range.
    """
    return _floats(sd) * _unit_resolvable_margin(n, alpha, m, power)


@functools.cache
def _unit_resolvable_margin(n: int, alpha: float, m: int, power: float) -> float:
    _check_plan(n, alpha, m)
    if not 0 < power < 1 - alpha / m:
        raise StudyError(f"power is {power:g}, expected above 0 and below {1 - alpha / m:g}, which is 1 - alpha/m")
    return _root(lambda margin: float(equivalence_power(0.0, 1.0, n, margin, alpha, m)) - power)


def _root(rising: Callable[[float], float]) -> float:
    """Return the positive root of a rising function that is negative at 0."""
    high = 1.0
    while rising(high) < 0:
        high *= 2
    root: float = optimize.brentq(rising, 0.0, high, xtol=1e-10)
    return root


def check_level(name: str, value: float) -> None:
    """Raise `StudyError` unless ``value`` lies in (0, 1)."""
    if not 0 < value < 1:
        raise StudyError(f"{name} is {value:g}, expected a number between 0 and 1, such as 0.05 for alpha")


def check_planned(seen: int, planned: int | None, what: str) -> int:
    """Return how many blocks a study is to have: those ``planned``, else those ``seen``.

    Raises:
        StudyError: ``what`` holds more than were planned.
    """
    if planned is None:
        return seen
    if not seen <= planned:
        raise StudyError(
            f"the {what} hold {seen} blocks, planned were {planned}, expected no more than planned: more blocks after "
            "a look at the results are a new study"
        )
    return planned


def _check_plan(n: int, alpha: float, m: int) -> None:
    check_level("alpha", alpha)
    if n < 2:
        raise StudyError(f"{n} blocks give no interval, expected at least 2: run more seeds")
    if m < 1:
        raise StudyError(f"the family has {m} effects, expected at least 1")
