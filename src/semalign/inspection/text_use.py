"""Does a trained model use its text?  Judged from its scores with the text changed.

The change of mIoU is judged for new images: with IF_i the influence of image i on the dataset mIoU
(`semalign.judge.new_images`), D_i = IF_i(changed) - IF_i(true), summed within clusters (sequences, scenes), and
N clusters,

    Var = N/(N-1) sum_i D_i^2

and a t interval with N - 1 degrees of freedom.  It is about this one trained model on new images like these; another
seed of the same recipe may use its text otherwise.  Below 20 clusters there is no interval.  Simulated with class areas
of heavy tails, the 95 % interval contains the truth in 91 % of draws of 20 or 40 images and in 94 % from 100 images on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from semalign.judge.new_images import FEWEST_CLUSTERS, cluster_sums, image_influence
from semalign.results import Score
from semalign.wording import Message, say

__all__ = ["ALPHA", "MARGIN", "Counterfactual", "Interval", "TextUse", "judge_text_use", "paired_interval"]

MARGIN = 0.005
"""A change of mIoU (0 to 1) below this does not matter: half a point."""

ALPHA = 0.05
"""Share of false statements allowed, that a model uses its text or that it ignores it."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A change of mIoU, changed minus true text, in [-1, 1].

    Attributes:
        low: lower end of the 95 % interval.
        high: its upper end.
        low_equivalence: lower end of the 90 % interval, which is inside ± margin where the change is equivalent.
        high_equivalence: its upper end.
        p: two-sided p value of no change on new images.
        clusters: N.
    """

    low: float
    high: float
    low_equivalence: float
    high_equivalence: float
    p: float
    clusters: int

    @property
    def is_equivalent(self) -> bool:
        """Whether the change is smaller than `MARGIN` by two one-sided tests."""
        return self.low_equivalence > -MARGIN and self.high_equivalence < MARGIN


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """The score under one change of the text.

    Attributes:
        name: one of `semalign.inspection.counterfactuals.COUNTERFACTUALS`.
        score: None where the change does not apply.
        why: why it does not apply, else None.
        interval: of the change, for this model and new images; None where it does not apply or there are fewer than 20
            clusters of images.
    """

    name: str
    score: Score | None
    why: Message | None = None
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True)
class TextUse:
    """The answer.

    Attributes:
        word: the answer in a word.
        sentence: the answer with its evidence, in mIoU points.
        covers: to which model and images the intervals apply.
    """

    word: Literal["ignores", "uses", "cannot be told", "no text"]
    sentence: Message
    covers: Message

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the margin is an mIoU in [0, 1] like every score."""
        return {
            "word": self.word,
            "sentence": str(self.sentence),
            "margin": MARGIN,
            "alpha": ALPHA,
            "covers": str(self.covers),
        }


def paired_interval(true: Score, changed: Score, clusters: Sequence[str]) -> Interval:
    """Return the interval of the change of mIoU for this model and new images, by the formula of the module.

    Args:
        true: counts under the true text.
        changed: counts of the same images under the changed text.
        clusters: the cluster of every image, at least two different ones.

    Raises:
        ResultsError: the scores are of other images, or not one cluster per image.
    """
    points, influence = image_influence(np.stack([true.counts, changed.counts]))
    difference = float(points[1] - points[0]) / 100
    sums = cluster_sums(influence[1] - influence[0], clusters) / 100
    n_clusters = len(sums)
    se = float(np.sqrt(n_clusters / (n_clusters - 1) * np.square(sums).sum()))
    wide, narrow = (float(stats.t.isf(tail, n_clusters - 1)) * se for tail in (ALPHA / 2, ALPHA))
    p = 1.0 if difference == 0 else 0.0 if se == 0 else float(2 * stats.t.sf(abs(difference) / se, n_clusters - 1))
    return Interval(difference - wide, difference + wide, difference - narrow, difference + narrow, p, n_clusters)


def judge_text_use(true: Score, changed: Sequence[Counterfactual], clusters: Sequence[str]) -> TextUse:
    """Say whether the model uses its text.

    It *ignores* it where each change that applies is within ± `MARGIN` (two one-sided tests at `ALPHA`; all must
    hold, so none needs a correction), or where no change alters a single count.  It *uses* it where some change's p
    stays below `ALPHA` divided by the number of changes that apply.  Both are statements about this model on new
    images; below 20 clusters of images only the first kind of evidence, no altered count, is left.

    Args:
        true: counts under the true text.
        changed: from `semalign.inspection.counterfactuals.score_counterfactuals`.
        clusters: the cluster of every image.
    """
    scored = [item for item in changed if item.score is not None]
    n_images, n_clusters = len(true.images), len(set(clusters))
    among = "inspection.covers-clusters" if n_clusters < n_images else "inspection.covers-images"
    covers = say("inspection.covers", images=say(among, n=n_images, clusters=n_clusters))
    if not scored:
        return TextUse("no text", say("inspection.no-text"), covers)
    changes = tuple(say(f"inspection.change.{item.name}") for item in scored)
    if all(item.score is not None and np.array_equal(item.score.counts, true.counts) for item in scored):
        return TextUse("ignores", say("inspection.same-counts", changes=changes, n=n_images), covers)
    if n_clusters < FEWEST_CLUSTERS:
        unit = say("inspection.few-images" if n_clusters == n_images else "inspection.few-clusters")
        few = {"unit": unit, "needed": FEWEST_CLUSTERS}
        return TextUse(
            "cannot be told", say("inspection.too-few", found=n_clusters, **few), say("inspection.nothing", **few)
        )
    intervals = {item.name: item.interval for item in scored if item.interval is not None}
    same = {name for name, interval in intervals.items() if interval.is_equivalent}
    margin = 100 * MARGIN
    narrow = _ranges({name: (item.low_equivalence, item.high_equivalence) for name, item in intervals.items()})
    if len(same) == len(scored):
        return TextUse("ignores", say("inspection.ignores", changes=changes, margin=margin, ranges=narrow), covers)
    used = {name: (item.low, item.high) for name, item in intervals.items() if item.p < ALPHA / len(scored)}
    if used:
        key = "inspection.uses-as-constant" if "shuffled" in same else "inspection.uses"
        return TextUse("uses", say(key, ranges=_ranges(used), margin=margin), covers)
    return TextUse("cannot be told", say("inspection.undecided", margin=margin, ranges=narrow), covers)


def _ranges(ends: Mapping[str, tuple[float, float]]) -> tuple[Message, ...]:
    """Return each change with the ends of its interval in points."""
    return tuple(
        say("inspection.range", change=say(f"inspection.change.{name}"), low=100 * low, high=100 * high)
        for name, (low, high) in ends.items()
    )
