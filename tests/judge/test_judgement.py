from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semalign.errors import ResultsError, StudyError
from semalign.judge import Contrast, Row, ablation_contrasts, judge
from semalign.judge.statistics import fixed_boundary
from semalign.judge.types import WORDS
from semalign.judge.verdict import decide_blocks


def _rows(seed: int, arms: dict[str, float], n: int, noise: float = 0.004) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for block in range(n):
        shared = generator.normal(0.5, 0.02)
        rows += [(arm, block, float(shared + effect + generator.normal(0, noise))) for arm, effect in arms.items()]
    return rows


HAND: list[Row] = [
    ("Baseline", 0, 0.50),
    ("A", 0, 0.51),
    ("Baseline", 1, 0.52),
    ("A", 1, 0.525),
    ("Baseline", 2, 0.51),
    ("A", 2, 0.53),
]


def test_worked_by_hand() -> None:
    """Three blocks with differences of 1, 0.5 and 2 points, judged at margin 1."""
    judgement = judge(HAND, baseline="Baseline", margin=1.0)
    estimate, verdict = judgement.of("A - Baseline")
    # mean 7/6, sd sqrt(7/12) = 0.76, se sqrt(7)/6; 95 %: 7/6 ± 4.302653 se; 90 %: 7/6 ± 2.919986 se; see
    # test_statistics for p and for the 10 blocks.

    assert estimate.seeds == (0, 1, 2)
    assert estimate.values == (1.0, 0.5, 2.0)
    assert (estimate.n, estimate.df) == (3, 2)
    assert estimate.mean == pytest.approx(7 / 6)
    assert estimate.sd == pytest.approx(math.sqrt(7 / 12))
    assert (estimate.low, estimate.high) == pytest.approx((-0.730624, 3.063958), abs=1e-6)
    assert (estimate.low_equivalence, estimate.high_equivalence) == pytest.approx((-0.120928, 2.454261), abs=1e-5)
    assert estimate.level == 0.95
    assert estimate.p == estimate.p_holm == pytest.approx(1 - math.sqrt(7) / 3)
    assert estimate.p_equivalence == pytest.approx((1 + 1 / math.sqrt(15)) / 2)
    assert (verdict.word, verdict.below_margin, verdict.blocks_needed) == ("inconclusive", False, 10)
    assert str(verdict.reason) == (
        "A - Baseline: inconclusive, +1.17 mIoU points over 3 blocks, the 95 % interval [-0.73, +3.06] holds 0 and the "
        "90 % interval [-0.12, +2.45] is not inside ±1: at this spread (sd 0.76) a new study needs at least 10 blocks."
    )
    assert [arm.arm for arm in judgement.arms] == ["Baseline", "A"]
    # Baseline 50, 52, 51: mean 51, sd 1, half width 4.302653/sqrt(3) = 2.484138
    assert judgement.arms[0].mean == pytest.approx(51)
    assert (judgement.arms[0].low, judgement.arms[0].high) == pytest.approx((48.515862, 53.484138), abs=1e-6)
    assert judgement.of_arm("A") == (estimate, verdict)
    assert judgement.of_arm("Baseline") is None
    assert not any([judgement.failures, judgement.left_out, judgement.notes, judgement.absent_arms])


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "margin", "word", "below", "reason"),
    [
        # sd 0.079, so 2 ± 2.776 x 0.079/sqrt(5) = 2 ± 0.098: far above 0 and the margin
        ([2.0, 2.1, 1.9, 2.05, 1.95], 0.5, "better", False, r"better, \+2.00 .*lies beyond the margin of 0.5\.$"),
        # the same effect against a margin that it does not reach
        ([2.0, 2.1, 1.9, 2.05, 1.95], 5, "better", True, r"better, but by less than the margin, .* inside ±5\.$"),
        # between the two
        ([2.0, 2.1, 1.9, 2.05, 1.95], 2, "better", False, r"lies above 0, but whether .* margin of 2 stays open\.$"),
        ([-2.0, -2.1, -1.9, -2.05, -1.95], 2, "worse", False, r"worse, -2.00 .*lies below 0, but whether"),
        ([-2.0, -2.1, -1.9, -2.05, -1.95], 0.5, "worse", False, r"worse, -2.00 .*beyond the margin"),
        # around 0
        ([0.1, -0.1, 0.05, -0.05, 0.0], 0.5, "equivalent", False, r"equivalent, 0.00 .*lies inside ±0.5\.$"),
        ([1.0, -1.0, 0.5, -0.5, 0.0], 0.5, "inconclusive", False, r"needs at least \d+ blocks\.$"),
    ],
)
def test_words(differences: list[float], margin: float, word: str, below: bool, reason: str) -> None:
    """Each word comes with one sentence that names the numbers behind it."""
    rows = {
        "plain": {seed: 0.5 + seed / 100 for seed in range(5)},
        "wide": {seed: 0.5 + seed / 100 + difference / 100 for seed, difference in enumerate(differences)},
    }
    verdict = judge(rows, baseline="plain", margin=margin).verdicts[0]

    assert (verdict.word, verdict.below_margin) == (word, below)
    assert re.search(reason, str(verdict.reason))


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=9), st.floats(0.1, 2), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_blocks_needed_exceed_the_blocks_used(differences: list[float], margin: float, m: int) -> None:
    """An inconclusive effect needs more blocks than it has; a decided one names none; the core gives the same word."""
    plain = {seed: 0.5 + seed / 1000 for seed in range(len(differences))}
    wide = {seed: plain[seed] + round(difference, 3) / 100 for seed, difference in enumerate(differences)}
    rows = {"plain": plain, **{f"wide {index}": wide for index in range(m)}}
    judgement = judge(rows, baseline="plain", margin=margin)

    assert judgement.families == {"primary": m}
    for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True):
        core = decide_blocks(estimate.values, fixed_boundary(estimate.n, 0.05, m), margin)
        assert verdict.word == WORDS[int(core.code)]
        if verdict.word == "inconclusive":
            assert verdict.blocks_needed is not None
            assert verdict.blocks_needed > estimate.n
        else:
            assert verdict.blocks_needed is None


# --- laws -----------------------------------------------------------------------------------------


def test_order_of_rows() -> None:
    """Rows in any order, or as a mapping, give the same judgement."""
    rows = _rows(3, {"Baseline": 0.0, "A": 0.01, "B": -0.03}, 7)
    seeds = [90, 3, 1000, 7, 41, 12, -5]
    rows = [(arm, seeds[block], score) for arm, block, score in rows]
    shuffled = random.Random(5).sample(rows, len(rows))
    nested: dict[str, dict[int, float | None]] = {}
    for arm, seed, score in shuffled:
        nested.setdefault(arm, {})[seed] = score
    expected = judge(rows, baseline="Baseline", margin=0.5)

    assert expected.seeds == expected.estimates[0].seeds == (-5, 3, 7, 12, 41, 90, 1000)
    assert judge(iter(shuffled), baseline="Baseline", margin=0.5) == expected
    assert judge(nested, baseline="Baseline", margin=0.5) == expected


def test_block_effects() -> None:
    """Raising all arms of a seed alike changes arm means and no effect."""
    rows = _rows(4, {"Baseline": 0.0, "A": 0.01, "B": -0.03, "C": 0.0}, 5)
    raised = [(arm, seed, score + 0.03 * seed) for arm, seed, score in rows if score is not None]
    contrasts = ablation_contrasts(["Baseline", "A", "B", "C"])
    before = judge(rows, baseline="Baseline", contrasts=contrasts, margin=0.5)
    after = judge(raised, baseline="Baseline", contrasts=contrasts, margin=0.5)

    assert len(before.estimates) == 4
    for one, other in zip(before.estimates, after.estimates, strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-8)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-7)
    assert before.arms != after.arms


def test_families_are_judged_apart() -> None:
    """The level comes from the size of the effect's own family, and Holm p stay within it."""
    contrasts = ablation_contrasts()
    rows = _rows(6, {"Baseline": 0, "A": 0.01, "B": 0, "C": 0, "no text": -0.1, "random vectors": 0}, 5)
    judgement = judge(rows, baseline="Baseline", contrasts=contrasts, margin=0.5)
    by_name = {estimate.contrast.name: estimate for estimate in judgement.estimates}
    control, random_vectors = by_name["no text - Baseline"], by_name["random vectors - Baseline"]

    assert judgement.families == {"primary": 4, "controls": 3}
    assert by_name["A - Baseline"].level == pytest.approx(1 - 0.05 / 4)
    assert control.level == pytest.approx(1 - 0.05 / 3)
    # The control without a run was planned, so it counts: the smallest p is multiplied by 3, the next by 2.
    assert control.p is not None
    assert random_vectors.p is not None
    assert control.p_holm == pytest.approx(3 * control.p)
    assert random_vectors.p_holm == pytest.approx(min(1, 2 * random_vectors.p))
    assert judgement.absent_arms == ("mask texts",)
    assert str(judgement.of("mask texts - Baseline")[1].reason) == (
        "mask texts - Baseline: inconclusive, arm 'mask texts' has no run and an interval needs at least 2: "
        "run it with at least 2 seeds."
    )


# --- failed and missing runs ----------------------------------------------------------------------


def test_a_failed_run_takes_the_verdict() -> None:
    """Seven blocks say better; the failed eighth might have said anything, so the verdict is inconclusive."""
    rows = _rows(7, {"Baseline": 0.0, "A": 0.05, "B": 0.05}, 8)
    rows = [(arm, seed, None if (arm, seed) == ("A", 5) else score) for arm, seed, score in rows]
    judgement = judge(rows, baseline="Baseline", margin=0.5)
    estimate, verdict = judgement.of("A - Baseline")

    assert estimate.n == 7
    assert 5 not in estimate.seeds
    assert estimate.low is not None
    assert estimate.low > 0.5
    assert (verdict.word, verdict.blocks_needed) == ("inconclusive", None)
    assert str(verdict.reason) == (
        "A - Baseline: inconclusive, 1 block is incomplete (seed 5: A failed), and what the 7 complete blocks say does "
        "not hold for every score that the lost runs might have had."
    )
    assert [(item.contrast, item.seed, str(item.why)) for item in judgement.left_out] == [
        ("A - Baseline", 5, "A failed")
    ]
    assert judgement.of("B - Baseline")[1].word == "better"
    assert {(test.arm, test.blocks, test.only_arm, test.only_baseline, test.p) for test in judgement.failures} == {
        ("A", 8, 1, 0, 1.0),
        ("B", 8, 0, 0, 1.0),
    }
    assert judgement.arms[1].runs == 8
    assert judgement.arms[1].failed == 1


def test_a_verdict_that_holds_whatever_was_lost() -> None:
    """An effect so large that no score of the lost run changes it keeps its verdict, and says so."""
    # Four blocks of about 55 points; in the fifth the baseline failed and "wide" has 85, so its contrast lies in
    # [-15, 85].  At -15: mean (4 x 55 - 15)/5 = 41, se = 70/5 = 14, and t_{.975, 4} = 2.776 gives 41 - 38.9 > 0.
    # (Only the t of all five blocks will do: with that of the four, 3.182, it would be 41 - 44.5 < 0.)
    plain: list[Row] = [("plain", seed, 0.3 + (seed % 2) / 1000) for seed in range(4)]
    rows = [*plain, ("plain", 4, None), *(("wide", seed, 0.85) for seed in range(5))]
    verdict = judge(rows, baseline="plain", margin=0.5).verdicts[0]

    assert verdict.word == "better"
    assert "which holds whatever the lost runs had scored (1 block is incomplete)." in str(verdict.reason)


def test_missing_runs_are_incomplete_blocks() -> None:
    """A run that is not there counts as lost, whether its block was started or only planned."""
    rows = [row for row in _rows(8, {"Baseline": 0.0, "A": 0.05}, 4) if row[:2] != ("A", 3)]
    judgement = judge(rows, baseline="Baseline", margin=0.5, planned_blocks=5)

    assert [(item.seed, str(item.why)) for item in judgement.left_out] == [
        (3, "A was not run"),
        (None, "planned, but no run of it exists"),
    ]
    assert judgement.verdicts[0].word == "inconclusive"
    assert "2 blocks are incomplete (seed 3: A was not run; planned, but no run of it exists)" in (
        str(judgement.verdicts[0].reason)
    )
    longer = judge(rows, baseline="Baseline", margin=0.5, planned_blocks=9)
    assert "6 blocks are incomplete (seed 3: A was not run; planned, but no run of it exists), and" in (
        str(longer.verdicts[0].reason)
    )
    assert tuple(map(str, judgement.notes)) == (
        "1 of 5 planned blocks have no run: the study is not finished, and an effect is decided only where the "
        "verdict holds for every score that they may bring.",
    )


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_complete_blocks(n: int) -> None:
    """With fewer than two complete blocks there is no interval: inconclusive, never an exception or NaN."""
    rows = [("plain", seed, 0.5 + seed / 100) for seed in range(n)] + [("wide", 0, 0.6), ("wide", 1, None)][:n]
    estimate, verdict = judge(rows, baseline="plain", margin=0.5).of("wide - plain")

    assert estimate.n == 1
    assert estimate.mean == pytest.approx(10)
    assert estimate.sd is estimate.low is estimate.p is estimate.p_holm is None
    assert verdict.word == "inconclusive"
    # What helps: more seeds where all that ran is complete, else the run that was lost.
    assert str(verdict.reason).endswith(
        [
            "1 of 1 blocks are complete and an interval needs at least 2: run more seeds.",
            "1 of 2 blocks are complete (seed 1: wide failed) and an interval needs at least 2: run what failed or is "
            "missing.",
        ][n - 1]
    )


# --- blocks that are no repetitions ---------------------------------------------------------------


def test_copies_are_one_observation() -> None:
    """A seed that changes nothing gives no spread, and proves nothing."""
    rows = {"plain": dict.fromkeys(range(5), 0.5), "wide": dict.fromkeys(range(5), 0.6)}
    verdict = judge(rows, baseline="plain", margin=0.5).verdicts[0]

    assert verdict.word == "inconclusive"
    assert "same in all 5 blocks to the last digit" in str(verdict.reason)


def test_arms_that_compute_the_same() -> None:
    """Two arms with equal scores that vary over seeds are equivalent, with a note."""
    scores: dict[int, float | None] = {0: 0.5, 1: 0.52, 2: 0.47}
    judgement = judge({"plain": scores, "wide": scores}, baseline="plain", margin=0.5)

    assert judgement.verdicts[0].word == "equivalent"
    assert judgement.estimates[0].p == 1.0
    assert tuple(map(str, judgement.notes)) == (
        "wide - plain: the difference is 0 in every block, so these arms compute the same.",
    )


def test_a_constant_difference_is_noted() -> None:
    """A difference that never varies decides, and the reader is told to look at where it comes from."""
    rows = {"plain": {0: 0.5, 1: 0.52, 2: 0.47}, "wide": {0: 0.53, 1: 0.55, 2: 0.50}}
    judgement = judge(rows, baseline="plain", margin=0.5)

    assert judgement.verdicts[0].word == "better"
    assert judgement.estimates[0].sd == 0
    assert "check how the scores were made" in str(judgement.notes[0])


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there is no run to judge"),
        ({}, "there is no run to judge"),
        ([("a", 0)], r"a row is \('a', 0\), expected \(arm, seed, score\)"),
        ("runs.csv", r"rows are 'runs\.csv', expected rows .*: read a file with semalign\.judge\.read_results_csv"),
        (["abc"], r"a row is 'abc', expected \(arm, seed, score\)"),
        ([("", 0, 0.5)], "the arm of the row .* is '', expected a name"),
        ([(3, 0, 0.5)], "is 3, expected a name"),
        ([("a", 0.5, 0.5)], "the seed of the row .* is 0.5, expected a whole number"),
        ([("a", True, 0.5)], "is True, expected a whole number"),
        ([("a", 0, 0.5), ("a", 0, 0.5)], "arm 'a' has seed 0 twice"),
        ([("a", 0, math.nan)], "the score of arm 'a', seed 0 is nan, .*or None when the run failed"),
        ([("a", 0, math.inf)], "is inf, expected"),
        ([("a", 0, 54.3)], r"is 54.3, expected a number in \[0, 1\]: divide percent by 100"),
        ([("a", 0, -0.1)], r"is -0.1, expected a number in \[0, 1\]$"),
        ([("a", 0, "0.5")], "is '0.5', expected a number"),
    ],
)
def test_bad_rows(rows: Any, message: str) -> None:
    """Each malformed row is named in one sentence."""
    with pytest.raises(ResultsError, match=message):
        judge(rows, baseline="a", margin=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "Basline"}, "no run of the baseline 'Basline', did you mean 'Baseline'"),
        ({"margin": 0}, "margin is 0, expected mIoU points above 0"),
        ({"margin": -0.5}, "margin is -0.5"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 100}, "margin is 100"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": 1.0}, "alpha is 1"),
        ({"contrasts": []}, "nothing to compare with 'Baseline'"),
        ({"contrasts": [Contrast("x", {"A": 1, "Baseline": -1})] * 2}, "contrast 'x' is asked for twice"),
        ({"planned_blocks": 2}, "hold 3 blocks, planned were 2"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """Each option out of range is named in one sentence."""
    with pytest.raises(StudyError, match=message):
        judge(HAND, **{"baseline": "Baseline", "margin": 0.5, **options})


def test_only_the_baseline() -> None:
    """A baseline alone has nothing to be compared with."""
    with pytest.raises(StudyError, match="expected runs of at least one other arm"):
        judge({"plain": {0: 0.5}}, baseline="plain", margin=0.5)


def test_judging_needs_no_torch() -> None:
    """Importing and using the judgement leaves torch alone."""
    code = (
        "import sys; from semalign.judge import judge; "
        "judge({'a': {0: .5, 1: .6}, 'b': {0: .5, 1: .7}}, baseline='a', margin=1.0); "
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
