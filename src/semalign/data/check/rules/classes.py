"""Findings about classes: not in the masks, rare, or nearly everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from semalign.data.check.evidence import Evidence, Found
from semalign.wording import say

DOMINANT = 0.9


def class_unused(evidence: Evidence) -> Iterator[Found]:
    """Find a class that no mask shows."""
    never = _never(evidence)
    if never:
        yield Found("", say("data.class-unused", names=never))


def class_unlearned(evidence: Evidence) -> Iterator[Found]:
    """Find a class that the training split lacks and another split has."""
    gone = _gone(evidence).get("train")
    if gone:
        yield Found("train", say("data.class-unlearned", names=gone))


def class_absent(evidence: Evidence) -> Iterator[Found]:
    """Find a class that another split lacks and the training split has."""
    if "train" not in evidence.class_counts:
        return
    for split, gone in _gone(evidence).items():
        if split != "train" and gone:
            yield Found(split, say("data.class-absent", split=split, names=gone))


def class_rare(evidence: Evidence) -> Iterator[Found]:
    """Find classes with few of the labelled pixels."""
    for name, split in evidence.class_counts.items():
        if split.rare:
            total = sum(split.pixels.values())
            shown = tuple(
                say("data.class-rare.each", name=rare, share=split.pixels[rare] / total, n=split.images_with[rare])
                for rare in split.rare
            )
            yield Found(name, say("data.class-rare", split=name, classes=shown))


def class_dominant(evidence: Evidence) -> Iterator[Found]:
    """Find a class with nearly all of the labelled pixels."""
    for name, split in evidence.class_counts.items():
        total = sum(split.pixels.values())
        most = max(split.pixels, key=lambda c: split.pixels[c])
        if split.pixels[most] > DOMINANT * total and len(split.pixels) > 1:
            yield Found(name, say("data.class-dominant", split=name, name=most, share=split.pixels[most] / total))


def _never(evidence: Evidence) -> tuple[str, ...]:
    """Return the classes that no split shows; nothing where nothing was counted."""
    splits = evidence.class_counts.values()
    names = evidence.source.class_names
    return tuple(name for name in names if splits and all(name in split.unused for split in splits))


def _gone(evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """Return by split the classes that it lacks and another split shows."""
    never = _never(evidence)
    counts = evidence.class_counts
    return {name: tuple(c for c in split.unused if c not in never) for name, split in counts.items()}
