from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from semalign.inspection.text_use import Counterfactual, Interval, judge_text_use, paired_interval
from semalign.metrics import mean_iou
from semalign.results import Score
from semalign.wording import say


def score_from(counts: NDArray[np.int64]) -> Score:
    """Return a score of images x classes x 3 counts."""
    n_images, n_classes = counts.shape[:2]
    names = tuple(f"image{k:03d}" for k in range(n_images))
    return Score("val", tuple("abcdefg"[:n_classes]), names, counts, np.zeros((n_classes, n_classes), dtype=np.int64))


def drawn(seed: int, n_images: int = 31, shift: float = 0.0) -> NDArray[np.int64]:
    """Return images x 5 x 3 counts of masks that depend on no seed; ``shift`` moves hits to misses."""
    pixels = np.random.default_rng(0).integers(200, 2000, size=(n_images, 5))
    rng = np.random.default_rng(seed)
    hits = np.clip(0.7 - shift + 0.05 * rng.standard_normal((n_images, 5)), 0, 1)
    found = (hits * pixels).astype(np.int64)
    false = (pixels * 0.1).astype(np.int64)
    return np.stack([found, false, pixels - found], axis=-1)


def changes(*pairs: tuple[str, NDArray[np.int64]], true: Score) -> list[Counterfactual]:
    """Return counterfactuals with intervals."""
    found = []
    for name, counts in pairs:
        score = score_from(counts)
        interval = paired_interval(true, score, true.images) if len(true.images) >= 20 else None
        found.append(Counterfactual(name, score, interval=interval))
    return [*found, Counterfactual("masks", None, say("inspection.inapplicable.shared-text"))]


def test_an_interval_by_hand() -> None:
    """Three images of one class and four pixels each; one of the first's hits becomes a miss."""
    true = score_from(np.array([[[3, 0, 1]], [[1, 2, 1]], [[4, 0, 0]]]))
    changed = score_from(np.array([[[2, 0, 2]], [[1, 2, 1]], [[4, 0, 0]]]))
    # Union 12 in all: IoU 8/12, then 7/12; influence (I - IoU U)/12.
    before = np.array([3 - 8 / 12 * 4, 1 - 8 / 12 * 4, 4 - 8 / 12 * 4]) / 12
    after = np.array([2 - 7 / 12 * 4, 1 - 7 / 12 * 4, 4 - 7 / 12 * 4]) / 12
    se = np.sqrt(3 / 2 * np.square(after - before).sum())

    found = paired_interval(true, changed, true.images)

    assert found.clusters == 3
    assert (found.low + found.high) / 2 == pytest.approx(-1 / 12)
    assert found.high - found.low == pytest.approx(2 * 4.302652729911275 * se)  # t at .975, 2 degrees of freedom
    assert found.high_equivalence - found.low_equivalence == pytest.approx(2 * 2.919985580355516 * se)
    assert found.p == pytest.approx(2 * stats.t.sf(1 / 12 / se, 2))


def test_the_spread_is_that_of_the_jackknife() -> None:
    """Leaving out one image at a time gives nearly the same standard error, for a difference of the same images."""
    true, changed = drawn(1, 151), drawn(2, 151, shift=0.02)
    found = paired_interval(score_from(true), score_from(changed), score_from(true).images)
    se = (found.high - found.low) / 2 / stats.t.isf(0.025, 150)
    kept = [np.delete(np.arange(151), place) for place in range(151)]
    left = [mean_iou(changed[rows]) - mean_iou(true[rows]) for rows in kept]

    assert se == pytest.approx(np.sqrt(150**2 / 151 * np.var(left, ddof=1)), rel=0.02)


def test_clusters_widen_the_interval() -> None:
    """Images of one sequence count once: copies of every image add nothing to what is known."""
    true, changed = drawn(1, 23), drawn(2, 23, shift=0.02)
    alone = paired_interval(score_from(true), score_from(changed), score_from(true).images)
    twice = score_from(np.repeat(true, 3, axis=0))
    groups = [str(place // 3) for place in range(69)]

    found = paired_interval(twice, score_from(np.repeat(changed, 3, axis=0)), groups)

    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(alone))


def test_answers() -> None:
    """Ignored, used, not to be told, too few images, not one count changed, no text."""
    true = score_from(drawn(1))
    near = drawn(1)
    near[4, 2] += [1, 0, -1]
    cases: list[tuple[list[Counterfactual], str, str]] = [
        (changes(("removed", near), ("random", drawn(1)), true=true), "ignores", r"less than ±0\.5 points \(90 %"),
        (
            changes(("removed", drawn(1)), ("random", drawn(1)), true=true),
            "ignores",
            "no count of the 31 images",
        ),
        (
            changes(("removed", drawn(2, shift=0.1)), ("random", near), true=true),
            "uses",
            r"95 % intervals: removed -\d",
        ),
        (
            changes(("removed", drawn(2)), ("random", near), true=true),
            "cannot be told",
            "no change is clearly",
        ),
        (changes(true=true), "no text", "no text that could be changed"),
    ]
    for changed, word, message in cases:
        use = judge_text_use(true, changed, true.images)
        assert use.word == word, use.sentence
        assert re.search(message, str(use.sentence)), use.sentence
        assert "\n" not in str(use.sentence)
        json.dumps(use.to_dict(), allow_nan=False)

    few = score_from(drawn(1, 19))
    use = judge_text_use(few, changes(("removed", drawn(2, 19, 0.3)), true=few), few.images)
    assert (use.word, str(use.covers)) == ("cannot be told", "nothing: fewer than 20 images")
    assert "19 images are too few" in str(use.sentence)
    same = judge_text_use(few, changes(("removed", drawn(1, 19)), true=few), few.images)
    assert same.word == "ignores"


def test_text_as_a_constant() -> None:
    """A model that needs a text but not the image's own is said to."""
    true = score_from(drawn(1))
    use = judge_text_use(
        true, changes(("removed", drawn(2, shift=0.1)), ("shuffled", drawn(1)), true=true), true.images
    )

    assert use.word == "uses"
    assert "with texts shuffled between images, the mIoU changes by less than ±0.5 points" in str(use.sentence)
    assert "31 images, each its own cluster" in str(use.covers)


def test_several_changes_need_a_correction() -> None:
    """With several changes, one p below .05 alone is no use yet."""
    true = score_from(drawn(1))
    interval = Interval(0.0001, 0.02, 0.001, 0.019, 0.03, 31)
    items = [Counterfactual(name, score_from(drawn(2)), interval=interval) for name in ("removed", "random")]

    assert judge_text_use(true, items, true.images).word == "cannot be told"
    surer = [items[0], dataclasses.replace(items[1], interval=dataclasses.replace(interval, p=0.0249))]
    assert judge_text_use(true, surer, true.images).word == "uses"
