from __future__ import annotations

import numpy as np
import pytest

from semalign.errors import StudyError
from semalign.judge import ABLATION_ARMS, ablation_contrasts, against_baseline, factor_effect, judge
from semalign.judge.contrasts import aliases, factor_contrasts


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
    assert ": temperature and gate compete, -2.00 mIoU points over 5 blocks" in str(verdict.reason)


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


def two_levels(factors: int, *, half: bool = False) -> dict[str, dict[str, str]]:
    """Return the arms of a 2-level design, named by their levels, in the order of counting."""
    arms = {}
    for number in range(2**factors):
        bits = [number >> place & 1 for place in range(factors)]
        if not (half and sum(bits) % 2):
            arms["".join(map(str, bits))] = {f"f{place}": str(bit) for place, bit in enumerate(bits)}
    return arms


def test_factors_by_hand() -> None:
    """In a 2 x 2 design each factor weighs its arms by ±1/2, and so does the product of both."""
    contrasts = {one.name: one for one in factor_contrasts(two_levels(2), "00")}

    assert dict(contrasts["f0: 1 - 0"].weights) == {"00": -0.5, "10": 0.5, "01": -0.5, "11": 0.5}
    assert dict(contrasts["f1: 1 - 0"].weights) == {"00": -0.5, "10": -0.5, "01": 0.5, "11": 0.5}
    assert dict(contrasts["f0 x f1"].weights) == {"00": 0.5, "10": -0.5, "01": -0.5, "11": 0.5}
    assert [one.family for one in contrasts.values()] == ["primary", "primary", "interactions"]


@pytest.mark.parametrize(("half", "effects"), [(False, 4 + 6), (True, 4)])
def test_factors_agree_with_least_squares(half: bool, effects: int) -> None:
    """Main and two-factor effects of 2^4 runs are twice the coefficients of a regression on coded factors."""
    levels = two_levels(4, half=half)
    arms = list(levels)
    coded = np.array([[1.0 if levels[arm][f"f{place}"] == "1" else -1.0 for place in range(4)] for arm in arms])
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] if not half else []
    design = np.column_stack([np.ones(len(arms)), coded, *(coded[:, a] * coded[:, b] for a, b in pairs)])
    scores = np.random.default_rng(3).normal(50, 7, len(arms))
    expected = 2 * np.linalg.lstsq(design, scores, rcond=None)[0][1:]

    contrasts = factor_contrasts(levels, "0000")
    found = [sum(one.weights[arm] * score for arm, score in zip(arms, scores, strict=True)) for one in contrasts]

    assert len(contrasts) == effects
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_many_levels() -> None:
    """Each level is compared with the baseline's over all settings of the other factor, and nothing else is."""
    levels = {a + b: {"f": a, "g": b} for a in "012" for b in "01"}
    contrasts = {one.name: dict(one.weights) for one in factor_contrasts(levels, "10")}

    assert contrasts == {
        "f: 0 - 1": {"00": 0.5, "01": 0.5, "10": -0.5, "11": -0.5},
        "f: 2 - 1": {"20": 0.5, "21": 0.5, "10": -0.5, "11": -0.5},
        "g: 1 - 0": {arm: (1 if arm[1] == "1" else -1) / 3 for arm in levels},
    }
    with pytest.raises(StudyError, match="no arm has the levels of the baseline 'x'"):
        factor_contrasts(levels, "x")


def test_aliases_are_equal_estimates() -> None:
    """What a half fraction calls aliased has the same estimate up to sign from any scores; a full design has none."""
    half = two_levels(4, half=True)
    named = aliases(half, "0000")
    signs = {f: np.array([1.0 if half[arm][f] == "1" else -1.0 for arm in half]) for f in ("f0", "f1", "f2", "f3")}

    def column(effect: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(np.prod([signs[f] for f in effect.split(" x ")], axis=0))

    assert len(named) == 4 + 3
    for effect, others in named.items():
        for other in others.split(", "):
            assert abs(column(effect) @ column(other)) == len(half)
    assert aliases(two_levels(4), "0000") == {}
    assert aliases({}, "x") == {}
