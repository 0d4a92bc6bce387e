from __future__ import annotations

import math

import numpy as np
import pytest

from semalign.errors import ResultsError, StudyError
from semalign.judge import MIOU, Contrast, Metric, judge
from semalign.judge.statistics import fixed_boundary
from semalign.judge.verdict import decide, decide_blocks
from semalign.wording import Catalogue

LOSS = Metric("loss", higher_is_better=False, lowest=0.0, decimals=3)
LATENCY = Metric("latency", "ms", higher_is_better=False)


def test_how_numbers_are_shown() -> None:
    """Decimals, unit and name are the metric's; a unit of ours has both languages, a user's is as it is."""
    assert MIOU.interval(-0.12, 0.803) == "[-0.12, +0.80]"
    assert (LOSS.show(0.01234), LOSS.show(0.0), LOSS.show(-0.0002)) == ("+0.012", "0.000", "-0.0002")
    assert [str(metric.quantity) for metric in (MIOU, LOSS, LATENCY)] == ["mIoU points", "loss", "latency ms"]
    assert [str(metric.amount(1.3)) for metric in (MIOU, LOSS, LATENCY)] == ["+1.30 points", "+1.300", "+1.30 ms"]
    assert Catalogue("zh").text(MIOU.amount(1.3, signed=False)) == "1.30 点"


def test_ranges() -> None:
    """Bounds are in the metric's unit and infinite where there are none; an error says which scores are possible."""
    assert MIOU.bounds == (0.0, 100.0)
    assert LOSS.bounds == (0.0, math.inf)
    assert [LOSS.is_in_range(score) for score in (-0.1, 0.0, 1e9)] == [False, True, True]
    ends = [(0.0, 1.0), (0.0, None), (None, 1.0), (None, None)]
    assert [Metric("x", lowest=low, highest=high).valid_range for low, high in ends] == [
        "a number in [0, 1]",
        "a number of at least 0",
        "a number of at most 1",
        "a number",
    ]


def test_margins() -> None:
    """A margin is above 0 and below the width of the range."""
    MIOU.check_margin(99.0)
    LOSS.check_margin(1e6)
    with pytest.raises(StudyError, match="margin is 100, expected mIoU points above 0 and below 100"):
        MIOU.check_margin(100)
    with pytest.raises(StudyError, match="margin is 0, expected loss above 0, such as"):
        LOSS.check_margin(0)


@pytest.mark.parametrize("margin", [0.2, 0.7])
def test_a_decrease_can_be_the_improvement(margin: float) -> None:
    """With the other direction better and worse change places, and nothing else does."""
    generator = np.random.default_rng(7)
    values, boundary = generator.normal(0, 1, (500, 5)) + generator.normal(0, 1, (500, 1)), fixed_boundary(5, 0.05)
    up = decide_blocks(values, boundary, margin)
    down = decide_blocks(values, boundary, margin, higher_is_better=False)
    swapped = np.array([0, 1, 3, 2], dtype=np.int8)

    assert set(up.code) >= {0, 2, 3}
    assert np.array_equal(down.code, swapped[up.code])
    assert np.array_equal(down.below_margin, up.below_margin)
    assert decide(-0.9, -0.1, -0.8, -0.2, 0.5, higher_is_better=False).code == 2


def _losses(shift: float, n: int = 6) -> dict[str, dict[int, float | None]]:
    noise = np.random.default_rng(3).normal(0, 0.002, (2, n))
    return {
        "plain": {seed: 0.5 + 0.1 * seed + float(noise[0, seed]) for seed in range(n)},
        "wide": {seed: 0.5 + 0.1 * seed + shift + float(noise[1, seed]) for seed in range(n)},
    }


def test_a_loss_is_judged_by_its_decrease() -> None:
    """A lower loss is better; the sentence names the side of 0, and scores above 1 are no errors."""
    judgement = judge(_losses(-0.2), baseline="plain", margin=0.05, metric=LOSS)
    estimate, verdict = judgement.of("wide - plain")

    assert verdict.word == "better"
    assert estimate.high is not None
    assert estimate.high < 0
    assert str(estimate.called) == "better"
    assert "better, -0.2" in str(verdict.reason)
    assert judge(_losses(0.2), baseline="plain", margin=0.05, metric=LOSS).verdicts[0].word == "worse"
    assert judgement.to_dict()["metric"] == {
        "name": "loss",
        "unit": "",
        "higher_is_better": False,
        "lowest": 0.0,
        "highest": None,
        "scale": 1.0,
        "decimals": 3,
    }


def test_names_of_a_direction_are_of_the_value() -> None:
    """What a user calls an effect above 0 stays the name of that side, whichever side is better."""
    contrast = Contrast("pace", {"wide": 1, "plain": -1}, above="slower", below="faster")
    judgement = judge(_losses(-0.2), baseline="plain", contrasts=[contrast], margin=0.05, metric=LATENCY)

    assert judgement.verdicts[0].word == "better"
    assert "pace: faster, -0.2" in str(judgement.verdicts[0].reason)


def test_nothing_survives_a_lost_run_without_bounds() -> None:
    """A score that could be anything keeps an incomplete block's effect open."""
    rows = _losses(-0.2)
    rows["wide"][4] = None
    (verdict,) = judge(rows, baseline="plain", margin=0.05, metric=LATENCY).verdicts

    assert verdict.word == "inconclusive"


def test_scores_outside_the_range() -> None:
    """They are refused with the range, and percent are recognized where the range is a fraction's."""
    rows = {"plain": {0: 54.3}, "wide": {0: -1.0}}
    with pytest.raises(ResultsError, match=r"is 54.3, expected a number in \[0, 1\]: divide percent by 100"):
        judge(rows, baseline="plain", margin=0.5)
    with pytest.raises(ResultsError, match=r"is -1, expected a number of at least 0$"):
        judge(rows, baseline="plain", margin=0.5, metric=LOSS)
