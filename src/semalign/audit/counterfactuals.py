"""Does the model use its text?  The same images scored with the text changed.

The change of mIoU is judged for new images: with IF_i the influence of image i on the dataset mIoU
(`semalign.judge.new_images`), D_i = IF_i(changed) - IF_i(true), summed within clusters (sequences, scenes), and
N clusters,

    Var = N/(N-1) sum_i D_i^2

and a t interval with N - 1 degrees of freedom.  It speaks of this one trained model on new images like these; another
seed of the same recipe may use its text otherwise.  Below 20 clusters there is no interval.  Simulated with class areas
of heavy tails, the 95 % interval holds the truth in 91 % of draws of 20 or 40 images and in 94 % from 100 images on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from semalign.data.leaks import NameFinder
from semalign.data.sample import DataSource, texts_from_masks
from semalign.judge.new_images import FEWEST_CLUSTERS, cluster_sums, image_influence
from semalign.results import Score
from semalign.text.bank import PADDING, TextBank, permuted_bank, random_bank, shuffled_index, token_index
from semalign.train.run_text import RunText

__all__ = [
    "ALPHA",
    "COUNTERFACTUALS",
    "MARGIN",
    "Counterfactual",
    "Interval",
    "TextUse",
    "counterfactual_guidances",
    "judge_text_use",
    "paired_interval",
    "score_counterfactuals",
]

COUNTERFACTUALS = {
    "removed": "no image has a text",
    "shuffled": "each image has another image's text",
    "permuted": "each sentence has another sentence's vector",
    "random": "each sentence has a random vector of equal norm",
    "masks": "each image has the names of the classes in its own mask (leaking)",
}

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
        low_equivalence: lower end of the 90 % interval, which lies inside ± margin where the change is equivalent.
        high_equivalence: its upper end.
        p: two-sided, that the change is 0 on new images.
        clusters: N.
    """

    low: float
    high: float
    low_equivalence: float
    high_equivalence: float
    p: float
    clusters: int


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """The score under one change of the text.

    Attributes:
        name: one of `COUNTERFACTUALS`.
        score: None where the change does not apply.
        why: why it does not apply, else "".
        interval: of the change, for this model and new images; None where it does not apply or there are fewer than 20
            clusters of images.
    """

    name: str
    score: Score | None
    why: str = ""
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True)
class TextUse:
    """The answer.

    Attributes:
        word: "ignores", "uses", "cannot be told" or "no text".
        sentence: the answer with its evidence, in mIoU points.
        covers: what the intervals speak of.
    """

    word: str
    sentence: str
    covers: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the margin is an mIoU in [0, 1] like every score."""
        return {"word": self.word, "sentence": self.sentence, "margin": MARGIN, "alpha": ALPHA, "covers": self.covers}


# ---- Changing the text ----


def counterfactual_guidances(
    guidance: RunText,
    source: DataSource,
    split: str,
    seed: int = 0,
    *,
    encode: Callable[[], TextBank] | None = None,
) -> dict[str, RunText | str]:
    """Return by name the changed text, or a sentence that says why the change does not apply.

    Args:
        guidance: the true text.
        source: the data.
        split: the scored split.
        seed: of the shuffling, the permutation and the random vectors.
        encode: makes the bank of the class names, in class order, for the oracle tags of a model whose sentences hold
            none; None where new sentences cannot be encoded with a meaning.
    """
    bank = guidance.bank
    if bank is None:
        return dict.fromkeys(COUNTERFACTUALS, "the model was trained without text")
    n_images = len(source.names(split))
    changed: dict[str, RunText | str] = {}
    # Two padded tokens: one alone would be warned of as a text whose temperature has no effect.
    nothing = torch.full((n_images, 2), PADDING)
    changed["removed"] = dataclasses.replace(guidance, index={split: nothing})
    if guidance.index is None:
        changed["shuffled"] = "all images share one text"
    elif n_images < 2:
        changed["shuffled"] = "the split has a single image"
    else:
        shuffled = shuffled_index(guidance.index[split], seed)
        if torch.equal(shuffled, guidance.index[split]):
            changed["shuffled"] = "all images have the same texts"
        else:
            changed["shuffled"] = dataclasses.replace(guidance, index={split: shuffled})
    if len(bank.texts) < 2:
        changed["permuted"] = "the text has a single sentence"
    else:
        changed["permuted"] = dataclasses.replace(guidance, bank=permuted_bank(bank, seed))
    changed["random"] = dataclasses.replace(guidance, bank=random_bank(bank, seed + 1))
    changed["masks"] = _oracle(guidance, bank, source, split, encode)
    return changed


def _oracle(
    guidance: RunText, bank: TextBank, source: DataSource, split: str, encode: Callable[[], TextBank] | None
) -> RunText | str:
    """Return the names of each mask's classes, else a sentence of the model's own for each class."""
    if guidance.kind == "masks":
        return "this is the text as it is"
    present = texts_from_masks(source, split)
    called = dict(zip(source.class_names, source.class_names, strict=True))
    if not set(source.class_names) <= set(bank.texts):
        find = NameFinder(source.class_names)
        own: dict[str, str] = {}
        for sentence in bank.texts:
            named = find(sentence)
            if len(named) == 1:
                own.setdefault(source.class_names[named.pop()], sentence)
        if {name for names in present.values() for name in names} <= set(own):
            called = own
        elif encode is not None:
            bank = encode()
        else:
            return "the class names are not among the model's sentences"
    index = token_index([[called[name] for name in present[image]] for image in source.names(split)], bank)
    return dataclasses.replace(guidance, kind="masks", bank=bank, index={split: index})


def score_counterfactuals(
    score: Callable[[RunText], Score],
    guidance: RunText,
    source: DataSource,
    split: str,
    seed: int = 0,
    *,
    true: Score | None = None,
    encode: Callable[[], TextBank] | None = None,
) -> list[Counterfactual]:
    """Score every change that applies.

    Args:
        score: returns the counts of ``split`` under a given text.
        guidance: the true text.
        source: the data.
        split: the scored split.
        seed: of the changes.
        true: the counts under the true text, for the intervals; without, there are none.
        encode: as for `counterfactual_guidances`.
    """
    clusters = source.clusters(split)
    results = []
    for name, changed in counterfactual_guidances(guidance, source, split, seed, encode=encode).items():
        if isinstance(changed, str):
            results.append(Counterfactual(name, None, changed))
            continue
        found = score(changed)
        groups = [] if true is None else [clusters[image] for image in true.images]
        few = true is None or len(set(groups)) < FEWEST_CLUSTERS
        interval = None if few or true is None else paired_interval(true, found, groups)
        results.append(Counterfactual(name, found, interval=interval))
    return results


# ---- Judging ----


def paired_interval(true: Score, changed: Score, clusters: Sequence[str]) -> Interval:
    """Return the interval of the change of mIoU for this model and new images, as the module says.

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

    It *ignores* it where each change that applies lies within ± `MARGIN` (two one-sided tests at `ALPHA`; all must
    hold, so none needs a correction), or where no change alters a single count.  It *uses* it where some change's p
    stays below `ALPHA` divided by the number of changes that apply.  Both are statements about this model on new
    images; below 20 clusters of images only the first kind of evidence, no altered count, is left.

    Args:
        true: counts under the true text.
        changed: from `score_counterfactuals`.
        clusters: the cluster of every image.
    """
    applicable = [item for item in changed if item.score is not None]
    n_images, n_clusters = len(true.images), len(set(clusters))
    what = f"{n_images} images" + (
        f" in {n_clusters} clusters" if n_clusters < n_images else ", each counted by itself"
    )
    covers = f"this trained model on new images like these ({what}); not other seeds of its recipe"
    if not applicable:
        return TextUse("no text", "the model has no text that could be changed", covers)
    names = _listed([item.name for item in applicable])
    margin = f"±{100 * MARGIN:g} points"
    if all(item.score is not None and np.array_equal(item.score.counts, true.counts) for item in applicable):
        return TextUse(
            "ignores",
            f"the model ignores its text: {names}, it leaves every count of the {n_images} images as it is",
            covers,
        )
    if n_clusters < FEWEST_CLUSTERS:
        unit = "images" if n_clusters == n_images else "clusters of images"
        return TextUse(
            "cannot be told",
            f"whether the model uses its text cannot be told from {n_clusters} {unit}, expected at least "
            f"{FEWEST_CLUSTERS} to speak of new ones",
            f"nothing: fewer than {FEWEST_CLUSTERS} {unit}",
        )
    intervals = {item.name: item.interval for item in applicable if item.interval is not None}
    same = [name for name, interval in intervals.items() if _is_equivalent(interval)]
    if len(same) == len(applicable):
        return TextUse(
            "ignores",
            f"the model ignores its text: {names}, it changes the mIoU by less than {margin} (90 % intervals "
            f"{_ranges(intervals, narrow=True)})",
            covers,
        )
    used = {name: interval for name, interval in intervals.items() if interval.p < ALPHA / len(applicable)}
    if used:
        sentence = f"the model uses its text: changes of mIoU in points with 95 % intervals: {_ranges(used)}"
        if "shuffled" in same:
            sentence += f"; but it is not told apart by image: shuffled between images, it changes less than {margin}"
        return TextUse("uses", sentence, covers)
    return TextUse(
        "cannot be told",
        f"whether the model uses its text cannot be told: no change is clearly other than 0, and not all lie within "
        f"{margin} (90 % intervals {_ranges(intervals, narrow=True)})",
        covers,
    )


def _is_equivalent(interval: Interval) -> bool:
    return interval.low_equivalence > -MARGIN and interval.high_equivalence < MARGIN


def _listed(names: Sequence[str]) -> str:
    said = {"masks": "replaced by the masks' class names", "random": "replaced by random vectors"}
    words = [said.get(name, name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _ranges(intervals: dict[str, Interval], *, narrow: bool = False) -> str:
    parts = []
    for name, interval in intervals.items():
        low, high = (interval.low_equivalence, interval.high_equivalence) if narrow else (interval.low, interval.high)
        parts.append(f"{name} {100 * low:+.2f} to {100 * high:+.2f}")
    return ", ".join(parts)
