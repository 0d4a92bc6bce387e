"""Curves of the runs: by arm the mean over its runs, by place of the alignment the mean over its sites."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semalign.report.numbers import StudyNumbers
from semalign.results import Curve, RunResult

__all__ = ["Band", "Floats", "SiteGroup", "curve_band", "group_of", "site_band", "site_groups"]


Floats: TypeAlias = NDArray[np.float64]


_MOST_POINTS = 80


@dataclasses.dataclass(frozen=True)
class Band:
    """A curve of an arm: over optimizer steps the mean over its finished runs, the lowest and the highest."""

    steps: Floats
    mean: Floats
    low: Floats
    high: Floats
    runs: int


@dataclasses.dataclass(frozen=True, order=True)
class SiteGroup:
    """Alignment sites that are shown together: one stage of the encoder, one level of the decoder.

    Attributes:
        side: "encoder", "decoder", or "other" for a site of a model that is not ours.
        index: stage or level; 0 for "other".
        site: the site's own path for "other", else "".
    """

    side: str
    index: int
    site: str = ""


_STAGE = re.compile(r"(?:^|\.)stages\.(\d+)\.")


_LEVEL = re.compile(r"(?:^|\.)alignments\.(\d+)(?:\.|$)")


@functools.lru_cache(maxsize=1024)
def group_of(site: str) -> SiteGroup:
    """Return the group of an alignment site.

    >>> group_of("visual_encoder.stages.1.blocks.0.alignment")
    SiteGroup(side='encoder', index=1, site='')
    >>> group_of("decoder.alignments.2")
    SiteGroup(side='decoder', index=2, site='')
    """
    if match := _STAGE.search(site):
        return SiteGroup("encoder", int(match[1]))
    if match := _LEVEL.search(site):
        return SiteGroup("decoder", int(match[1]))
    return SiteGroup("other", 0, site)


def _sites(run: RunResult, quantity: str) -> Iterable[tuple[SiteGroup, Curve]]:
    for name, curve in run.curves.items():
        site, slash, what = name.rpartition("/")
        if slash and what == quantity and site not in ("train", "val"):
            yield group_of(site), curve


def site_groups(numbers: StudyNumbers, quantity: str) -> tuple[SiteGroup, ...]:
    """Return the groups of which any finished run recorded ``quantity``: encoder by stage, then decoder by level."""
    found = {group for run in numbers.finished.values() for group, _ in _sites(run, quantity)}
    order = ("encoder", "decoder", "other")
    return tuple(sorted(found, key=lambda group: (order.index(group.side), group.index, group.site)))


def site_band(numbers: StudyNumbers, arm: str, group: SiteGroup, quantity: str) -> Band | None:
    """Return the band of ``quantity``, averaged over the group's sites within each run; None where not recorded."""
    return _band(
        [point for found, curve in _sites(run, quantity) if found == group for point in curve]
        for run in numbers.runs_of(arm)
    )


def curve_band(numbers: StudyNumbers, arm: str, name: str) -> Band | None:
    """Return the band of the curve ``name``, such as "train/loss"; None where not recorded."""
    return _band([run.curves.get(name, []) for run in numbers.runs_of(arm)])


def _band(curves: Iterable[Curve]) -> Band | None:
    """Return the band over runs; a run's points of one step, or of one of `_MOST_POINTS` windows, are averaged."""
    runs = [np.asarray(curve, dtype=np.float64) for curve in curves if curve]
    if not runs:
        return None
    steps = np.unique(np.concatenate([run[:, 0] for run in runs]))
    if len(steps) > _MOST_POINTS:
        edges = np.linspace(steps[0], steps[-1], _MOST_POINTS + 1)
        place = [np.searchsorted(edges[1:-1], run[:, 0], side="right") for run in runs]
        centres = (edges[:-1] + edges[1:]) / 2
    else:
        place = [np.searchsorted(steps, run[:, 0]) for run in runs]
        centres = steps
    total = np.zeros((len(runs), len(centres)))
    count = np.zeros_like(total)
    for row, (run, at) in enumerate(zip(runs, place, strict=True)):
        np.add.at(total[row], at, run[:, 1])
        np.add.at(count[row], at, 1)
    seen = count.sum(axis=0) > 0
    # A run without a value in a window takes no part there.
    values = np.ma.masked_array(total / np.maximum(count, 1), mask=count == 0)[:, seen]
    return Band(
        centres[seen],
        np.asarray(values.mean(axis=0), dtype=np.float64),
        np.asarray(values.min(axis=0), dtype=np.float64),
        np.asarray(values.max(axis=0), dtype=np.float64),
        len(runs),
    )
