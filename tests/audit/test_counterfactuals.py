from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from semalign.audit.counterfactuals import (
    COUNTERFACTUALS,
    Counterfactual,
    Interval,
    counterfactual_guidances,
    judge_text_use,
    paired_interval,
    score_counterfactuals,
)
from semalign.data.leaks import NameFinder
from semalign.data.open import open_data
from semalign.metrics import mean_iou
from semalign.results import Score
from semalign.train.run_text import RunText, encode_classes, prepare_run_text
from tests.small import CLASSES, make_data, scenes


def score_of(guidance: RunText) -> Score:
    """Return a score of nothing."""
    return Score("val", ("a",), ("x",), np.ones((1, 1, 3), dtype=np.int64), np.ones((1, 1), dtype=np.int64))


def test_texts_of_images_changed_in_every_way() -> None:
    """Removed: padding alone; shuffled: another image's rows; permuted and random: other vectors, the same rows."""
    source = scenes(n_val=3)
    guidance = prepare_run_text(source, ["val"], kind="images", encoder="table")
    assert guidance.index is not None
    assert guidance.bank is not None
    places = torch.arange(3)

    changed = counterfactual_guidances(guidance, source, "val")

    assert tuple(changed) == tuple(COUNTERFACTUALS)
    removed, shuffled, permuted, random = (changed[name] for name in ("removed", "shuffled", "permuted", "random"))
    assert isinstance(removed, RunText)
    _, is_padding = removed.batch("val", places)
    assert is_padding is not None
    assert bool(is_padding.all())
    assert isinstance(shuffled, RunText)
    assert shuffled.index is not None
    before, after = guidance.index["val"].tolist(), shuffled.index["val"].tolist()
    assert sorted(before) == sorted(after)
    assert shuffled.bank is guidance.bank
    order = [after.index(row) for row in before if before.count(row) == 1]
    assert all(place != moved for place, moved in enumerate(order) if len(order) == 3)
    assert isinstance(permuted, RunText)
    assert permuted.bank is not None
    features = guidance.bank.features
    assert sorted(permuted.bank.features.tolist()) == sorted(features.tolist())
    assert not any(torch.equal(row, moved) for row, moved in zip(features, permuted.bank.features, strict=True))
    assert isinstance(random, RunText)
    assert random.bank is not None
    torch.testing.assert_close(random.bank.features.norm(dim=1), features.norm(dim=1))
    # Scenes' sentences name one class each: the oracle speaks in the model's own words.
    masks = changed["masks"]
    assert isinstance(masks, RunText)
    assert masks.bank is guidance.bank
    assert masks.index is not None
    find = NameFinder(source.class_names)
    for name, row in zip(source.names("val"), masks.index["val"].tolist(), strict=True):
        said = [find(guidance.bank.sentences[place]) for place in row if place >= 0]
        assert said == [{place} for place in source.mask_classes("val", name)]


def test_a_shared_text_cannot_be_shuffled(data: Path) -> None:
    """Where all images share one text, names read off the masks can still take its place, marked as leaking."""
    source = open_data(data)
    guidance = prepare_run_text(source, ["val"], kind="classes", encoder="table")

    changed = counterfactual_guidances(guidance, source, "val")

    assert changed["shuffled"] == "all images share one text"
    masks, removed = changed["masks"], changed["removed"]
    assert isinstance(masks, RunText)
    assert masks.is_leaking
    assert isinstance(removed, RunText)
    assert removed.index is not None


def test_what_does_not_apply_says_why(data: Path) -> None:
    """No text at all, a single image, texts that are the masks' already."""
    source = open_data(data)
    without = counterfactual_guidances(prepare_run_text(source, ["val"], kind="none", encoder="table"), source, "val")
    masks = counterfactual_guidances(prepare_run_text(source, ["val"], kind="masks", encoder="table"), source, "val")
    one = scenes(n_val=1)
    single = counterfactual_guidances(prepare_run_text(one, ["val"], kind="images", encoder="table"), one, "val")

    assert set(without.values()) == {"the model was trained without text"}
    assert masks["masks"] == "this is the text as it is"
    assert single["shuffled"] == "the split has a single image"


def test_scores_follow_the_changes(data: Path) -> None:
    """Each change that applies is scored once; the same seed gives the same changes."""
    source = open_data(data)
    guidance = prepare_run_text(source, ["val"], kind="classes", encoder="table")
    seen: list[RunText] = []

    def score(text: RunText) -> Score:
        seen.append(text)
        return score_of(text)

    first = score_counterfactuals(score, guidance, source, "val", seed=3)
    second = score_counterfactuals(score, guidance, source, "val", seed=3)

    assert [item.name for item in first] == list(COUNTERFACTUALS)
    assert [item.why for item in first if item.score is None] == ["all images share one text"]
    assert len(seen) == 2 * 4
    for one, other in zip(seen[:4], seen[4:], strict=True):
        assert one.bank is not None
        assert other.bank is not None
        assert torch.equal(one.bank.features, other.bank.features)
    assert [item.name for item in second] == [item.name for item in first]


# ---- Oracle tags ----


def test_oracle_tags_in_other_words(tmp_path: Path) -> None:
    """Where no sentence of the model names one class, the class names are encoded, if that has a meaning."""
    root = make_data(tmp_path / "set")
    lines = [{"image": f"val/val-{k}", "texts": [f"a sky over a road with a tree, view {k}"]} for k in range(3)]
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_data(root)
    guidance = prepare_run_text(source, ["val"], kind="images", encoder="table")
    classes = encode_classes("table", CLASSES, "photo")

    without = counterfactual_guidances(guidance, source, "val")
    given = counterfactual_guidances(guidance, source, "val", encode=lambda: classes)

    assert without["masks"] == "the class names are not among the model's sentences"
    masks = given["masks"]
    assert isinstance(masks, RunText)
    assert masks.is_leaking
    assert masks.bank is classes
    assert masks.index is not None
    assert masks.index["val"].tolist() == [[0, 1, 2]] * 3


def test_equal_texts_cannot_be_shuffled(tmp_path: Path) -> None:
    """Where every image has the same texts, shuffling changes nothing and is not counted as evidence."""
    root = make_data(tmp_path / "set")
    lines = [{"image": f"val/val-{k}", "texts": ["a street"]} for k in range(3)]
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_data(root)
    changed = counterfactual_guidances(prepare_run_text(source, ["val"], kind="images", encoder="table"), source, "val")

    assert changed["shuffled"] == "all images have the same texts"
    assert changed["permuted"] == "the text has a single sentence"


# ---- Intervals and the answer ----


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
    return [*found, Counterfactual("masks", None, "there are none")]


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
        (changes(("removed", drawn(1)), ("random", drawn(1)), true=true), "ignores", "leaves every count of the 31"),
        (
            changes(("removed", drawn(2, shift=0.1)), ("random", near), true=true),
            "uses",
            r"95 % intervals: removed -\d",
        ),
        (changes(("removed", drawn(2)), ("random", near), true=true), "cannot be told", "no change is clearly other"),
        (changes(true=true), "no text", "no text that could be changed"),
    ]
    for changed, word, message in cases:
        use = judge_text_use(true, changed, true.images)
        assert use.word == word, use.sentence
        assert re.search(message, use.sentence), use.sentence
        assert "\n" not in use.sentence
        json.dumps(use.to_dict(), allow_nan=False)

    few = score_from(drawn(1, 19))
    use = judge_text_use(few, changes(("removed", drawn(2, 19, 0.3)), true=few), few.images)
    assert (use.word, use.covers) == ("cannot be told", "nothing: fewer than 20 images")
    assert "from 19 images, expected at least 20" in use.sentence
    same = judge_text_use(few, changes(("removed", drawn(1, 19)), true=few), few.images)
    assert same.word == "ignores"


def test_text_as_a_constant() -> None:
    """A model that needs a text but not the image's own is said to."""
    true = score_from(drawn(1))
    use = judge_text_use(
        true, changes(("removed", drawn(2, shift=0.1)), ("shuffled", drawn(1)), true=true), true.images
    )

    assert use.word == "uses"
    assert "not told apart by image: shuffled between images, it changes less than ±0.5 points" in use.sentence
    assert "31 images, each counted by itself" in use.covers


def test_several_changes_need_a_correction() -> None:
    """With several changes, one p below .05 alone is no use yet."""
    true = score_from(drawn(1))
    interval = Interval(0.0001, 0.02, 0.001, 0.019, 0.03, 31)
    items = [Counterfactual(name, score_from(drawn(2)), interval=interval) for name in ("removed", "random")]

    assert judge_text_use(true, items, true.images).word == "cannot be told"
    surer = [items[0], dataclasses.replace(items[1], interval=dataclasses.replace(interval, p=0.0249))]
    assert judge_text_use(true, surer, true.images).word == "uses"


def test_intervals_are_refused_below_twenty(data: Path) -> None:
    """Three images give scores and no interval; clusters count, not images."""
    source = open_data(data)
    guidance = prepare_run_text(source, ["val"], kind="classes", encoder="table")
    true = score_of(guidance)
    true = dataclasses.replace(true, images=("val-0",))

    assert all(item.interval is None for item in score_counterfactuals(score_of, guidance, source, "val", true=true))
