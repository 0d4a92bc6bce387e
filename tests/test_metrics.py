"""Counts and ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semalign.errors import DataError
from semalign.metrics import (
    IGNORE,
    Counts,
    absent_classes,
    class_iou,
    confusion,
    counts_of_confusion,
    mean_iou,
)

MASK = np.array([[0, 0, 1], [2, IGNORE, 1]], dtype=np.uint8)
PREDICTION = np.array([[0, 1, 1], [2, 0, 0]], dtype=np.uint8)
"""Of five labelled pixels: 0 as 0, 0 as 1, 1 as 1, 1 as 0, 2 as 2; the ignored one is predicted 0."""


def naive_counts(mask: Counts, prediction: Counts, n_classes: int) -> Counts:
    """Return C x 3 counts by looking at each pixel."""
    counts = np.zeros((n_classes, 3), dtype=np.int64)
    for true, said in zip(mask.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true == IGNORE:
            continue
        if true == said:
            counts[true, 0] += 1
        else:
            counts[said, 1] += 1
            counts[true, 2] += 1
    return counts


def test_confusion_by_hand() -> None:
    """Rows are true classes, columns predictions; the ignored pixel counts nowhere, a class without pixels is 0."""
    matrix = confusion(MASK, PREDICTION, 4)

    assert matrix.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert matrix.dtype == np.int64
    assert counts_of_confusion(matrix).tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_ious_by_hand() -> None:
    """IoU = TP / (TP + FP + FN); class 3 is absent, so it has no value and does not count."""
    counts = counts_of_confusion(confusion(MASK, PREDICTION, 4))

    np.testing.assert_array_equal(class_iou(counts), [1 / 3, 1 / 3, 1, np.nan])
    assert absent_classes(counts).tolist() == [False, False, False, True]
    assert mean_iou(counts) == pytest.approx(5 / 9)


def test_a_class_that_is_only_predicted_is_absent() -> None:
    """Absence depends on the masks alone: a model that invents a class must not change what the mean is over."""
    mask = np.array([[0, 0, 0, 1]])
    invented = np.array([[0, 2, 2, 1]])

    counts = counts_of_confusion(confusion(mask, invented, 3))

    assert counts[2].tolist() == [0, 2, 0]
    assert absent_classes(counts).tolist() == [False, False, True]
    assert math.isnan(class_iou(counts)[2])
    assert mean_iou(counts) == pytest.approx((1 / 3 + 1) / 2)


def test_a_class_that_is_never_found_counts_as_zero() -> None:
    """A class with pixels in the masks and none predicted has IoU 0 and lowers the mean."""
    counts = counts_of_confusion(confusion(np.array([0, 1]), np.array([0, 0]), 2))

    assert class_iou(counts).tolist() == [0.5, 0.0]
    assert mean_iou(counts) == 0.25


def test_the_data_sets_iou_is_not_the_mean_over_images() -> None:
    """A large and a small image: counts are summed, not ratios averaged."""
    large = counts_of_confusion(confusion(np.zeros(98, dtype=int), np.zeros(98, dtype=int), 1))
    small = np.array([[0, 0, 2]])

    assert mean_iou(np.stack([large, small])) == 0.98
    assert np.mean([mean_iou(large), mean_iou(small)]) == 0.5


def test_nothing_to_score() -> None:
    """Masks that hold the ignore value alone have no mean, and that is said; it is not NaN."""
    counts = counts_of_confusion(confusion(np.full((2, 3), IGNORE), np.zeros((2, 3), dtype=int), 2))

    with pytest.raises(DataError, match=r"hold only the value 255 \(ignored\), expected a pixel of at least one class"):
        mean_iou(counts)


@pytest.mark.parametrize(("mask", "prediction"), [(3, 0), (0, 9), (254, 2)])
def test_a_class_out_of_range_is_never_counted_as_another(mask: int, prediction: int) -> None:
    """An index of at least C raises, in masks and in predictions."""
    with pytest.raises(ValueError, match="reshape"):
        confusion(np.array([mask, 0]), np.array([prediction, 0]), 3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 7]))
def test_agreement_with_counting(seed: int, n_classes: int) -> None:
    """Counts agree with looking at each pixel, and images x C x 3 counts with those of all pixels together."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(n_classes, size=(5, 11, 13))
    mask[rng.random(mask.shape) < 0.2] = IGNORE
    mask[0, 0, 0] = 0
    prediction = rng.integers(n_classes, size=mask.shape)

    matrices = np.stack([confusion(m, p, n_classes) for m, p in zip(mask, prediction, strict=True)])
    counts = np.stack([counts_of_confusion(matrix) for matrix in matrices])

    expected = naive_counts(mask, prediction, n_classes)
    np.testing.assert_array_equal(counts.sum(axis=0), expected)
    assert matrices.sum() == (mask != IGNORE).sum()
    np.testing.assert_array_equal(counts_of_confusion(matrices.sum(axis=0)), expected)
    np.testing.assert_array_equal(class_iou(counts), class_iou(expected))
    present = [row for row in expected.tolist() if row[0] + row[2]]
    assert mean_iou(counts) == pytest.approx(np.mean([row[0] / sum(row) for row in present]))
