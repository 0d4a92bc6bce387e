from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from semalign.data.leaking import NameFinder
from semalign.data.open import open_data
from semalign.inspection.counterfactuals import COUNTERFACTUALS, counterfactual_guidances, score_counterfactuals
from semalign.results import Score
from semalign.train.run_text import RunText, encode_classes, prepare_run_text
from semalign.wording import say
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

    assert changed["shuffled"] == say("inspection.inapplicable.shared-text")
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

    assert list(without.values()) == [say("inspection.inapplicable.untrained-text")] * len(COUNTERFACTUALS)
    assert masks["masks"] == say("inspection.inapplicable.already-masks")
    assert single["shuffled"] == say("inspection.inapplicable.single-image")


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
    assert [item.why for item in first if item.score is None] == [say("inspection.inapplicable.shared-text")]
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

    assert without["masks"] == say("inspection.inapplicable.no-class-names")
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

    assert changed["shuffled"] == say("inspection.inapplicable.same-texts")
    assert changed["permuted"] == say("inspection.inapplicable.single-sentence")


def test_intervals_are_refused_below_twenty(data: Path) -> None:
    """Three images give scores and no interval; clusters count, not images."""
    source = open_data(data)
    guidance = prepare_run_text(source, ["val"], kind="classes", encoder="table")
    true = score_of(guidance)
    true = dataclasses.replace(true, images=("val-0",))

    assert all(item.interval is None for item in score_counterfactuals(score_of, guidance, source, "val", true=true))
