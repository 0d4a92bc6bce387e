"""Does the model use its text?  The same images scored with the text changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from semalign.data.sample import DataSource, texts_from_masks
from semalign.results import Score
from semalign.text.bank import PADDING, permuted_bank, random_bank, shuffled_index, token_index
from semalign.train.guidance import Guidance

__all__ = ["COUNTERFACTUALS", "Counterfactual", "counterfactual_guidances", "score_counterfactuals"]

COUNTERFACTUALS = {
    "removed": "no image has a text",
    "shuffled": "each image has another image's text",
    "permuted": "each sentence has another sentence's vector",
    "random": "each sentence has a random vector of equal norm",
    "masks": "each image has the names of the classes in its own mask (leaking)",
}


@dataclasses.dataclass(frozen=True)
class Counterfactual:
    """The score under one change of the text.

    Attributes:
        name: one of `COUNTERFACTUALS`.
        score: None where the change does not apply.
        why: why it does not apply, else "".
    """

    name: str
    score: Score | None
    why: str = ""


def counterfactual_guidances(
    guidance: Guidance, source: DataSource, split: str, seed: int = 0
) -> dict[str, Guidance | str]:
    """Return by name the changed text, or a sentence that says why the change does not apply."""
    bank = guidance.bank
    if bank is None:
        return dict.fromkeys(COUNTERFACTUALS, "the model was trained without text")
    n_images = len(source.names(split))
    changed: dict[str, Guidance | str] = {}
    # Two padded tokens: one alone would be warned of as a text whose temperature has no effect.
    nothing = torch.full((n_images, 2), PADDING)
    changed["removed"] = dataclasses.replace(guidance, index={split: nothing})
    if guidance.index is None:
        changed["shuffled"] = "all images share one text"
    elif n_images < 2:
        changed["shuffled"] = "the split has a single image"
    else:
        changed["shuffled"] = dataclasses.replace(guidance, index={split: shuffled_index(guidance.index[split], seed)})
    if len(bank.sentences) < 2:
        changed["permuted"] = "the text has a single sentence"
    else:
        changed["permuted"] = dataclasses.replace(guidance, bank=permuted_bank(bank, seed))
    changed["random"] = dataclasses.replace(guidance, bank=random_bank(bank, seed + 1))
    if guidance.kind == "masks":
        changed["masks"] = "this is the text as it is"
    elif set(source.class_names) <= set(bank.sentences):
        present = texts_from_masks(source, split)
        index = token_index([present[name] for name in source.names(split)], bank)
        changed["masks"] = dataclasses.replace(guidance, kind="masks", index={split: index})
    else:
        changed["masks"] = "the class names are not among the model's sentences"
    return changed


def score_counterfactuals(
    score: Callable[[Guidance], Score], guidance: Guidance, source: DataSource, split: str, seed: int = 0
) -> list[Counterfactual]:
    """Score every change that applies; ``score`` returns the counts of ``split`` under a given text."""
    results = []
    for name, changed in counterfactual_guidances(guidance, source, split, seed).items():
        if isinstance(changed, str):
            results.append(Counterfactual(name, None, changed))
        else:
            results.append(Counterfactual(name, score(changed)))
    return results
