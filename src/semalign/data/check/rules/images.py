"""Findings about images and splits: flat, dark, turned, more than once, and in the wrong split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from semalign.data.check.duplicates import Twins
from semalign.data.check.evidence import Evidence, Found
from semalign.wording import Message, say

DARK = 16
"""An image whose greatest value is at most this is nearly black."""


def image_flat(evidence: Evidence) -> Iterator[Found]:
    """Find an image of one color."""
    for split, greys in _greys(evidence):
        yield from evidence.counted("image-flat", split, [n for n, (low, high) in greys if low == high], "image")


def image_dark(evidence: Evidence) -> Iterator[Found]:
    """Find an image without a bright pixel."""
    for split, greys in _greys(evidence):
        yield from evidence.counted("image-dark", split, [n for n, (low, high) in greys if low < high <= DARK], "image")


def orientation_ambiguous(evidence: Evidence) -> Iterator[Found]:
    """Find an EXIF orientation that the mask's size does not confirm."""
    yield from _turned(evidence, "orientation-ambiguous", ("ambiguous",))


def orientation(evidence: Evidence) -> Iterator[Found]:
    """Find an EXIF orientation that the mask's size confirms or refutes."""
    yield from _turned(evidence, "orientation", ("applied", "left"))


def duplicate_within(evidence: Evidence) -> Iterator[Found]:
    """Find the same pixels twice in a split."""
    for twins in evidence.twins:
        if twins.split == twins.other and twins.same:
            records = evidence.scan.records[twins.split]
            unlike = sum(
                name in records and first in records and records[name].pixels != records[first].pixels
                for name, (first,) in twins.same.items()
            )
            other = say("data.duplicate-within.unlike", n=unlike) if unlike else ""
            yield _twins(evidence, "duplicate-within", twins, twins.same, "data.is", unlike=other)


def near_duplicate_within(evidence: Evidence) -> Iterator[Found]:
    """Find images of a split that look nearly the same."""
    for twins in evidence.twins:
        if twins.split == twins.other and twins.alike:
            yield _twins(evidence, "near-duplicate-within", twins, twins.alike, "data.looks-like")


def duplicate_across(evidence: Evidence) -> Iterator[Found]:
    """Find the same pixels in two splits."""
    for twins in evidence.twins:
        if twins.split != twins.other and twins.same:
            yield _twins(evidence, "duplicate-across", twins, twins.same, "data.is", effect=_effect(twins))


def near_duplicate_across(evidence: Evidence) -> Iterator[Found]:
    """Find images of two splits that look nearly the same."""
    for twins in evidence.twins:
        if twins.split != twins.other and twins.alike:
            yield _twins(
                evidence, "near-duplicate-across", twins, twins.alike, "data.looks-like", effect=_effect(twins)
            )


def split_missing(evidence: Evidence) -> Iterator[Found]:
    """Find a folder without train or without val."""
    missing = tuple(split for split in ("train", "val") if split not in evidence.source.splits)
    if missing:
        yield Found("", say("data.split-missing", n=len(missing), splits=missing))


def cluster_across(evidence: Evidence) -> Iterator[Found]:
    """Find a sequence of clusters.txt in two splits."""
    folder = evidence.folder
    if folder is None or folder.all_clusters.problems:
        return
    homes: dict[str, list[str]] = {}
    for split in folder.splits:
        for cluster in sorted(set(folder.all_clusters.by_image.get(split, {}).values())):
            homes.setdefault(cluster, []).append(split)
    shared = {cluster: tuple(splits) for cluster, splits in homes.items() if len(splits) > 1}
    if shared:
        details = tuple(say("data.cluster-across.each", name=name, splits=splits) for name, splits in shared.items())
        yield Found("", say("data.cluster-across", n=len(shared)), (), details)


def _greys(evidence: Evidence) -> Iterator[tuple[str, Iterable[tuple[str, list[int]]]]]:
    """Yield by split the least and greatest value of every image that can be decoded."""
    for split, records in evidence.scan.records.items():
        bad = evidence.scan.bad.get(split, {})
        greys = {name: record.grey for name, record in records.items()}
        greys |= {name: sample.grey for name, sample in bad.items() if sample.grey}
        yield split, greys.items()


def _turned(evidence: Evidence, code: str, orientations: Collection[str]) -> Iterator[Found]:
    for split, records in evidence.scan.records.items():
        names = [name for name, record in records.items() if record.orientation in orientations]
        yield from evidence.counted(code, split, names, "image")


def _twins(
    evidence: Evidence, code: str, twins: Twins, names: Iterable[str], each: str, **values: Message | str
) -> Found:
    counterparts = {name: twins.same[name][0] if name in twins.same else twins.alike[name] for name in names}
    return Found(
        twins.split,
        say(f"data.{code}", n=len(counterparts), split=twins.split, other=twins.other, **values),
        evidence.files(twins.split, counterparts, "image"),
        tuple(
            say(each, one=f"{twins.split}/{name}", other=f"{twins.other}/{counterpart}")
            for name, counterpart in counterparts.items()
        ),
    )


def _effect(twins: Twins) -> Message | str:
    return say("data.scores-too-good", split=twins.split) if twins.other == "train" else ""
