"""Counts and the ratios made from them; it does not depend on images, models or torch.

The data set's IoU of a class is made from summed counts, TP / (TP + FP + FN) over all images, as in Pascal VOC
(Everingham et al. 2015); averaging per image gives another number.  A class is *absent* when the scored masks have no
pixel of it; absent classes are left out of the mean, and the list depends on the masks alone, so that it is the same
for every model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semalign.errors import DataError

__all__ = ["IGNORE", "Counts", "absent_classes", "class_iou", "confusion", "counts_of_confusion", "mean_iou"]

IGNORE = 255
"""Mask value of pixels that are neither trained on nor scored."""

Counts = NDArray[np.int64]
"""Numbers of pixels."""


def confusion(mask: NDArray[np.integer], prediction: NDArray[np.integer], n_classes: int) -> Counts:
    """Return the C x C matrix whose entry (i, j) counts pixels of true class i predicted as j; `IGNORE` is left out.

    Args:
        mask: H x W true class indices in [0, C) or `IGNORE`.
        prediction: H x W predicted class indices in [0, C).
        n_classes: C.
    """
    valid = mask != IGNORE
    flat = n_classes * mask[valid].astype(np.int64) + prediction[valid].astype(np.int64)
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def counts_of_confusion(matrix: Counts) -> Counts:
    """Return C x 3 counts (TP, FP, FN) of a C x C confusion matrix."""
    true_positive = np.diagonal(matrix)
    return np.stack([true_positive, matrix.sum(axis=0) - true_positive, matrix.sum(axis=1) - true_positive], axis=1)


def absent_classes(counts: Counts) -> NDArray[np.bool_]:
    """Return C booleans: no scored pixel of the class (TP + FN = 0), from C x 3 or images x C x 3 counts."""
    total = counts.reshape(-1, *counts.shape[-2:]).sum(axis=0)
    result: NDArray[np.bool_] = (total[:, 0] + total[:, 2]) == 0
    return result


def class_iou(counts: Counts) -> NDArray[np.float64]:
    """Return C IoUs in [0, 1] from C x 3 or images x C x 3 counts; an absent class gives NaN, which says 'no value'."""
    total = counts.reshape(-1, *counts.shape[-2:]).sum(axis=0).astype(np.float64)
    union = total.sum(axis=1)
    iou = np.full(len(total), np.nan)
    present = ~absent_classes(counts)
    iou[present] = total[present, 0] / union[present]
    return iou


def mean_iou(counts: Counts) -> float:
    """Return the mean IoU in [0, 1] over the classes that are not absent.

    Raises:
        DataError: every class is absent, so that there is nothing to score.
    """
    iou = class_iou(counts)
    present = ~absent_classes(counts)
    if not present.any():
        raise DataError(
            f"the scored masks hold only the value {IGNORE} (ignored), expected a pixel of at least one class: "
            "score another split"
        )
    return float(iou[present].mean())
