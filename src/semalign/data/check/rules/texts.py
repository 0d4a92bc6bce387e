"""Findings about the images' texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from semalign import layout
from semalign.data.check.evidence import Evidence, Found
from semalign.data.leaking import text_agreement
from semalign.wording import say


def texts_missing(evidence: Evidence) -> Iterator[Found]:
    """Find images without a text."""
    for split, texts in _texts(evidence):
        lacking = sum(not own for own in texts.values())
        if lacking == len(texts) and texts:
            yield Found(split, say("data.texts-missing.all", split=split))
        elif lacking:
            images = say("common.images", n=len(texts))
            yield Found(split, say("data.texts-missing", n=lacking, images=images, split=split))


def texts_same(evidence: Evidence) -> Iterator[Found]:
    """Find one text for all images."""
    for split, texts in _texts(evidence):
        given = [frozenset(own) for own in texts.values() if own]
        if len(given) > 1 and len(set(given)) == 1:
            yield Found(split, say("data.texts-same", split=split))


def texts_leak(evidence: Evidence) -> Iterator[Found]:
    """Find texts that must have been made from the masks; the captions of scenes name the masks' classes on purpose."""
    if evidence.folder is None:
        return
    classes = evidence.source.class_names
    for split, texts in _texts(evidence):
        records = evidence.scan.records[split]
        present = np.zeros((len(texts), len(classes)), dtype=bool)
        for row, name in enumerate(texts):
            present[row, list(records[name].classes)] = True
        agreement = text_agreement(list(texts.values()), present, classes)
        if agreement.leaks:
            message = say("data.texts-leak", split=split, agreement=agreement.sentence())
            yield Found(split, message, (layout.TEXTS,))


def _texts(evidence: Evidence) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """Yield by split every good image's texts; nothing where there are faults, or no texts."""
    if evidence.scan.problems or not evidence.source.has_texts:
        return
    for split, records in evidence.scan.records.items():
        texts = evidence.source.texts(split)
        yield split, {name: texts[name] for name in records}
