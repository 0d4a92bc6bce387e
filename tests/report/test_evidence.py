from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from semalign.align.knobs import resolve_knobs
from semalign.judge.claims import judge_claims
from semalign.judge.evidence import Evidence
from semalign.presets import PRESETS, Side
from semalign.report.evidence import (
    gate_effects,
    knobs_of,
    learnable_start,
    loss_spikes,
    steps_to_share,
    study_evidence,
)
from semalign.report.numbers import load_study
from semalign.results import Curve
from tests.report.study_folder import StudyFolder, designed, paired


def answers(evidence: Evidence) -> dict[str, str]:
    """Return the answers by statement."""
    return {claim.id: claim.answer for claim in judge_claims(evidence)}


def plain(arm: str, seed: int) -> float:
    """Return scores in which a learnable encoder temperature gains 2 points and nothing else does anything."""
    gain = 2.0 * ("encoder temperature learnable" in arm or arm in ("A", "C", "learnable"))
    return 40 + 3 * (seed % 5) + gain + 0.01 * ((7 * seed + len(arm)) % 5)


def test_starts_are_those_of_the_model() -> None:
    """A learnable temperature starts where the model's would, put inside its bounds."""
    for preset in PRESETS:
        for side in get_args(Side):
            knobs = resolve_knobs(preset, side, temperature={"learnable": True}).temperature
            low, high = knobs.bounds or (-math.inf, math.inf)
            assert learnable_start(preset, side) == pytest.approx(min(max(knobs.init, low), high)), (preset, side)


@pytest.mark.parametrize(
    ("preset", "flags", "starts"),
    [
        ("recommended", (False, True, True, True), (0.0, math.log(10))),
        # The document's recipe starts above its own clamp.
        ("seed", (False, True, True, True), (2.0, 2.0)),
        ("transformer", (False, False, False, False), (0.0, 0.0)),
        ("clip", (True, True, True, True), (math.log(1 / 0.07), math.log(1 / 0.07))),
    ],
)
def test_knobs_of_presets(tmp_path: Path, preset: str, flags: tuple[bool, ...], starts: tuple[float, float]) -> None:
    """What a study does not set is the preset's."""
    numbers = load_study(paired(tmp_path / "study", options={"model": {"preset": preset}}).path)
    knobs = knobs_of(numbers, "A")
    found = (knobs.encoder_temperature, knobs.encoder_gate, knobs.decoder_temperature, knobs.decoder_gate)

    assert found == flags
    assert knobs.starts == pytest.approx(starts)


def test_documents_four_arms(tmp_path: Path) -> None:
    """A gains 2 points with both gates, C - B as much with fixed ones: a gain, no competition, gates idle."""
    evidence = study_evidence(load_study(designed(tmp_path / "s", "ablations", plain, blocks=5, seeds=5).path))

    assert evidence.gain is not None
    assert evidence.gain.mean == pytest.approx(2, abs=0.05)
    assert evidence.fixed_gates is not None
    assert evidence.fixed_gates.word == "equivalent"
    assert answers(evidence)["compete"] == "refuted"
    assert evidence.value_matched is None


def test_factorial_speaks_like_the_four_arms(tmp_path: Path) -> None:
    """The main effect of the encoder's temperature is the gain; its interaction with the gate, turned, the rest."""

    def points(arm: str, seed: int) -> float:
        both = "encoder temperature learnable" in arm and "encoder gate fixed" in arm
        return plain(arm, seed) + 1.5 * both

    numbers = load_study(designed(tmp_path / "s", "factorial", points, blocks=5, seeds=5).path)
    evidence = study_evidence(numbers)

    # The gain is 2 with learnable gates and 3.5 with fixed ones: 2.75 on average, and half the difference is -0.75.
    assert evidence.gain is not None
    assert evidence.gain.mean == pytest.approx(2.75, abs=0.05)
    assert evidence.competition is not None
    assert evidence.competition.mean == pytest.approx(-0.75, abs=0.05)
    assert evidence.competition.word == "worse"
    assert evidence.competition.low is not None
    assert evidence.competition.high is not None
    assert evidence.competition.low < -0.75 < evidence.competition.high < 0
    assert evidence.fixed_gates is None
    assert gate_effects(numbers) == ("encoder gate: fixed - learnable", "decoder gate: fixed - learnable")


def test_half_fraction_is_aliased(tmp_path: Path) -> None:
    """A half fraction answers for the temperature, and not for temperature and gate together."""
    evidence = study_evidence(load_study(designed(tmp_path / "s", "half-fraction", plain, blocks=5, seeds=5).path))

    assert evidence.gain is not None
    assert evidence.gain.word == "better"
    assert evidence.competition is not None
    assert evidence.competition.aliased
    (claim,) = [claim for claim in judge_claims(evidence) if claim.id == "compete"]
    assert (claim.answer, claim.word.key) == ("undecided", "verdict.aliased")


def test_value_matched(tmp_path: Path) -> None:
    """Where the fixed value does as well as the learning, a fixed temperature limits nothing."""

    def points(arm: str, seed: int) -> float:
        return plain(arm, seed) + 2.0 * (arm == "fixed at the learned value")

    evidence = study_evidence(load_study(designed(tmp_path / "s", "value-matched", points, blocks=5, seeds=5).path))

    assert answers(evidence)["expressive"] == "supported"
    assert evidence.gain is not None
    assert evidence.gain.mean == pytest.approx(2, abs=0.05)


def test_placement_tells_what_alignments_cost(tmp_path: Path) -> None:
    """Parameters of both alignments follow from the arms without them: 90 in three sites, 400 in four."""

    def facts(arm: str, seed: int) -> dict[str, Any]:
        count = 1000
        count -= 90 * ("encoder stages none" in arm)
        count -= 400 * ("decoder levels none" in arm)
        names = [f"visual_encoder.stages.{stage}.blocks.0.alignment.q_proj.weight" for stage in (1, 2, 3)]
        names += [f"decoder.alignments.{level}.q_proj.weight" for level in range(4)]
        return {"parameters": count, "groups": [{"role": "weights", "names": names}]}

    folder = designed(tmp_path / "s", "placement", plain, blocks=2, seeds=2, facts=facts)
    evidence = study_evidence(load_study(folder.path))

    assert evidence.encoder is not None
    assert evidence.decoder is not None
    assert (evidence.encoder.sites, evidence.encoder.parameters) == (3, 90)
    assert (evidence.decoder.sites, evidence.decoder.parameters) == (4, 400)
    assert answers(evidence) == {"encoder-light": "supported"}


def curves(arm: str, seed: int) -> Mapping[str, Curve]:
    """Return curves in which freeing the temperature doubles the first stage's gradients and delays the score."""
    free, gate = arm in ("A", "C"), arm in ("Baseline", "A")
    found: dict[str, Curve] = {
        "val/miou": [(10, 0.1), (20, 0.3 if free else 0.4), (30, 0.4 + seed / 1000)],
        "train/loss": [(step, 2.0) for step in range(9)] + [(9, 9.0 if free else 2.0)],
    }
    found["decoder.alignments.0/scale"] = [(0, 10.0), (1, 20.0)]
    for stage, factor in ((1, 2.0), (3, 1.0)):
        site = f"visual_encoder.stages.{stage}.blocks.0.alignment"
        found[f"{site}/grad_norm"] = [(0, 0.0), (1, (factor if free else 1.0) * (1 + seed / 100))]
        found[f"{site}/gate"] = [(0, 0.5), (1, 0.9 if gate else 0.5)]
        found[f"{site}/scale"] = [(0, 0.25), (1, 0.25 * math.e if free else 0.25)]
        found[f"{site}/strength"] = [(0, 0.1), (1, (0.3 if gate else 0.1) * (1 + seed / 100))]
        found[f"{site}/entropy"] = [(0, 1.0), (1, (0.5 if free else 0.9) - seed / 1000)]
    return found


def test_curves_by_hand(tmp_path: Path) -> None:
    """Gradients double in the first stage, one spike more, 90 % comes later, each knob does its own."""
    folder = designed(tmp_path / "s", "ablations", plain, blocks=5, seeds=5, curves=curves)
    evidence = study_evidence(load_study(folder.path))

    assert evidence.gradients is not None
    assert [change.mean for change in evidence.gradients] == pytest.approx([math.log(2), 0])
    assert evidence.spikes is not None
    assert evidence.spikes.mean == 1
    # The encoder's l goes from 0 to 1, the decoder's from log 10 to log 20.
    assert evidence.log_scales == pytest.approx((0, math.log(20)))
    assert evidence.log_scale_starts == pytest.approx((0, math.log(10)))
    assert evidence.gates == pytest.approx((0.5, 0.9))
    assert evidence.steps_to_90 is not None
    # 0.36 of 0.4 lies on the line from 0.3 to 0.4 at step 26, and on the one from 0.1 to 0.4 at 18.67.
    assert evidence.steps_to_90.mean == pytest.approx(26 - 18.667, abs=0.2)
    assert evidence.fusion is not None
    assert evidence.fusion.strength_by_gate.mean == pytest.approx(math.log(3))
    assert evidence.fusion.entropy_by_temperature.mean == pytest.approx(math.log(0.5 / 0.9), abs=0.01)
    found = answers(evidence)
    for supported in ("early-layers", "destabilises", "converges-faster", "gate-strength", "temperature-shape"):
        assert found[supported] == "supported"


def test_blocks_after_the_last_look_say_nothing(tmp_path: Path) -> None:
    """With looks the figures of runs, too, are those of the blocks that are judged."""
    early = designed(tmp_path / "early", "ablations", plain, blocks=5, curves=curves)
    later = designed(tmp_path / "later", "ablations", plain, blocks=7, curves=curves)

    assert study_evidence(load_study(later.path)) == study_evidence(load_study(early.path))


def test_command_says_nothing_of_knobs(tmp_path: Path) -> None:
    """The options of a user's own command are names of their own, whatever they are called."""
    folder = StudyFolder(tmp_path / "s")
    arms = {"Baseline": {}, "A": {"align.encoder.temperature.learnable": True}}
    folder.study(arms, seeds=2, command="train --seed {seed} --out {out}")
    for seed in range(2):
        for arm in arms:
            folder.run(arm, seed, [f"{40 + seed}/100"] * 3)

    assert judge_claims(study_evidence(load_study(folder.path))) == ()


def test_spikes_need_nine_before_them() -> None:
    """The first losses are high by nature."""
    assert loss_spikes([(0, 99.0), *((step, 1.0) for step in range(1, 9))]) == 0
    assert loss_spikes([(step, 1.0) for step in range(9)] + [(9, 1.51), (10, 1.49)]) == 1


def test_steps_to_share_ends() -> None:
    """One point says nothing; a first point high enough is the answer."""
    assert steps_to_share([(10, 0.4)], 0.9) is None
    assert steps_to_share([(10, 0.4), (20, 0.4)], 0.9) == 10


def test_options_left_open_are_as_the_runs_resolved_them(tmp_path: Path) -> None:
    """An arm that shortens the training has less of it than one that leaves the default, which only its runs know."""
    folder = StudyFolder(tmp_path / "s")
    learns = {"align.encoder.temperature.learnable": True}
    arms: dict[str, dict[str, Any]] = {
        "fixed": {},
        "learnable": learns,
        "fixed, short": {"train.epochs": 5},
        "learnable, short": {**learns, "train.epochs": 5},
    }
    weights = {"learnable": 1, "fixed": -1, "learnable, short": -1, "fixed, short": 1}
    folder.study(arms, seeds=4, contrasts=[{"name": "more", "weights": weights}])
    for arm, own in arms.items():
        for seed in range(4):
            # Learning gains 6 points where training is short, and nothing where it is long.
            gain = 0.06 * ("learnable, short" in arm) + 0.001 * ((3 * seed + len(arm)) % 4)
            config = {"train": {"epochs": own.get("train.epochs", 24)}, "data": {"n_train": 240}}
            folder.run(arm, seed, [f"{0.4 + gain:.4f}"] * 2, names=("road", "car"), facts={"config": config})

    numbers = load_study(folder.path)

    assert [knobs_of(numbers, arm).more for arm in arms] == [(24, 240), (24, 240), (5, 240), (5, 240)]
    assert answers(study_evidence(numbers))["needs-more"] == "refuted"
