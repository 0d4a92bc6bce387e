from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semalign.errors import ResultsError, StudyError
from semalign.judge import Contrast, Judgement, judge
from semalign.judge.statistics import fixed_boundary
from semalign.judge.types import WORDS
from semalign.judge.verdict import decide, decide_blocks, survives_imputation

MARGIN = 0.5


@pytest.mark.parametrize(
    ("low", "high", "low_equivalence", "high_equivalence", "word", "below_margin"),
    [
        # The direction interval lies above 0 and reaches beyond the margin.
        (0.1, 0.9, 0.2, 0.8, "better", False),
        (0.6, 0.9, 0.65, 0.85, "better", False),
        # It lies above 0 and the equivalence interval inside the margin: better, but by less.
        (0.1, 0.4, 0.15, 0.35, "better", True),
        # The direction interval may reach over the margin as long as the equivalence interval does not.
        (0.1, 0.52, 0.15, 0.47, "better", True),
        # The equivalence interval ends on the margin: not shown to be below.
        (0.1, 0.55, 0.15, 0.5, "better", False),
        # The mirror images.
        (-0.9, -0.1, -0.8, -0.2, "worse", False),
        (-0.4, -0.1, -0.35, -0.15, "worse", True),
        (-0.55, -0.1, -0.5, -0.15, "worse", False),
        # An end on 0 has no direction.
        (0.0, 0.6, 0.1, 0.55, "inconclusive", False),
        (0.0, 0.4, 0.05, 0.35, "equivalent", False),
        (-0.4, 0.0, -0.35, -0.05, "equivalent", False),
        # The equivalence interval inside, the direction interval reaching out: equivalent.
        (-0.6, 0.6, -0.49, 0.49, "equivalent", False),
        # The equivalence interval ends on the margin, or beyond it on one side.
        (-0.6, 0.6, -0.5, 0.49, "inconclusive", False),
        (-0.6, 0.6, -0.49, 0.5, "inconclusive", False),
        (-0.7, 0.3, -0.6, 0.2, "inconclusive", False),
        # Nothing but a point: no spread.
        (0.0, 0.0, 0.0, 0.0, "equivalent", False),
        (0.3, 0.3, 0.3, 0.3, "better", True),
        (0.5, 0.5, 0.5, 0.5, "better", False),
        # No number decides nothing.
        (np.nan, np.nan, np.nan, np.nan, "inconclusive", False),
    ],
)
def test_boundaries(
    low: float, high: float, low_equivalence: float, high_equivalence: float, word: str, below_margin: bool
) -> None:
    """Intervals, with the ends on and beside 0 and the margin, give these words."""
    decision = decide(low, high, low_equivalence, high_equivalence, MARGIN)

    assert WORDS[int(decision.code)] == word
    assert bool(decision.below_margin) is below_margin


@given(arrays(np.float64, (4, 5), elements=st.floats(-3, 3)), st.floats(0.1, 2))
@settings(max_examples=50, deadline=None)
def test_mirrored_effects_get_mirrored_words(studies: np.ndarray, margin: float) -> None:
    """Swapping the arms swaps better and worse and nothing else; many studies are judged as one by one."""
    boundary = fixed_boundary(5, 0.05, 2)
    here, there = decide_blocks(studies, boundary, margin), decide_blocks(-studies, boundary, margin)
    swapped = {"better": "worse", "worse": "better"}

    assert [WORDS[code] for code in there.code] == [swapped.get(WORDS[code], WORDS[code]) for code in here.code]
    assert np.array_equal(here.below_margin, there.below_margin)
    for index, study in enumerate(studies):
        assert decide_blocks(study, boundary, margin).code == here.code[index]


def test_rates_of_the_judging_core() -> None:
    """Over 20000 drawn studies: alpha of false directions, and at most alpha of false "equivalent" on the margin."""
    generator = np.random.default_rng(20261123)
    boundary = fixed_boundary(5, 0.05)
    null = decide_blocks(generator.normal(0.0, 1.0, (20000, 5)), boundary, 1.0)
    edge = decide_blocks(generator.normal(1.0, 0.5, (20000, 5)), boundary, 1.0)

    assert float(np.mean(null.code >= 2)) == pytest.approx(0.05, abs=0.006)
    assert float(np.mean((edge.code == 1) | edge.below_margin)) <= 0.05 + 0.006


# --- lost blocks ----------------------------------------------------------------------------------


@given(
    arrays(np.float64, 6, elements=st.floats(0, 4)),
    st.lists(st.tuples(st.floats(-3, 1), st.floats(1, 6)), min_size=1, max_size=2),
)
@settings(max_examples=200, deadline=None)
def test_corners_are_the_worst_case(values: np.ndarray, ranges: list[tuple[float, float]]) -> None:
    """When the verdict holds at all corners of what was lost, its claim holds everywhere between them."""
    boundary = fixed_boundary(6 + len(ranges), 0.05)
    decision = decide_blocks(values, fixed_boundary(6, 0.05), 5.0)
    holds, below = survives_imputation(decision, values, ranges, boundary, 5.0)
    grid = np.array(list(itertools.product(*(np.linspace(low, high, 9) for low, high in ranges))))
    filled = np.concatenate([np.tile(values, (len(grid), 1)), grid], axis=1)
    imputed = decide_blocks(filled, boundary, 5.0)

    if holds and decision.code >= 2:
        assert np.all(imputed.code == decision.code)
    if holds and decision.code == 1:
        assert np.all((imputed.code == 1) | imputed.below_margin)
    if below:
        assert imputed.below_margin.all()


def test_the_corner_between_is_looked_at() -> None:
    """Both lost blocks low, or both high, would keep the word; one low and one high does not: the spread grows."""
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95])
    boundary = fixed_boundary(8, 0.05)
    decision = decide_blocks(values, fixed_boundary(6, 0.05), 0.5)
    filled = [[*values, *corner] for corner in itertools.product((-0.45, 7.5), repeat=2)]
    words = [WORDS[code] for code in decide_blocks(filled, boundary, 0.5).code]

    assert words == ["better", "inconclusive", "inconclusive", "better"]
    assert survives_imputation(decision, values, [(-0.45, 7.5)] * 2, boundary, 0.5) == (False, False)


def test_more_lost_blocks_than_can_be_checked() -> None:
    """A study that lost more than 16 blocks of an effect is not rescued."""
    values = np.full(40, 3.0) + np.arange(40) / 100
    decision = decide_blocks(values, fixed_boundary(40, 0.05), 1.0)
    ranges = [(2.9, 3.1)] * 17

    assert survives_imputation(decision, values, ranges[:3], fixed_boundary(43, 0.05), 1.0)[0]
    assert not survives_imputation(decision, values, ranges, fixed_boundary(57, 0.05), 1.0)[0]


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights", [{"A": 1.0}, {"A": 1.0, "B": -0.5}, {"A": 0.0, "B": 0.0}, {"A": float("nan"), "B": 1.0}]
)
def test_contrast_weights(weights: dict[str, float]) -> None:
    """Weights of fewer than two arms, or that do not add up to 0, are refused by name."""
    with pytest.raises(StudyError, match=r"the contrast 'odd' has the weights .* that add up to 0"):
        Contrast("odd", weights)


def test_judgement_survives_json() -> None:
    """A judgement written as JSON and read back says the same, undefined numbers included."""
    rows = [("plain", 0, 0.5), ("plain", 1, 0.52), ("wide", 0, 0.51), ("wide", 1, None), ("deep", 0, 0.6)]
    judgement = judge(rows, baseline="plain", margin=1.0, planned_blocks=3)
    text = json.dumps(judgement.to_dict(), allow_nan=False)

    again = Judgement.from_dict(json.loads(text))
    assert again.to_dict() == judgement.to_dict()
    assert (again.arms, again.failures, again.next_look()) == (judgement.arms, judgement.failures, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "format None, expected 2"),
        ({"format": 3}, "format 3, expected 2"),
        ([], "format 'list', expected 2"),
        ({"format": 2}, "not shaped as one"),
        ({"format": 2, "estimates": 3}, "not shaped as one"),
    ],
)
def test_what_is_no_judgement(value: dict[str, object], message: str) -> None:
    """Another format, or something else altogether, is refused in one sentence."""
    with pytest.raises(ResultsError, match=message):
        Judgement.from_dict(value)
