"""The same images scored with the text changed: removed, shuffled, permuted, random, or read off the masks.

`semalign.inspection.text_use` judges what the changes do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from semalign.data.leaking import NameFinder, texts_from_masks
from semalign.data.sample import DataSource
from semalign.inspection.text_use import Counterfactual, paired_interval
from semalign.judge.new_images import FEWEST_CLUSTERS
from semalign.results import Score
from semalign.text.bank import PADDING, TextBank, token_index
from semalign.text.controls import permuted_bank, random_bank, shuffled_index
from semalign.train.run_text import RunText
from semalign.wording import Message, say

__all__ = ["COUNTERFACTUALS", "counterfactual_guidances", "score_counterfactuals"]

COUNTERFACTUALS = ("removed", "shuffled", "permuted", "random", "masks")
"""No image has a text; each image has another image's text; each sentence has another sentence's vector; each sentence
has a random vector of equal norm; each image has the names of the classes in its own mask (leaking)."""


def counterfactual_guidances(
    guidance: RunText,
    source: DataSource,
    split: str,
    seed: int = 0,
    *,
    encode: Callable[[], TextBank] | None = None,
) -> dict[str, RunText | Message]:
    """Return by name the changed text, or the reason why the change does not apply.

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
        return dict.fromkeys(COUNTERFACTUALS, say("inspection.inapplicable.untrained-text"))
    n_images = len(source.names(split))
    changed: dict[str, RunText | Message] = {}
    # Two padded tokens: one alone would be warned of as a text whose temperature has no effect.
    nothing = torch.full((n_images, 2), PADDING)
    changed["removed"] = dataclasses.replace(guidance, index={split: nothing})
    if guidance.index is None:
        changed["shuffled"] = say("inspection.inapplicable.shared-text")
    elif n_images < 2:
        changed["shuffled"] = say("inspection.inapplicable.single-image")
    else:
        shuffled = shuffled_index(guidance.index[split], seed)
        if torch.equal(shuffled, guidance.index[split]):
            changed["shuffled"] = say("inspection.inapplicable.same-texts")
        else:
            changed["shuffled"] = dataclasses.replace(guidance, index={split: shuffled})
    if len(bank.texts) < 2:
        changed["permuted"] = say("inspection.inapplicable.single-sentence")
    else:
        changed["permuted"] = dataclasses.replace(guidance, bank=permuted_bank(bank, seed))
    changed["random"] = dataclasses.replace(guidance, bank=random_bank(bank, seed + 1))
    changed["masks"] = _oracle(guidance, bank, source, split, encode)
    return changed


def _oracle(
    guidance: RunText, bank: TextBank, source: DataSource, split: str, encode: Callable[[], TextBank] | None
) -> RunText | Message:
    """Return as text the names of each mask's classes, or a sentence of the model for each class."""
    if guidance.kind == "masks":
        return say("inspection.inapplicable.already-masks")
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
            return say("inspection.inapplicable.no-class-names")
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
        if isinstance(changed, Message):
            results.append(Counterfactual(name, None, changed))
            continue
        found = score(changed)
        groups = [] if true is None else [clusters[image] for image in true.images]
        few = true is None or len(set(groups)) < FEWEST_CLUSTERS
        interval = None if few or true is None else paired_interval(true, found, groups)
        results.append(Counterfactual(name, found, interval=interval))
    return results
