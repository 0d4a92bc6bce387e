"""Differences by class and by image, for reading and not for judging; and the effects on new images.

Everything is in mIoU points and over the blocks that an effect's verdict rests on.  This module does not depend on
sentences, tables or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semalign.judge import Contrast, Estimate
from semalign.judge.new_images import FEWEST_CLUSTERS, NewImages, judge_new_images
from semalign.judge.statistics import block_contrasts, t_interval
from semalign.report.numbers import StudyNumbers
from semalign.results import Score

__all__ = [
    "ClassChange",
    "ImageChange",
    "ImageChanges",
    "NewImagesAnswer",
    "class_changes",
    "clusters_of",
    "image_changes",
    "image_scores",
    "new_images",
    "primary_estimates",
]

Floats: TypeAlias = NDArray[np.float64]

SHOWN_IMAGES = 5
"""Images with the largest gains, and as many with the largest losses."""


def primary_estimates(numbers: StudyNumbers) -> tuple[Estimate, ...]:
    """Return the estimates of the family "primary"; all of them where no effect belongs to it."""
    found = tuple(one for one in numbers.judgement.estimates if one.contrast.family == "primary")
    return found or numbers.judgement.estimates


# --- classes --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ClassChange:
    """The effect on one class's IoU; ``low`` and ``high`` are its own t interval, None with one block."""

    name: str
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


def class_changes(numbers: StudyNumbers, estimate: Estimate) -> tuple[ClassChange, ...]:
    """Return the effect on every class that all its runs scored, in the classes' order.

    The intervals have the coverage 1 - alpha each and are not adjusted for there being many classes.
    """
    arms = list(estimate.contrast.weights)
    weights = list(estimate.contrast.weights.values())
    if not estimate.seeds:
        return ()
    iou = {(arm, seed): _score(numbers, arm, seed).iou for arm in arms for seed in estimate.seeds}
    found = []
    for name in numbers.score.class_names:
        if not all(name in one for one in iou.values()):
            continue
        table = [[100 * iou[arm, seed][name] for seed in estimate.seeds] for arm in arms]
        values = block_contrasts(table, weights)
        low = high = None
        if len(values) > 1:
            interval = t_interval(values, 1 - numbers.study.alpha)
            low, high = float(interval.low), float(interval.high)
        found.append(ClassChange(name, float(values.mean()), low, high, tuple(values.tolist())))
    return tuple(found)


def _score(numbers: StudyNumbers, arm: str, seed: int) -> Score:
    score = numbers.finished[arm, seed].score
    assert score is not None, "a finished run has a score"
    return score


# --- images ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ImageChange:
    """The effect on one image's mIoU.

    Attributes:
        name: the image.
        mean: over blocks.
        sd: over blocks; None with one.
        agree: blocks whose difference has the sign of the mean.
        blocks: all blocks.
    """

    name: str
    mean: float
    sd: float | None
    agree: int
    blocks: int


@dataclasses.dataclass(frozen=True)
class ImageChanges:
    """All images of one effect.

    Attributes:
        contrast: the effect.
        gains: up to five images that gain most, the largest gain first.
        losses: up to five that lose most.
        mean: of all images with a labelled pixel, ascending.
        sd: over blocks, in the same order; 0 with one block.
    """

    contrast: Contrast
    gains: tuple[ImageChange, ...]
    losses: tuple[ImageChange, ...]
    mean: Floats
    sd: Floats


def image_scores(counts: NDArray[np.integer]) -> Floats:
    """Return by image the mean IoU (points) over the classes that its own mask holds; NaN for an image without any.

    The mean of these is not the data set's mIoU, which is made from summed counts; it serves to compare two runs on
    one image.

    Args:
        counts: images x classes x 3 (TP, FP, FN).

    >>> image_scores(np.array([[[3, 0, 1], [0, 1, 0]]]))
    array([75.])
    """
    table = np.asarray(counts, dtype=np.float64)
    held = (table[..., 0] + table[..., 2]) > 0
    union = table.sum(axis=-1)
    iou = np.where(held, table[..., 0] / np.where(union > 0, union, 1.0), 0.0)
    number = held.sum(axis=-1)
    return np.asarray(np.where(number > 0, 100 * iou.sum(axis=-1) / np.maximum(number, 1), np.nan))


def image_changes(numbers: StudyNumbers, estimate: Estimate) -> ImageChanges | None:
    """Return the effect image by image; None without counts per image or without a complete block."""
    if not numbers.has_images or not estimate.seeds:
        return None
    total = np.zeros((len(estimate.seeds), len(numbers.score.images)))
    for arm, weight in estimate.contrast.weights.items():
        scores = np.stack([image_scores(_score(numbers, arm, seed).counts) for seed in estimate.seeds])
        total += weight * scores  # blocks x images
    values = np.round(total, 9)
    kept = np.flatnonzero(np.isfinite(values).all(axis=0))
    if not len(kept):
        return None
    mean = values[:, kept].mean(axis=0)
    blocks = len(values)
    sd = values[:, kept].std(axis=0, ddof=1) if blocks > 1 else np.zeros(len(kept))
    # Equal means are in the order of the images, so that the same folder always gives the same table.
    order = np.argsort(mean, kind="stable")

    def change(place: int) -> ImageChange:
        return ImageChange(
            numbers.score.images[int(kept[place])],
            float(mean[place]),
            float(sd[place]) if blocks > 1 else None,
            int((np.sign(values[:, kept[place]]) == np.sign(mean[place])).sum()),
            blocks,
        )

    gains = [change(int(place)) for place in order[::-1][:SHOWN_IMAGES] if mean[place] > 0]
    losses = [change(int(place)) for place in order[:SHOWN_IMAGES] if mean[place] < 0]
    return ImageChanges(estimate.contrast, tuple(gains), tuple(losses), mean[order], sd[order])


# --- new images -----------------------------------------------------------------------------------

Refusal: TypeAlias = Literal["looks", "scores only", "unfinished", "few blocks", "clusters unknown", "few clusters"]


@dataclasses.dataclass(frozen=True)
class NewImagesAnswer:
    """The effects for new seeds and new images, or why they are not judged.

    Attributes:
        refused: None where they are judged.
        judged: one per effect, in the judgement's order.
        images: number of images.
        clusters: number of clusters.
        named: the clusters were named by the data; else every image counts as its own.
    """

    refused: Refusal | None
    judged: tuple[NewImages, ...]
    images: int
    clusters: int
    named: bool


def clusters_of(numbers: StudyNumbers) -> tuple[tuple[str, ...], bool]:
    """Return the cluster (sequence, scene) of every scored image, and whether the study's facts name them.

    ``facts.json`` may hold them as ``data.cluster_of``: by split a mapping of image to cluster; without it every image
    is its own cluster.
    """
    score = numbers.score
    data = numbers.facts.get("data")
    named = data.get("cluster_of") if isinstance(data, Mapping) else None
    of_split = named.get(score.split) if isinstance(named, Mapping) else None
    if isinstance(of_split, Mapping) and all(image in of_split for image in score.images):
        return tuple(str(of_split[image]) for image in score.images), True
    return score.images, False


def _has_clusters(numbers: StudyNumbers) -> bool:
    data = numbers.facts.get("data")
    return isinstance(data, Mapping) and bool(data.get("clusters"))


def new_images(numbers: StudyNumbers) -> NewImagesAnswer:
    """Judge the planned effects for new images too, once, when a study without looks has all its outcomes."""
    clusters, named = clusters_of(numbers)
    count = len(set(clusters))
    study = numbers.study
    refused: Refusal | None = None
    if study.looks is not None:
        refused = "looks"
    elif not numbers.has_images:
        refused = "scores only"
    elif numbers.missing:
        refused = "unfinished"
    elif any(estimate.n < 2 for estimate in numbers.judgement.estimates):
        refused = "few blocks"
    elif not named and _has_clusters(numbers):
        refused = "clusters unknown"
    elif count < FEWEST_CLUSTERS:
        refused = "few clusters"
    if refused is not None:
        return NewImagesAnswer(refused, (), len(clusters), count, named)
    counts = {
        arm: {
            seed: _score(numbers, arm, seed).counts if (arm, seed) in numbers.finished else None
            for seed in _seeds(numbers, arm)
        }
        for arm in numbers.arms
    }
    judged = judge_new_images(
        counts,
        clusters,
        baseline=study.baseline,
        contrasts=[estimate.contrast for estimate in numbers.judgement.estimates],
        margin=study.margin,
        alpha=study.alpha,
    )
    return NewImagesAnswer(None, judged, len(clusters), count, named)


def _seeds(numbers: StudyNumbers, arm: str) -> Sequence[int]:
    return sorted(seed for name, seed in (*numbers.finished, *numbers.failed) if name == arm)
