"""Findings about depth: nothing measured, one value, holes, and different units."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from semalign.data.check.evidence import Evidence, Found
from semalign.wording import say

MANY_HOLES = 0.5
MUCH_AT_END = 0.05
DEPTH_RATIO = 4.0

Measured = dict[str, list[float]]
"""By name: least and greatest depth, share of holes, share of pixels at the end of the file's range, bits."""


def depth_empty(evidence: Evidence) -> Iterator[Found]:
    """Find depth without a measurement."""
    if evidence.source.has_depth:
        for split, records in evidence.scan.records.items():
            yield from evidence.counted("depth-empty", split, [n for n, r in records.items() if not r.depth], "depth")


def depth_flat(evidence: Evidence) -> Iterator[Found]:
    """Find depth of one value."""
    for split, measured in _measured(evidence):
        yield from evidence.counted("depth-flat", split, [n for n, d in measured.items() if _is_flat(d)], "depth")


def depth_holes(evidence: Evidence) -> Iterator[Found]:
    """Find more holes than measurements."""
    for split, measured in _measured(evidence):
        holes = statistics.fmean(depth[2] for depth in measured.values())
        if holes > MANY_HOLES:
            yield Found(split, say("data.depth-holes", split=split, share=holes))


def depth_end(evidence: Evidence) -> Iterator[Found]:
    """Find many pixels at the greatest value that fits, which seems to mark holes."""
    for split, measured in _measured(evidence):
        at_end = sorted(name for name, depth in measured.items() if _marks_holes(depth))
        if at_end:
            message = say("data.depth-end", n=len(at_end), split=split, share=MUCH_AT_END)
            yield Found(split, message, evidence.files(split, at_end, "depth"))


def depth_ranges_differ(evidence: Evidence) -> Iterator[Found]:
    """Find splits whose depths differ as metres and millimetres do."""
    greatest: dict[str, float] = {}
    for split, measured in _measured(evidence):
        inside = [depth[1] for depth in measured.values() if not _marks_holes(depth)]
        if inside:
            greatest[split] = statistics.median(inside)
    if greatest and max(greatest.values()) > DEPTH_RATIO * min(greatest.values()):
        shown = tuple(f"{split} {value:g}" for split, value in greatest.items())
        yield Found("", say("data.depth-ranges-differ", values=shown))


def _measured(evidence: Evidence) -> Iterator[tuple[str, Measured]]:
    """Yield the splits with measured depth."""
    for split, records in evidence.scan.records.items():
        measured = {name: record.depth for name, record in records.items() if record.depth}
        if measured:
            yield split, measured


def _is_flat(depth: list[float]) -> bool:
    return depth[0] == depth[1]


def _marks_holes(depth: list[float]) -> bool:
    return depth[3] > MUCH_AT_END and not _is_flat(depth)
