"""Findings about masks: colors, palettes, values that are not classes, and pixels without a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semalign.data.check.evidence import Evidence, Found
from semalign.data.listing import Key
from semalign.data.masks import MINUS_ONE
from semalign.metrics import IGNORE
from semalign.wording import Message, say

MUCH_IGNORED = 0.5


def mask_color(evidence: Evidence) -> Iterator[Found]:
    """Find colors instead of class indices, or several channels."""
    colors = evidence.masks.colors
    n_classes = len(evidence.source.class_names)
    yield from _masks(evidence, "mask-color", colors.colored, how=_how(evidence))
    fitting = [key for key in colors.single if evidence.masks.facts(key).fits(n_classes)]
    yield from _masks(evidence, "mask-color.single", fitting)
    yield from _masks(evidence, "mask-color.undecided", colors.undecided)
    yield from _masks(evidence, "mask-color.deep", colors.deep)


def palettes_differ(evidence: Evidence) -> Iterator[Found]:
    """Find an index that has several colors, as after converting pictures in colors one by one."""
    colors = evidence.masks.colors
    if colors.differing:
        shown = tuple(map(str, colors.differing[:5])) + (("...",) if len(colors.differing) > 5 else ())
        message = say("data.palettes-differ", n=len(colors.palettes), indices=shown, how=_how(evidence))
        yield Found("", message, _files(evidence, colors.palettes))


def palette(evidence: Evidence) -> Iterator[Found]:
    """Find masks that are stored with a palette."""
    colors = evidence.masks.colors
    if colors.palettes and not colors.differing:
        yield Found("", say("data.palette", n=len(colors.palettes)), _files(evidence, colors.palettes))


def mask_binary(evidence: Evidence) -> Iterator[Found]:
    """Find two classes stored as 0 and 255."""
    yield from _masks(evidence, "mask-binary", evidence.masks.values.binary, name=evidence.source.class_names[-1])


def mask_void(evidence: Evidence) -> Iterator[Found]:
    """Find 65535, which is -1 in 16 bits, where 255 is meant."""
    yield from _masks(evidence, "mask-void", [key for key in _out_of_range(evidence) if _is_only_void(evidence, key)])


def mask_off_by_one(evidence: Evidence) -> Iterator[Found]:
    """Find classes that are counted from 1."""
    shifted = evidence.masks.values.shifted
    keys = [key for key in _out_of_range(evidence) if key[0] in shifted and not _is_only_void(evidence, key)]
    n_classes = len(evidence.source.class_names)
    yield from _masks(evidence, "mask-off-by-one", keys, classes=n_classes, last=n_classes - 1)


def mask_range(evidence: Evidence) -> Iterator[Found]:
    """Find other values that are not a class."""
    n_classes = len(evidence.source.class_names)
    shifted = evidence.masks.values.shifted
    keys = [key for key in _out_of_range(evidence) if key[0] not in shifted and not _is_only_void(evidence, key)]
    for split in dict.fromkeys(split for split, _ in keys):
        own = [key for key in keys if key[0] == split]
        values = {value for key in own for value in evidence.masks.facts(key).values if value >= n_classes}
        hint = say("data.mask-range.one-more", value=n_classes) if values - {IGNORE, MINUS_ONE} == {n_classes} else ""
        yield from _masks(evidence, "mask-range", own, last=n_classes - 1, hint=hint)


def mask_empty(evidence: Evidence) -> Iterator[Found]:
    """Find masks of nothing but ignored pixels."""
    for split, records in evidence.scan.records.items():
        yield from evidence.counted("mask-empty", split, [n for n, r in records.items() if not r.classes], "mask")


def ignored_much(evidence: Evidence) -> Iterator[Found]:
    """Find a split of which most pixels are ignored."""
    binary = {split for split, _ in evidence.masks.values.binary}
    for split, records in evidence.scan.records.items():
        pixels = sum(sum(record.pixels.values()) for record in records.values())
        ignored = sum(record.counts.get(IGNORE, 0) for record in records.values())
        if ignored > MUCH_IGNORED * pixels and split not in binary and any(r.classes for r in records.values()):
            yield Found(split, say("data.ignored-much", share=ignored / pixels, split=split))


def _how(evidence: Evidence) -> Message:
    """Return what is known of the masks' colors."""
    colors = evidence.masks.colors
    if colors.known is None:
        return say("data.colors-unknown", n=len(colors.used))
    return say("data.colors-known", source=colors.known.known_from)


def _out_of_range(evidence: Evidence) -> tuple[Key, ...]:
    return evidence.masks.values.out_of_range


def _is_only_void(evidence: Evidence, key: Key) -> bool:
    """Return whether a mask fits but for 65535."""
    facts = evidence.masks.facts(key)
    highest = len(evidence.source.class_names) + (key[0] in evidence.masks.values.shifted)
    return MINUS_ONE in facts.values and facts.fits(highest, also=(MINUS_ONE,))


def _masks(evidence: Evidence, key: str, keys: Iterable[Key], **values: Message | str | int) -> Iterator[Found]:
    """Yield by split what sentence ``key`` says of these masks, with the error of each."""
    by_split: dict[str, list[str]] = {}
    for split, name in keys:
        by_split.setdefault(split, []).append(name)
    for split, names in by_split.items():
        problems = [evidence.masks.bad[split, name].problems for name in names if (split, name) in evidence.masks.bad]
        message = say(f"data.{key}", n=len(names), split=split, **values)
        details = tuple(str(problem["mask"]) for problem in problems)
        yield Found(split, message, evidence.files(split, names, "mask"), details)


def _files(evidence: Evidence, keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(file for split, name in keys for file in evidence.files(split, [name], "mask"))
