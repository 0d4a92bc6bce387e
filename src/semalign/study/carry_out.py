"""A whole study: its folder, its pilot, its runs, the pilot's figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import semalign
from semalign.config.study import StudyOptions
from semalign.errors import StudyError
from semalign.files import write_json
from semalign.judge.contrasts import family_sizes
from semalign.judge.growth import Outcomes, blocks_wanted, judge_study
from semalign.judge.pilot import Pilot, judge_pilot
from semalign.results import read_result
from semalign.study.design import PlannedRun, pilot_runs, planned_runs, study_contrasts
from semalign.study.plan import check_arms_differ
from semalign.study.runner import check_study_folder, claim_study_folder, machine_facts, run_planned, worker_count

__all__ = ["carry_out"]

Progress = Callable[[str, int, str, float | None, int, int], None]
"""Called with (arm, seed, what happened, mIoU in [0, 1] or None, runs done, runs)."""


def carry_out(
    study: StudyOptions,
    folder: Path,
    *,
    workers: int | None = None,
    device: str = "auto",
    scan: bool = True,
    command: str = "",
    pilot_only: bool = False,
    progress: Progress | None = None,
) -> None:
    """Run the pilot, then what the study lacks; what has finished stays as it is.

    Raises:
        SemalignError: options, data or the folder do not fit; nothing has been written then.
    """
    from semalign.api import open_source
    from semalign.train.loop import make_fabric, versions

    count = worker_count(workers)
    make_fabric(device)
    study_contrasts(study)
    check_study_folder(folder, study)
    runs, pilot = planned_runs(study), pilot_runs(study)
    if pilot_only and len(pilot) < 4:
        raise StudyError(
            f"the pilot of study {study.name} has {len(pilot) // 2} blocks (pilot_blocks={study.pilot_blocks}, "
            f"blocks={study.blocks}), expected at least 2: add --seeds or --set pilot_blocks=2"
        )
    check_arms_differ(study)
    check_models(study, runs, scan)
    assert study.data is not None
    options = runs[0].options
    source = open_source(study.data, options, scan=scan)
    splits = (options.data.train_split, options.data.val_split)
    facts = {
        "command": command,
        "data": {**source.describe(), "fingerprints": {split: source.fingerprint(split) for split in splits}},
        "versions": {**versions(), "semalign": semalign.__version__},
        "machine": machine_facts(count),
    }
    claim_study_folder(folder, study, facts)

    def tell(run: PlannedRun, status: str, miou: float | None, done: int, total: int) -> None:
        if progress is not None:
            progress(run.arm, run.seed, status, miou, done, total)

    run_planned(pilot, study.data, folder, workers=count, device=device, scan=scan, progress=tell)
    judged = pilot_figures(study, folder)
    if judged is not None:
        write_json(folder / "pilot.json", judged.to_dict())
    if pilot_only:
        return
    for blocks in study.looks or (study.blocks,):
        here = [run for run in runs if run.seed < blocks]
        run_planned(here, study.data, folder, workers=count, device=device, scan=scan, progress=tell)
        if has_ended(study, folder, blocks):
            break


def has_ended(study: StudyOptions, folder: Path, blocks: int) -> bool:
    """Return whether the study needs no more than these ``blocks``: judged by its looks, it may end early."""
    outcomes = outcomes_of(study, folder, blocks)
    if study.looks is None or not any(score is not None for score in outcomes.values()):
        return study.looks is None
    judgement = judge_study(
        outcomes,
        tuple(study.arms),
        baseline=study.baseline,
        contrasts=study_contrasts(study),
        margin=study.margin,
        alpha=study.alpha,
        seeds=study.seeds,
        looks=study.looks,
    )
    return blocks_wanted(judgement, futility=study.futility) <= blocks


def outcomes_of(study: StudyOptions, folder: Path, blocks: int) -> Outcomes:
    """Return the scores in [0, 1] of the first ``blocks``, None for failed runs."""
    found = {}
    for run in planned_runs(study):
        if run.seed < blocks:
            score = read_result(folder / run.folder / "result.json").score
            found[run.arm, run.seed] = None if score is None else score.miou
    return found


def check_models(study: StudyOptions, runs: list[PlannedRun], scan: bool) -> None:
    """Prepare the text and build the model of every arm once, so that a bad arm is known before anything is run."""
    from semalign.api import open_source
    from semalign.train.loop import check_source, prepare_text
    from semalign.train.run import build_model

    assert study.data is not None
    for run in runs[: len(study.arms)]:
        options = run.options
        source = open_source(study.data, options, scan=scan)
        check_source(source, options)
        guidance, classes = prepare_text(source, options)
        build_model(
            options,
            len(source.class_names),
            None if guidance.bank is None else guidance.bank.dim,
            None if classes is None else classes.dim,
            seed=run.seed,
        )


def pilot_figures(study: StudyOptions, folder: Path) -> Pilot | None:
    """Return what the pilot's finished blocks say; None with fewer than two."""
    scores: dict[int, dict[str, Any]] = {}
    for run in pilot_runs(study):
        result = read_result(folder / run.folder / "result.json")
        if result.score is not None:
            side = "first" if run.folder.startswith("runs/") else "second"
            scores.setdefault(run.seed, {})[side] = result.score.miou
    pairs = [pair for _, pair in sorted(scores.items()) if len(pair) == 2]
    if len(pairs) < 2:
        return None
    return judge_pilot(
        [pair["first"] for pair in pairs],
        [pair["second"] for pair in pairs],
        alpha=study.alpha,
        m=family_sizes(study_contrasts(study)).get("primary", 1),
    )
