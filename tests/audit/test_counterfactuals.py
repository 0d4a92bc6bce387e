from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from semalign.audit.counterfactuals import COUNTERFACTUALS, counterfactual_guidances, score_counterfactuals
from semalign.data.open import open_data
from semalign.results import Score
from semalign.train.guidance import Guidance, prepare_guidance
from tests.small import scenes


def score_of(guidance: Guidance) -> Score:
    """Return a score of nothing."""
    return Score("val", ("a",), ("x",), np.ones((1, 1, 3), dtype=np.int64), np.ones((1, 1), dtype=np.int64))


def test_texts_of_images_changed_in_every_way() -> None:
    """Removed: padding alone; shuffled: another image's rows; permuted and random: other vectors, the same rows."""
    source = scenes(n_val=3)
    guidance = prepare_guidance(source, ["val"], kind="images", encoder="table")
    assert guidance.index is not None
    assert guidance.bank is not None
    places = torch.arange(3)

    changed = counterfactual_guidances(guidance, source, "val")

    assert tuple(changed) == tuple(COUNTERFACTUALS)
    removed, shuffled, permuted, random = (changed[name] for name in ("removed", "shuffled", "permuted", "random"))
    assert isinstance(removed, Guidance)
    _, is_padding = removed.batch("val", places)
    assert is_padding is not None
    assert bool(is_padding.all())
    assert isinstance(shuffled, Guidance)
    assert shuffled.index is not None
    before, after = guidance.index["val"].tolist(), shuffled.index["val"].tolist()
    assert sorted(before) == sorted(after)
    assert shuffled.bank is guidance.bank
    order = [after.index(row) for row in before if before.count(row) == 1]
    assert all(place != moved for place, moved in enumerate(order) if len(order) == 3)
    assert isinstance(permuted, Guidance)
    assert permuted.bank is not None
    features = guidance.bank.features
    assert sorted(permuted.bank.features.tolist()) == sorted(features.tolist())
    assert not any(torch.equal(row, moved) for row, moved in zip(features, permuted.bank.features, strict=True))
    assert isinstance(random, Guidance)
    assert random.bank is not None
    torch.testing.assert_close(random.bank.features.norm(dim=1), features.norm(dim=1))
    assert changed["masks"] == "the class names are not among the model's sentences"


def test_a_shared_text_cannot_be_shuffled(data: Path) -> None:
    """Where all images share one text, names read off the masks can still take its place, marked as leaking."""
    source = open_data(data)
    guidance = prepare_guidance(source, ["val"], kind="classes", encoder="table")

    changed = counterfactual_guidances(guidance, source, "val")

    assert changed["shuffled"] == "all images share one text"
    masks, removed = changed["masks"], changed["removed"]
    assert isinstance(masks, Guidance)
    assert masks.is_leaking
    assert isinstance(removed, Guidance)
    assert removed.index is not None


def test_what_does_not_apply_says_why(data: Path) -> None:
    """No text at all, a single image, texts that are the masks' already."""
    source = open_data(data)
    without = counterfactual_guidances(prepare_guidance(source, ["val"], kind="none", encoder="table"), source, "val")
    masks = counterfactual_guidances(prepare_guidance(source, ["val"], kind="masks", encoder="table"), source, "val")
    one = scenes(n_val=1)
    single = counterfactual_guidances(prepare_guidance(one, ["val"], kind="images", encoder="table"), one, "val")

    assert set(without.values()) == {"the model was trained without text"}
    assert masks["masks"] == "this is the text as it is"
    assert single["shuffled"] == "the split has a single image"


def test_scores_follow_the_changes(data: Path) -> None:
    """Each change that applies is scored once; the same seed gives the same changes."""
    source = open_data(data)
    guidance = prepare_guidance(source, ["val"], kind="classes", encoder="table")
    seen: list[Guidance] = []

    def score(text: Guidance) -> Score:
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
