"""What to do in each of the source document's three situations, and why.

The rule: what is not shown to gain at least something that may matter is kept fixed, because it is one knob less;
gates are kept learnable unless fixing them is shown to cost nothing that matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from semalign.judge.claims import Claim, effect_values
from semalign.judge.evidence import Effect, Evidence
from semalign.wording import Message, say

__all__ = ["Advice", "advise"]


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do in one of the document's situations, and why.

    Attributes:
        situation: "best", "quick" or "ablation".
        recommendations: what to do.
        reasons: why.
    """

    situation: str
    recommendations: tuple[Message, ...]
    reasons: tuple[Message, ...]

    @property
    def when(self) -> Message:
        """The situation as a sentence."""
        return say(f"claim.situation {self.situation}")


def advise(evidence: Evidence, claims: Sequence[Claim]) -> tuple[Advice, ...]:
    """Return the advice for the best result, for a quick baseline and for an ablation, in this order.

    Args:
        evidence: what the study knows.
        claims: its answers (`semalign.judge.claims.judge_claims`); the reasons quote those that are not undecided.
    """
    temperature, why = _temperature(evidence)
    gates, why_gates = _gates(evidence)
    by_id = {claim.id: claim for claim in claims if claim.answer != "undecided"}
    quoted = [by_id[name] for name in ("saves-parameters", "converges-faster", "destabilises") if name in by_id]
    # A quick baseline does not train twice to find a value.
    quick = "learnable" if temperature == "learnable" else "fixed"
    return (
        Advice("best", (_do(temperature), _do(gates)), (*why, why_gates)),
        Advice("quick", (_do(quick),), (why[0], *(_quote(claim) for claim in quoted))),
        _ablation(evidence),
    )


def _do(what: str) -> Message:
    return say(f"claim.advise {what}")


def _quote(claim: Claim) -> Message:
    return say(f"claim.quoted {claim.answer}", statement=claim.statement, finding=claim.finding)


def _temperature(evidence: Evidence) -> tuple[str, tuple[Message, ...]]:
    gain, values = _judged(evidence.gain, evidence)
    if gain is None:
        return "fixed", (say("claim.why gain unknown"),)
    if gain.word == "better" and not gain.below_margin:
        matters = say("claim.why gain matters", **values)
        matched = evidence.value_matched
        if matched is not None and (matched.word == "equivalent" or matched.below_margin):
            return "fixed at learned", (matters, say("claim.why value pays"))
        return "learnable", (matters,)
    margin = {"margin": evidence.margin}
    reason = {
        "better": say("claim.why gain below margin", **values, **margin),
        "worse": say("claim.why loss", **values),
        "equivalent": say("claim.why no gain", **values, **margin),
        "inconclusive": say("claim.why gain open", **values),
    }
    return "fixed", (reason[gain.word],)


def _gates(evidence: Evidence) -> tuple[str, Message]:
    effect, values = _judged(evidence.fixed_gates, evidence)
    if effect is None:
        return "gates learnable", say("claim.why gates unknown")
    if effect.word == "equivalent" or effect.below_margin:
        return "gates fixed", say("claim.why gates idle", margin=evidence.margin, **values)
    if effect.word == "better":
        return "gates fixed", say("claim.why gates hurt", **values)
    return "gates learnable", say(f"claim.why gates {'needed' if effect.word == 'worse' else 'open'}", **values)


def _ablation(evidence: Evidence) -> Advice:
    gain, values = _judged(evidence.gain, evidence)
    if gain is None:
        reasons = (say("claim.why gain unknown"), say("claim.why confounded"))
        return Advice("ablation", (_do("run both"),), reasons)
    margin = evidence.margin
    if gain.word != "inconclusive":
        return Advice("ablation", (_do("quote"),), (say("claim.why decided", margin=margin, **values),))
    if gain.blocks_needed is not None:
        reason = say("claim.why blocks", margin=margin, blocks=gain.blocks_needed)
    else:
        reason = say("claim.why open", margin=margin, **values)
    return Advice("ablation", (_do("run more"),), (reason,))


def _judged(effect: Effect | None, evidence: Evidence) -> tuple[Effect | None, dict[str, str | Message]]:
    """Return the effect where the study judges it, with mean and interval for a sentence."""
    values = None if effect is None or effect.aliased else effect_values(effect, evidence.metric)
    return (None, {}) if values is None else (effect, values)
