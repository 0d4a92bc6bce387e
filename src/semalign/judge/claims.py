"""The source document's statements, answered from numbers.

Every answer is a pure function of the evidence.  A statement that rests on something that the study does not know gets
no answer.  An answer is "supported" or "refuted" only where an interval decides it; otherwise it is "undecided".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from semalign.judge.evidence import Change, Effect, Evidence
from semalign.judge.metric import MIOU, Metric
from semalign.wording import Message, say

__all__ = ["STATEMENTS", "Answer", "Claim", "effect_values", "judge_claims", "needs_of"]

Answer: TypeAlias = Literal["supported", "refuted", "undecided"]

SMALL_GAIN = 0.5
"""Upper end of the gain that the document expects of a learnable encoder temperature, mIoU points."""

GATE_RANGE = (0.0, 1.5)
"""The document's range of a gate, "[0, 1+]"; it does not define the "+", which is read as half as much again."""

LOG_SCALE_RANGE = (-2.0, 2.0)
"""The document's range of a temperature's logarithm."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """The answer to one statement.

    Attributes:
        id: of `STATEMENTS`.
        answer: "supported", "refuted" or "undecided".
        finding: what was found, with its numbers.
    """

    id: str
    answer: Answer
    finding: Message

    @property
    def statement(self) -> Message:
        """The document's statement."""
        return say(f"claim.statement {self.id}")

    @property
    def word(self) -> Message:
        """The answer as a word; its own where the design cannot tell the effect from others."""
        return say("verdict.aliased" if self.finding.key == "claim.effect aliased" else f"claim.{self.answer}")


def judge_claims(evidence: Evidence) -> tuple[Claim, ...]:
    """Return the answer to every statement that the study can speak to, in the order of `STATEMENTS`."""
    return tuple(claim for answer in _ANSWERS.values() if (claim := answer(evidence)) is not None)


def _saves_parameters(evidence: Evidence) -> Claim | None:
    if evidence.parameters is None:
        return None
    fixed, learnable = evidence.parameters
    found = say("claim.parameters", fixed=fixed, learnable=learnable, difference=learnable - fixed)
    return Claim("saves-parameters", "supported" if learnable > fixed else "refuted", found)


def _avoids_overfitting(evidence: Evidence) -> Claim | None:
    if (gap := evidence.gap) is None:
        return None
    answer: Answer = "undecided"
    key = "gap open"
    if gap.low > 0:
        answer, key = "supported", "gap above"
    elif gap.high < 0:
        answer, key = "refuted", "gap below"
    elif -evidence.margin < gap.low and gap.high < evidence.margin:
        answer, key = "refuted", "gap within"
    values = _change(gap.mean, gap.low, gap.high, evidence.metric)
    margin = {"margin": evidence.margin} if key == "gap within" else {}
    return Claim("avoids-overfitting", answer, say(f"claim.{key}", **values, **margin))


def _destabilises(evidence: Evidence) -> Claim | None:
    signs: list[int] = []
    parts: list[Message] = []
    if (spread := evidence.spread) is not None:
        signs.append((spread.low > 1) - (spread.high < 1))
        parts.append(say("claim.part spread", mean=spread.mean, low=spread.low, high=spread.high))
    if (failures := evidence.failures) is not None:
        more = (failures.learnable > failures.fixed) - (failures.learnable < failures.fixed)
        signs.append(more if failures.p < evidence.alpha else 0)
        counts = {"learnable": failures.learnable, "fixed": failures.fixed, "blocks": failures.blocks}
        parts.append(say("claim.part failures", **counts, p=failures.p))
    if (spikes := evidence.spikes) is not None:
        signs.append((spikes.low > 0) - (spikes.high < 0))
        parts.append(say("claim.part spikes", mean=spikes.mean, ends=(spikes.low, spikes.high)))
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
    return Claim("destabilises", answer, say(f"claim.{key}", parts=tuple(parts)))


def _early_layers(evidence: Evidence) -> Claim | None:
    if evidence.gradients is None or len(evidence.gradients) < 2:
        return None
    first, *later = evidence.gradients
    if first.low > 0 and all(first.low > other.high for other in later):
        other = later[max(range(len(later)), key=lambda index: later[index].mean)]
        return Claim("early-layers", "supported", say("claim.first most", first=_ends(first), other=_ends(other)))
    beyond = [index for index, other in enumerate(later) if other.low > first.high]
    if beyond:
        worst = max(beyond, key=lambda index: later[index].low)
        found = say("claim.first not most", first=_ends(first), other=_ends(later[worst]), stage=worst + 2)
        return Claim("early-layers", "refuted", found)
    return Claim("early-layers", "undecided", say("claim.stages open", first=_ends(first)))


def _compete(evidence: Evidence) -> Claim | None:
    answers: dict[str, Answer] = {"worse": "supported", "better": "refuted", "equivalent": "refuted"}
    return _by_effect("compete", evidence.competition, evidence, answers)


def _needs_more(evidence: Evidence) -> Claim | None:
    answers: dict[str, Answer] = {"better": "supported", "worse": "refuted", "equivalent": "refuted"}
    return _by_effect("needs-more", evidence.with_more, evidence, answers)


def _expressive(evidence: Evidence) -> Claim | None:
    effect = evidence.value_matched
    # A gain of learning that is shown to be smaller than the margin limits nothing that matters.
    gained: Answer = "supported" if effect is not None and effect.below_margin else "refuted"
    answers: dict[str, Answer] = {"better": gained, "worse": "supported", "equivalent": "supported"}
    return _by_effect("expressive", effect, evidence, answers)


def _by_effect(identity: str, effect: Effect | None, evidence: Evidence, answers: Mapping[str, Answer]) -> Claim | None:
    if effect is None:
        return None
    if effect.aliased:
        return Claim(identity, "undecided", say("claim.effect aliased"))
    values = effect_values(effect, evidence.metric)
    if effect.mean is None or values is None:
        return Claim(identity, "undecided", say("claim.effect unknown"))
    if effect.word == "inconclusive":
        return Claim(identity, "undecided", say("claim.effect open", **values))
    if effect.word == "equivalent" or effect.below_margin:
        found = say("claim.effect small", margin=evidence.margin, **values)
    else:
        found = say(f"claim.effect {'above' if effect.mean > 0 else 'below'}", **values)
    return Claim(identity, answers[effect.word], found)


def _converges_faster(evidence: Evidence) -> Claim | None:
    if (steps := evidence.steps_to_90) is None:
        return None
    # Short runs differ by less than a step.
    digits = 0 if max(abs(steps.low), abs(steps.high)) >= 10 else 2
    mean, low, high = (f"{value:+.{digits}f}" for value in (steps.mean, steps.low, steps.high))
    values = {"mean": mean, "interval": f"[{low}, {high}]"}
    if steps.low > 0:
        return Claim("converges-faster", "supported", say("claim.slower", **values))
    if steps.high < 0:
        return Claim("converges-faster", "refuted", say("claim.faster", **values))
    return Claim("converges-faster", "undecided", say("claim.steps open", **values))


def _small_gain(evidence: Evidence) -> Claim | None:
    # The document speaks of mIoU points.
    if (gain := evidence.gain) is None or evidence.metric != MIOU:
        return None
    low, high = gain.low_equivalence, gain.high_equivalence
    values = effect_values(gain, evidence.metric)
    if gain.low is None or gain.high is None or low is None or high is None or values is None:
        return Claim("small-gain", "undecided", say("claim.effect unknown"))
    if gain.aliased:
        return Claim("small-gain", "undecided", say("claim.effect aliased"))
    if not gain.counts:
        return Claim("small-gain", "undecided", say("claim.effect open", **values))
    if gain.low > SMALL_GAIN or gain.high < 0:
        return Claim("small-gain", "refuted", say("claim.gain beyond", most=SMALL_GAIN, **values))
    if low >= 0 and high <= SMALL_GAIN:
        values["interval"] = evidence.metric.interval(low, high)
        return Claim("small-gain", "supported", say("claim.gain inside", most=SMALL_GAIN, **values))
    key = "gain at most" if high <= SMALL_GAIN else "gain open"
    return Claim("small-gain", "undecided", say(f"claim.{key}", most=SMALL_GAIN, **values))


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
    # Then the design refutes the statement, not what was learned.
    found = say("claim.range started outside", **claim.finding.values, start=outside[-1])
    return dataclasses.replace(claim, finding=found)


def _range(identity: str, seen: tuple[float, float] | None, promised: tuple[float, float]) -> Claim | None:
    if seen is None:
        return None
    inside = promised[0] <= seen[0] and seen[1] <= promised[1]
    found = say(f"claim.range {'inside' if inside else 'outside'}", low=seen[0], high=seen[1])
    return Claim(identity, "supported" if inside else "refuted", found)


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
    values = {"own": _ends(own), "other": _ends(other)}
    (own_least, own_most), (other_least, other_most) = _size(own), _size(other)
    if own_least > other_most:
        return Claim(identity, "supported", say("claim.own larger", **values))
    if other_least > own_most:
        return Claim(identity, "refuted", say("claim.other larger", **values))
    return Claim(identity, "undecided", say("claim.own open", **values))


def _size(change: Change) -> tuple[float, float]:
    """Return the least and the greatest size that an interval allows."""
    ends = (abs(change.low), abs(change.high))
    return (0.0 if change.low <= 0 <= change.high else min(ends)), max(ends)


def _encoder_light(evidence: Evidence) -> Claim | None:
    encoder, decoder = evidence.encoder, evidence.decoder
    if encoder is None or decoder is None or encoder.sites < 1 or decoder.sites < 1:
        return None
    lighter: list[bool] = []
    parts: list[Message] = []
    for key, one, other in (
        ("parameters", encoder.parameters, decoder.parameters),
        ("operations", encoder.operations, decoder.operations),
        ("seconds", encoder.seconds, decoder.seconds),
    ):
        if one is not None and other is not None:
            # A statement about the modules; the encoder has its own in many blocks, so totals are given too.
            values = {
                "encoder": one / encoder.sites,
                "decoder": other / decoder.sites,
                "all_encoder": one,
                "all_decoder": other,
            }
            lighter.append(values["encoder"] < values["decoder"])
            parts.append(say(f"claim.part {key}", **values))
    answer: Answer = "supported" if all(lighter) else "undecided" if any(lighter) else "refuted"
    return Claim("encoder-light", answer, say("claim.cost", parts=tuple(parts)))


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

STATEMENTS: tuple[str, ...] = tuple(_ANSWERS)
"""The document's statements, in the order in which they are answered."""


def needs_of(identity: str) -> Message:
    """Return what a study must have to speak to a statement."""
    return say(f"claim.needs {identity}")


def effect_values(effect: Effect, metric: Metric) -> dict[str, str | Message] | None:
    """Return mean and interval of an effect as sentences take them; None where it has no interval."""
    if effect.mean is None or effect.low is None or effect.high is None:
        return None
    return _change(effect.mean, effect.low, effect.high, metric)


def _change(mean: float, low: float, high: float, metric: Metric) -> dict[str, str | Message]:
    return {"amount": metric.amount(mean), "interval": metric.interval(low, high)}


def _ends(change: Change) -> tuple[float, float, float]:
    """Return a change of a natural logarithm as the style "factor" takes it."""
    return change.mean, change.low, change.high
