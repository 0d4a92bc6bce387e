from __future__ import annotations

import math

import numpy as np
import pytest

from semalign.errors import StudyError
from semalign.judge import Contrast
from semalign.judge.looks import decide_at_looks, look_boundaries
from semalign.judge.planning import cannot_decide, effect_sd, precision
from semalign.judge.statistics import blocks_needed, minimum_detectable_effect, resolvable_margin


def test_fixed_blocks_are_the_formulas() -> None:
    """A study judged once: the statistics' own figures, and 2.2010 = t(.975, 11) over the root of 12 for alpha .05."""
    found = precision(1.2, seeds=12, looks=None, margin=0.7, alpha=0.05, m=3)

    assert found.resolvable_margin == float(resolvable_margin(1.2, 12, 0.05, 3))
    assert found.minimum_detectable_effect == float(minimum_detectable_effect(1.2, 12, 0.05, 3))
    assert found.blocks_for_margin == int(blocks_needed(1.2, 0.7, 0.05, 3))
    assert found.expected_blocks == 12
    half = precision(1.0, seeds=12, looks=None, margin=0.7, alpha=0.1, m=4).half_width
    assert half == pytest.approx(2.2010 / math.sqrt(12), rel=1e-4)


@pytest.mark.parametrize("m", [1, 4])
def test_one_look_is_a_fixed_study(m: int) -> None:
    """A single look at 12 blocks finds what a study judged once at 12 finds, within the error of the simulation."""
    once = precision(1.2, seeds=12, looks=None, margin=1.0, alpha=0.05, m=m)
    look = precision(1.2, seeds=None, looks=(12,), margin=1.0, alpha=0.05, m=m)

    assert look.resolvable_margin == pytest.approx(once.resolvable_margin, rel=0.02)
    assert look.minimum_detectable_effect == pytest.approx(once.minimum_detectable_effect, rel=0.02)
    assert look.half_width == pytest.approx(once.half_width)
    assert look.expected_blocks == 12


def test_looks_agree_with_the_judging_core() -> None:
    """Studies drawn anew end as planned: equivalent in 80 % at the resolvable margin, a direction in 80 %."""
    looks, alpha, m, n = (5, 8, 12), 0.05, 2, 40000
    found = precision(1.7, seeds=None, looks=looks, margin=2.1, alpha=alpha, m=m)
    boundaries = look_boundaries(looks, alpha, m)
    noise = 1.7 * np.random.default_rng(11).standard_normal((n, 12))

    still = decide_at_looks(noise, looks, boundaries, found.resolvable_margin)
    moved = decide_at_looks(noise + found.minimum_detectable_effect, looks, boundaries, 1e-9)
    planned = decide_at_looks(noise, looks, boundaries, 2.1)

    assert np.mean(still.code == 1) == pytest.approx(0.8, abs=0.012)
    assert np.mean(moved.code == 2) == pytest.approx(0.8, abs=0.012)
    assert np.asarray(looks)[planned.look].mean() == pytest.approx(found.expected_blocks, rel=0.01)


def test_everything_scales_with_the_spread() -> None:
    """Twice the noise and twice the margin: twice the points, the same blocks."""
    one = precision(0.9, seeds=None, looks=(5, 7), margin=1.1, alpha=0.05, m=1)
    two = precision(1.8, seeds=None, looks=(5, 7), margin=2.2, alpha=0.05, m=1)

    assert two.resolvable_margin == pytest.approx(2 * one.resolvable_margin)
    assert two.minimum_detectable_effect == pytest.approx(2 * one.minimum_detectable_effect)
    assert (two.expected_blocks, two.blocks_for_margin) == (one.expected_blocks, one.blocks_for_margin)


def test_effects_of_many_runs_are_less_noisy() -> None:
    """A main effect of sixteen runs has an eighth of the weights squared of a plain difference."""
    plain = Contrast("d", {"a": 1, "b": -1})
    main = Contrast("m", {f"{sign}{n}": sign / 8 for sign in (1, -1) for n in range(8)})
    competition = Contrast("c", {"a": 1, "b": -1, "c": -1, "d": 1})

    assert [effect_sd(one, 3.0) for one in (plain, main, competition)] == pytest.approx(
        [3.0, 3 / math.sqrt(8), 3 * math.sqrt(2)]
    )


def test_what_cannot_be_decided() -> None:
    """An interval as wide as the margin decides nothing; the sentence says what would."""
    wide = precision(2.0, seeds=5, looks=None, margin=1.0, alpha=0.05, m=1)
    fine = precision(0.5, seeds=5, looks=None, margin=1.0, alpha=0.05, m=1)

    assert cannot_decide(fine, 1.0, 5, "A - B") is None
    reason = str(cannot_decide(wide, 1.0, 5, "A - B"))
    assert reason is not None
    assert reason.startswith("5 blocks cannot decide 'A - B' at a margin of 1 points: ")
    assert f"about {wide.blocks_for_margin} blocks are needed" in reason


def test_bad_plans() -> None:
    """One block has no interval."""
    with pytest.raises(StudyError, match="1 blocks give no interval"):
        precision(1.0, seeds=1, looks=None, margin=1.0, alpha=0.05, m=1)
