"""A study that grows by whole blocks: which runs are judged, and how many blocks it needs next.

This module does not depend on how runs are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from semalign.judge.judgement import judge
from semalign.judge.metric import MIOU, Metric
from semalign.judge.types import ArmName, Contrast, Judgement

__all__ = ["Outcomes", "blocks_wanted", "judge_study", "whole_blocks"]

Outcomes = Mapping[tuple[ArmName, int], float | None]
"""By (arm, seed) the score as the metric has it, None for a failed run; what is missing was not run."""


def whole_blocks(outcomes: Outcomes, arms: Iterable[ArmName]) -> int:
    """Return how many of the seeds 0, 1, 2, ... have an outcome of every arm, up to the first that lacks one.

    >>> whole_blocks({("a", 0): 0.1, ("b", 0): None, ("a", 1): 0.2}, ["a", "b"])
    1
    """
    wanted = tuple(arms)
    blocks = 0
    while all((arm, blocks) in outcomes for arm in wanted):
        blocks += 1
    return blocks


def judge_study(
    outcomes: Outcomes,
    arms: Sequence[ArmName],
    *,
    baseline: ArmName,
    contrasts: Iterable[Contrast],
    margin: float,
    alpha: float,
    seeds: int | None,
    looks: Sequence[int] | None,
    metric: Metric = MIOU,
) -> Judgement:
    """Judge what a study has so far: once at its fixed number of blocks, or at the looks that it has reached.

    A block counts towards a look when all of its runs have an outcome, so that a study that was stopped within a block
    is judged as if that block had not been begun.

    Args:
        outcomes: of all runs that have one.
        arms: the planned arms.
        baseline: the arm that the others are compared with.
        contrasts: the planned effects.
        margin: in the metric's unit.
        alpha: family-wise level.
        seeds: blocks fixed beforehand, or None.
        looks: moments fixed beforehand, or None; one of both is given.
        metric: what the scores measure.

    Raises:
        ResultsError: no outcome at all.
        StudyError: see `judge`.
    """
    kept = outcomes
    if looks is not None and (whole := whole_blocks(outcomes, arms)):
        kept = {key: score for key, score in outcomes.items() if key[1] < whole}
    return judge(
        [(arm, seed, score) for (arm, seed), score in kept.items()],
        baseline=baseline,
        contrasts=contrasts,
        margin=margin,
        alpha=alpha,
        planned_blocks=None if looks is not None else seeds,
        looks=looks,
        metric=metric,
    )


def blocks_wanted(judgement: Judgement, *, futility: bool = False) -> int:
    """Return the blocks that the study is to have: those of its next look, or those it has where it has ended."""
    return judgement.next_look(futility=futility) or len(judgement.seeds)
