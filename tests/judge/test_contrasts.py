from __future__ import annotations

import pytest

from semalign.errors import StudyError
from semalign.judge import ABLATION_ARMS, ablation_contrasts, against_baseline, factor_effect, judge


def test_the_documents_effects() -> None:
    """Four primary effects and three controls, with their weights."""
    weights = {contrast.name: (contrast.family, dict(contrast.weights)) for contrast in ablation_contrasts()}

    assert weights == {
        "A - Baseline": ("primary", {"A": 1, "Baseline": -1}),
        "B - Baseline": ("primary", {"B": 1, "Baseline": -1}),
        "C - Baseline": ("primary", {"C": 1, "Baseline": -1}),
        "competition: (A - Baseline) - (C - B)": ("primary", {"A": 1, "Baseline": -1, "C": -1, "B": 1}),
        "no text - Baseline": ("controls", {"no text": 1, "Baseline": -1}),
        "random vectors - Baseline": ("controls", {"random vectors": 1, "Baseline": -1}),
        "mask texts - Baseline": ("controls", {"mask texts": 1, "Baseline": -1}),
    }
    assert ABLATION_ARMS == ("Baseline", "A", "B", "C", "no text", "random vectors", "mask texts")


@pytest.mark.parametrize(
    ("arms", "names"),
    [
        (["Baseline", "A"], ["A - Baseline"]),
        (["Baseline", "B", "C"], ["B - Baseline", "C - Baseline"]),
        (["Baseline", "A", "no text"], ["A - Baseline", "no text - Baseline"]),
        (["A", "B"], []),
    ],
)
def test_part_of_the_arms(arms: list[str], names: list[str]) -> None:
    """An ablation with some of the arms asks for the effects that these arms can speak to."""
    assert [contrast.name for contrast in ablation_contrasts(arms)] == names


def test_competition_by_hand() -> None:
    """The temperature gains 1 point with learnable gates and 3 with fixed ones: they compete, by 2 points."""
    gains = [0.0, 0.1, -0.1, 0.05, -0.05]
    rows = {
        "Baseline": {seed: 0.5 + seed / 100 for seed in range(5)},
        "A": {seed: 0.51 + seed / 100 + gain / 100 for seed, gain in enumerate(gains)},
        "B": {seed: 0.48 + seed / 100 for seed in range(5)},
        "C": {seed: 0.51 + seed / 100 for seed in range(5)},
    }
    contrasts = ablation_contrasts(["Baseline", "A", "B", "C"])
    estimate, verdict = judge(rows, baseline="Baseline", contrasts=contrasts, margin=0.5).of(contrasts[3].name)

    assert estimate.mean == pytest.approx(-2.0)
    assert verdict.word == "worse"
    assert ": temperature and gate compete, -2.00 mIoU points over 5 blocks" in verdict.reason


def test_every_other_arm() -> None:
    """Without pre-registered contrasts every arm is compared with the baseline."""
    contrasts = against_baseline(["x", "y", "z"], "y")

    assert [dict(contrast.weights) for contrast in contrasts] == [{"x": 1, "y": -1}, {"z": 1, "y": -1}]


def test_factor_effect() -> None:
    """A factor of four runs weighs each by ±1/2; unbalanced signs are refused."""
    effect = factor_effect("temperature", ["00", "01", "10", "11"], [-1, 1, -1, 1], family="factors")

    assert dict(effect.weights) == {"00": -0.5, "01": 0.5, "10": -0.5, "11": 0.5}
    assert effect.family == "factors"
    with pytest.raises(StudyError, match="the signs of a factor"):
        factor_effect("gate", ["0", "1"], [1, 1])
    with pytest.raises(StudyError, match="has 2 signs for the arms 0, 1, 2, expected one sign per arm"):
        factor_effect("gate", ["0", "1", "2"], [1, -1])
