from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from semalign.errors import ResultsError
from semalign.judge import judge_pilot
from semalign.judge.statistics import resolvable_margin


def test_worked_by_hand() -> None:
    """Five blocks of two identical recipes, worked out on paper."""
    first, second = [0.50, 0.52, 0.51, 0.49, 0.53], [0.505, 0.52, 0.507, 0.493, 0.525]
    pilot = judge_pilot(first, second)
    # differences in points -0.5, 0, 0.3, -0.3, 0.5: mean 0, squares add up to 0.68, variance 0.17
    # first: deviations -1, 1, 0, -2, 2, variance 10/4 = 2.5; second: mean 51, deviations -0.5, 1, -0.3, -1.7, 1.5,
    # squares 0.25 + 1 + 0.09 + 2.89 + 2.25 = 6.48, variance 1.62; pooled (2.5 + 1.62)/2 = 2.06
    # chi-square with 4 degrees of freedom: 0.484419 and 11.143287

    assert pilot.n == 5
    assert pilot.mean_difference == pytest.approx(0, abs=1e-12)
    assert pilot.sd_paired == pytest.approx(math.sqrt(0.17))
    assert pilot.sd_paired_low == pytest.approx(math.sqrt(0.68 / 11.143287), rel=1e-6)
    assert pilot.sd_paired_high == pytest.approx(math.sqrt(0.68 / 0.484419), rel=1e-6)
    assert pilot.sd_single == pytest.approx(math.sqrt(2.06))
    assert pilot.correlation == pytest.approx(stats.pearsonr(first, second).statistic)
    interval = stats.pearsonr(first, second).confidence_interval(0.95)
    assert (pilot.correlation_low, pilot.correlation_high) == pytest.approx((interval.low, interval.high))
    assert pilot.pairing == "pays"
    assert pilot.margins == {n: pytest.approx(float(resolvable_margin(math.sqrt(0.17), n))) for n in (5, 8, 12)}
    assert pilot.false_positives is None
    assert pilot.notes == ()
    assert json.loads(json.dumps(pilot.to_dict(), allow_nan=False))["margins"].keys() == {"5", "8", "12"}


def test_pairing_that_does_not_pay() -> None:
    """Independent runs leave it open whether pairing pays; opposed ones make it cost."""
    generator = np.random.default_rng(11)
    first = 0.5 + generator.normal(0, 0.01, 13)

    assert judge_pilot(first, 0.5 + generator.normal(0, 0.01, 13)).pairing == "open"
    assert judge_pilot(first, 1 - first).pairing == "costs"


def test_identical_runs() -> None:
    """Bit-identical pairs show no noise, which is said, because arms that differ will show more."""
    pilot = judge_pilot([0.5, 0.51, 0.53, 0.52], [0.5, 0.51, 0.53, 0.52])

    assert pilot.sd_paired == 0
    assert pilot.correlation == pytest.approx(1.0)
    assert pilot.pairing == "pays"
    assert "shows no noise" in str(pilot.notes[0])


@pytest.mark.parametrize(
    ("first", "second", "correlation"),
    [([0.5, 0.52, 0.51], [0.5, 0.53, 0.5], True), ([0.5] * 5, [0.5, 0.6, 0.5, 0.6, 0.5], False)],
)
def test_too_little_to_tell(first: list[float], second: list[float], correlation: bool) -> None:
    """Three blocks, or scores that do not vary, leave it open whether pairing pays."""
    pilot = judge_pilot(first, second)

    assert (pilot.correlation is not None) is correlation
    assert pilot.correlation_low is pilot.correlation_high is None
    assert pilot.pairing == "open"
    assert "takes 4 blocks" in str(pilot.notes[-1])


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0.5, 0.6], [0.5, 0.6, 0.7], r"shapes \(2,\) and \(3,\)"),
        ([0.5], [0.5], "at least 2 blocks"),
        ([0.5, 50.0], [0.5, 0.6], r"out of range, expected for each run a number in \[0, 1\]"),
        ([0.5, math.nan], [0.5, 0.6], "out of range"),
    ],
)
def test_bad_scores(first: list[float], second: list[float], message: str) -> None:
    """Scores that do not pair up or are out of range are refused."""
    with pytest.raises(ResultsError, match=message):
        judge_pilot(first, second)


def test_false_positives_by_hand() -> None:
    """Six equal differences: of 64 sign patterns only the two with all signs alike have no spread, so t is infinite."""
    first = [0.5, 0.52, 0.51, 0.49, 0.53, 0.55]
    pilot = judge_pilot(first, [score - 0.01 for score in first])

    # With k signs turned the mean is (6 - 2k)/6; one turned gives mean 2/3, sd sqrt(6/5 (1 - 4/9)) = .816, t = 2.0:
    # below 2.571, so two patterns of 64 reject.
    assert pilot.false_positives == pytest.approx(2 / 64)
    assert pilot.level == 0.05


def test_false_positives_near_their_level_in_normal_noise() -> None:
    """Over many pilots of normal noise the t test rejects as often as its level says; drawn signs agree with all."""
    rng = np.random.default_rng(2)
    shares = [
        judge_pilot(0.5 + rng.normal(0, 0.01, n), 0.5 + rng.normal(0, 0.01, n)).false_positives
        for n in (9, 17)
        for _ in range(30)
    ]

    assert np.mean([share for share in shares if share is not None]) == pytest.approx(0.05, abs=0.01)


def test_identical_recipes_that_differ_are_suspicious() -> None:
    """A pilot whose two runs differ by a clear constant says so."""
    rng = np.random.default_rng(4)
    first = 0.5 + rng.normal(0, 0.02, 7)
    pilot = judge_pilot(first, first + 0.01 + rng.normal(0, 0.0005, 7))

    assert any("The two identical recipes differ by -1.0" in str(note) for note in pilot.notes)
