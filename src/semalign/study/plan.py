"""What a study will cost and which margin its budget can resolve, before it is run."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from semalign.config.study import StudyOptions
from semalign.errors import ResultsError, StudyError
from semalign.execution import Execution
from semalign.files import read_json
from semalign.judge.contrasts import aliases, family_sizes
from semalign.judge.planning import Precision, cannot_decide, effect_sd, precision
from semalign.judge.types import Contrast
from semalign.layout import PILOT, RESULT
from semalign.results import RunResult, read_result
from semalign.study.checks import check_device, check_sense
from semalign.study.design import pilot_runs, planned_runs, study_contrasts
from semalign.study.engines import threads_per_worker, worker_count
from semalign.study.folder import check_study_folder, unfinished
from semalign.study.probe import probe_seconds
from semalign.wording import Message, say

__all__ = ["Plan", "plan_study"]

PILOT_FIGURES = ("n", "sd_paired", "sd_paired_low", "sd_paired_high", "correlation", "pairing", "false_positives")
ASSUMED_SDS = (0.5, 1.0, 2.0)
"""Standard deviations of a paired difference, in mIoU points, that a plan without a pilot is shown for."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study will cost and what it can resolve.

    Attributes:
        study: the study.
        runs: runs of the pilot and the study together.
        missing: those that have not finished.
        seconds_per_run: None where a command makes the runs and none has finished.
        workers: processes at a time.
        sd_from: where the noise comes from: "pilot", or "assumed".
        precision: what the design finds out, see `precision_rows`.
        pilot: figures of the pilot by name, None without one.
        notes: what a reader must know.
    """

    study: StudyOptions
    runs: int
    missing: int
    seconds_per_run: float | None
    workers: int
    sd_from: Literal["assumed", "pilot"]
    precision: tuple[dict[str, Any], ...]
    pilot: dict[str, Any] | None
    notes: tuple[Message, ...]

    @property
    def hours(self) -> float | None:
        """Hours that the missing runs take; None where the time of one is unknown."""
        return None if self.seconds_per_run is None else self.missing * self.seconds_per_run / self.workers / 3600

    @property
    def aliases(self) -> dict[str, str]:
        """Effects that share their estimate with others, and these."""
        return aliases(self.study.levels, self.study.baseline)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; notes in English."""
        study = self.study
        return {
            "study": study.name,
            "question": str(study.question),
            "data": study.data,
            "arms": list(study.arms),
            "blocks": study.blocks,
            "looks": None if study.looks is None else list(study.looks),
            "aliases": self.aliases,
            "margin": study.margin,
            "alpha": study.alpha,
            "families": family_sizes(study_contrasts(study)),
            "runs": self.runs,
            "missing": self.missing,
            "seconds_per_run": self.seconds_per_run,
            "workers": self.workers,
            "hours": self.hours,
            "sd_from": self.sd_from,
            "precision": list(self.precision),
            "pilot": self.pilot,
            "notes": [str(note) for note in self.notes],
        }


def plan_study(
    study: StudyOptions, folder: Path | None, execution: Execution | None = None, *, pilot_sd: float | None = None
) -> Plan:
    """Return the plan: runs, hours from a short measured probe, resolvable margins.

    A command is not probed: its hours come from runs that have finished, and are None where there is none.

    Args:
        study: the study.
        folder: where runs may already have finished, or None.
        execution: how the study would run; by default on this machine, one process per processor.
        pilot_sd: standard deviation of the paired difference in points that a pilot found; None: several are assumed.

    Raises:
        SemalignError: options, data or the folder do not fit.
        StudyError: the design cannot decide: one block, two arms alike, or more noise than its blocks can see through.
    """
    execution = execution or Execution()
    count = worker_count(execution.workers)
    check_device(study, execution.device)
    check_sense(study)
    runs = {run.folder: run for run in [*pilot_runs(study), *planned_runs(study)]}
    is_begun = folder is not None and check_study_folder(folder, study)
    missing = unfinished(folder, runs.values()) if folder is not None and is_begun else list(runs.values())
    seconds: float | None
    if study.command is None:
        baseline = next(run for run in planned_runs(study) if run.arm == study.baseline)
        seconds = probe_seconds(study.data or "", baseline.training, execution.for_worker(threads_per_worker(count)))
    else:
        done = runs.keys() - {run.folder for run in missing}
        seconds = median_seconds(read_result(folder / name / RESULT) for name in done) if folder else None
    contrasts = study_contrasts(study)
    pilot = read_pilot(folder)
    if pilot_sd is None and pilot is not None:
        pilot_sd = pilot["sd_paired"] or None
    sds = ASSUMED_SDS if pilot_sd is None else (pilot_sd,)
    rows = tuple(row for sd in sds for row in precision_rows(study, contrasts, sd))
    notes = []
    if pilot is not None:
        reason = why_undecidable(study, contrasts, pilot["sd_paired_low"])
        if reason is not None:
            raise StudyError(
                f"{reason}: this noise is the least that the pilot leaves possible; plan more blocks (--seeds), or a "
                "larger margin"
            )
    elif (reason := why_undecidable(study, contrasts, min(sds))) is not None:
        notes.append(say("plan.assumed-noise", reason=reason))
    if execution.engine != "local":
        notes.append(say("plan.hours-of-this-machine", workers=count))
    sd_from: Literal["assumed", "pilot"] = "assumed" if pilot_sd is None else "pilot"
    return Plan(study, len(runs), len(missing), seconds, count, sd_from, rows, pilot, tuple(notes))


def median_seconds(results: Iterable[RunResult]) -> float | None:
    """Return the median of the seconds that finished runs took, all their parts together; None without any."""
    seconds = [sum(result.timings.values()) for result in results if result.status == "finished" and result.timings]
    return statistics.median(seconds) if seconds else None


def precision_rows(study: StudyOptions, contrasts: Sequence[Contrast], sd: float) -> list[dict[str, Any]]:
    """Return what the design finds out, a row for each kind of effect that differs in family or spread.

    Args:
        study: the study.
        contrasts: its effects.
        sd: standard deviation of a plain difference of two arms over blocks, points.
    """
    kinds: dict[tuple[str, float], list[Contrast]] = {}
    for contrast in contrasts:
        kinds.setdefault((contrast.family, round(effect_sd(contrast, sd), 12)), []).append(contrast)
    return [
        {
            "family": family,
            "effects": [contrast.name for contrast in alike],
            "sd_difference": sd,
            **dataclasses.asdict(_precision(study, contrasts, alike[0], sd)),
        }
        for (family, _), alike in kinds.items()
    ]


def why_undecidable(study: StudyOptions, contrasts: Sequence[Contrast], least_sd: float) -> Message | None:
    """Return why the design decides none of its primary effects, or of all where none is primary; None where it may.

    Args:
        study: the study.
        contrasts: its effects.
        least_sd: the least standard deviation of a plain difference over blocks that is credible, points.
    """
    if not least_sd > 0:
        return None
    asked = [contrast for contrast in contrasts if contrast.family == "primary"] or contrasts
    reasons = [
        cannot_decide(_precision(study, contrasts, contrast, least_sd), study.margin, study.blocks, contrast.name)
        for contrast in asked
    ]
    return reasons[0] if all(reason is not None for reason in reasons) else None


def _precision(study: StudyOptions, contrasts: Sequence[Contrast], contrast: Contrast, sd: float) -> Precision:
    """Return what the design finds out about one effect where a plain difference has the spread ``sd``."""
    return precision(
        effect_sd(contrast, sd),
        seeds=study.seeds,
        looks=study.looks,
        margin=study.margin,
        alpha=study.alpha,
        m=family_sizes(contrasts)[contrast.family],
    )


def read_pilot(folder: Path | None) -> dict[str, Any] | None:
    """Return the figures of the folder's pilot, None where there is none."""
    if folder is None or not (folder / PILOT).exists():
        return None
    try:
        value = read_json(folder / PILOT)
        return {name: value[name] for name in PILOT_FIGURES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"cannot read {folder / 'pilot.json'} ({type(error).__name__}: {error}), expected what `study pilot` "
            "wrote: remove it and run the pilot again"
        ) from error
