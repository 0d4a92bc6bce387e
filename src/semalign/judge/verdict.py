"""The verdict on an effect: a pure function of intervals and of a margin that was fixed beforehand.

Also the types of a judgement, which are plain numbers and texts.  This module knows nothing of where scores come from.

What the intervals mean.  Every effect of a family of m is judged at alpha/m (Bonferroni).  The (1 - alpha/m) t
interval judges direction: all m of them cover at once with probability at least 1 - alpha.  The (1 - 2 alpha/m) t
interval judges equivalence: it lies inside ± margin exactly when both one-sided tests reject at alpha/m.  Holm p are
shown, never judged.  In a study judged at several looks both are repeated confidence intervals, whose levels hold for
all looks at once (`semalign.judge.looks`), while p are those of the one look's blocks and know nothing of other looks.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semalign.errors import ResultsError, StudyError
from semalign.judge.statistics import Boundary, summarise
from semalign.wording.numbers import format_interval, format_level, format_points

__all__ = [
    "FORMAT_VERSION",
    "WORDS",
    "ArmName",
    "ArmSummary",
    "Contrast",
    "Decision",
    "Estimate",
    "FailureTest",
    "Judgement",
    "LeftOut",
    "Look",
    "Verdict",
    "Word",
    "count_blocks",
    "decide",
    "decide_blocks",
    "explain",
    "survives_imputation",
]

# History of the format of a stored judgement:
# 1: first.
# 2: moments and looks, of studies judged while they grow; format 1 is read as a judgement without looks.
FORMAT_VERSION = 2

ArmName: TypeAlias = str
Word: TypeAlias = Literal["better", "worse", "equivalent", "inconclusive"]

WORDS: tuple[Word, ...] = ("inconclusive", "equivalent", "better", "worse")
"""The words of a `Decision`'s codes."""

SUM_TOLERANCE = 1e-9
MOST_IMPUTED_BLOCKS = 16  # 2^16 corners are checked; a study that lost more than 16 blocks of one effect is not rescued


# --- types ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What is compared: a weighted sum of arms' scores, and the question that it answers.

    Attributes:
        name: unique in its judgement, such as "A - Baseline".
        weights: by arm, adding up to 0, so that whatever raises all arms of a seed alike drops out.
        question: one sentence that ends with a question mark.
        family: effects of one family share alpha; which effects belong together is fixed beforehand.
        above: what an effect above 0 is called in a sentence.
        below: what an effect below 0 is called in a sentence.

    Raises:
        StudyError: fewer than two arms, or weights that are not finite or do not add up to 0.
    """

    name: str
    weights: Mapping[ArmName, float]
    question: str = ""
    family: str = "primary"
    above: str = "better"
    below: str = "worse"

    def __post_init__(self) -> None:
        weights = {arm: float(weight) for arm, weight in self.weights.items() if weight != 0}
        finite = all(math.isfinite(weight) for weight in weights.values())
        if len(weights) < 2 or not finite or abs(sum(weights.values())) > SUM_TOLERANCE:
            raise StudyError(
                f"the contrast {self.name!r} has the weights {dict(self.weights)}, "
                "expected at least two arms with finite weights that add up to 0, such as A: 1, Baseline: -1"
            )
        object.__setattr__(self, "weights", weights)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the complete blocks say about one contrast; everything is in mIoU points.

    Attributes:
        contrast: what is compared.
        n: complete blocks.
        seeds: their seeds, ascending.
        values: the contrast of each, in the order of ``seeds``.
        level: coverage of the interval that judges direction, 1 - alpha/m.
        mean: None without a complete block.
        sd: standard deviation over blocks; this and all below is None with fewer than two complete blocks, and in a
            study with looks before the first.
        se: standard error of the mean.
        df: n - 1.
        low: lower end of the interval that judges direction.
        high: its upper end.
        low_equivalence: lower end of the interval that judges equivalence, whose coverage is 1 - 2 alpha/m.
        high_equivalence: its upper end.
        p: two-sided, that the effect is 0, not adjusted.
        p_holm: the same, adjusted within the family; shown, never judged, and None in a study with looks, whose
            effects may rest on different blocks.
        p_equivalence: that the effect is not inside ± margin (two one-sided tests), not adjusted.
    """

    contrast: Contrast
    n: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    level: float
    mean: float | None = None
    sd: float | None = None
    se: float | None = None
    df: int | None = None
    low: float | None = None
    high: float | None = None
    low_equivalence: float | None = None
    high_equivalence: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer to one contrast's question.

    Attributes:
        word: "better" (effect above 0), "worse" (below 0), "equivalent" (within the margin) or "inconclusive".
        below_margin: the effect has a direction, and is also shown to be smaller than the margin.
        reason: one sentence with the numbers.
        blocks_needed: for an inconclusive effect, the blocks of a new pre-registered study that would decide it at
            this spread; None where more blocks are not what is missing.
    """

    word: Word
    below_margin: bool
    reason: str
    blocks_needed: int | None = None


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One arm's scores over its finished runs, in mIoU points.

    Attributes:
        arm: the arm.
        runs: runs with an outcome, failed ones included.
        failed: runs that failed.
        mean: None without a finished run.
        sd: standard deviation over seeds; this and the bounds are None with fewer than two finished runs.
        low: lower end of the mean's t interval of coverage 1 - alpha.
        high: its upper end.
    """

    arm: ArmName
    runs: int
    failed: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class FailureTest:
    """Failures of one arm against the baseline's over the blocks in which both have an outcome (exact McNemar test).

    Attributes:
        arm: the arm.
        blocks: blocks in which both runs finished or failed.
        only_arm: blocks in which only this arm's run failed.
        only_baseline: blocks in which only the baseline's failed.
        p: exact two-sided p that both fail equally often.
    """

    arm: ArmName
    blocks: int
    only_arm: int
    only_baseline: int
    p: float


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A block that a contrast could not use; ``seed`` is None for a planned block of which no run exists."""

    contrast: str
    seed: int | None
    why: str


@dataclasses.dataclass(frozen=True)
class Look:
    """One contrast at one look.

    Attributes:
        blocks: the look's moment, in started blocks.
        judged: False when the contrast was decided at an earlier look, so that this one is shown and not judged.
        estimate: of the complete ones among the first ``blocks`` blocks, with the look's repeated intervals.
        verdict: the one that stands at this look: its own, or the earlier look's.
        chance: of a verdict by the last look, if mean and spread stay what they are; None for a decided contrast, at
            the last look, and below two complete blocks.
        futile: ``chance`` is so small that giving this contrast up is allowed (a stop for futility, which no verdict
            rests on and which is counted apart).
    """

    blocks: int
    judged: bool
    estimate: Estimate
    verdict: Verdict
    chance: float | None = None
    futile: bool = False


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Everything that was found out, in plain numbers.

    Attributes:
        baseline: the arm that the others are compared with.
        margin: mIoU points, fixed beforehand.
        alpha: family-wise level.
        families: number of effects by family; each is judged at alpha over it.
        seeds: all blocks with at least one run, ascending.
        planned_blocks: the number fixed beforehand, None where none was named, and in a study with looks.
        estimates: one per contrast.
        verdicts: one per contrast, in the same order.
        arms: the baseline first, then the others by name.
        failures: one per arm beside the baseline; empty when no run failed.
        left_out: blocks that a contrast could not use, and why.
        absent_arms: arms of contrasts that have no run at all.
        notes: sentences that a reader of the verdicts must know.
        moments: the looks planned beforehand, in blocks; empty for a study judged once.
        looks: contrast after contrast in the order of ``estimates``, each at every look that has been reached.
            Estimate and verdict of a contrast are those of the look that decided it, else of the latest.
    """

    baseline: ArmName
    margin: float
    alpha: float
    families: dict[str, int]
    seeds: tuple[int, ...]
    planned_blocks: int | None
    estimates: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]
    arms: tuple[ArmSummary, ...]
    failures: tuple[FailureTest, ...]
    left_out: tuple[LeftOut, ...]
    absent_arms: tuple[ArmName, ...]
    notes: tuple[str, ...]
    moments: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()

    def of(self, contrast: str) -> tuple[Estimate, Verdict]:
        """Return estimate and verdict of the contrast of this name; raises KeyError when there is none."""
        for estimate, verdict in zip(self.estimates, self.verdicts, strict=True):
            if estimate.contrast.name == contrast:
                return estimate, verdict
        raise KeyError(contrast)

    def of_arm(self, arm: ArmName) -> tuple[Estimate, Verdict] | None:
        """Return estimate and verdict of ``arm`` minus the baseline, None where no contrast asks for it."""
        for estimate, verdict in zip(self.estimates, self.verdicts, strict=True):
            if estimate.contrast.weights == {arm: 1.0, self.baseline: -1.0}:
                return estimate, verdict
        return None

    def looks_of(self, contrast: str) -> tuple[Look, ...]:
        """Return every look at the contrast of this name, the first one first."""
        return tuple(look for look in self.looks if look.estimate.contrast.name == contrast)

    def next_look(self, *, futility: bool = False) -> int | None:
        """Return the blocks that the study needs for its next look; None when it has ended, or has no looks.

        A study ends when every contrast is decided or its last look is reached.

        Args:
            futility: also end it when every contrast that is still open is futile (`Look.futile`).
        """
        ahead = [blocks for blocks in self.moments if blocks > len(self.seeds)]
        latest = {look.estimate.contrast.name: look for look in self.looks}
        is_open = [
            verdict.word == "inconclusive"
            and not (futility and estimate.contrast.name in latest and latest[estimate.contrast.name].futile)
            for estimate, verdict in zip(self.estimates, self.verdicts, strict=True)
        ]
        return ahead[0] if ahead and any(is_open) else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; undefined numbers are None."""
        return {"format": FORMAT_VERSION, **_plain(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Judgement:
        """Return the judgement that `to_dict` wrote.

        Raises:
            ResultsError: another format, or not shaped as a judgement.
        """
        if not isinstance(value, Mapping) or value.get("format") not in (1, FORMAT_VERSION):
            got = value.get("format") if isinstance(value, Mapping) else type(value).__name__
            raise ResultsError(
                f"the judgement has format {got!r}, expected 1 or {FORMAT_VERSION}: judge the results again"
            )
        try:
            fields = {name: item for name, item in value.items() if name != "format"}
            if value["format"] == 1:
                fields |= {"moments": [], "looks": []}
            fields |= {
                "families": dict(fields["families"]),
                "seeds": tuple(fields["seeds"]),
                "estimates": tuple(_estimate(item) for item in fields["estimates"]),
                "verdicts": tuple(Verdict(**item) for item in fields["verdicts"]),
                "arms": tuple(ArmSummary(**item) for item in fields["arms"]),
                "failures": tuple(FailureTest(**item) for item in fields["failures"]),
                "left_out": tuple(LeftOut(**item) for item in fields["left_out"]),
                "absent_arms": tuple(fields["absent_arms"]),
                "notes": tuple(fields["notes"]),
                "moments": tuple(fields["moments"]),
                "looks": tuple(
                    Look(**{**item, "estimate": _estimate(item["estimate"]), "verdict": Verdict(**item["verdict"])})
                    for item in fields["looks"]
                ),
            }
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultsError(
                f"the judgement is not shaped as one ({type(error).__name__}: {error}), judge the results again"
            ) from error


def _estimate(item: Mapping[str, Any]) -> Estimate:
    contrast = Contrast(**item["contrast"])
    return Estimate(**{**item, "contrast": contrast, "seeds": tuple(item["seeds"]), "values": tuple(item["values"])})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


# --- decision -------------------------------------------------------------------------------------


class Decision(NamedTuple):
    """Verdicts of any number of effects at once: indices into `WORDS`, and whether shown to be below the margin."""

    code: NDArray[np.int8]
    below_margin: NDArray[np.bool_]


def decide(
    low: ArrayLike, high: ArrayLike, low_equivalence: ArrayLike, high_equivalence: ArrayLike, margin: float
) -> Decision:
    """Return the decision for intervals of any shape, in points.

    Better when the direction interval lies above 0, worse when below; else equivalent when the equivalence interval
    lies inside ± margin, ends excluded; else, and for bounds that are no numbers, inconclusive.  An effect with a
    direction whose equivalence interval lies inside ± margin is below the margin.
    """
    better, worse = np.asarray(low) > 0, np.asarray(high) < 0
    inside = (np.asarray(low_equivalence) > -margin) & (np.asarray(high_equivalence) < margin)
    code = np.where(better, 2, np.where(worse, 3, np.where(inside, 1, 0))).astype(np.int8)
    return Decision(code, np.asarray((better | worse) & inside))


def decide_blocks(contrasts: ArrayLike, boundary: Boundary, margin: float) -> Decision:
    """Return the decision for ... x blocks of per-block contrasts (points), judged by ``boundary``."""
    mean, _, se, _ = summarise(contrasts)
    direction, equivalence = boundary.direction * se, boundary.equivalence * se
    return decide(mean - direction, mean + direction, mean - equivalence, mean + equivalence, margin)


def survives_imputation(
    decision: Decision,
    values: ArrayLike,
    ranges: Sequence[tuple[float, float]],
    boundary: Boundary,
    margin: float,
) -> tuple[bool, bool]:
    """Return whether one effect's word, and its being below the margin, hold whatever the lost runs had scored.

    Args:
        decision: of the complete blocks.
        values: contrasts of the complete blocks, points.
        ranges: per incomplete block the lowest and the highest contrast that scores in 0-100 points could give.
        boundary: for all blocks together.
        margin: points.

    All 2^k corners of the box of ranges must give the same word.  mean - c se is concave in the unknown contrasts (se
    is a norm of them) and mean + c se convex, so the claim of the word (above 0, below 0, inside ± margin) is hardest
    at a corner, and then holds in the whole box; inside it an "equivalent" effect may at most have a direction below
    the margin.
    """
    if not ranges:
        return True, bool(decision.below_margin)
    if len(ranges) > MOST_IMPUTED_BLOCKS:
        return False, False
    corners = np.array(list(itertools.product(*ranges)))
    known = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(corners), np.size(values)))
    imputed = decide_blocks(np.concatenate([known, corners], axis=1), boundary, margin)
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
    side = "above" if word == "better" else "below"
    called = contrast.above if word == "better" else contrast.below
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
