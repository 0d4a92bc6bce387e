"""The source document's statements, answered from numbers; then advice for its three situations.

What a study knows is put into `Evidence`; a field that is None is one the study cannot speak to, and a statement that
rests on it gets no answer at all.  Every answer is a pure function of the evidence and carries keys and numbers already
formatted, so that another language needs other sentences and no other arithmetic.

An answer is "supported" or "refuted" only where an interval says so; what an interval leaves open is "undecided".  The
effects come from a judgement and share its alpha; the other intervals are each at their own level and are not adjusted
for there being several.  This module knows nothing of runs, files or curves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from semalign.errors import StudyError
from semalign.judge.statistics import check_level, t_interval
from semalign.judge.types import Estimate, Judgement, LeftOut, Verdict, Word
from semalign.presets import BASELINE
from semalign.wording.numbers import format_interval, format_p, format_points

__all__ = [
    "ADVICE",
    "FINDINGS",
    "PARTS",
    "RECOMMENDATIONS",
    "SITUATIONS",
    "STATEMENTS",
    "Advice",
    "AlignmentCost",
    "Change",
    "Claim",
    "Effect",
    "Evidence",
    "Failures",
    "Fusion",
    "Reason",
    "advise",
    "effect_of",
    "evidence_from",
    "judge_claims",
    "paired_change",
    "spread_ratio",
]

Answer: TypeAlias = Literal["supported", "refuted", "undecided"]

SMALL_GAIN = 0.5
"""Upper end of the gain that the document expects of a learnable encoder temperature, points."""

GATE_RANGE = (0.0, 1.5)
"""The document's range of a gate, "[0, 1+]"; how much "+" is, it does not say: read as half as much again."""

LOG_SCALE_RANGE = (-2.0, 2.0)
"""The document's range of a temperature's logarithm."""


# --- evidence -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Effect:
    """A judged effect, points; bounds as in `semalign.judge.verdict.Estimate`, None where it has none.

    ``aliased``: the design cannot tell it from others (a two-factor effect in a half fraction).
    ``counts``: the bounds are those of all planned blocks, and these are no copies of one; where it is false, only the
    word may be used.
    """

    word: Word
    below_margin: bool
    mean: float | None
    low: float | None
    high: float | None
    low_equivalence: float | None
    high_equivalence: float | None
    blocks_needed: int | None = None
    aliased: bool = False
    counts: bool = True


@dataclasses.dataclass(frozen=True)
class Change:
    """A mean paired change, learnable minus fixed, with its t interval over ``n`` blocks."""

    mean: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Failures:
    """Failed runs of both arms over the same blocks, and the exact paired p that they fail equally often."""

    fixed: int
    learnable: int
    blocks: int
    p: float


@dataclasses.dataclass(frozen=True)
class Fusion:
    """What freeing a gate and freeing a temperature change: |g a| / |x|, and the entropy of attention (1 = uniform).

    All as changes of the natural logarithm, so that the two quantities can be compared.
    """

    strength_by_gate: Change
    strength_by_temperature: Change
    entropy_by_gate: Change
    entropy_by_temperature: Change


@dataclasses.dataclass(frozen=True)
class AlignmentCost:
    """Totals over the ``sites`` of one kind of alignment: parameters, operations and seconds per image."""

    sites: int
    parameters: int
    operations: float | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a study knows about the document's statements; None: it cannot speak to it.

    Attributes:
        margin: of the study, points.
        alpha: of the failure test.
        gain: A - Baseline, the encoder temperature learnable instead of fixed.
        fixed_gates: B - Baseline, the gates fixed instead of learnable.
        competition: (A - Baseline) - (C - B), below 0 where temperature and gate compete.
        value_matched: learnable temperature minus the one fixed at the value that the learnable run ended with.
        with_more: gain with the most data and training minus the gain with the least.
        parameters: of the model with fixed and with learnable encoder temperature.
        gap: change of the difference of training and validation mIoU, points.
        spread: ratio of the scores' standard deviations over seeds, learnable over fixed (`spread_ratio`).
        failures: failed runs.
        spikes: change of the number of loss spikes in a run.
        gradients: by encoder stage, the earliest first, change of the gradient norm's natural logarithm.
        steps_to_90: change of the optimizer steps to 90 % of a run's own final score.
        gates: lowest and highest value that any learnable gate took.
        log_scales: lowest and highest logarithm that any learnable temperature took.
        log_scale_starts: lowest and highest logarithm that any of them started with.
        fusion: what gate and temperature change.
        encoder: cost of all encoder alignments.
        decoder: cost of all decoder alignments.
    """

    margin: float
    alpha: float = 0.05
    gain: Effect | None = None
    fixed_gates: Effect | None = None
    competition: Effect | None = None
    value_matched: Effect | None = None
    with_more: Effect | None = None
    parameters: tuple[int, int] | None = None
    gap: Change | None = None
    spread: Change | None = None
    failures: Failures | None = None
    spikes: Change | None = None
    gradients: tuple[Change, ...] | None = None
    steps_to_90: Change | None = None
    gates: tuple[float, float] | None = None
    log_scales: tuple[float, float] | None = None
    log_scale_starts: tuple[float, float] | None = None
    fusion: Fusion | None = None
    encoder: AlignmentCost | None = None
    decoder: AlignmentCost | None = None


def effect_of(estimate: Estimate, verdict: Verdict, left_out: Iterable[LeftOut]) -> Effect:
    """Return a judgement's estimate and verdict as evidence; ``left_out`` is the judgement's."""
    lost = any(item.contrast == estimate.contrast.name for item in left_out)
    # Without spread an effect is better, worse or equivalent, unless its blocks are copies.
    copies = estimate.sd == 0 and verdict.word == "inconclusive"
    return Effect(
        verdict.word,
        verdict.below_margin,
        estimate.mean,
        estimate.low,
        estimate.high,
        estimate.low_equivalence,
        estimate.high_equivalence,
        verdict.blocks_needed,
        counts=not lost and not copies,
    )


def evidence_from(judgement: Judgement) -> Evidence:
    """Return what a judgement of the document's four arms says by itself: the effects, and failures of A."""
    wanted: dict[str, dict[str, float]] = {
        "gain": {"A": 1, BASELINE: -1},
        "fixed_gates": {"B": 1, BASELINE: -1},
        "competition": {"A": 1, BASELINE: -1, "C": -1, "B": 1},
    }
    found: dict[str, Effect] = {}
    for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True):
        for name, weights in wanted.items():
            if dict(estimate.contrast.weights) == weights:
                found[name] = effect_of(estimate, verdict, judgement.left_out)
    failures = None
    for test in judgement.failures:
        if test.arm == "A" and judgement.baseline == BASELINE:
            failures = Failures(test.only_baseline, test.only_arm, test.blocks, test.p)
    return Evidence(
        judgement.margin,
        judgement.alpha,
        gain=found.get("gain"),
        fixed_gates=found.get("fixed_gates"),
        competition=found.get("competition"),
        failures=failures,
    )


def paired_change(learnable: ArrayLike, fixed: ArrayLike, level: float = 0.95) -> Change:
    """Return the mean of learnable minus fixed over blocks, with its t interval.

    Raises:
        StudyError: fewer than two blocks, values that do not pair up, or a level outside (0, 1).
    """
    one, other = np.asarray(learnable, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise StudyError(f"values of shape {one.shape} and {other.shape} are no pairs, expected one per block in both")
    mean, _, _, df, low, high = t_interval(one - other, level)
    return Change(float(mean), float(low), float(high), df + 1)


def spread_ratio(learnable: ArrayLike, fixed: ArrayLike, level: float = 0.95) -> Change | None:
    """Return the ratio of two arms' standard deviations over paired blocks, with its interval; None without spread.

    Pitman and Morgan (1939): with the variances' ratio w and the correlation r of n pairs the bounds of the ratio are
    w (K ± sqrt(K^2 - 1)), K = 1 + 2 (1 - r^2) t^2 / (n - 2), t the quantile with n - 2 degrees of freedom.

    Raises:
        StudyError: fewer than three blocks, values that do not pair up, or a level outside (0, 1).
    """
    check_level("level", level)
    one, other = np.asarray(learnable, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or len(one) < 3:
        raise StudyError(
            f"values of shape {one.shape} and {other.shape} give no ratio of spreads, expected at least 3 pairs"
        )
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    n = len(one)
    ratio = float(np.var(one, ddof=1) / np.var(other, ddof=1))
    correlation = float(np.corrcoef(one, other)[0, 1])
    t = float(stats.t.isf((1 - level) / 2, n - 2))
    k = 1 + 2 * max(0.0, 1 - correlation**2) * t**2 / (n - 2)
    wide = k + math.sqrt(k**2 - 1)
    return Change(math.sqrt(ratio), math.sqrt(ratio / wide), math.sqrt(ratio * wide), n)


# --- answers --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Claim:
    """The answer to one statement.

    Attributes:
        id: key of `STATEMENTS`.
        answer: "supported", "refuted" or "undecided".
        key: of `FINDINGS`, the sentence that gives the numbers.
        shown: its numbers, formatted.
        parts: keys of `PARTS` with their numbers, which a sentence with {parts} lists.
    """

    id: str
    answer: Answer
    key: str
    shown: Mapping[str, str]
    parts: tuple[tuple[str, Mapping[str, str]], ...] = ()

    @property
    def statement(self) -> str:
        """The document's statement, English."""
        return STATEMENTS[self.id]

    @property
    def text(self) -> str:
        """What was found, one English sentence."""
        parts = "; ".join(PARTS[key].format(**shown) for key, shown in self.parts)
        return FINDINGS[self.key].format(**self.shown, parts=parts)


STATEMENTS: dict[str, str] = {
    "saves-parameters": "A fixed encoder temperature saves parameters.",
    "avoids-overfitting": "A fixed encoder temperature avoids overfitting.",
    "destabilises": "A learnable encoder temperature makes training unstable.",
    "early-layers": "It does so in the encoder's early layers most.",
    "compete": "Temperature and gate compete.",
    "needs-more": "A learnable encoder temperature needs more data or longer training.",
    "converges-faster": "A fixed encoder temperature converges faster.",
    "expressive": "A fixed encoder temperature does not limit what the model can express.",
    "small-gain": "A learnable encoder temperature gains 0 to 0.5 mIoU points.",
    "gate-range": "A gate stays in [0, 1+].",
    "temperature-range": "The logarithm of a temperature stays in ±2.",
    "gate-strength": "The gate sets the strength of the fusion.",
    "temperature-shape": "The temperature sets the shape of the attention.",
    "encoder-light": "Encoder alignment is light, decoder alignment is deep.",
}
"""The document's statements, in the order in which a report answers them."""

FINDINGS: dict[str, str] = {
    "parameters": "{fixed} parameters with a fixed and {learnable} with a learnable temperature: {difference} more.",
    "gap above": "With a learnable temperature the gap of training and validation grows by {mean} points {interval}.",
    "gap below": "With a learnable temperature the gap of training and validation shrinks by {mean} points {interval}.",
    "gap within": "The gap of training and validation changes by {mean} points {interval}, inside ±{margin}.",
    "gap open": "The gap of training and validation changes by {mean} points {interval}: its sign is open.",
    "less stable": "Less stable with a learnable temperature: {parts}.",
    "more stable": "More stable with a learnable temperature: {parts}.",
    "signals disagree": "The signs of instability disagree: {parts}.",
    "signals open": "No sign of instability is clear: {parts}.",
    "first most": "Gradients grow most in the first stage, {first}, elsewhere at most {other}.",
    "first not most": "Gradients grow by {first} in the first stage and by {other} in stage {stage}.",
    "stages open": "Gradients grow by {first} in the first stage; the intervals of the stages overlap.",
    "effect below": "The effect is {mean} points {interval}, below 0.",
    "effect above": "The effect is {mean} points {interval}, above 0.",
    "effect small": "The effect is {mean} points {interval}, shown to be smaller than the margin of {margin}.",
    "effect open": "The effect is {mean} points {interval}: open.",
    "effect unknown": "No interval could be made: too few complete blocks.",
    "aliased": "This design cannot tell the effect from others: undecided (aliased).",
    "slower": "A learnable temperature takes {mean} steps more {interval} to 90 % of its final score.",
    "faster": "A learnable temperature takes {mean} steps {interval} to 90 % of its final score, that is, fewer.",
    "steps open": "Steps to 90 % of the final score change by {mean} {interval}: the sign is open.",
    "gain inside": "The gain is {mean} points {interval}, inside 0 to 0.5.",
    "gain beyond": "The gain is {mean} points {interval}, outside 0 to 0.5.",
    "gain at most": "The gain is {mean} points {interval}: not above 0.5, but it may be below 0.",
    "gain open": "The gain is {mean} points {interval}, which reaches beyond 0 to 0.5.",
    "range inside": "All values lie in {values}.",
    "range outside": "Values reach from {low} to {high}.",
    "range started outside": "Values reach from {low} to {high}; the start, at {start}, lies outside already.",
    "own larger": "Changed by {own} when its knob is freed, and by {other} when the other is.",
    "other larger": "Changed by {own} when its knob is freed, less than by the other, {other}.",
    "own open": "Changed by {own} when its knob is freed and by {other} when the other is: intervals overlap.",
    "cost": "Per site, encoder against decoder: {parts}.",
}
"""English sentences by a claim's key."""

PARTS: dict[str, str] = {
    "spread": "spread over seeds x {mean} {interval}",
    "failures": "failed runs {learnable} against {fixed} in {blocks} blocks ({p})",
    "spikes": "loss spikes in a run {mean} {interval}",
    "parameters": "parameters {encoder} against {decoder} (in all {all_encoder} against {all_decoder})",
    "operations": "operations {encoder} against {decoder} (in all {all_encoder} against {all_decoder})",
    "seconds": "seconds {encoder} against {decoder} (in all {all_encoder} against {all_decoder})",
}
"""What a sentence with {parts} lists."""


def judge_claims(evidence: Evidence) -> tuple[Claim, ...]:
    """Return the answer to every statement that the study can speak to, in the order of `STATEMENTS`."""
    claims = [claim for identity in STATEMENTS if (claim := _ANSWERS[identity](evidence)) is not None]
    return tuple(claims)


def _saves_parameters(evidence: Evidence) -> Claim | None:
    if evidence.parameters is None:
        return None
    fixed, learnable = evidence.parameters
    shown = {"fixed": f"{fixed:,}", "learnable": f"{learnable:,}", "difference": f"{learnable - fixed:,}"}
    return Claim("saves-parameters", "supported" if learnable > fixed else "refuted", "parameters", shown)


def _avoids_overfitting(evidence: Evidence) -> Claim | None:
    if (gap := evidence.gap) is None:
        return None
    shown = _change(gap) | {"margin": f"{evidence.margin:g}"}
    if gap.low > 0:
        return Claim("avoids-overfitting", "supported", "gap above", shown)
    if gap.high < 0:
        return Claim("avoids-overfitting", "refuted", "gap below", shown)
    if -evidence.margin < gap.low and gap.high < evidence.margin:
        return Claim("avoids-overfitting", "refuted", "gap within", shown)
    return Claim("avoids-overfitting", "undecided", "gap open", shown)


def _destabilises(evidence: Evidence) -> Claim | None:
    signs: list[int] = []
    parts: list[tuple[str, Mapping[str, str]]] = []
    if (spread := evidence.spread) is not None:
        signs.append((spread.low > 1) - (spread.high < 1))
        shown = {"mean": f"{spread.mean:.2f}", "interval": f"[{spread.low:.2f}, {spread.high:.2f}]"}
        parts.append(("spread", shown))
    if (failures := evidence.failures) is not None:
        more = (failures.learnable > failures.fixed) - (failures.learnable < failures.fixed)
        signs.append(more if failures.p < evidence.alpha else 0)
        counts = {"learnable": failures.learnable, "fixed": failures.fixed, "blocks": failures.blocks}
        parts.append(("failures", {name: str(n) for name, n in counts.items()} | {"p": format_p(failures.p)}))
    if (spikes := evidence.spikes) is not None:
        signs.append((spikes.low > 0) - (spikes.high < 0))
        parts.append(("spikes", _change(spikes)))
    if not signs:
        return None
    answer: Answer = "undecided"
    key = "signals open"
    if 1 in signs and -1 in signs:
        key = "signals disagree"
    elif 1 in signs:
        answer, key = "supported", "less stable"
    elif -1 in signs:
        answer, key = "refuted", "more stable"
    return Claim("destabilises", answer, key, {}, tuple(parts))


def _early_layers(evidence: Evidence) -> Claim | None:
    if evidence.gradients is None or len(evidence.gradients) < 2:
        return None
    first, *later = evidence.gradients
    largest = max(range(len(later)), key=lambda index: later[index].mean)
    shown = {"first": _factor(first), "other": _factor(later[largest])}
    if first.low > 0 and all(first.low > other.high for other in later):
        return Claim("early-layers", "supported", "first most", shown)
    beyond = [index for index, other in enumerate(later) if other.low > first.high]
    if beyond:
        worst = max(beyond, key=lambda index: later[index].low)
        shown |= {"other": _factor(later[worst]), "stage": str(worst + 2)}
        return Claim("early-layers", "refuted", "first not most", shown)
    return Claim("early-layers", "undecided", "stages open", shown)


def _compete(evidence: Evidence) -> Claim | None:
    return _by_effect(
        "compete",
        evidence.competition,
        evidence.margin,
        {"worse": "supported", "better": "refuted", "equivalent": "refuted"},
    )


def _needs_more(evidence: Evidence) -> Claim | None:
    return _by_effect(
        "needs-more",
        evidence.with_more,
        evidence.margin,
        {"better": "supported", "worse": "refuted", "equivalent": "refuted"},
    )


def _expressive(evidence: Evidence) -> Claim | None:
    effect = evidence.value_matched
    # A gain of learning that is shown to be smaller than the margin limits nothing that matters.
    gained: Answer = "supported" if effect is not None and effect.below_margin else "refuted"
    return _by_effect(
        "expressive", effect, evidence.margin, {"better": gained, "worse": "supported", "equivalent": "supported"}
    )


def _by_effect(identity: str, effect: Effect | None, margin: float, answers: Mapping[str, Answer]) -> Claim | None:
    if effect is None:
        return None
    if effect.aliased:
        return Claim(identity, "undecided", "aliased", {})
    if effect.mean is None or effect.low is None or effect.high is None:
        return Claim(identity, "undecided", "effect unknown", {})
    shown = _effect(effect, margin)
    if effect.word == "inconclusive":
        return Claim(identity, "undecided", "effect open", shown)
    key = {"better": "effect above", "worse": "effect below", "equivalent": "effect small"}[effect.word]
    return Claim(identity, answers[effect.word], "effect small" if effect.below_margin else key, shown)


def _converges_faster(evidence: Evidence) -> Claim | None:
    if (steps := evidence.steps_to_90) is None:
        return None
    # Short runs differ by less than a step.
    digits = 0 if max(abs(steps.low), abs(steps.high)) >= 10 else 2
    mean, low, high = (f"{value:+.{digits}f}" for value in (steps.mean, steps.low, steps.high))
    shown = {"mean": mean, "interval": f"[{low}, {high}]"}
    if steps.low > 0:
        return Claim("converges-faster", "supported", "slower", shown)
    if steps.high < 0:
        return Claim("converges-faster", "refuted", "faster", shown)
    return Claim("converges-faster", "undecided", "steps open", shown)


def _small_gain(evidence: Evidence) -> Claim | None:
    if (gain := evidence.gain) is None:
        return None
    narrow = (gain.low_equivalence, gain.high_equivalence)
    if gain.mean is None or gain.low is None or gain.high is None or narrow[0] is None or narrow[1] is None:
        return Claim("small-gain", "undecided", "effect unknown", {})
    shown = _effect(gain, evidence.margin)
    if gain.aliased:
        return Claim("small-gain", "undecided", "aliased", {})
    if not gain.counts:
        return Claim("small-gain", "undecided", "effect open", shown)
    if gain.low > SMALL_GAIN or gain.high < 0:
        return Claim("small-gain", "refuted", "gain beyond", shown)
    if narrow[0] >= 0 and narrow[1] <= SMALL_GAIN:
        shown["interval"] = format_interval(narrow[0], narrow[1])
        return Claim("small-gain", "supported", "gain inside", shown)
    key = "gain at most" if narrow[1] <= SMALL_GAIN else "gain open"
    return Claim("small-gain", "undecided", key, shown)


def _gate_range(evidence: Evidence) -> Claim | None:
    return _range("gate-range", evidence.gates, GATE_RANGE)


def _temperature_range(evidence: Evidence) -> Claim | None:
    claim = _range("temperature-range", evidence.log_scales, LOG_SCALE_RANGE)
    if claim is None or claim.answer == "supported" or evidence.log_scale_starts is None:
        return claim
    low, high = evidence.log_scale_starts
    outside = [start for start in (low, high) if not LOG_SCALE_RANGE[0] <= start <= LOG_SCALE_RANGE[1]]
    if not outside:
        return claim
    # Then the design refutes the statement, and nothing that was learned.
    return Claim(claim.id, claim.answer, "range started outside", {**claim.shown, "start": f"{outside[-1]:.3g}"})


def _range(identity: str, seen: tuple[float, float] | None, promised: tuple[float, float]) -> Claim | None:
    if seen is None:
        return None
    inside = promised[0] <= seen[0] and seen[1] <= promised[1]
    low, high = (f"{value:.3g}" for value in seen)
    if inside:
        return Claim(identity, "supported", "range inside", {"values": f"[{low}, {high}]"})
    return Claim(identity, "refuted", "range outside", {"low": low, "high": high})


def _gate_strength(evidence: Evidence) -> Claim | None:
    if (fusion := evidence.fusion) is None:
        return None
    return _own_and_other("gate-strength", fusion.strength_by_gate, fusion.strength_by_temperature)


def _temperature_shape(evidence: Evidence) -> Claim | None:
    if (fusion := evidence.fusion) is None:
        return None
    return _own_and_other("temperature-shape", fusion.entropy_by_temperature, fusion.entropy_by_gate)


def _own_and_other(identity: str, own: Change, other: Change) -> Claim:
    """Answer whether a quantity follows its own knob more than the other one, by the sizes of both changes."""
    shown = {"own": _factor(own), "other": _factor(other)}
    (own_least, own_most), (other_least, other_most) = _size(own), _size(other)
    if own_least > other_most:
        return Claim(identity, "supported", "own larger", shown)
    if other_least > own_most:
        return Claim(identity, "refuted", "other larger", shown)
    return Claim(identity, "undecided", "own open", shown)


def _size(change: Change) -> tuple[float, float]:
    """Return the least and the greatest size that an interval allows."""
    ends = (abs(change.low), abs(change.high))
    return (0.0 if change.low <= 0 <= change.high else min(ends)), max(ends)


def _encoder_light(evidence: Evidence) -> Claim | None:
    encoder, decoder = evidence.encoder, evidence.decoder
    if encoder is None or decoder is None or encoder.sites < 1 or decoder.sites < 1:
        return None
    lighter: list[bool] = []
    parts: list[tuple[str, Mapping[str, str]]] = []
    for key, one, other in (
        ("parameters", encoder.parameters, decoder.parameters),
        ("operations", encoder.operations, decoder.operations),
        ("seconds", encoder.seconds, decoder.seconds),
    ):
        if one is not None and other is not None:
            # A statement about the modules: the encoder's stands in many blocks, so totals are told beside it.
            values = {
                "encoder": one / encoder.sites,
                "decoder": other / decoder.sites,
                "all_encoder": one,
                "all_decoder": other,
            }
            lighter.append(values["encoder"] < values["decoder"])
            show = _seconds if key == "seconds" else _amount
            parts.append((key, {name: show(value) for name, value in values.items()}))
    answer: Answer = "supported" if all(lighter) else "undecided" if any(lighter) else "refuted"
    return Claim("encoder-light", answer, "cost", {}, tuple(parts))


_ANSWERS: dict[str, Callable[[Evidence], Claim | None]] = {
    "saves-parameters": _saves_parameters,
    "avoids-overfitting": _avoids_overfitting,
    "destabilises": _destabilises,
    "early-layers": _early_layers,
    "compete": _compete,
    "needs-more": _needs_more,
    "converges-faster": _converges_faster,
    "expressive": _expressive,
    "small-gain": _small_gain,
    "gate-range": _gate_range,
    "temperature-range": _temperature_range,
    "gate-strength": _gate_strength,
    "temperature-shape": _temperature_shape,
    "encoder-light": _encoder_light,
}


def _change(change: Change) -> dict[str, str]:
    return {"mean": format_points(change.mean), "interval": format_interval(change.low, change.high)}


def _effect(effect: Effect, margin: float) -> dict[str, str]:
    assert effect.mean is not None
    assert effect.low is not None
    assert effect.high is not None
    return {
        "mean": format_points(effect.mean),
        "interval": format_interval(effect.low, effect.high),
        "margin": f"{margin:g}",
    }


def _amount(value: float) -> str:
    """Return a count with three digits that count.

    >>> _amount(28932), _amount(303.4), _amount(1_524_000)
    ('28,900', '303', '1,520,000')
    """
    return f"{float(f'{value:.3g}'):,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _factor(change: Change) -> str:
    """Return a change of a natural logarithm as a factor."""
    values = [math.exp(value) for value in (change.mean, change.low, change.high)]
    # More digits near 1, where three would show an interval as a point.
    digits = next((n for n in range(3, 9) if len({f"{value:.{n}g}" for value in values}) == 3), 3)
    mean, low, high = (f"{value:.{digits}g}" for value in values)
    return f"x {mean} [{low}, {high}]"


# --- advice ---------------------------------------------------------------------------------------

SITUATIONS: dict[str, str] = {
    "best": "The best result is wanted (competition, paper).",
    "quick": "A baseline is wanted quickly.",
    "ablation": "A reviewer asks for the ablation.",
}
"""The document's three situations."""

RECOMMENDATIONS: dict[str, str] = {
    "learnable": "Make the encoder temperature learnable.",
    "fixed at learned": "Fix the encoder temperature at the value that a learnable run ends with.",
    "fixed": "Keep the encoder temperature fixed.",
    "gates learnable": "Keep the gates learnable.",
    "gates fixed": "Fix the gates.",
    "quote": "Quote this study: the comparison has been made and is decided.",
    "run more": "Run a new study of both versions with more seeds, its number fixed beforehand.",
    "run both": "Run both versions in paired seeds, the learnable one starting at the fixed one's scale.",
}
"""What an advice may recommend."""

ADVICE: dict[str, str] = {
    "gain matters": "Learnable gains {mean} points {interval}, and nothing shows that to be below the margin.",
    "gain below margin": "Learnable gains {mean} points {interval}, less than the margin of {margin}.",
    "no gain": "Learnable and fixed are the same within the margin of {margin}: {mean} points {interval}.",
    "loss": "Learnable costs points: {mean} {interval}.",
    "gain open": "A gain is not shown: {mean} points {interval}; fixed has fewer knobs.",
    "gain unknown": "This study does not compare the two; fixed is the document's design and has fewer knobs.",
    "value pays": "At the same value a fixed one scores the same within the margin: the value pays, not the learning.",
    "gates needed": "Fixing the gates costs points: {mean} {interval}.",
    "gates idle": "Fixed gates score the same within the margin of {margin}: {mean} points {interval}.",
    "gates hurt": "Fixing the gates gains points: {mean} {interval}.",
    "gates open": "What fixing the gates does is open: {mean} points {interval}.",
    "gates unknown": "This study does not compare learnable with fixed gates.",
    "decided": "Decided at the margin of {margin}: {mean} points {interval}.",
    "blocks": "Open at the margin of {margin}; at this spread it takes at least {blocks} seeds.",
    "open": "Open at the margin of {margin}: {mean} points {interval}.",
    "confounded": "Started elsewhere, the learnable version differs in value and in learning at once.",
}
"""English sentences of an advice's reasons."""


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why: key of `ADVICE` with its numbers, formatted, or "claim" with the claim that is quoted."""

    key: str
    shown: Mapping[str, str]
    claim: Claim | None = None

    @property
    def text(self) -> str:
        """The reason as one English sentence or two."""
        if self.claim is not None:
            return f"{self.claim.answer.capitalize()}: {self.claim.statement} {self.claim.text}"
        return ADVICE[self.key].format(**self.shown)


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do in one of the document's situations: keys of `RECOMMENDATIONS`, and why."""

    situation: str
    recommendations: tuple[str, ...]
    reasons: tuple[Reason, ...]

    @property
    def text(self) -> str:
        """The recommendations as English sentences."""
        return " ".join(RECOMMENDATIONS[key] for key in self.recommendations)


def advise(evidence: Evidence, claims: Sequence[Claim]) -> tuple[Advice, ...]:
    """Return the advice for each of `SITUATIONS`.

    The rule: what is not shown to gain at least something that may matter is kept fixed, because a knob less is a
    knob less; gates are kept learnable unless fixing them is shown to cost nothing that matters.

    Args:
        evidence: what the study knows.
        claims: its answers (`judge_claims`), of which the reasons quote what is not undecided.
    """
    temperature, why = _temperature(evidence)
    gates, why_gates = _gates(evidence)
    by_id = {claim.id: claim for claim in claims if claim.answer != "undecided"}

    best = Advice("best", (temperature, gates), (*why, *why_gates))
    quoted = [by_id[name] for name in ("saves-parameters", "converges-faster", "destabilises") if name in by_id]
    quick = Advice(
        "quick",
        # A quick baseline does not train twice to find a value.
        ("learnable" if temperature == "learnable" else "fixed",),
        (
            *why[:1],
            *(Reason("claim", {}, claim) for claim in quoted),
        ),
    )
    return best, quick, _ablation(evidence)


def _temperature(evidence: Evidence) -> tuple[str, tuple[Reason, ...]]:
    gain = evidence.gain
    if gain is None or gain.aliased or gain.mean is None or gain.low is None:
        return "fixed", (Reason("gain unknown", {}),)
    shown = _effect(gain, evidence.margin)
    if gain.word == "better" and not gain.below_margin:
        matched = evidence.value_matched
        if matched is not None and (matched.word == "equivalent" or matched.below_margin):
            return "fixed at learned", (Reason("gain matters", shown), Reason("value pays", {}))
        return "learnable", (Reason("gain matters", shown),)
    key = {"better": "gain below margin", "worse": "loss", "equivalent": "no gain", "inconclusive": "gain open"}
    return "fixed", (Reason(key[gain.word], shown),)


def _gates(evidence: Evidence) -> tuple[str, tuple[Reason, ...]]:
    effect = evidence.fixed_gates
    if effect is None or effect.aliased or effect.mean is None or effect.low is None:
        return "gates learnable", (Reason("gates unknown", {}),)
    shown = _effect(effect, evidence.margin)
    if effect.word == "equivalent" or effect.below_margin:
        return "gates fixed", (Reason("gates idle", shown),)
    if effect.word == "better":
        return "gates fixed", (Reason("gates hurt", shown),)
    return "gates learnable", (Reason("gates needed" if effect.word == "worse" else "gates open", shown),)


def _ablation(evidence: Evidence) -> Advice:
    gain = evidence.gain
    if gain is None or gain.aliased or gain.mean is None or gain.low is None:
        return Advice("ablation", ("run both",), (Reason("gain unknown", {}), Reason("confounded", {})))
    shown = _effect(gain, evidence.margin)
    if gain.word != "inconclusive":
        return Advice("ablation", ("quote",), (Reason("decided", shown),))
    if gain.blocks_needed is not None:
        reason = Reason("blocks", shown | {"blocks": str(gain.blocks_needed)})
    else:
        reason = Reason("open", shown)
    return Advice("ablation", ("run more",), (reason,))
