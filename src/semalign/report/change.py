"""What would change a verdict: other means at the same spread, other points in one block, one block less.

It judges as `semalign.judge` does, by the boundary of the number of blocks; nothing here is a verdict.  This module
does not depend on sentences.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from semalign.judge import Estimate, Judgement, Verdict
from semalign.judge.looks import at_fewer_blocks, look_boundaries
from semalign.judge.statistics import Boundary, fixed_boundary
from semalign.judge.types import WORDS
from semalign.judge.verdict import Decision, decide_blocks

__all__ = ["LARGEST_SHIFT", "Change", "OneBlock", "Thresholds", "changes_of"]

LARGEST_SHIFT = 20.0
"""Points; a single block that would have to move further is not looked for."""

_STEP = 0.05


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Where the verdict turns if the mean were another and the spread stayed.

    Attributes:
        direction: better from here on, worse below minus this, points.
        equivalent: equivalent where the mean is nearer to 0 than this, points; None where the spread allows none.
    """

    direction: float
    equivalent: float | None


@dataclasses.dataclass(frozen=True)
class OneBlock:
    """The smallest change of one block's value that changes the verdict.

    Attributes:
        seed: of the block.
        shift: points to be added to its value, rounded away from 0 to hundredths.
        word: the verdict then.
    """

    seed: int
    shift: float
    word: str


@dataclasses.dataclass(frozen=True)
class Change:
    """What would change the verdict on one effect.

    Attributes:
        contrast: the effect's name.
        word: its verdict now.
        lost: blocks that it could not use.
        by_lost: the complete blocks alone would decide it, and what the lost runs might have scored keeps it open.
        thresholds: None with fewer than two complete blocks.
        one_block: None where no block within `LARGEST_SHIFT` does it, or where nothing was looked for.
        without: by seed the verdict without that block, where it is another; None where it was not looked for
            (fewer than three blocks, or lost ones).
    """

    contrast: str
    word: str
    lost: int
    by_lost: bool
    thresholds: Thresholds | None
    one_block: OneBlock | None
    without: dict[int, str] | None


def changes_of(judgement: Judgement) -> tuple[Change, ...]:
    """Return for every effect, in the judgement's order, what would change its verdict."""
    return tuple(
        _change(judgement, estimate, verdict)
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
    )


def _change(judgement: Judgement, estimate: Estimate, verdict: Verdict) -> Change:
    name = estimate.contrast.name
    lost = sum(item.contrast == name for item in judgement.left_out)
    if estimate.se is None or estimate.low is None:
        return Change(name, verdict.word, lost, False, None, None, None)
    n, planned = estimate.n, estimate.n + lost
    boundary = boundary_of(judgement, estimate, planned, n)
    values = np.asarray(estimate.values, dtype=np.float64)
    metric = judgement.metric
    decide = functools.partial(decide_blocks, margin=judgement.margin, higher_is_better=metric.higher_is_better)
    word = WORDS[int(decide(values, boundary).code)]
    inside = judgement.margin - boundary.equivalence * estimate.se
    thresholds = Thresholds(boundary.direction * estimate.se, inside if inside > 0 else None)
    if word != verdict.word:
        return Change(name, verdict.word, lost, lost > 0, thresholds, None, None)
    without: dict[int, str] | None = None
    if n > 2 and not lost:
        without = {}
        fewer = boundary_of(judgement, estimate, planned, n - 1)
        for index, seed in enumerate(estimate.seeds):
            other = WORDS[int(decide(np.delete(values, index), fewer).code)]
            if other != word:
                without[seed] = other
    one = None if lost else _one_block(values, estimate.seeds, functools.partial(decide, boundary=boundary), word)
    return Change(name, word, lost, False, thresholds, one, without)


def boundary_of(judgement: Judgement, estimate: Estimate, planned: int, n: int) -> Boundary:
    """Return the boundary by which ``n`` complete blocks of this effect are judged.

    Args:
        judgement: the whole.
        estimate: of the effect.
        planned: blocks of the moment at which it is judged, complete or not.
        n: complete ones among them.
    """
    m = judgement.families[estimate.contrast.family]
    if planned in judgement.moments:
        look = look_boundaries(judgement.moments, judgement.alpha, m)[judgement.moments.index(planned)]
        return at_fewer_blocks(look, planned, n)
    return fixed_boundary(n, judgement.alpha, m)


def _one_block(
    values: NDArray[np.float64], seeds: tuple[int, ...], decide: Callable[[NDArray[np.float64]], Decision], word: str
) -> OneBlock | None:
    """Return the smallest shift, looked for in steps of a twentieth point and then narrowed to a hundredth."""
    sizes = np.arange(1, round(LARGEST_SHIFT / _STEP) + 1) * _STEP
    shifts = np.stack([sizes, -sizes], axis=1).ravel()  # the smaller ones first
    found: list[tuple[float, int, float]] = []
    for index in range(len(values)):
        moved = np.repeat(values[None], len(shifts), axis=0)
        moved[:, index] += shifts
        other = np.flatnonzero(decide(moved).code != WORDS.index(word))
        if len(other):
            first = float(shifts[other[0]])
            found.append((abs(first), index, first))
    if not found:
        return None
    _, index, coarse = min(found)
    side = np.sign(coarse)
    fine = side * (abs(coarse) - _STEP + 0.01 * np.arange(1, 6))
    moved = np.repeat(values[None], len(fine), axis=0)
    moved[:, index] += fine
    codes = decide(moved).code
    at = int(np.flatnonzero(codes != WORDS.index(word))[0])
    return OneBlock(seeds[index], round(float(fine[at]), 2), WORDS[int(codes[at])])
