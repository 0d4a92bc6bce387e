from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from semalign.errors import StudyError
from semalign.judge import judge
from semalign.judge.advice import advise
from semalign.judge.claims import STATEMENTS, Claim, judge_claims
from semalign.judge.evidence import (
    AlignmentCost,
    Change,
    Effect,
    Evidence,
    Failures,
    Fusion,
    effect_of,
    paired_change,
    spread_ratio,
)

BETTER = Effect("better", False, 1.2, 0.8, 1.6, 0.9, 1.5)
SLIGHTLY_BETTER = Effect("better", True, 0.2, 0.1, 0.3, 0.12, 0.28)
WORSE = Effect("worse", False, -1.2, -1.6, -0.8, -1.5, -0.9)
SAME = Effect("equivalent", False, 0.1, -0.3, 0.5, -0.2, 0.4)
OPEN = Effect("inconclusive", False, 0.4, -1.0, 1.8, -0.7, 1.5, blocks_needed=41)
ALIASED = dataclasses.replace(OPEN, aliased=True)
UNKNOWN = Effect("inconclusive", False, None, None, None, None, None)
MORE, FEWER, NO_SIGN = Change(2.0, 1.0, 3.0, 5), Change(-2.0, -3.0, -1.0, 5), Change(0.5, -1.5, 2.5, 5)


def _claim(identity: str, **known: Any) -> Claim:
    found = [claim for claim in judge_claims(Evidence(0.5, **known)) if claim.id == identity]
    assert len(found) == 1
    return found[0]


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # parameters are counted, so nothing is open
    ("saves-parameters", {"parameters": (1000, 1012)}, "supported", "1,000 parameters with a fixed and 1,012"),
    ("saves-parameters", {"parameters": (1000, 1000)}, "refuted", ": 0 more"),
    # the gap of training and validation, learnable minus fixed
    ("avoids-overfitting", {"gap": MORE}, "supported", r"grows by \+2.00 points \[\+1.00, \+3.00\]"),
    ("avoids-overfitting", {"gap": FEWER}, "refuted", "shrinks"),
    ("avoids-overfitting", {"gap": Change(0.1, -0.2, 0.4, 5)}, "refuted", "inside ±0.5"),
    ("avoids-overfitting", {"gap": NO_SIGN}, "undecided", "its sign is open"),
    # stability: one clear sign is enough, two that disagree are none
    ("destabilises", {"spread": Change(2.0, 1.1, 3.6, 9)}, "supported", r"spread over seeds x 2.00 \[1.10, 3.60\]"),
    ("destabilises", {"spread": Change(0.5, 0.3, 0.9, 9)}, "refuted", "More stable"),
    ("destabilises", {"spread": Change(1.3, 0.8, 2.1, 9)}, "undecided", "No sign"),
    ("destabilises", {"failures": Failures(0, 7, 12, 0.016)}, "supported", "7 against 0 in 12 blocks"),
    ("destabilises", {"failures": Failures(0, 3, 12, 0.25)}, "undecided", "p = 0.250"),
    ("destabilises", {"spread": Change(0.5, 0.3, 0.9, 9), "spikes": MORE}, "undecided", "disagree"),
    # stages: the first must lie beyond all others
    ("early-layers", {"gradients": (Change(2, 1.5, 2.5, 5), Change(0, -0.5, 0.5, 5))}, "supported", "first stage"),
    ("early-layers", {"gradients": (Change(0, -0.5, 0.5, 5), MORE, Change(1, 0.6, 2, 5))}, "refuted", "in stage 2"),
    ("early-layers", {"gradients": (MORE, MORE)}, "undecided", "overlap"),
    # the competition contrast is below 0 where they compete
    ("compete", {"competition": WORSE}, "supported", "below 0"),
    ("compete", {"competition": BETTER}, "refuted", "above 0"),
    ("compete", {"competition": SAME}, "refuted", "smaller than the margin of 0.5"),
    ("compete", {"competition": OPEN}, "undecided", "open"),
    ("compete", {"competition": ALIASED}, "undecided", r"undecided \(aliased\)"),
    ("compete", {"competition": UNKNOWN}, "undecided", "too few complete blocks"),
    ("needs-more", {"with_more": BETTER}, "supported", "above 0"),
    ("needs-more", {"with_more": SAME}, "refuted", "smaller than the margin"),
    ("converges-faster", {"steps_to_90": Change(40, 10, 70, 5)}, "supported", r"\+40 steps more \[\+10, \+70\]"),
    ("converges-faster", {"steps_to_90": Change(-40, -70, -10, 5)}, "refuted", "fewer"),
    (
        "converges-faster",
        {"steps_to_90": Change(5, -30, 40, 5)},
        "undecided",
        r"\+5 \[-30, \+40\]: the sign is open",
    ),
    ("converges-faster", {"steps_to_90": Change(0.1, -0.2, 0.4, 5)}, "undecided", r"\+0.10 \[-0.20, \+0.40\]"),
    # learning against the same value fixed
    ("expressive", {"value_matched": SAME}, "supported", "smaller than the margin"),
    ("expressive", {"value_matched": SLIGHTLY_BETTER}, "supported", "smaller than the margin"),
    ("expressive", {"value_matched": WORSE}, "supported", "below 0"),
    ("expressive", {"value_matched": BETTER}, "refuted", "above 0"),
    ("expressive", {"value_matched": OPEN}, "undecided", "open"),
    # 0 to 0.5: inside by the interval of equivalence, outside by that of direction
    ("small-gain", {"gain": SLIGHTLY_BETTER}, "supported", r"\[\+0.12, \+0.28\], inside 0 to 0.5"),
    ("small-gain", {"gain": BETTER}, "refuted", "outside 0 to 0.5"),
    ("small-gain", {"gain": WORSE}, "refuted", "outside"),
    ("small-gain", {"gain": SAME}, "undecided", "may be below 0"),
    ("small-gain", {"gain": OPEN}, "undecided", "reaches beyond"),
    ("small-gain", {"gain": UNKNOWN}, "undecided", "too few"),
    ("small-gain", {"gain": dataclasses.replace(SLIGHTLY_BETTER, counts=False)}, "undecided", r"\]: open"),
    ("small-gain", {"gain": dataclasses.replace(WORSE, counts=False)}, "undecided", r"\]: open"),
    # ranges: ends included
    ("gate-range", {"gates": (0.0, 1.5)}, "supported", r"lie in \[0, 1.5\]"),
    ("gate-range", {"gates": (-0.02, 0.9)}, "refuted", "from -0.02 to 0.9"),
    ("temperature-range", {"log_scales": (-2.0, 2.0)}, "supported", r"\[-2, 2\]"),
    ("temperature-range", {"log_scales": (0.0, 2.31)}, "refuted", "0 to 2.31"),
    (
        "temperature-range",
        {"log_scales": (-0.1, 2.31), "log_scale_starts": (0.0, 2.3026)},
        "refuted",
        "from -0.1 to 2.31; the start, at 2.3, lies outside already",
    ),
    (
        "temperature-range",
        {"log_scales": (-0.1, 2.31), "log_scale_starts": (0.0, 2.0)},
        "refuted",
        r"to 2.31\.$",
    ),
    ("temperature-range", {"log_scales": (0.0, 1.0), "log_scale_starts": (0.0, 0.0)}, "supported", "lie in"),
    # per site, not in all
    ("encoder-light", {"encoder": AlignmentCost(6, 600), "decoder": AlignmentCost(2, 500)}, "supported", "100 ag"),
    (
        "encoder-light",
        {"encoder": AlignmentCost(2, 57864), "decoder": AlignmentCost(2, 3_048_000)},
        "supported",
        r"28,900 against 1,520,000 \(in all 57,900 against 3,050,000\)",
    ),
    ("encoder-light", {"encoder": AlignmentCost(1, 900), "decoder": AlignmentCost(2, 500)}, "refuted", "900 ag"),
    (
        "encoder-light",
        {"encoder": AlignmentCost(1, 200, seconds=0.3), "decoder": AlignmentCost(2, 500, seconds=0.4)},
        "undecided",
        r"seconds 0.3 against 0.2 \(in all 0.3 against 0.4\)",
    ),
]
"""A statement, what is known, its answer, and a part of the sentence."""


@pytest.mark.parametrize(("identity", "known", "answer", "text"), CASES)
def test_answers(identity: str, known: dict[str, Any], answer: str, text: str) -> None:
    """Each statement is answered by the interval that bears on it, with the number behind it."""
    claim = _claim(identity, **known)

    assert claim.answer == answer
    assert re.search(text, str(claim.finding))
    assert claim.id in STATEMENTS


def test_gate_and_temperature_follow_their_own_knob() -> None:
    """A quantity follows a knob when its least change by that knob is larger than its greatest by the other."""
    large, small = Change(-1.0, -1.2, -0.8, 5), Change(0.05, -0.1, 0.2, 5)
    right = Fusion(large, small, small, large)
    wrong = Fusion(small, large, large, small)
    unclear = Fusion(large, large, small, small)
    answers = [
        [_claim(name, fusion=fusion).answer for name in ("gate-strength", "temperature-shape")]
        for fusion in (right, wrong, unclear)
    ]

    assert answers == [["supported"] * 2, ["refuted"] * 2, ["undecided"] * 2]
    assert "x 0.368 [0.301, 0.449]" in str(_claim("gate-strength", fusion=right).finding)


def test_silence_is_no_answer() -> None:
    """A study that knows nothing answers nothing; what it knows is answered in the document's order."""
    known = Evidence(0.5, parameters=(10, 11), gain=OPEN, gates=(0.1, 0.6), gap=NO_SIGN)

    assert judge_claims(Evidence(0.5)) == ()
    assert [claim.id for claim in judge_claims(known)] == [
        "saves-parameters",
        "avoids-overfitting",
        "small-gain",
        "gate-range",
    ]


def test_mirrored_evidence_mirrors_the_answer() -> None:
    """What supports a statement about a sign refutes it when the arms are swapped."""
    opposite = {"supported": "refuted", "refuted": "supported", "undecided": "undecided"}
    for change, mirror in ((MORE, FEWER), (FEWER, MORE)):
        for field, name in (("gap", "avoids-overfitting"), ("steps_to_90", "converges-faster")):
            one, other = _claim(name, **{field: change}), _claim(name, **{field: mirror})
            assert other.answer == opposite[one.answer]


# --- from numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "spread", "lost", "answer"),
    [
        (0.3, 0.01, False, "supported"),
        (0.3, 0.01, True, "undecided"),
        (2.0, 0.01, True, "undecided"),
        (0.3, 0.0, False, "undecided"),
    ],
)
def test_no_claim_by_blocks_that_do_not_count(gain: float, spread: float, lost: bool, answer: str) -> None:
    """A gain of 0 to 0.5 is no finding while a run is lost, nor from copies of one block, as its verdict says too."""
    rows: list[tuple[str, int, float | None]] = []
    for seed in range(8):
        plain = 0.5 + spread * seed
        a = plain + gain / 100 + (0.0002 * (seed % 3) if spread else 0.0)
        rows += [("Baseline", seed, plain), ("A", seed, None if lost and seed == 5 else a)]
    judgement = judge(rows, baseline="Baseline", margin=0.25)

    gain_found = effect_of(judgement.estimates[0], judgement.verdicts[0], judgement.left_out)
    (claim,) = judge_claims(Evidence(0.25, gain=gain_found))

    assert claim.id == "small-gain"

    assert claim.answer == answer
    if not spread:
        assert "one observation" in str(judgement.verdicts[0].reason)


def test_paired_change_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, se 1/sqrt 3, t(0.975, 2) = 4.302653."""
    change = paired_change([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])

    assert (change.mean, change.n) == (2.0, 3)
    assert (change.low, change.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    with pytest.raises(StudyError, match=r"shape \(2,\) and \(3,\) are not pairs"):
        paired_change([1.0, 2.0], [1.0, 2.0, 3.0])


def test_spread_ratio_covers() -> None:
    """In 2000 drawn pairs of arms the 95 % interval holds the true ratio 1.5 about 95 times in 100."""
    generator = np.random.default_rng(20261123)
    covered = 0
    for _ in range(2000):
        shared = generator.normal(0, 1, 7)
        one, other = shared + generator.normal(0, 1, 7), shared + generator.normal(0, 1, 7)
        found = spread_ratio(1.5 * one, other)
        assert found is not None
        covered += found.low <= 1.5 <= found.high

    assert covered / 2000 == pytest.approx(0.95, abs=4 * (0.05 * 0.95 / 2000) ** 0.5)


def test_spread_ratio_laws() -> None:
    """Swapping the arms inverts ratio and interval; without spread there is no ratio; two blocks are too few."""
    one, other = [1.0, 2.0, 4.0, 3.5, 2.2], [1.0, 1.1, 1.4, 1.2, 1.3]
    here, there = spread_ratio(one, other), spread_ratio(other, one)
    assert here is not None
    assert there is not None

    assert (here.mean, here.low, here.high) == pytest.approx((1 / there.mean, 1 / there.high, 1 / there.low))
    assert spread_ratio(one, [1.0] * 5) is None
    with pytest.raises(StudyError, match="expected at least 3 pairs"):
        spread_ratio([1.0, 2.0], [1.0, 3.0])


# --- advice ---------------------------------------------------------------------------------------


ADVISED: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
    ({}, ("fixed", "gates learnable"), ("fixed",), ("run both",)),
    ({"gain": BETTER}, ("learnable", "gates learnable"), ("learnable",), ("quote",)),
    ({"gain": BETTER, "value_matched": SAME}, ("fixed at learned", "gates learnable"), ("fixed",), ("quote",)),
    ({"gain": BETTER, "value_matched": BETTER}, ("learnable", "gates learnable"), ("learnable",), ("quote",)),
    ({"gain": SLIGHTLY_BETTER}, ("fixed", "gates learnable"), ("fixed",), ("quote",)),
    ({"gain": WORSE, "fixed_gates": WORSE}, ("fixed", "gates learnable"), ("fixed",), ("quote",)),
    ({"gain": SAME, "fixed_gates": SAME}, ("fixed", "gates fixed"), ("fixed",), ("quote",)),
    ({"gain": OPEN, "fixed_gates": BETTER}, ("fixed", "gates fixed"), ("fixed",), ("run more",)),
    ({"gain": ALIASED, "fixed_gates": OPEN}, ("fixed", "gates learnable"), ("fixed",), ("run both",)),
]
"""What is known, and what is advised for the best result, for a quick baseline and for an ablation."""


@pytest.mark.parametrize(("known", "best", "quick", "ablation"), ADVISED)
def test_advice(
    known: dict[str, Any], best: tuple[str, ...], quick: tuple[str, ...], ablation: tuple[str, ...]
) -> None:
    """What is not shown to gain stays fixed, what is not shown to be idle stays learnable; each with its reason."""
    evidence = Evidence(0.5, **known)
    found = advise(evidence, judge_claims(evidence))

    assert [advice.situation for advice in found] == ["best", "quick", "ablation"]
    assert [tuple(one.key.removeprefix("claim.advise ") for one in advice.recommendations) for advice in found] == [
        best,
        quick,
        ablation,
    ]
    assert all(advice.reasons for advice in found)


def test_advice_quotes_its_reasons() -> None:
    """The quick baseline quotes decided claims; the ablation says how many seeds it takes."""
    evidence = Evidence(0.5, gain=OPEN, parameters=(1000, 1012), steps_to_90=Change(5, -30, 40, 5))
    _, quick, ablation = advise(evidence, judge_claims(evidence))

    assert [reason.key for reason in quick.reasons] == ["claim.why gain open", "claim.quoted supported"]
    assert str(quick.reasons[1]) == (
        "Supported: A fixed encoder temperature saves parameters. 1,000 parameters with a fixed and 1,012 with a "
        "learnable temperature: 12 more."
    )
    assert "at least 41 seeds" in str(ablation.reasons[0])
