from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from semalign.errors import StudyError
from semalign.judge.statistics import (
    block_contrasts,
    blocks_needed,
    direction_p,
    direction_power,
    equivalence_p,
    equivalence_power,
    factor_weights,
    fixed_boundary,
    holm,
    minimum_detectable_effect,
    paired_failure_test,
    resolvable_margin,
    summarise,
    t_interval,
)

points = st.floats(0, 100, allow_nan=False)

# Baseline 50, 52, 51 and A 51, 52.5, 53 over three seeds: the differences are 1, 0.5, 2.
HAND = np.array([[50.0, 52.0, 51.0], [51.0, 52.5, 53.0]])


def test_worked_by_hand() -> None:
    """The paired effect of three blocks, with every number worked out on paper."""
    contrasts = block_contrasts(HAND, [-1, 1])
    # mean 3.5/3 = 7/6; deviations -1/6, -4/6, 5/6; squares add up to 42/36 = 7/6; variance (7/6)/2 = 7/12;
    # se = sqrt(7/36) = sqrt(7)/6; t_{.975, 2} = 4.302653, so the half width is 4.302653 x 0.440959 = 1.897291.
    result = t_interval(contrasts, 0.95)

    assert contrasts.tolist() == [1.0, 0.5, 2.0]
    assert result.df == 2
    assert float(result.mean) == pytest.approx(7 / 6, rel=1e-14)
    assert float(result.sd) == pytest.approx(math.sqrt(7 / 12), rel=1e-14)
    assert float(result.se) == pytest.approx(math.sqrt(7) / 6, rel=1e-14)
    assert float(result.low) == pytest.approx(-0.730624, abs=1e-6)
    assert float(result.high) == pytest.approx(3.063958, abs=1e-6)
    # t = (7/6) / (sqrt(7)/6) = sqrt(7); with 2 degrees of freedom P(|T| > t) = 1 - t/sqrt(t^2 + 2) = 1 - sqrt(7)/3.
    assert float(direction_p(result.mean, result.se, 2)) == pytest.approx(1 - math.sqrt(7) / 3, rel=1e-12)
    # margin 1: t = (1 - 7/6) / (sqrt(7)/6) = -1/sqrt(7), P(T > t) = (1 + (1/sqrt(7)) / sqrt(1/7 + 2)) / 2
    # = (1 + 1/sqrt(15)) / 2; the other side is smaller.
    assert float(equivalence_p(result.mean, result.se, 2, 1.0)) == pytest.approx((1 + 1 / math.sqrt(15)) / 2, rel=1e-12)
    # n = 9: (2.306004 + 1.859548) x 0.763763 = 3.181, squared 10.1 > 9; n = 10: (2.262157 + 1.833113) x 0.763763
    # = 3.128, squared 9.78 <= 10.
    assert int(blocks_needed(result.sd, 1.0)) == 10


def test_factor_effect_by_hand() -> None:
    """A 2-level effect is the mean of the runs at + minus the mean of the runs at -, block by block."""
    runs = np.array([[10.0, 20.0], [12.0, 21.0], [14.0, 26.0], [17.0, 29.0]])
    # block 1: (12 + 17)/2 - (10 + 14)/2 = 2.5; block 2: (21 + 29)/2 - (20 + 26)/2 = 2

    assert block_contrasts(runs, factor_weights([-1, 1, -1, 1])).tolist() == [2.5, 2.0]


@pytest.mark.parametrize("signs", [[1, 1, 1, -1], [1, 0], [2, -2], [[1, -1]], []])
def test_factor_signs_are_balanced(signs: list[int]) -> None:
    """Signs that are not -1 and +1 equally often are refused."""
    with pytest.raises(StudyError, match=r"signs of a factor are .*expected -1 and \+1 equally often"):
        factor_weights(signs)


def test_shapes_that_do_not_fit() -> None:
    """One weight per arm is asked for, with both shapes in the message."""
    with pytest.raises(StudyError, match=r"\(2, 3\) and weights of shape \(3,\)"):
        block_contrasts(HAND, [1, -1, 0])


@pytest.mark.parametrize("values", [[], [1.0], 3.0])
def test_too_few_blocks(values: list[float] | float) -> None:
    """Fewer than two blocks have no interval."""
    with pytest.raises(StudyError, match="expected at least 2: run more seeds"):
        summarise(values)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, math.nan])
def test_level_out_of_range(level: float) -> None:
    """A level outside (0, 1) is refused."""
    with pytest.raises(StudyError, match=r"level is .*, expected a number between 0 and 1"):
        t_interval([1.0, 2.0], level)


# --- agreement with SciPy -------------------------------------------------------------------------


@given(arrays(np.float64, (2, 7), elements=points))
@settings(max_examples=60, deadline=None)
def test_agrees_with_scipy_paired_t(scores: np.ndarray) -> None:
    """Interval and p equal those of SciPy's paired and one-sample t tests."""
    scores = np.round(scores, 3)
    contrasts = block_contrasts(scores, [1, -1])
    if np.ptp(contrasts) < 1e-6:
        return
    ours = t_interval(contrasts, 0.9)
    paired = stats.ttest_rel(scores[0], scores[1])
    single = stats.ttest_1samp(scores[0] - scores[1], 0.0).confidence_interval(0.9)

    assert float(direction_p(ours.mean, ours.se, ours.df)) == pytest.approx(paired.pvalue, rel=1e-6)
    assert (float(ours.low), float(ours.high)) == pytest.approx((single.low, single.high), rel=1e-6, abs=1e-6)


@given(arrays(np.float64, 5, elements=st.floats(-2, 2)), st.floats(0.1, 3))
@settings(max_examples=60, deadline=None)
def test_equivalence_is_two_one_sided_tests(values: np.ndarray, margin: float) -> None:
    """The p of equivalence is the larger of SciPy's two one-sided one-sample t tests."""
    contrasts = np.round(values, 3)
    if np.ptp(contrasts) < 1e-3:
        return
    mean, _, se, df = summarise(contrasts)
    above = stats.ttest_1samp(contrasts, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(contrasts, margin, alternative="less").pvalue

    assert float(equivalence_p(mean, se, df, margin)) == pytest.approx(max(above, below), rel=1e-6, abs=1e-12)


def test_failures_agree_with_scipy() -> None:
    """The test of failure counts is SciPy's exact binomial test of the blocks in which one arm alone failed."""
    for only_first in range(6):
        for only_second in range(6):
            first = [True] * only_first + [False] * only_second + [True, False, False]
            second = [False] * only_first + [True] * only_second + [True, False, False]
            result = paired_failure_test(first, second)
            total = only_first + only_second
            expected = stats.binomtest(only_first, total, 0.5).pvalue if total else 1.0

            assert (int(result.only_first), int(result.only_second)) == (only_first, only_second)
            assert float(result.p) == pytest.approx(expected, rel=1e-12)


# --- family levels --------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Holm: smallest p times m, next times m - 1, and so on, never falling, never above 1."""
    # sorted .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 -> .06 (may not fall)

    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@given(arrays(np.float64, (3, 5), elements=st.floats(0, 1)))
@settings(max_examples=40, deadline=None)
def test_holm_lies_between_plain_and_bonferroni(p: np.ndarray) -> None:
    """Adjusted p lie between p and m p and keep the order; families along the last axis do not mix."""
    adjusted = holm(p)

    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(5 * p, 1) + 1e-15)
    for row, done in zip(p, adjusted, strict=True):
        assert np.array_equal(done, holm(row))
        assert np.all(np.diff(done[np.argsort(row)]) >= 0)


def test_boundary_is_bonferroni() -> None:
    """Four effects at .05 over 12 blocks: direction t_{1-.00625, 11}, equivalence t_{1-.0125, 11}."""
    boundary = fixed_boundary(12, 0.05, 4)

    assert boundary.direction == pytest.approx(2.980872, abs=1e-6)
    assert boundary.equivalence == pytest.approx(2.593093, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "alpha", "m", "message"),
    [(1, 0.05, 1, "1 blocks give no interval"), (5, 0.0, 1, "alpha is 0"), (5, 0.05, 0, "family has 0 effects")],
)
def test_boundary_arguments(n: int, alpha: float, m: int, message: str) -> None:
    """Blocks, alpha and family size out of range are refused."""
    with pytest.raises(StudyError, match=message):
        fixed_boundary(n, alpha, m)


def test_interval_and_p_agree_at_the_level() -> None:
    """The interval of coverage 1 - a excludes 0 exactly when p < a, and the 1 - 2a one is inside when TOST p < a."""
    generator = np.random.default_rng(20261123)
    studies = generator.normal(0.6, 1.0, (2000, 5))
    mean, _, se, df = summarise(studies)
    wide, narrow = t_interval(studies, 0.95), t_interval(studies, 0.9)

    assert np.array_equal((wide.low > 0) | (wide.high < 0), direction_p(mean, se, df) < 0.05)
    assert np.array_equal((narrow.low > -2) & (narrow.high < 2), equivalence_p(mean, se, df, 2.0) < 0.05)


def test_no_spread() -> None:
    """Without spread a difference is certain, and none is none: no NaN."""
    assert direction_p([0.0, 0.3, -0.3], [0.0, 0.0, 0.0], 4).tolist() == [1.0, 0.0, 0.0]
    # inside, on and outside the margin of 0.5; on it both p are that of t = 0
    assert equivalence_p([0.3, 0.5, 0.7], [0.0, 0.0, 0.0], 4, 0.5).tolist() == [0.0, 0.5, 1.0]


# --- laws -----------------------------------------------------------------------------------------


def test_leading_axes_equal_loops() -> None:
    """Studies judged together get the same bits as one by one, whatever the memory order."""
    generator = np.random.default_rng(20261123)
    scores = np.asfortranarray(generator.uniform(40, 60, (3, 2, 5, 11)))
    weights = np.array([[1.0, -1.0, 0, 0, 0], [1, -1, -1, 1, 0], [0.5, 0.5, -0.5, -0.25, -0.25]])
    together = block_contrasts(scores, weights)
    summary = summarise(together)
    p = direction_p(summary.mean, summary.se, summary.df)

    assert together.shape == (3, 2, 3, 11)
    for i in range(3):
        for j in range(2):
            for k in range(3):
                alone = block_contrasts(scores[i, j].copy(), weights[k])
                one = summarise(alone)
                assert np.array_equal(alone, together[i, j, k])
                assert one.mean == summary.mean[i, j, k]
                assert one.se == summary.se[i, j, k]
                assert direction_p(one.mean, one.se, one.df) == p[i, j, k]


@given(arrays(np.float64, (3, 5), elements=points), arrays(np.float64, 5, elements=points))
@settings(max_examples=60, deadline=None)
def test_block_effects_drop_out(scores: np.ndarray, shift: np.ndarray) -> None:
    """What raises all arms of a seed alike leaves every contrast as it was, to 1e-9 points."""
    for weights in ([1, -1, 0], [0.5, 0.5, -1]):
        before, after = block_contrasts(scores, weights), block_contrasts(scores + shift, weights)

        assert np.allclose(before, after, rtol=0, atol=1.5e-9)


def test_rounding_error_is_no_effect() -> None:
    """Differences that are equal on paper have no spread, and a zero on paper is 0."""
    first, second = 100 * np.array([0.52, 0.53, 0.54, 0.55]), 100 * np.array([0.50, 0.51, 0.52, 0.53])
    mean, sd, _, _ = summarise(block_contrasts(np.stack([first, second]), [1, -1]))
    competition = block_contrasts(np.stack([first, second, first + 7.1, second + 7.1]), [1, -1, -1, 1])

    assert np.ptp(first - second) > 0  # floating point
    assert (float(mean), float(sd)) == (2.0, 0.0)
    assert competition.tolist() == [0.0] * 4


@given(st.floats(0.01, 5), st.floats(0.05, 3), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_blocks_needed_is_the_first_n_that_decides(sd: float, margin: float, m: int) -> None:
    """N satisfies n >= ((C_dir + C_eq) sd / margin)^2, and n - 1 does not."""
    n = int(blocks_needed(sd, margin, 0.05, m))

    def decides(blocks: int) -> bool:
        direction, equivalence = fixed_boundary(blocks, 0.05, m)
        return math.sqrt(blocks) * margin >= (direction + equivalence) * sd

    assert decides(n)
    assert n == 2 or not decides(n - 1)


def test_blocks_needed_takes_arrays() -> None:
    """Spreads of any shape; no spread needs two blocks."""
    assert blocks_needed([[0.0, 0.1], [0.5, 1.0]], 0.5).tolist() == [[2, 3], [16, 55]]


def test_margin_that_nothing_resolves() -> None:
    """A margin of 0, or far below the spread, is refused in words."""
    with pytest.raises(StudyError, match="margin is 0, expected above 0"):
        blocks_needed(1.0, 0.0)
    with pytest.raises(StudyError, match="out of reach at a spread of 1, "):
        blocks_needed(1.0, 1e-12)


# --- power ----------------------------------------------------------------------------------------


def _draw(effect: float, n: int) -> np.ndarray:
    return np.random.default_rng(20261123).normal(effect, 1.0, (20000, n))


@pytest.mark.parametrize(("n", "m"), [(3, 1), (5, 4), (12, 2)])
def test_detectable_effect_by_monte_carlo(n: int, m: int) -> None:
    """Of 20000 drawn studies with the minimum detectable effect, 80 % find its direction."""
    effect = float(minimum_detectable_effect(1.0, n, 0.05, m))
    low = t_interval(_draw(effect, n), 1 - 0.05 / m).low

    assert float(direction_power(effect, 1.0, n, 0.05, m)) == pytest.approx(0.8, abs=1e-6)
    assert float(np.mean(low > 0)) == pytest.approx(0.8, abs=0.012)  # four standard errors


@pytest.mark.parametrize(("n", "m"), [(3, 1), (5, 4), (12, 2)])
def test_resolvable_margin_by_monte_carlo(n: int, m: int) -> None:
    """Of 20000 drawn studies without an effect, 80 % end "equivalent" at the margin that the budget resolves."""
    margin = float(resolvable_margin(1.0, n, 0.05, m))
    studies = _draw(0.0, n)
    wide, narrow = t_interval(studies, 1 - 0.05 / m), t_interval(studies, 1 - 0.1 / m)
    equivalent = (wide.low <= 0) & (wide.high >= 0) & (narrow.low > -margin) & (narrow.high < margin)

    assert float(np.mean(equivalent)) == pytest.approx(0.8, abs=0.012)


def test_equivalence_power_at_other_effects() -> None:
    """The probability of "equivalent" agrees with drawn studies, and on the margin it is at most alpha/m."""
    studies = _draw(0.4, 5)
    wide, narrow = t_interval(studies, 0.95), t_interval(studies, 0.9)
    equivalent = (wide.low <= 0) & (wide.high >= 0) & (narrow.low > -1.5) & (narrow.high < 1.5)
    power = equivalence_power([0.4, -0.4, 1.5], 1.0, 5, 1.5)

    assert float(power[0]) == pytest.approx(float(np.mean(equivalent)), abs=0.015)
    assert power[0] == pytest.approx(power[1])
    assert power[2] <= 0.05


def test_plans_scale_with_the_spread() -> None:
    """Detectable effect and resolvable margin are proportional to the spread, and shrink with blocks and family."""
    assert minimum_detectable_effect([1.0, 2.0], 5)[1] == 2 * minimum_detectable_effect(1.0, 5)
    assert resolvable_margin([1.0, 2.0], 5)[1] == 2 * resolvable_margin(1.0, 5)
    for plan in (minimum_detectable_effect, resolvable_margin):
        assert plan(1.0, 5) > plan(1.0, 8) > plan(1.0, 12)
        assert plan(1.0, 8, m=4) > plan(1.0, 8)


def test_power_out_of_range() -> None:
    """A power that no effect or no margin gives is refused."""
    for power in (0.0, 0.025, 1.0):
        with pytest.raises(StudyError, match=r"power is .*, expected above 0.025 .* and below 1"):
            minimum_detectable_effect(1.0, 5, power=power)
    for power in (0.0, 0.95, 1.0):
        with pytest.raises(StudyError, match=r"power is .*, expected above 0 and below 0.95"):
            resolvable_margin(1.0, 5, power=power)
