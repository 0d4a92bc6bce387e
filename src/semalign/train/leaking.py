"""Whether the text of a run was made from the masks that are scored, declared so or not.

It compares the images' own texts with the counts of a score.  It does not depend on models.
"""

from __future__ import annotations

import dataclasses

from semalign.data.leaking import Agreement, text_agreement
from semalign.results import Score
from semalign.train.run_text import RunText
from semalign.wording import Message, say

__all__ = ["NOT_LEAKING", "Leaking", "find_leaking"]


@dataclasses.dataclass(frozen=True)
class Leaking:
    """What is known about a text and the masks.

    Attributes:
        is_leaking: the text is made from the masks, as declared (data.text=masks) or as its agreement shows.
        agreement: of images' own texts with their masks, else None.
        notes: what a reader must know.
    """

    is_leaking: bool
    agreement: Agreement | None
    notes: tuple[Message, ...]


NOT_LEAKING = Leaking(False, None, ())
"""What is known of a text that does not depend on the image."""


def find_leaking(text: RunText, score: Score) -> Leaking:
    """Compare the texts of the scored split with its masks, whose classes follow from the score's counts.

    The captions of the built-in scenes name each class of the mask by construction and are not called leaking:
    ``data.necessity`` sets how much they carry that pixels lack.
    """
    if text.is_leaking:
        return Leaking(True, None, (say("train.text_leaks"),))
    if text.kind != "images":
        return NOT_LEAKING
    texts = text.own[score.split]
    present = (score.counts[:, :, 0] + score.counts[:, :, 2]) > 0
    agreement = text_agreement([texts[name] for name in score.images], present, score.class_names)
    if text.is_rendered or not agreement.leaks:
        return Leaking(False, agreement, ())
    note = say("train.text_seems_to_leak", split=score.split, agreement=agreement.sentence())
    return Leaking(True, agreement, (note,))
