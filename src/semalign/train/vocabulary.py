"""Classes that a run is trained on, and classes that it is only asked for.

With ``data.unseen`` the pixels of some classes are ignored in training and their names are nowhere in it, neither
among the text classifier's classes nor in a text of class names; at evaluation all classes compete for every pixel
(the generalised zero-shot setting of Bucher et al. 2019, https://arxiv.org/abs/1906.00817, whose harmonic mean of Xian
et al. 2017 is given too).  This module does not depend on models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from semalign.config import Options
from semalign.data.batches import ImageSet
from semalign.errors import ConfigError, nearest
from semalign.metrics import IGNORE
from semalign.results import Score
from semalign.text.bank import TextBank
from semalign.wording import Message, say

__all__ = [
    "OpenScore",
    "check_unseen",
    "compact_labels",
    "hide_classes",
    "notes_of_strangers",
    "open_score",
    "seen_places",
]


@dataclasses.dataclass(frozen=True)
class OpenScore:
    """Mean IoU in [0, 1] of the classes that a run was trained on and of the others.

    Attributes:
        seen: over classes that were trained on; None where none is in the scored masks.
        unseen: over the others; None where none is in the scored masks.
        harmonic: 2 s u / (s + u), 0 where both are 0; None where one of them is.
    """

    seen: float | None
    unseen: float | None
    harmonic: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON values."""
        return dataclasses.asdict(self)


def check_unseen(options: Options, class_names: Sequence[str]) -> None:
    """Refuse options under which classes cannot be left out of training.

    Raises:
        ConfigError: an unknown or repeated name, no class left to train on, a linear classifier, or a text that is made
            from the masks.
    """
    unseen = options.data.unseen
    if not unseen:
        return
    for name in unseen:
        if name not in class_names:
            raise ConfigError(
                f"data.unseen names '{name}', which is not a class of the data{nearest(name, class_names)}"
            )
        if unseen.count(name) > 1:
            raise ConfigError(f"data.unseen names '{name}' twice, expected it once")
    if len(unseen) == len(class_names):
        raise ConfigError("data.unseen names all classes, expected at least one to train on: leave one out")
    if options.model.classifier != "text":
        raise ConfigError(
            "data.unseen with model.classifier=linear, which answers only for classes that it was trained on, expected "
            "the text classifier: set model.classifier=text"
        )
    if options.data.text == "masks":
        raise ConfigError(
            "data.unseen with data.text=masks, whose texts name the unseen classes, expected another text: set "
            "data.text=classes or none"
        )


def seen_places(class_names: Sequence[str], unseen: Collection[str]) -> Int[Tensor, " seen"]:
    """Return the positions of the classes that are trained on."""
    return torch.tensor([place for place, name in enumerate(class_names) if name not in unseen])


def compact_labels(places: Int[Tensor, " seen"]) -> Int[Tensor, " values"]:
    """Return by mask value the position among the classes at ``places``, 255 for every other value.

    >>> compact_labels(torch.tensor([0, 2]))[[0, 1, 2, 255]].tolist()
    [0, 255, 1, 255]
    """
    table = torch.full((IGNORE + 1,), IGNORE, dtype=torch.int64)
    table[places] = torch.arange(len(places))
    return table


def hide_classes(images: ImageSet, class_names: Sequence[str], unseen: Collection[str]) -> ImageSet:
    """Return the images with the pixels of ``unseen`` ignored; the masks given are left as they are."""
    table = np.arange(IGNORE + 1, dtype=np.uint8)
    table[[place for place, name in enumerate(class_names) if name in unseen]] = IGNORE
    masks = [torch.from_numpy(table[mask.numpy()]) for mask in images.masks]
    return dataclasses.replace(images, masks=masks)


def notes_of_strangers(bank: TextBank, asked: Iterable[str], trained: Collection[str]) -> tuple[Message, ...]:
    """Return a note where names or sentences that were not trained on have vectors without meaning.

    Args:
        bank: what ``asked`` was encoded to; the vectors of the encoder `table` are random and carry no meaning.
        asked: names or sentences.
        trained: those that the run was trained with.
    """
    strangers = [name for name in asked if name not in trained]
    if not strangers or not bank.encoder.startswith("table"):
        return ()
    shown = (*map(repr, strangers[:3]), *(["..."] if len(strangers) > 3 else []))
    return (say("train.vectors_without_meaning", n=len(strangers), names=shown),)


def open_score(score: Score, trained: Collection[str]) -> OpenScore | None:
    """Return the means over classes in and outside of ``trained``; None where every scored class was trained on.

    Classes without a pixel in the scored masks are left out, as from the mean over all.
    """
    if set(score.class_names) <= set(trained):
        return None
    iou = score.iou
    seen = _mean([value for name, value in iou.items() if name in trained])
    unseen = _mean([value for name, value in iou.items() if name not in trained])
    if seen is None or unseen is None:
        return OpenScore(seen, unseen, None)
    total = seen + unseen
    return OpenScore(seen, unseen, 2 * seen * unseen / total if total else 0.0)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
