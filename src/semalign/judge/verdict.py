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

from semalign.judge.metric import Metric
from semalign.judge.statistics import Boundary, summarise
from semalign.judge.types import WORDS, Estimate, Text, Verdict
from semalign.wording import Message, say

__all__ = ["Decision", "decide", "decide_blocks", "explain", "say_decision", "survives_imputation"]

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
    """Return whether an effect's word, and its being below the margin, hold for all possible scores of the lost runs.

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
    metric: Metric,
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
        margin: in the metric's unit.
        metric: what the scores measure.
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
    word, name = WORDS[int(decision.code)], estimate.contrast.name
    values = {"mean": metric.show(estimate.mean), "quantity": metric.quantity, "n": estimate.n}
    if look is None:
        found = say("verdict.found", **values)
    else:
        found = say("verdict.found at look", look=look[0], looks=look[1], **values)
    ends = (estimate.low, estimate.high, estimate.low_equivalence, estimate.high_equivalence)
    said = say_decision(
        decision, ends, estimate.level, margin, metric, found=found, called=estimate.called, repeated=look is not None
    )
    if word == "inconclusive":
        if lost:
            said = say("verdict.open lost", said=said, n=lost)
        if blocks_needed is not None:
            spread = metric.show(estimate.sd, signed=False)
            said = say("verdict.open needs", said=said, sd=spread, blocks=blocks_needed)
        if next_look is not None:
            said = say("verdict.open next", said=said, blocks=next_look)
        return Verdict(word, False, say("verdict.reason", name=name, said=said), blocks_needed)
    if lost:
        said = say("verdict.holds", said=said, n=lost)
    return Verdict(word, bool(decision.below_margin), say("verdict.reason", name=name, said=said))


def say_decision(
    decision: Decision,
    ends: tuple[float, float, float, float],
    level: float,
    margin: float,
    metric: Metric,
    *,
    found: Message,
    called: Text | None,
    repeated: bool = False,
) -> Message:
    """Return the sentence on what two intervals decide about an effect.

    Args:
        decision: of the intervals.
        ends: of the interval that judges direction, then of the one that judges equivalence.
        level: coverage of the first.
        margin: in the metric's unit.
        metric: what the scores measure.
        found: the mean, and how many blocks it is of.
        called: what an effect on this side of 0 is called.
        repeated: whether these are repeated confidence intervals.
    """
    word, kind = WORDS[int(decision.code)], "verdict.repeated interval" if repeated else "verdict.interval"
    low, high = ends[:2]
    wide = say(kind, level=level, ends=metric.interval(low, high))
    narrow = say(kind, level=2 * level - 1, ends=metric.interval(*ends[2:]))
    if word == "inconclusive":
        return say("verdict.open", found=found, wide=wide, narrow=narrow, margin=margin)
    if word == "equivalent":
        return say("verdict.no difference", found=found, narrow=narrow, margin=margin)
    side = "above" if low > 0 else "below"
    if decision.below_margin:
        key = f"verdict.small {side}"
        return say(key, called=called, found=found, wide=wide, narrow=narrow, margin=margin)
    key = "verdict.beyond" if max(low, -high) > margin else f"verdict.{side}"
    return say(key, called=called, found=found, wide=wide, margin=margin)
