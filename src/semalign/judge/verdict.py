"""The verdict on an effect: a pure function of intervals and of a margin that was fixed beforehand.

What the intervals mean.  Every effect of a family of m is judged at alpha/m (Bonferroni).  The (1 - alpha/m) t
interval judges direction: all m of them cover at once with probability at least 1 - alpha.  The (1 - 2 alpha/m) t
interval judges equivalence: it lies inside ± margin exactly when both one-sided tests reject at alpha/m.  Holm p are
shown, never judged.  In a study judged at several looks both are repeated confidence intervals, whose levels hold for
all looks at once (`semalign.judge.looks`), while p are those of the one look's blocks and do not depend on other looks.

This module does not depend on where scores come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semalign.judge.statistics import Boundary, summarise
from semalign.judge.types import WORDS, Estimate, Verdict
from semalign.wording.numbers import format_interval, format_level, format_points

__all__ = ["Decision", "count_blocks", "decide", "decide_blocks", "explain", "survives_imputation"]

MOST_IMPUTED_BLOCKS = 16  # 2^16 corners are checked; a study that lost more than 16 blocks of one effect is not rescued


# --- decision -------------------------------------------------------------------------------------


class Decision(NamedTuple):
    """Verdicts of any number of effects at once: indices into `WORDS`, and whether shown to be below the margin."""

    code: NDArray[np.int8]
    below_margin: NDArray[np.bool_]


def decide(
    low: ArrayLike,
    high: ArrayLike,
    low_equivalence: ArrayLike,
    high_equivalence: ArrayLike,
    margin: float,
    *,
    higher_is_better: bool = True,
) -> Decision:
    """Return the decision for intervals of any shape.

    Better when the direction interval lies on the improving side of 0, worse when on the other; else equivalent when
    the equivalence interval lies inside ± margin, ends excluded; else, and for bounds that are not numbers,
    inconclusive.  An effect with a direction whose equivalence interval lies inside ± margin is below the margin.

    Args:
        low: lower ends of the intervals that judge direction, in the metric's unit.
        high: their upper ends.
        low_equivalence: lower ends of the intervals that judge equivalence.
        high_equivalence: their upper ends.
        margin: in the metric's unit.
        higher_is_better: which side of 0 is an improvement, see `semalign.judge.metric.Metric`.
    """
    better, worse = np.asarray(low) > 0, np.asarray(high) < 0
    if not higher_is_better:
        better, worse = worse, better
    inside = (np.asarray(low_equivalence) > -margin) & (np.asarray(high_equivalence) < margin)
    code = np.where(better, 2, np.where(worse, 3, np.where(inside, 1, 0))).astype(np.int8)
    return Decision(code, np.asarray((better | worse) & inside))


def decide_blocks(
    contrasts: ArrayLike, boundary: Boundary, margin: float, *, higher_is_better: bool = True
) -> Decision:
    """Return the decision for ... x blocks of per-block contrasts, judged by ``boundary``; see `decide`."""
    mean, _, se, _ = summarise(contrasts)
    direction, equivalence = boundary.direction * se, boundary.equivalence * se
    return decide(
        mean - direction,
        mean + direction,
        mean - equivalence,
        mean + equivalence,
        margin,
        higher_is_better=higher_is_better,
    )


def survives_imputation(
    decision: Decision,
    values: ArrayLike,
    ranges: Sequence[tuple[float, float]],
    boundary: Boundary,
    margin: float,
    *,
    higher_is_better: bool = True,
) -> tuple[bool, bool]:
    """Return whether one effect's word, and its being below the margin, hold whatever the lost runs had scored.

    Args:
        decision: of the complete blocks.
        values: contrasts of the complete blocks.
        ranges: per incomplete block the lowest and the highest contrast that scores in the metric's range could give.
        boundary: for all blocks together.
        margin: in the metric's unit.
        higher_is_better: see `decide`.

    All 2^k corners of the box of ranges must give the same word.  mean - c se is concave in the unknown contrasts (se
    is a norm of them) and mean + c se convex, so the claim of the word (above 0, below 0, inside ± margin) is hardest
    at a corner, and then holds in the whole box; inside it an "equivalent" effect may at most have a direction below
    the margin.
    """
    if not ranges:
        return True, bool(decision.below_margin)
    # A metric without bounds allows any score, and then nothing holds.
    if len(ranges) > MOST_IMPUTED_BLOCKS or not np.isfinite(ranges).all():
        return False, False
    corners = np.array(list(itertools.product(*ranges)))
    known = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(corners), np.size(values)))
    filled = np.concatenate([known, corners], axis=1)
    imputed = decide_blocks(filled, boundary, margin, higher_is_better=higher_is_better)
    holds = bool(np.all(imputed.code == decision.code))
    return holds, holds and bool(decision.below_margin) and bool(imputed.below_margin.all())


# --- the sentence ---------------------------------------------------------------------------------


def explain(
    estimate: Estimate,
    decision: Decision,
    margin: float,
    blocks_needed: int | None = None,
    lost: int = 0,
    *,
    look: tuple[int, int] | None = None,
    next_look: int | None = None,
) -> Verdict:
    """Return the verdict on an effect that the intervals of its complete blocks decide.

    Args:
        estimate: of at least two complete blocks.
        decision: of its intervals; where blocks are incomplete, one that survives imputation.
        margin: points.
        blocks_needed: see `Verdict`; used when the decision is inconclusive.
        lost: incomplete blocks.
        look: the number of this look and of all looks, for a study that has any.
        next_look: its moment in blocks.
    """
    assert estimate.mean is not None
    assert estimate.sd is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low_equivalence is not None
    assert estimate.high_equivalence is not None
    word, below = WORDS[int(decision.code)], bool(decision.below_margin)
    contrast, beyond = estimate.contrast, f"the margin of {margin:g}"
    found = f"{format_points(estimate.mean)} mIoU points over {estimate.n} blocks"
    interval = "interval"
    if look is not None:
        found += f" at look {look[0]} of {look[1]}"
        interval = "repeated interval"
    wide = f"the {format_level(estimate.level)} {interval} {format_interval(estimate.low, estimate.high)}"
    narrow = (
        f"the {format_level(2 * estimate.level - 1)} {interval} "
        f"{format_interval(estimate.low_equivalence, estimate.high_equivalence)}"
    )
    side = "above" if estimate.mean > 0 else "below"
    called = estimate.called
    nearest_end = max(estimate.low, -estimate.high)

    if word == "inconclusive":
        said = f"inconclusive, {found}, {wide} holds 0 and {narrow} is not inside ±{margin:g}"
        if lost:
            said += f", and {count_blocks(lost)} incomplete"
        if blocks_needed is not None:
            spread = format_points(estimate.sd, signed=False)
            said += f": at this spread (sd {spread}) a new study needs at least {blocks_needed} blocks"
        if next_look is not None:
            said += f": the next look is at {next_look} blocks"
        return Verdict(word, False, f"{contrast.name}: {said}.", blocks_needed)
    if word == "equivalent":
        said = f"equivalent, {found}, and {narrow} lies inside ±{margin:g}"
    elif below:
        said = f"{called}, but by less than the margin, {found}, {wide} lies {side} 0 and {narrow} inside ±{margin:g}"
    elif nearest_end > margin:
        said = f"{called}, {found}, and {wide} lies beyond {beyond}"
    else:
        said = f"{called}, {found}, and {wide} lies {side} 0, but whether the effect reaches {beyond} stays open"
    if lost:
        said += f", which holds whatever the lost runs had scored ({count_blocks(lost)} incomplete)"
    return Verdict(word, below, f"{contrast.name}: {said}.")


def count_blocks(n: int) -> str:
    """Return "1 block is" or "2 blocks are"."""
    return "1 block is" if n == 1 else f"{n} blocks are"
