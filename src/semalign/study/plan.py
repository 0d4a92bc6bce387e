"""What a study will cost and which margin its budget can resolve, before it is run."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

from semalign.config.study import StudyOptions
from semalign.judge.contrasts import contrasts_of, family_sizes
from semalign.judge.statistics import blocks_needed, minimum_detectable_effect, resolvable_margin
from semalign.study.design import pilot_runs, planned_runs
from semalign.study.runner import check_study_folder, threads_per_worker, unfinished, worker_count

__all__ = ["PROBE_STEPS", "plan_study"]

PROBE_STEPS = 8
ASSUMED_SDS = (0.5, 1.0, 2.0)
"""Standard deviations of a paired difference, in mIoU points, that a plan without a pilot is shown for."""


def plan_study(
    study: StudyOptions,
    folder: Path | None,
    *,
    workers: int | None = None,
    device: str = "auto",
    scan: bool = True,
    pilot_sd: float | None = None,
) -> dict[str, Any]:
    """Return the plan as plain values: runs, hours from a short measured probe, resolvable margins.

    Args:
        study: the study.
        folder: where runs may already have finished, or None.
        workers: processes; by default one per processor.
        device: where to compute.
        scan: check the data in full first.
        pilot_sd: standard deviation of the paired difference in points that a pilot found; None: several are assumed.

    Raises:
        SemalignError: options, data or the folder do not fit.
    """
    from semalign.train.loop import make_fabric

    count = worker_count(workers)
    make_fabric(device)
    runs = {run.folder: run for run in [*pilot_runs(study), *planned_runs(study)]}
    is_begun = folder is not None and check_study_folder(folder, study)
    missing = unfinished(folder, runs.values()) if folder is not None and is_begun else list(runs.values())
    baseline = next(run for run in planned_runs(study) if run.arm == study.baseline)
    seconds = probe_seconds(study.data or "", baseline.options, threads_per_worker(count), device, scan)
    families = family_sizes(contrasts_of(study.contrasts, study.arms, study.baseline))
    primary = families.get("primary", 1)
    sds = ASSUMED_SDS if pilot_sd is None else (pilot_sd,)
    precision = []
    if study.seeds >= 2:
        precision = [
            {
                "sd": sd,
                "resolvable_margin": float(resolvable_margin(sd, study.seeds, study.alpha, primary)),
                "minimum_detectable_effect": float(minimum_detectable_effect(sd, study.seeds, study.alpha, primary)),
                "blocks_for_margin": int(blocks_needed(sd, study.margin, study.alpha, primary)),
            }
            for sd in sds
        ]
    return {
        "study": study.name,
        "question": study.question,
        "data": study.data,
        "arms": list(study.arms),
        "blocks": study.seeds,
        "margin": study.margin,
        "alpha": study.alpha,
        "families": families,
        "runs": len(runs),
        "missing": len(missing),
        "seconds_per_run": seconds,
        "workers": count,
        "hours": len(missing) * seconds / count / 3600,
        "sd_from": "assumed" if pilot_sd is None else "pilot",
        "precision": precision,
    }


def probe_seconds(data: str, options: Any, threads: int, device: str, scan: bool) -> float:
    """Return the estimated seconds of one run of these options, from a few steps and a few scored images.

    The probe runs alone; processes that share memory and cache are slower, up to about twice on small machines.
    """
    import torch

    from semalign.api import open_source
    from semalign.config import merge, to_dict, validate
    from semalign.config.options import Options
    from semalign.train.loop import TRAIN_SCORE_IMAGES, Events, fit, make_fabric, prepare_inputs

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source = open_source(data, options, scan=scan)
        inputs = prepare_inputs(source, options)
        short = validate(
            Options,
            merge(to_dict(options), {"train": {"epochs": 1, "val_every": 0, "select_split": None}}),
            "the probe",
        )
        moments: list[float] = []

        class Enough(Exception):  # noqa: N818 (it ends the probe and is no error)
            pass

        def stepped(step: int, steps: int, loss: float) -> None:
            moments.append(time.monotonic())
            if step > PROBE_STEPS:
                raise Enough

        started = time.monotonic()
        with contextlib.suppress(Enough):
            fit(inputs, short, fabric=make_fabric(device), events=Events(stepped=stepped))
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(moments))
        step = gaps[len(gaps) // 2] if gaps else time.monotonic() - started
    finally:
        torch.set_num_threads(before)
    batch = min(options.train.batch_size, len(inputs.images.names))
    steps = options.train.epochs * (len(inputs.images.names) // batch)
    # A forward alone costs about a third of a step.
    looks = 1 + (options.train.epochs // options.train.val_every if options.train.val_every else 0)
    scored = looks * len(source.names(options.data.val_split)) + min(TRAIN_SCORE_IMAGES, len(inputs.images.names))
    return float(step * (steps + scored / batch / 3))
