from __future__ import annotations

import numpy as np
import pytest

from semalign.errors import ResultsError
from semalign.judge import Judgement, against_baseline
from semalign.judge.growth import Outcomes, blocks_wanted, judge_study, whole_blocks

LOOKS = (3, 5, 7)


def outcomes(effects: list[float], last: int | None = None) -> dict[tuple[str, int], float | None]:
    """Return two arms that differ by the given points, block by block; the second has ``last`` blocks only."""
    found: dict[tuple[str, int], float | None] = {}
    for seed, effect in enumerate(effects):
        found["old", seed] = 0.5 + seed / 1000
        if last is None or seed < last:
            found["new", seed] = 0.5 + seed / 1000 + effect / 100
    return found


def judged(values: Outcomes, looks: tuple[int, ...] | None = LOOKS, seeds: int | None = None) -> Judgement:
    """Judge the two arms at a margin of one point."""
    contrasts = against_baseline(["old", "new"], "old")
    return judge_study(
        values,
        ["old", "new"],
        baseline="old",
        contrasts=contrasts,
        margin=1.0,
        alpha=0.05,
        seeds=seeds,
        looks=looks,
    )


def test_whole_blocks_by_hand() -> None:
    """Blocks count from seed 0 to the first that lacks an arm; a failed run is an outcome."""
    assert whole_blocks({}, ["a"]) == 0
    assert whole_blocks({("a", 0): 0.1, ("a", 1): None, ("a", 3): 0.2}, ["a"]) == 2
    assert whole_blocks({("a", 0): 0.1, ("b", 0): 0.1, ("b", 1): 0.1}, ["a", "b"]) == 1


def test_a_block_begun_is_not_judged() -> None:
    """A study stopped within its fifth block is judged as at its third: the look at five has not been reached."""
    effects = [9.0, -7.0, 4.0, 3.0, 2.0]

    begun, before = judged(outcomes(effects, last=4)), judged(outcomes(effects[:4]))

    assert begun == before
    assert [look.blocks for look in begun.looks] == [3]
    assert blocks_wanted(begun) == 5


def test_a_clear_effect_ends_the_study() -> None:
    """Eight points in each of three blocks, within a hundredth: better at the first look, and no more blocks."""
    judgement = judged(outcomes([8.0, 8.01, 7.99]))

    assert judgement.verdicts[0].word == "better"
    assert blocks_wanted(judgement) == 3


def test_the_last_look_ends_the_study() -> None:
    """Noise without end: each look asks for the next one, and the last for none."""
    rng = np.random.default_rng(5)
    effects = rng.normal(0, 9, 7).tolist()
    assert [blocks_wanted(judged(outcomes(effects[:n]))) for n in (1, 3, 4, 5, 7)] == [3, 5, 5, 7, 7]


def test_futility_ends_the_study_sooner() -> None:
    """With noise of many margins no look can decide any more: it ends there when that is allowed, and only then."""
    effects = [12.0, -9.0, 3.0]
    judgement = judged(outcomes(effects))

    assert judgement.looks[0].futile
    assert blocks_wanted(judgement) == 5
    assert blocks_wanted(judgement, futility=True) == 3


def test_fixed_blocks_are_judged_once() -> None:
    """Without looks blocks that were never begun count as incomplete."""
    judgement = judged(outcomes([0.1, 0.2, 0.15]), looks=None, seeds=4)

    assert judgement.planned_blocks == 4
    assert judgement.looks == ()
    assert blocks_wanted(judgement) == 3
    with pytest.raises(ResultsError, match="there is no run to judge"):
        judged({}, looks=LOOKS)
