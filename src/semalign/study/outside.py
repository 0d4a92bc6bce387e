"""The judgement of anybody's table of results by what a study file, or the command line, has fixed beforehand.

It does not depend on how the results were made, and never imports torch.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from semalign.config import read_yaml, validate
from semalign.config.options import Frozen
from semalign.config.study import ContrastOptions
from semalign.errors import StudyError, nearest
from semalign.judge import (
    Contrast,
    Judgement,
    NewImages,
    counts_of_runs,
    judge,
    judge_new_images,
    read_image_counts_csv,
    read_runs_csv,
)
from semalign.judge.contrasts import contrasts_of
from semalign.study.design import read_protocol, study_contrasts

__all__ = ["ContrastsFile", "Protocol", "judge_table", "protocol_of_study", "read_contrasts"]


class ContrastsFile(Frozen):
    """A YAML file of effects to judge, as they stand in a study file."""

    contrasts: Annotated[tuple[ContrastOptions, ...], Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is fixed before anybody looks at the results.

    Attributes:
        baseline: the arm that the others are compared with.
        margin: smallest effect that matters, points.
        alpha: family-wise level.
        seeds: planned blocks; None: those that are there.
        looks: moments at which a growing study is judged; not together with ``seeds``.
        contrasts: the effects; None: every other arm minus the baseline.
        arms: the planned arms of a study; empty: those that are there.
    """

    baseline: str = "Baseline"
    margin: float = 1.0
    alpha: float = 0.05
    seeds: int | None = None
    looks: tuple[int, ...] | None = None
    contrasts: tuple[Contrast, ...] | None = None
    arms: tuple[str, ...] = ()


def protocol_of_study(
    spec: str,
    *,
    margin: float | None = None,
    alpha: float | None = None,
    seeds: int | None = None,
    looks: tuple[int, ...] | None = None,
) -> Protocol:
    """Return what a study file, or a built-in study, fixes.

    Args:
        spec: the name or the file.
        margin: in place of the study's, as ``study run --set margin=`` has it; None: the study's.
        alpha: the same.
        seeds: blocks in place of the study's seeds or looks, as ``study run --seeds`` has them.
        looks: in place of the study's seeds or looks.

    Raises:
        StudyError: an unknown study, or one that judges no effect.
        ConfigError: the file is not a study.
    """
    study = read_protocol(spec)
    own = seeds is None and looks is None
    return Protocol(
        study.baseline,
        study.margin if margin is None else margin,
        study.alpha if alpha is None else alpha,
        study.seeds if own else seeds,
        study.looks if own else looks,
        study_contrasts(study),
        tuple(study.arms),
    )


def read_contrasts(path: Path) -> tuple[Contrast, ...]:
    """Read the effects of a YAML file whose ``contrasts`` stand there as in a study file.

    Raises:
        ConfigError: the file cannot be read, or is not such a file.
        StudyError: one has weights that do not add up to 0.
    """
    file = validate(ContrastsFile, read_yaml(path), str(path))
    return contrasts_of([contrast.model_dump() for contrast in file.contrasts], (), "")


def judge_table(
    results: Path, protocol: Protocol, images: Path | None = None
) -> tuple[Judgement, tuple[NewImages, ...]]:
    """Judge the runs of a CSV file, and with counts by image also for new images.

    Args:
        results: see `read_results_csv`; or counts by image alone, whose mIoU are the scores.
        protocol: what was fixed beforehand.
        images: see `read_image_counts_csv`; may be ``results``.

    Raises:
        ResultsError: a file cannot be read, or the two do not fit each other.
        StudyError: see `judge` and `judge_new_images`; or a contrast names an arm, or the results hold one, that the
            other does not know.
    """
    rows, own = read_runs_csv(results)
    there = {arm for arm, _, _ in rows}
    if protocol.arms:
        for arm in sorted(there - set(protocol.arms)):
            raise StudyError(
                f"{results} has runs of the arm {arm!r}, which the study does not plan{nearest(arm, protocol.arms)}"
            )
    else:
        for contrast in protocol.contrasts or ():
            for arm in contrast.weights:
                if arm not in there:
                    raise StudyError(
                        f"the contrast {contrast.name!r} has the arm {arm!r} without a run{nearest(arm, there)}"
                    )
    if protocol.arms and protocol.looks is not None:
        # Runs behind the last whole block are still to come; a gap before it is a lost run.
        done = {(arm, seed) for arm, seed, _ in rows}
        whole = [seed for _, seed in done if all((arm, seed) in done for arm in protocol.arms)]
        judged = [row for row in rows if not whole or row[1] <= max(whole)]
    else:
        judged = list(rows)
    fixed = _fixed(protocol)
    judgement = judge(judged, **fixed)
    if images is None:
        return judgement, ()
    table = own if own is not None and images == results else read_image_counts_csv(images)
    return judgement, judge_new_images(counts_of_runs(rows, table), table.clusters, **fixed)


def _fixed(protocol: Protocol) -> dict[str, Any]:
    """Return the protocol as arguments of `judge` and `judge_new_images`."""
    names = ("baseline", "contrasts", "margin", "alpha", "looks")
    return {name: getattr(protocol, name) for name in names} | {"planned_blocks": protocol.seeds}
