"""The other estimand: the effect on new images too, not only on the images that were scored.

The blocks of a study share their images, so its t intervals speak of new seeds on these images.  Whoever asks about new
images as well must add what the choice of images contributes.  The dataset mIoU is a mean of ratios of sums; its
first-order dependence on one image is the influence

    IF_i = (1/C) sum_c (I_ic - IoU_c U_ic) / sum_j U_jc          (I intersection, U union; C classes with pixels)

which adds up to 0 over the images.  Images of one sequence or scene are alike, so influences are summed within
clusters, and clusters count as independent.  With D_is the contrast of influences of cluster i in block s (S blocks, N
clusters):

    V_img = N/(N-1) sum_i mean_s(D_is)^2            of images, with what is left of images x seeds
    V_int = N/(N-1) sum_is (D_is - mean_s D_is)^2 / (S (S-1))       images x seeds, which s_d^2/S holds already
    Var   = s_d^2/S + max(0, V_img - V_int)

and a t interval with Satterthwaite's degrees of freedom.  This module does not handle looks: their boundaries are made
for a spread over blocks alone, so this estimand is never judged in a study that has any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from semalign.errors import ResultsError, StudyError, nearest
from semalign.judge.contrasts import asked_contrasts, family_sizes
from semalign.judge.metric import MIOU
from semalign.judge.statistics import block_contrasts, check_level, check_planned, direction_p, equivalence_p, summarise
from semalign.judge.types import WORDS, ArmName, Contrast, Verdict, plain
from semalign.judge.verdict import decide, say_decision
from semalign.wording import say

__all__ = [
    "FEWEST_CLUSTERS",
    "ImageCounts",
    "ImageVariance",
    "NewImages",
    "cluster_sums",
    "image_influence",
    "image_variance",
    "judge_new_images",
]

FEWEST_CLUSTERS = 20
"""Below this the variance over clusters is too uncertain, and the estimand is refused."""

ImageCounts: TypeAlias = Mapping[ArmName, Mapping[int, ArrayLike | None]]
"""By arm and seed images x classes x 3 pixel counts (TP, FP, FN), None for a failed run."""

Floats: TypeAlias = NDArray[np.float64]


class ImageVariance(NamedTuple):
    """Variance of a mean effect over new seeds and new images, in points squared.

    Attributes:
        seeds: s_d^2 / S.
        images: V_img.
        interaction: V_int.
        total: seeds + max(0, images - interaction).
        df: Satterthwaite's degrees of freedom of ``total``.
    """

    seeds: Floats
    images: Floats
    interaction: Floats
    total: Floats
    df: Floats


@dataclasses.dataclass(frozen=True)
class NewImages:
    """One contrast judged for new seeds and new images; everything is in mIoU points.

    Attributes:
        contrast: what is compared.
        seeds: of the complete blocks, ascending.
        n_clusters: clusters of images.
        lost: incomplete blocks.
        level: coverage of the interval that judges direction, 1 - alpha/m.
        mean: effect, the mean over complete blocks.
        se: its standard error over seeds and images.
        df: Satterthwaite's degrees of freedom.
        variance_seeds: s_d^2 / S.
        variance_images: V_img.
        variance_interaction: V_int.
        low: lower end of the interval that judges direction.
        high: its upper end.
        low_equivalence: lower end of the interval that judges equivalence, whose coverage is 1 - 2 alpha/m.
        high_equivalence: its upper end.
        p: two-sided, that the effect is 0, not adjusted.
        p_equivalence: that the effect is not inside ± margin, not adjusted.
        verdict: the answer.
    """

    contrast: Contrast
    seeds: tuple[int, ...]
    n_clusters: int
    lost: int
    level: float
    mean: float
    se: float
    df: float
    variance_seeds: float
    variance_images: float
    variance_interaction: float
    low: float
    high: float
    low_equivalence: float
    high_equivalence: float
    p: float
    p_equivalence: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        value: dict[str, Any] = plain(self)
        return value


# --- arithmetic -----------------------------------------------------------------------------------


def image_influence(counts: ArrayLike) -> tuple[Floats, Floats]:
    """Return the dataset mIoU (...) and every image's influence on it (... x images), both in points.

    Args:
        counts: ... x images x classes x 3 pixel counts (TP, FP, FN).

    Raises:
        ResultsError: another shape, no class with a pixel, or runs whose masks differ in which classes have pixels.

    >>> miou, influence = image_influence([[[3, 0, 1]], [[1, 2, 1]]])
    >>> miou, influence
    (array(50.), array([ 12.5, -12.5]))
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 3 or table.shape[-1] != 3 or 0 in table.shape:
        raise ResultsError(
            f"the counts have shape {table.shape}, expected ... x images x classes x 3 with TP, FP and FN last"
        )
    in_masks = (table[..., 0] + table[..., 2]).sum(axis=-2) > 0  # ... x classes
    present = in_masks.reshape(-1, in_masks.shape[-1])
    if not np.array_equal(present, np.broadcast_to(present[:1], present.shape)):
        raise ResultsError("the runs were scored on masks with different classes, expected the same images for all")
    keep = present[0]
    if not keep.any():
        raise ResultsError("the scored masks hold no pixel of any class, expected at least one")
    intersection = table[..., keep, 0]
    union = table[..., keep, :].sum(axis=-1)  # ... x images x C
    all_union = union.sum(axis=-2, keepdims=True)
    iou = intersection.sum(axis=-2, keepdims=True) / all_union
    influence = ((intersection - iou * union) / all_union).mean(axis=-1)
    return np.asarray(100 * iou[..., 0, :].mean(axis=-1)), np.asarray(100 * influence)


def cluster_sums(values: ArrayLike, clusters: Sequence[str]) -> Floats:
    """Return sums of ... x images values within clusters, ... x clusters in the order of their names.

    Raises:
        ResultsError: not one cluster per image.
    """
    table = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(clusters) != table.shape[-1]:
        raise ResultsError(f"{len(clusters)} clusters are named for {table.shape[-1]} images, expected one per image")
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(len(names)))
    return np.asarray(np.add.reduceat(table[..., order], starts, axis=-1))


def image_variance(effects: ArrayLike, influences: ArrayLike) -> ImageVariance:
    """Return the variance of the mean effect over new seeds and new images, see the module.

    Satterthwaite (1946): df = Var^2 / sum of component^2 / its own degrees of freedom, which are S - 1 for seeds, N - 1
    for images and (N - 1)(S - 1) for images x seeds.  Where the images add nothing (V_img <= V_int) it is S - 1.  A
    component that is subtracted can push the formula below the smaller of S - 1 and N - 1, where it means nothing; it
    ends there.

    Args:
        effects: ... x S contrasts of the dataset mIoU, points.
        influences: ... x S x N contrasts of influences, summed within clusters, points.

    Raises:
        StudyError: fewer than two blocks or two clusters.
    """
    table = np.asarray(influences, dtype=np.float64)
    _, _, se, df_seeds = summarise(effects)
    n_seeds, n_clusters = table.shape[-2:]
    if n_clusters < 2:
        raise StudyError(f"{n_clusters} clusters of images give no variance, expected at least {FEWEST_CLUSTERS}")
    mean = table.mean(axis=-2, keepdims=True)
    scale = n_clusters / (n_clusters - 1)
    seeds = np.square(se)
    images = scale * np.square(mean).sum(axis=(-2, -1))
    interaction = scale * np.square(table - mean).sum(axis=(-2, -1)) / (n_seeds * (n_seeds - 1))
    added = images > interaction
    total = seeds + np.where(added, images - interaction, 0.0)
    spread = seeds**2 / df_seeds + images**2 / (n_clusters - 1) + interaction**2 / ((n_clusters - 1) * df_seeds)
    satterthwaite = np.square(total) / np.where(spread > 0, spread, 1.0)
    df = np.where(added, np.maximum(satterthwaite, min(df_seeds, n_clusters - 1)), df_seeds)
    return ImageVariance(seeds, np.asarray(images), np.asarray(interaction), np.asarray(total), np.asarray(df))


# --- judging --------------------------------------------------------------------------------------


def judge_new_images(
    counts: ImageCounts,
    clusters: Sequence[str],
    *,
    baseline: ArmName,
    contrasts: Iterable[Contrast] | None = None,
    margin: float,
    alpha: float = 0.05,
    looks: Sequence[int] | None = None,
    planned_blocks: int | None = None,
) -> tuple[NewImages, ...]:
    """Judge the effects for new seeds and new images, once, at a number of blocks fixed beforehand.

    Each effect is judged at alpha over the effects of its family, as in `semalign.judge.judgement.judge`.  While a
    block is incomplete, because a run failed or is missing, its effect stays inconclusive: what a lost run would have
    scored on every image is anybody's guess.

    Args:
        counts: by arm and seed images x classes x 3 pixel counts, the same images in the same order everywhere.
        clusters: the cluster (sequence, scene) of every image; images that are independent each get their own.
        baseline: the arm that the others are compared with.
        contrasts: the pre-registered effects; without them, every other arm minus the baseline.
        margin: smallest effect that matters, points, fixed before the runs.
        alpha: family-wise level.
        looks: the looks of the study, which must be none.
        planned_blocks: how many blocks the study was to have; those without a run count as incomplete.

    Raises:
        StudyError: a study with looks, fewer than 20 clusters or 2 complete blocks, more blocks than planned, an
            unknown baseline or arm, nothing to compare, margin or alpha out of range.
        ResultsError: counts of different shapes, or of masks with different classes.
    """
    if looks is not None:
        raise StudyError(
            f"the study has looks {tuple(looks)}, expected a number of seeds fixed beforehand: effects on new images "
            "are never judged at looks, fix the seeds with --seeds"
        )
    MIOU.check_margin(margin)
    check_level("alpha", alpha)
    asked = asked_contrasts(contrasts, counts, baseline, MIOU)
    n_clusters = len(set(clusters))
    if n_clusters < FEWEST_CLUSTERS:
        raise StudyError(
            f"the images come from {n_clusters} clusters, expected at least {FEWEST_CLUSTERS} to speak of new images: "
            "score more sequences, or judge these images alone"
        )
    families = family_sizes(asked)
    scored = _scored(counts, clusters)
    seeds = sorted({seed for runs in counts.values() for seed in runs})
    blocks = check_planned(len(seeds), planned_blocks, "counts")
    return tuple(
        _judge_one(contrast, scored, seeds, blocks, n_clusters, margin, alpha, families[contrast.family])
        for contrast in asked
    )


Scored: TypeAlias = dict[ArmName, dict[int, tuple[float, Floats]]]
"""By arm and seed the mIoU and the clusters' influences, points; failed runs left out."""


def _scored(counts: ImageCounts, clusters: Sequence[str]) -> Scored:
    keys, tables = [], []
    for arm, runs in counts.items():
        for seed, run in runs.items():
            if run is not None:
                keys.append((arm, seed))
                tables.append(np.asarray(run))
    shapes = sorted({table.shape for table in tables})
    if len(shapes) > 1:
        raise ResultsError(
            f"the runs' counts have shapes {shapes[0]} and {shapes[1]}, expected the same images and classes for all"
        )
    result: Scored = {arm: {} for arm in counts}
    if tables:
        miou, influence = image_influence(np.stack(tables))
        sums = cluster_sums(influence, clusters)
        for index, (arm, seed) in enumerate(keys):
            result[arm][seed] = (float(miou[index]), sums[index])
    return result


def _judge_one(
    contrast: Contrast,
    scored: Scored,
    seeds: list[int],
    blocks: int,
    n_clusters: int,
    margin: float,
    alpha: float,
    m: int,
) -> NewImages:
    arms, weights = list(contrast.weights), list(contrast.weights.values())
    for arm in arms:
        if arm not in scored:
            raise StudyError(f"the contrast {contrast.name!r} has the arm {arm!r} without a run{nearest(arm, scored)}")
    complete = [seed for seed in seeds if all(seed in scored[arm] for arm in arms)]
    if len(complete) < 2:
        raise StudyError(f"{contrast.name}: {len(complete)} blocks are complete, expected at least 2: run more seeds")
    lost = blocks - len(complete)
    miou = np.array([[scored[arm][seed][0] for seed in complete] for arm in arms])
    influence = np.array([[scored[arm][seed][1] for seed in complete] for arm in arms])  # arms x S x N
    effects = block_contrasts(miou, weights)
    variance = image_variance(effects, np.tensordot(np.asarray(weights), influence, axes=1))

    mean, _, _, _ = summarise(effects)
    se, df = np.sqrt(variance.total), float(variance.df)
    wide, narrow = (float(stats.t.isf(tail, df) * se) for tail in (alpha / m / 2, alpha / m))
    low, high = float(mean) - wide, float(mean) + wide
    low_equivalence, high_equivalence = float(mean) - narrow, float(mean) + narrow
    ends = (low, high, low_equivalence, high_equivalence)
    level = 1 - alpha / m

    decision = decide(*ends, margin, higher_is_better=MIOU.higher_is_better)
    word, below = WORDS[int(decision.code)], bool(decision.below_margin)
    found = say(
        "verdict.found on new images",
        mean=MIOU.show(float(mean)),
        quantity=MIOU.quantity,
        n=len(complete),
        clusters=n_clusters,
    )
    if np.ptp(miou, axis=1).max() == 0:
        word, below = "inconclusive", False
        said = say("verdict.copies", n=len(complete))
    elif lost:
        word, below = "inconclusive", False
        said = say("verdict.new images lost", found=found, lost=lost, blocks=blocks)
    else:
        called = contrast.above if low > 0 else contrast.below
        said = say_decision(decision, ends, level, margin, MIOU, found=found, called=called)
    return NewImages(
        contrast=contrast,
        seeds=tuple(complete),
        n_clusters=n_clusters,
        lost=lost,
        level=level,
        mean=float(mean),
        se=float(se),
        df=df,
        variance_seeds=float(variance.seeds),
        variance_images=float(variance.images),
        variance_interaction=float(variance.interaction),
        low=low,
        high=high,
        low_equivalence=low_equivalence,
        high_equivalence=high_equivalence,
        p=float(direction_p(mean, se, df)),
        p_equivalence=float(equivalence_p(mean, se, df, margin)),
        verdict=Verdict(word, below, say("verdict.reason new images", name=contrast.name, said=said)),
    )
