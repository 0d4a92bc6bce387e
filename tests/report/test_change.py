from __future__ import annotations

import pytest

from semalign.judge import judge
from semalign.report.change import changes_of


def rows(differences: list[float | None]) -> dict[str, dict[int, float | None]]:
    """Return scores of two arms that differ by these points; None for a failed run."""
    plain = {seed: 0.5 + seed / 100 for seed in range(len(differences))}
    other = {seed: None if d is None else plain[seed] + d / 100 for seed, d in enumerate(differences)}
    return {"a": dict(plain), "b": other}


def test_thresholds_by_hand() -> None:
    """1, 2, 3: se = 1/sqrt(3); t(.975, 2) = 4.3027 gives 2.484, t(.95, 2) = 2.920 gives 1.686, beyond the margin."""
    (change,) = changes_of(judge(rows([1, 2, 3]), baseline="a", margin=1.0))

    assert change.word == "inconclusive"
    assert change.thresholds is not None
    assert change.thresholds.direction == pytest.approx(2.4841, abs=1e-3)
    assert change.thresholds.equivalent is None


def test_equivalence_threshold_by_hand() -> None:
    """At a margin of 3 the mean must be nearer to 0 than 3 - 1.686."""
    (change,) = changes_of(judge(rows([1, 2, 3]), baseline="a", margin=3.0))

    assert change.thresholds is not None
    assert change.thresholds.equivalent == pytest.approx(3 - 1.6859, abs=1e-3)


def test_one_block_turns_the_verdict_and_a_little_less_does_not() -> None:
    """The shift that is named changes the word, a hundredth less does not; no other block needs less."""
    values = [1.0, 1.2, 0.8, 1.1, 0.3]
    judged = judge(rows(list(values)), baseline="a", margin=0.5)
    (change,) = changes_of(judged)
    one = change.one_block

    assert judged.verdicts[0].word == "better"
    assert one is not None

    def word(seed: int, shift: float) -> str:
        moved = [value + shift * (place == seed) for place, value in enumerate(values)]
        return judge(rows(list(moved)), baseline="a", margin=0.5).verdicts[0].word

    assert word(one.seed, one.shift) == one.word != "better"
    side = 1 if one.shift > 0 else -1
    for seed in range(5):
        for sign in (1, -1):
            assert word(seed, sign * (abs(one.shift) - 0.06)) == "better"
    assert word(one.seed, one.shift - 0.011 * side) == "better"


@pytest.mark.parametrize("values", [[2.0, 2.1, 1.9, 2.05, 0.2], [2.0, 3.0, 2.5]])
def test_without_one_block(values: list[float]) -> None:
    """A verdict that rests on one block is another without it, as judging the rest by its own boundary says."""
    (change,) = changes_of(judge(rows(list(values)), baseline="a", margin=0.5))

    assert change.without is not None
    for seed in range(len(values)):
        rest = [value for place, value in enumerate(values) if place != seed]
        expected = judge(rows(list(rest)), baseline="a", margin=0.5).verdicts[0].word
        assert change.without.get(seed, change.word) == expected


def test_lost_blocks_are_not_moved() -> None:
    """Where lost runs keep an effect open, that is what is said, and nothing is looked for."""
    (change,) = changes_of(judge(rows([3.0, 3.1, 2.9, None]), baseline="a", margin=0.5))

    assert change.by_lost
    assert change.lost == 1
    assert change.one_block is None
    assert change.without is None


def test_looks_keep_their_boundaries() -> None:
    """At the first of three looks the threshold is 6.837 standard errors, not the 2.776 of a study judged once."""
    values: list[float | None] = [1.0, 2.0, 3.0, 2.0, 1.0]
    (change,) = changes_of(judge(rows(values), baseline="a", margin=1.0, looks=(5, 8, 12)))
    (fixed,) = changes_of(judge(rows(values), baseline="a", margin=1.0))

    assert change.thresholds is not None
    assert fixed.thresholds is not None
    assert change.thresholds.direction / fixed.thresholds.direction == pytest.approx(6.837 / 2.7764, rel=1e-3)
    (early,) = changes_of(judge(rows(values[:3]), baseline="a", margin=1.0, looks=(5, 8, 12)))
    assert early.thresholds is None
