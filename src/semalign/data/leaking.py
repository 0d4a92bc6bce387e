"""What marks a text as leaking: images' texts that name what is in their masks more exactly than anybody could see.

The classes that an image's texts name are compared with the classes of its mask, over all images that have both.
Precision is the share of mentions that are in the mask, recall the share of the masks' classes that are mentioned, both
from summed counts.  Where all images show nearly the same classes, any text agrees.  Therefore each figure is set
against its expectation when texts are shuffled between images, as in Cohen's kappa (1960):
(x - x_shuffled) / (1 - x_shuffled).

`semalign.train.leaking` uses this to decide whether a run's text leaks.

It finds names written as in ``classes.txt`` (any case, singular or plural, ``a|b`` for aliases); a text that says
"automobile" for "car" names nothing here.  This module does not depend on images, files, models and torch.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semalign.data.sample import DataSource
from semalign.wording import Message, say

__all__ = [
    "FEWEST_IMAGES",
    "FEWEST_MENTIONS",
    "LEAKING_AGREEMENT",
    "LEAKING_SIDE",
    "Agreement",
    "NameFinder",
    "text_agreement",
    "texts_from_masks",
]

LEAKING_AGREEMENT = 0.8
"""Texts leak from here on: of the disagreement that shuffled texts show, four fifths are gone (F1, above chance).

Measured: segmenters of ours that were trained on the same classes and are taken as taggers reach 0.0 to 0.4 on CamVid
and 0.1 to 0.2 on NYU Depth v2; names read off NYU's masks reach 1.0, and 0.83 where one in twenty is wrong.  Pictures
so easy that everybody sees what is in them (rendered scenes: 0.9) look leaking too, and may as well be called so.
"""

LEAKING_SIDE = 0.99
"""Texts leak from here on, too: practically no mention is wrong, or practically no class is left out (above chance).

That is how texts look that were made from masks and then thinned out, or padded; people and taggers err both ways.
"""

FEWEST_MENTIONS = 50
"""Below this many mentions (or classes in masks) `LEAKING_SIDE` is not applied: few mentions can be right by chance."""

FEWEST_IMAGES = 5
"""Below this many images with a text and a mask nothing is said."""

# Languages that write no blanks between words: there each character is a word.
UNSPACED = "\u2e80-\u9fff\uf900-\ufaff\uac00-\ud7af"
WORDS = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[^\W_])+")


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far the texts of some images agree with their masks.

    Attributes:
        images: images with at least one text and one labelled pixel.
        mentions: classes named, summed over these images.
        present: classes in the masks, summed over these images.
        hits: classes that are both.
        shuffled_hits: the same, expected when every image has another image's texts.
    """

    images: int
    mentions: int
    present: int
    hits: int
    shuffled_hits: float

    @property
    def precision(self) -> float:
        """Share of the mentions that are in the mask; 0 without a mention."""
        return self.hits / self.mentions if self.mentions else 0.0

    @property
    def recall(self) -> float:
        """Share of the masks' classes that are mentioned."""
        return self.hits / self.present if self.present else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._f1(self.hits)

    @property
    def shuffled_f1(self) -> float:
        """`f1` expected when texts are shuffled between images."""
        return self._f1(self.shuffled_hits)

    def _f1(self, hits: float) -> float:
        total = self.mentions + self.present
        return 2 * hits / total if total else 0.0

    @property
    def above_chance(self) -> float:
        """`f1` above its shuffled baseline: 0 as good as shuffled, 1 perfect."""
        return self._above_chance(self.mentions + self.present, 2.0)

    def _above_chance(self, total: int, weight: float = 1.0) -> float:
        # kappa of x = weight * hits / total
        room = total - weight * self.shuffled_hits
        return weight * (self.hits - self.shuffled_hits) / room if room > 1e-9 * max(1, total) else 0.0

    @property
    def leaks(self) -> bool | None:
        """Whether the texts must have been made from the masks; None where there are too few to tell."""
        if self.images < FEWEST_IMAGES:
            return None
        if self.above_chance >= LEAKING_AGREEMENT:
            return True
        return any(
            total >= FEWEST_MENTIONS and self._above_chance(total) >= LEAKING_SIDE
            for total in (self.mentions, self.present)
        )

    def sentence(self) -> Message:
        """Return the evidence in words."""
        return say(
            "data.agreement",
            n=self.images,
            precision=self.precision,
            recall=self.recall,
            f1=self.f1,
            shuffled=self.shuffled_f1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; shares in [0, 1]."""
        return {
            "images": self.images,
            "mentions": self.mentions,
            "present": self.present,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "shuffled_f1": self.shuffled_f1,
            "above_chance": self.above_chance,
            "leaks": self.leaks,
        }


class NameFinder:
    """Finds class names in texts, the longest first: "shower curtain" names no curtain.

    Args:
        class_names: C names; ``a|b`` are aliases of one class; ``_`` and ``-`` are blanks.

    >>> sorted(NameFinder(["car", "traffic_light", "light"])("Two cars before a traffic light."))
    [0, 1]
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for index, name in enumerate(class_names):
            for alias in name.split("|"):
                words = _words(alias)
                if words:
                    self._by_first.setdefault(words[0], []).append((words, index))
        for entries in self._by_first.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def __call__(self, text: str) -> set[int]:
        """Return the indices of the classes that ``text`` names."""
        words = _words(text)
        named = set()
        place = 0
        while place < len(words):
            for wanted, index in self._by_first.get(words[place], ()):
                if words[place : place + len(wanted)] == wanted:
                    named.add(index)
                    place += len(wanted)
                    break
            else:
                place += 1
        return named


def _words(text: str) -> tuple[str, ...]:
    return tuple(_stem(word) for word in WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _stem(word: str) -> str:
    """Return what singular and plural have in common: city and cities, house and houses, bus and buses."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word.rstrip("e") if len(word) > 3 else word


def text_agreement(texts: Sequence[Sequence[str]], present: NDArray[np.bool_], class_names: Sequence[str]) -> Agreement:
    """Compare the classes that texts name with those in the masks.

    Args:
        texts: each image's own texts; images without are left out.
        present: images x C, whether the image's mask has a pixel of the class; images without any are left out.
        class_names: C names.

    >>> text_agreement([["a cat"], ["a dog"]], np.eye(2, dtype=bool), ["cat", "dog"]).precision
    1.0
    """
    find = NameFinder(class_names)
    kept = [image for image, own in enumerate(texts) if own and present[image].any()]
    named = np.zeros((len(kept), len(class_names)), dtype=bool)
    for row, image in enumerate(kept):
        for text in texts[image]:
            named[row, list(find(text))] = True
    masks = present[kept]
    hits = int((named & masks).sum())
    # Every image's names meet every other image's mask once; that is the mean over all ways to shuffle.
    pairs = int((named.sum(axis=0) * masks.sum(axis=0)).sum()) - hits
    shuffled = pairs / (len(kept) - 1) if len(kept) > 1 else 0.0
    return Agreement(len(kept), int(named.sum()), int(masks.sum()), hits, shuffled)


def texts_from_masks(source: DataSource, split: str) -> dict[str, tuple[str, ...]]:
    """Return for every image of ``split`` the names of the classes present in its mask, in class order.

    These texts leak: they are made from the answer.  They bound from above what perfect texts could give and must be
    marked as leaking wherever a figure made with them is shown.
    """
    names = source.class_names
    return {name: tuple(names[index] for index in source.mask_classes(split, name)) for name in source.names(split)}
