"""Whether the text that guides a run was made from the masks that are scored, declared so or not.

It joins a source's texts with the counts of a score; it knows nothing of models.
"""

from __future__ import annotations

import dataclasses

from semalign.data.leaking import Agreement, text_agreement
from semalign.data.sample import DataSource
from semalign.data.scenes import Scenes
from semalign.results import Score
from semalign.train.run_text import RunText

__all__ = ["NOT_LEAKING", "Leaking", "find_leaking"]


@dataclasses.dataclass(frozen=True)
class Leaking:
    """What is known about a text and the masks.

    Attributes:
        is_leaking: the text is made from the masks, as declared (data.text=masks) or as its agreement shows.
        agreement: of images' own texts with their masks, else None.
        notes: sentences that a reader must know.
    """

    is_leaking: bool
    agreement: Agreement | None
    notes: tuple[str, ...]


NOT_LEAKING = Leaking(False, None, ())
"""What is known of text that has nothing to do with any one image."""


def find_leaking(guidance: RunText, source: DataSource, score: Score) -> Leaking:
    """Compare the texts of the scored split with its masks, whose classes the score's counts tell.

    The captions of the built-in scenes name each class of the mask by construction and are not called leaking: how
    much they carry that pixels lack is what ``data.necessity`` sets.
    """
    if guidance.is_leaking:
        return Leaking(True, None, ("the text is made from the masks that are scored (leaking)",))
    if guidance.kind != "images":
        return NOT_LEAKING
    texts = source.texts(score.split)
    present = (score.counts[:, :, 0] + score.counts[:, :, 2]) > 0
    agreement = text_agreement([texts[name] for name in score.images], present, score.class_names)
    if isinstance(source, Scenes) or not agreement.leaks:
        return Leaking(False, agreement, ())
    note = (
        f"the texts of '{score.split}' seem to be made from the masks that are scored (leaking): {agreement.sentence()}"
    )
    return Leaking(True, agreement, (note,))
