"""What a judgement is made of: plain numbers and texts, which JSON can hold.

This module does not depend on where scores come from or how they are judged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from semalign.errors import ResultsError, StudyError
from semalign.judge.metric import MIOU, Metric
from semalign.layout import JUDGEMENT_FORMAT
from semalign.wording import Message, Text, Translated, say

__all__ = [
    "WORDS",
    "ArmName",
    "ArmSummary",
    "Contrast",
    "Estimate",
    "FailureTest",
    "Judgement",
    "LeftOut",
    "Look",
    "Text",
    "Verdict",
    "Word",
    "plain",
]

ArmName: TypeAlias = str
Word: TypeAlias = Literal["better", "worse", "equivalent", "inconclusive"]

WORDS: tuple[Word, ...] = ("inconclusive", "equivalent", "better", "worse")
"""The words of a decision's codes, see `semalign.judge.verdict.Decision`."""

BETTER: Final = say("verdict.better")
WORSE: Final = say("verdict.worse")

SUM_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Contrast:
    """What is compared: a weighted sum of arms' scores, and the question that it answers.

    Attributes:
        name: unique in its judgement, such as "A - Baseline".
        weights: by arm, adding up to 0, so that whatever raises all arms of a seed alike drops out.
        question: one sentence that ends with a question mark.
        family: effects of one family share alpha; which effects belong together is fixed beforehand.
        above: what an effect above 0 is called in a sentence; None: "better" or "worse", by the metric's direction.
        below: what an effect below 0 is called in a sentence.

    Raises:
        StudyError: fewer than two arms, or weights that are not finite or do not add up to 0.
    """

    name: str
    weights: Mapping[ArmName, float]
    question: Text = ""
    family: str = "primary"
    above: Text | None = None
    below: Text | None = None

    def __post_init__(self) -> None:
        weights = {arm: float(weight) for arm, weight in self.weights.items() if weight != 0}
        finite = all(math.isfinite(weight) for weight in weights.values())
        if len(weights) < 2 or not finite or abs(sum(weights.values())) > SUM_TOLERANCE:
            raise StudyError(
                f"the contrast {self.name!r} has the weights {dict(self.weights)}, "
                "expected at least two arms with finite weights that add up to 0, such as A: 1, Baseline: -1"
            )
        object.__setattr__(self, "weights", weights)

    def named(self, metric: Metric) -> Contrast:
        """Return the contrast with names for both directions of its effect."""
        above, below = BETTER, WORSE
        if not metric.higher_is_better:
            above, below = below, above
        return dataclasses.replace(
            self,
            above=above if self.above is None else self.above,
            below=below if self.below is None else self.below,
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What the complete blocks say about one contrast, in the unit of the judgement's metric.

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

    @property
    def called(self) -> Text | None:
        """What an effect on this side of 0 is called; None without a mean."""
        if self.mean is None:
            return None
        return self.contrast.above if self.mean > 0 else self.contrast.below


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
    reason: Text
    blocks_needed: int | None = None


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One arm's scores over its finished runs, in the unit of the judgement's metric.

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
    why: Text


@dataclasses.dataclass(frozen=True)
class Look:
    """One contrast at one look.

    Attributes:
        blocks: the look's moment, in started blocks.
        judged: False when the contrast was decided at an earlier look, so that this one is shown and not judged.
        estimate: of the complete ones among the first ``blocks`` blocks, with the look's repeated intervals.
        verdict: the one in force at this look: its own, or the earlier look's.
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
        margin: smallest effect that matters, fixed beforehand.
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
        metric: what the scores measure; margin, estimates and arms are in its unit.
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
    notes: tuple[Text, ...]
    moments: tuple[int, ...] = ()
    looks: tuple[Look, ...] = ()
    metric: Metric = MIOU

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

    def moment_of(self, estimate: Estimate) -> tuple[int, int] | None:
        """Return number, from 1, and blocks of the look that gave the estimate; None without looks or before one."""
        looks = self.looks_of(estimate.contrast.name)
        return next(
            ((n, look.blocks) for n, look in enumerate(looks, start=1) if look.judged and look.estimate == estimate),
            None,
        )

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
        return {"format": JUDGEMENT_FORMAT, **plain(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Judgement:
        """Return the judgement that `to_dict` wrote; its texts are English strings.

        Raises:
            ResultsError: another format, or not shaped as a judgement.
        """
        got = value.get("format") if isinstance(value, Mapping) else type(value).__name__
        if got != JUDGEMENT_FORMAT:
            raise ResultsError(
                f"the judgement has format {got!r}, expected {JUDGEMENT_FORMAT}: judge the results again"
            )
        try:
            return TypeAdapter(cls).validate_python({name: item for name, item in value.items() if name != "format"})
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ResultsError(
                f"the judgement is not shaped as one ({where}: {problem['msg']}), judge the results again"
            ) from error


def plain(value: Any) -> Any:
    """Return a value of this module as JSON can hold it: mappings, lists, numbers and English texts."""
    if isinstance(value, Message | Translated):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value
