from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from semalign.errors import StudyError
from semalign.judge import LOOKS, Contrast, Judgement, judge
from semalign.judge.looks import (
    at_fewer_blocks,
    check_looks,
    decide_at_looks,
    decision_chance,
    look_boundaries,
    spending,
)
from semalign.judge.statistics import Boundary, fixed_boundary
from semalign.judge.types import WORDS
from semalign.judge.verdict import decide_blocks

Scores = dict[str, dict[int, float | None]]


def _study(differences: list[float], arm: str = "wide") -> Scores:
    """Return two arms whose paired differences are these, in points."""
    plain = [0.5 + 0.003 * (seed % 3) for seed in range(len(differences))]
    wide = [score + difference / 100 for score, difference in zip(plain, differences, strict=True)]
    return {"plain": dict(enumerate(plain)), arm: dict(enumerate(wide))}


# Differences around 2 points: decided at the first look.  Around 0.9: at the second.  Around 0.4: at none.
CLEAR = [2.0, 2.1, 1.9, 2.05, 1.95, -3.0, -3.0, -3.0, 0.0, 0.0, 0.0, 0.0]
LATER = [0.4, 1.4, 0.6, 1.2, 0.9, 0.7, 1.1, 0.9, 0.9, 0.9, 0.9, 0.9]
OPEN = [2.4, -1.6, 0.4, 1.9, -1.1, 0.4, 2.0, -1.2, 0.4, 1.8, -1.0, 0.4]


# --- boundaries -----------------------------------------------------------------------------------


def test_boundaries_known_beforehand() -> None:
    """Looks at 5, 8, 12: the figures that the design was made with."""
    one, four = look_boundaries(LOOKS, 0.05), look_boundaries(LOOKS, 0.05, 4)

    assert LOOKS == (5, 8, 12)
    assert [b.direction for b in one] == pytest.approx([6.8, 3.23, 2.31], rel=0.01)
    assert [b.equivalence for b in one] == pytest.approx([4.5, 2.57, 1.95], rel=0.01)
    assert [b.direction for b in four] == pytest.approx([15, 4.7, 3.05], rel=0.02)
    assert [b.equivalence for b in four] == pytest.approx([10.1, 3.93, 2.67], rel=0.02)


def test_spending_by_hand() -> None:
    """At .05, two-sided, 5 of 12 blocks: 2 (1 - Phi(1.96 / sqrt(5/12))) = 2 (1 - Phi(3.0364)) = 0.0024."""
    spent = spending(0.05, 2, LOOKS)

    assert spent[0] == pytest.approx(0.002395, abs=1e-5)
    assert spent.sum() == pytest.approx(0.05)
    assert spending(0.05, 1, LOOKS).sum() == pytest.approx(0.05)
    # The first boundary is the t quantile of what is spent there, the table's rounding aside.
    for alpha in (0.1, 0.05, 0.01):
        for m in range(1, 17):
            first = look_boundaries(LOOKS, alpha, m)[0]
            assert first.direction == pytest.approx(
                float(stats.t.isf(spending(alpha / m, 2, LOOKS)[0] / 2, 4)), abs=6e-4
            )
            assert first.equivalence == pytest.approx(float(stats.t.isf(spending(alpha / m, 1, LOOKS)[0], 4)), abs=6e-4)


@pytest.mark.parametrize(("alpha", "m"), [(0.1, 1), (0.05, 1), (0.05, 4), (0.05, 16), (0.01, 1)])
def test_table_agrees_with_drawn_studies(alpha: float, m: int) -> None:
    """In 200000 studies of plain normal blocks the boundaries are crossed as often as is spent, up to every look."""
    generator = np.random.default_rng(20261123)
    blocks, n = generator.standard_normal((200_000, 12)), 200_000
    boundaries = look_boundaries(LOOKS, alpha, m)
    above = np.zeros(n, dtype=bool)
    either = np.zeros(n, dtype=bool)
    for look, (moment, boundary) in enumerate(zip(LOOKS, boundaries, strict=True)):
        statistic = stats.ttest_1samp(blocks[:, :moment], 0.0, axis=1).statistic
        either |= np.abs(statistic) > boundary.direction
        above |= statistic > boundary.equivalence
        for crossed, sides in ((either, 2), (above, 1)):
            expected = float(spending(alpha / m, sides, LOOKS)[: look + 1].sum())
            assert float(np.mean(crossed)) == pytest.approx(expected, abs=4 * np.sqrt(expected / n) + 1e-3 * expected)


def test_boundaries_grow_with_the_family() -> None:
    """More effects or a smaller alpha give wider intervals; later looks narrower ones; equal levels equal ones."""
    rows = [np.array(look_boundaries(LOOKS, 0.05, m)) for m in range(1, 17)]

    assert all(np.all(later > before) for before, later in itertools.pairwise(rows))
    assert all(np.all(np.diff(row, axis=0) < 0) for row in rows)
    assert look_boundaries(LOOKS, 0.1, 2) == look_boundaries(LOOKS, 0.05)
    assert look_boundaries(LOOKS, 0.05, 5) == look_boundaries(LOOKS, 0.01)
    # The last look is never narrower than a study judged once.
    for m in range(1, 17):
        assert np.all(np.array(look_boundaries(LOOKS, 0.05, m)[-1]) > np.array(fixed_boundary(12, 0.05, m)))


def test_other_looks_and_levels_are_conservative() -> None:
    """Without a row in the table every look is a t test at what it spends; one look alone is the fixed design."""
    looks = (4, 6, 9)
    boundaries = look_boundaries(looks, 0.05, 3)
    levels = [2 * stats.t.sf(b.direction, n - 1) for n, b in zip(looks, boundaries, strict=True)]

    assert sum(levels) == pytest.approx(0.05 / 3)
    assert look_boundaries((7,), 0.05, 2)[0] == pytest.approx(fixed_boundary(7, 0.05, 2))
    between = np.array(look_boundaries(LOOKS, 0.04))
    assert np.all(between > np.array(look_boundaries(LOOKS, 0.05)))
    # At a tabulated level the rule is at least as wide as the table, rounding and Monte Carlo error aside.
    by_rule = [float(stats.t.isf(p / 2, n - 1)) for p, n in zip(spending(0.05, 2, LOOKS), LOOKS, strict=True)]
    assert np.all(np.array(by_rule) > np.array(look_boundaries(LOOKS, 0.05))[:, 0] - 1e-3)


def test_fewer_blocks_keep_the_tail() -> None:
    """A look that lost a block judges at the same tail probability with fewer degrees of freedom."""
    planned = Boundary(3.22, 2.567)
    fewer = at_fewer_blocks(planned, 8, 6)

    assert at_fewer_blocks(planned, 8, 8) == planned
    assert stats.t.sf(fewer.direction, 5) == pytest.approx(float(stats.t.sf(3.22, 7)))
    assert fewer.equivalence > planned.equivalence


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5), (8, 5), (5.5, 8), "5,8", 7])
def test_looks_that_cannot_be(looks: Any) -> None:
    """Looks are growing whole numbers of at least 2 blocks."""
    with pytest.raises(StudyError, match=r"expected growing whole numbers of blocks.* such as 5, 8, 12"):
        check_looks(looks)


def test_a_look_that_is_too_early() -> None:
    """The part of alpha that a very early look may spend is so small that its interval has no end."""
    assert check_looks((5, 100)) == (5, 100)
    assert np.isfinite(look_boundaries((5, 100), 0.01, 16)[0]).all()
    with pytest.raises(StudyError, match=r"look at 5 of 101 blocks could decide nothing, .* first one at 6 blocks"):
        check_looks((5, 101))


# --- the vectorised core --------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([1, 4]))
@settings(max_examples=25, deadline=None)
def test_the_first_look_that_decides_counts(seed: int, margin: float, m: int) -> None:
    """Many studies at once get what a walk over the looks gives one of them."""
    generator = np.random.default_rng(seed)
    studies = generator.normal(generator.normal(0, 1.5, (7, 1)), generator.uniform(0.05, 1, (7, 1)), (7, 12))
    boundaries = look_boundaries(LOOKS, 0.05, m)
    found = decide_at_looks(studies, LOOKS, boundaries, margin)
    for index, study in enumerate(studies):
        walk = [decide_blocks(study[:n], b, margin) for n, b in zip(LOOKS, boundaries, strict=True)]
        first = next((look for look, one in enumerate(walk) if one.code), len(LOOKS) - 1)

        assert found.look[index] == first
        assert found.code[index] == walk[first].code
        assert found.below_margin[index] == walk[first].below_margin


def test_chance_of_a_verdict() -> None:
    """The chance by formula is the share of decided studies among drawn ones, and 1 where nothing varies."""
    generator = np.random.default_rng(3)
    boundary = look_boundaries(LOOKS, 0.05)[-1]
    mean, sd, n = 0.55, 1.0, 8
    # The formula keeps sd at the last look, so the drawn studies are judged with it too.
    last = (8 * mean + 4 * generator.normal(mean, sd / 2, 100_000)) / 12
    se = sd / np.sqrt(12)
    decided = (np.abs(last) > boundary.direction * se) | (np.abs(last) < 1.0 - boundary.equivalence * se)

    assert float(decision_chance(mean, sd, n, 12, boundary, 1.0)) == pytest.approx(float(np.mean(decided)), abs=0.006)
    assert decision_chance([0.3, -0.3], 0.0, 5, 12, boundary, 1.0).tolist() == [1.0, 1.0]
    mirrored = decision_chance([0.4, -0.4], 1.2, 5, 12, boundary, 0.5)
    assert mirrored[0] == pytest.approx(mirrored[1])


# --- judging --------------------------------------------------------------------------------------


def test_worked_by_hand() -> None:
    """Five differences 2 ± 0.1: se 0.0354, so 2 ± 6.837 se lies above 0 and beyond the margin at the first look."""
    judgement = judge(_study(CLEAR[:5]), baseline="plain", margin=1.0, looks=LOOKS)
    estimate, verdict = judgement.of("wide - plain")
    se = np.sqrt(0.025 / 4 / 5)

    assert (estimate.low, estimate.high) == pytest.approx((2 - 6.837 * se, 2 + 6.837 * se))
    assert (estimate.low_equivalence, estimate.high_equivalence) == pytest.approx((2 - 4.499 * se, 2 + 4.499 * se))
    assert verdict.word == "better"
    assert str(verdict.reason) == (
        "wide - plain: better, +2.00 mIoU points over 5 blocks at look 1 of 3, "
        "and the 95 % repeated interval [+1.76, +2.24] lies beyond the margin of 1."
    )
    assert judgement.next_look() is None
    assert judgement.notes == ()


@pytest.mark.parametrize("n", [6, 7])
def test_judged_at_looks_alone(n: int) -> None:
    """With 6 or 7 blocks the judgement is that of the first 5, and says so."""
    first = judge(_study(OPEN[:5]), baseline="plain", margin=0.5, looks=LOOKS)
    later = judge(_study(OPEN[:n]), baseline="plain", margin=0.5, looks=LOOKS)

    assert later.estimates == first.estimates
    assert later.verdicts == first.verdicts
    assert later.looks == first.looks
    assert tuple(map(str, later.notes)) == (
        f"{n} blocks have runs, and the study is judged at 5, 8, 12 blocks and at no other moment: "
        "the judgement is that of the first 5 blocks, and the next look is at 8.",
    )
    assert later.next_look() == 8
    assert "the next look is at 8 blocks" in str(later.verdicts[0].reason)
    assert later.verdicts[0].blocks_needed is None


def test_a_decided_effect_is_frozen() -> None:
    """What the first look decided stays, whatever comes after it; later looks are shown and not judged."""
    first = judge(_study(CLEAR[:5]), baseline="plain", margin=1.0, looks=LOOKS)
    full = judge(_study(CLEAR), baseline="plain", margin=1.0, looks=LOOKS)
    shown = full.looks_of("wide - plain")

    assert full.estimates == first.estimates
    assert full.verdicts == first.verdicts
    assert [(look.blocks, look.judged, look.estimate.n) for look in shown] == [
        (5, True, 5),
        (8, False, 8),
        (12, False, 12),
    ]
    assert [look.verdict.word for look in shown] == ["better"] * 3
    assert shown[2].estimate.mean == pytest.approx(np.mean(CLEAR))


def test_decided_at_the_second_look() -> None:
    """An effect that is open at 5 blocks and decided at 8 rests on those 8."""
    judgement = judge(_study(LATER), baseline="plain", margin=0.5, looks=LOOKS)
    estimate, verdict = judgement.of("wide - plain")

    assert estimate.n == 8
    assert verdict.word == "better"
    assert "at look 2 of 3" in str(verdict.reason)
    assert [(look.judged, look.verdict.word) for look in judgement.looks] == [
        (True, "inconclusive"),
        (True, "better"),
        (False, "better"),
    ]


def test_open_to_the_end() -> None:
    """After the last look an open effect says what a new study would need, and nothing comes next."""
    judgement = judge(_study(OPEN), baseline="plain", margin=0.5, looks=LOOKS)
    verdict = judgement.verdicts[0]

    assert verdict.word == "inconclusive"
    assert verdict.blocks_needed is not None
    assert "a new study needs at least" in str(verdict.reason)
    assert judgement.next_look() is None


def test_never_beyond_the_last_look() -> None:
    """Blocks beyond the last look are not judged, and the judgement says so."""
    judgement = judge(_study([*OPEN, 50.0 - 4.0]), baseline="plain", margin=0.5, looks=LOOKS)

    assert judgement.estimates[0].n == 12
    assert len(judgement.seeds) == 13
    assert "that of the first 12 blocks, and more blocks after a look at the results are a new study" in str(
        judgement.notes[0]
    )
    assert judgement.next_look() is None


def test_before_the_first_look() -> None:
    """Three blocks are no look: the mean is shown, and neither interval nor verdict."""
    judgement = judge(_study(CLEAR[:3]), baseline="plain", margin=1.0, looks=LOOKS)
    estimate, verdict = judgement.of("wide - plain")

    assert estimate.n == 3
    assert estimate.mean == pytest.approx(2.0)
    assert (estimate.low, estimate.sd, estimate.p) == (None, None, None)
    assert str(verdict.reason) == "wide - plain: inconclusive, not judged yet: 3 blocks, the first look is at 5."
    assert judgement.looks == ()
    assert judgement.next_look() == 5


def test_futility_is_marked_and_binds_nothing() -> None:
    """A noisy effect is marked as futile at the first look; the study may end for it, but its verdict does not."""
    wild = [6.0, -5.0, 1.0, 5.5, -4.5, 1.2, 0.9, 1.1]
    judgement = judge(_study(wild[:5]), baseline="plain", margin=0.2, looks=LOOKS)
    look = judgement.looks[0]

    assert look.futile
    assert look.chance is not None
    assert look.chance < 0.1
    assert judgement.next_look() == 8
    assert judgement.next_look(futility=True) is None
    assert judgement.verdicts[0].word == "inconclusive"
    assert len(judge(_study(wild), baseline="plain", margin=0.2, looks=LOOKS).looks) == 2


def test_each_effect_at_its_own_look() -> None:
    """Two effects share alpha; each keeps the look that decided it, and the study goes on for the open one."""
    scores = _study(CLEAR[:8]) | {"deep": _study(OPEN[:8], "deep")["deep"]}
    judgement = judge(scores, baseline="plain", margin=1.0, looks=LOOKS)

    assert judgement.of("wide - plain")[0].n == 5
    assert judgement.of("deep - plain")[0].n == 8
    assert judgement.of("deep - plain")[0].level == 0.975
    assert judgement.next_look() == 12


def test_a_lost_run_is_imputed_at_the_look() -> None:
    """With a failed run the effect is decided only where it holds whatever the run had scored, so here it is not."""
    scores = _study(CLEAR[:5])
    scores["wide"][2] = None
    judgement = judge(scores, baseline="plain", margin=1.0, looks=LOOKS)
    estimate, verdict = judgement.of("wide - plain")

    assert estimate.n == 4
    assert estimate.seeds == (0, 1, 3, 4)
    assert verdict.word == "inconclusive"
    assert "does not hold for every score" in str(verdict.reason)
    assert judgement.next_look() == 8


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_judge_is_the_vectorised_core(seed: int) -> None:
    """The judgement of one study is what `decide_at_looks` gives for it among many."""
    generator = np.random.default_rng(seed)
    values = generator.normal(generator.normal(0, 1), generator.uniform(0.1, 1), 12)
    judgement = judge(_study(values.tolist()), baseline="plain", margin=0.7, looks=LOOKS)
    estimate, verdict = judgement.of("wide - plain")
    taken = [look.estimate for look in judgement.looks][-1].values
    core = decide_at_looks([taken], LOOKS, look_boundaries(LOOKS, 0.05), 0.7)

    assert WORDS[core.code[0]] == verdict.word
    assert bool(core.below_margin[0]) == verdict.below_margin
    assert LOOKS[core.look[0]] == estimate.n


def test_looks_survive_json() -> None:
    """A judgement with looks written as JSON and read back says the same."""
    judgement = judge(_study(LATER), baseline="plain", margin=0.5, looks=LOOKS)
    once = judge(_study(LATER), baseline="plain", margin=0.5)

    assert Judgement.from_dict(json.loads(json.dumps(judgement.to_dict(), allow_nan=False))).to_dict() == (
        judgement.to_dict()
    )
    assert once.looks == ()
    assert once.moments == ()
    assert once.next_look() is None


def test_one_look_is_a_study_judged_once() -> None:
    """A single look gives the intervals and words of the fixed design."""
    at_look = judge(_study(OPEN), baseline="plain", margin=0.5, looks=(12,)).estimates[0]
    once = judge(_study(OPEN), baseline="plain", margin=0.5).estimates[0]

    assert (at_look.low, at_look.high_equivalence) == pytest.approx((once.low, once.high_equivalence))


def test_looks_and_a_fixed_number_exclude_each_other() -> None:
    """The last look is the number of blocks; naming another number is refused."""
    with pytest.raises(StudyError, match=r"both planned_blocks=12 and looks \(5, 8, 12\) are given"):
        judge(_study(OPEN), baseline="plain", margin=0.5, planned_blocks=12, looks=LOOKS)
    contrast = Contrast("gain", {"wide": 1, "plain": -1})
    with pytest.raises(StudyError, match="the looks are \\(8, 5\\)"):
        judge(_study(OPEN), baseline="plain", contrasts=[contrast], margin=0.5, looks=(8, 5))
