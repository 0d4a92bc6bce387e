"""What a decision on each effect would take, at the spread that was seen."""

from __future__ import annotations

import dataclasses

from semalign.errors import StudyError
from semalign.judge.statistics import blocks_needed, resolvable_margin
from semalign.report.arms import median_seconds
from semalign.report.numbers import POWER, StudyNumbers

__all__ = ["FINE_MARGIN", "Needs", "needs_of"]

FINE_MARGIN = 0.5
"""Points; the largest gain that the source document expects, for which the needed blocks are always stated."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What one effect would take to decide, at the spread that was seen.

    Attributes:
        contrast: the effect's name.
        sd: standard deviation over blocks, points; this and all below is None with fewer than two complete blocks.
        resolved: margin that as many blocks as were planned resolve with probability `POWER`, points.
        margins: by margin (points), blocks of a new study that decides at it, and hours of its runs one after another
            (None where no run recorded its time); empty where none can.
    """

    contrast: str
    family: str
    sd: float | None
    resolved: float | None
    margins: dict[float, tuple[int, float | None]]


def needs_of(numbers: StudyNumbers) -> tuple[Needs, ...]:
    """Return for every effect which margin this budget resolves, and what the study's margin and ±0.5 would take."""
    judgement, study = numbers.judgement, numbers.study
    needs = []
    for estimate in judgement.estimates:
        contrast, sd, m = estimate.contrast, estimate.sd, judgement.families[estimate.contrast.family]
        if sd is None:
            needs.append(Needs(contrast.name, contrast.family, None, None, {}))
            continue
        try:
            resolved = float(resolvable_margin(sd, study.blocks, study.alpha, m, POWER))
        except StudyError:  # one block, or an alpha at which no margin has this power
            resolved = None
        seconds = [median_seconds(numbers.runs_of(arm)) for arm in contrast.weights]
        block = None if None in seconds else sum(value for value in seconds if value is not None)
        margins: dict[float, tuple[int, float | None]] = {}
        for margin in sorted({study.margin, FINE_MARGIN}, reverse=True):
            try:
                blocks = int(blocks_needed(sd, margin, study.alpha, m))
            except StudyError:  # out of reach
                continue
            margins[margin] = (blocks, None if block is None else blocks * block / 3600)
        needs.append(Needs(contrast.name, contrast.family, sd, resolved, margins))
    return tuple(needs)
