"""A whole study: its folder, its pilot, its runs, the pilot's figures."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import semalign
from semalign.config.study import StudyOptions
from semalign.errors import StudyError
from semalign.files import remove_strays, write_json
from semalign.judge.contrasts import family_sizes
from semalign.judge.growth import Outcomes, blocks_wanted, judge_study
from semalign.judge.pilot import Pilot, judge_pilot
from semalign.locks import folder_lock
from semalign.results import read_result
from semalign.study.command import check_program, command_facts
from semalign.study.design import PlannedRun, pilot_runs, planned_runs, study_contrasts
from semalign.study.plan import check_arms_differ, check_device
from semalign.study.runner import (
    FACTS_FILE,
    RESULT_FILE,
    check_blocks,
    check_study_folder,
    claim_study_folder,
    keep_threads,
    machine_facts,
    open_engine,
    run_planned,
    training_facts,
    worker_count,
)

__all__ = ["carry_out"]

AUDIT_FILE = "audit.json"
STRAY_SECONDS = 3600.0

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
    engine: str = "local",
    audit: bool = True,
) -> None:
    """Run the pilot, then what the study lacks; what has finished stays as it is.

    Every arm is audited first, and what was found is kept in audit.json.

    Raises:
        AuditError: a knob of an arm cannot turn, and the arm does not declare it.
        OutputError: another process carries out a study in the folder.
        SemalignError: options, data, the folder or the engine do not fit; nothing has been written then.
    """
    worker_count(workers)
    # The machines of a cluster have devices of their own.
    check_device(study, device if engine == "local" or study.command is not None else "auto")
    study_contrasts(study)
    check_study_folder(folder, study)
    runs, pilot = planned_runs(study), pilot_runs(study)
    if pilot_only and len(pilot) < 4:
        raise StudyError(
            f"the pilot of study {study.name} has {len(pilot) // 2} blocks (pilot_blocks={study.pilot_blocks}, "
            f"blocks={study.blocks}), expected at least 2: add --seeds or --set pilot_blocks=2"
        )
    check_arms_differ(study)
    if study.command is not None:
        check_program(study)
        own = {**command_facts(study), "versions": {"python": platform.python_version()}}
    else:
        own = _facts_of_training(study, runs, scan)
    data = study.data or ""
    audited = None
    if audit and study.command is None and not (folder / AUDIT_FILE).exists():
        audited = audit_arms(study, runs)

    def tell(run: PlannedRun, status: str, miou: float | None, done: int, total: int) -> None:
        if progress is not None:
            progress(run.arm, run.seed, status, miou, done, total)

    # Let go of last: when it is free, no worker writes any more.
    with folder_lock(folder), open_engine(engine, workers, device) as pool:
        # Another process may be writing a report.
        for place in (folder, folder / "figures"):
            remove_strays(place, older_than=STRAY_SECONDS)
        facts = {
            "command": command,
            **own,
            "versions": {**own["versions"], "semalign": semalign.__version__},
            "machine": machine_facts(pool),
        }
        claim_study_folder(folder, study, facts)
        if audited is not None:
            write_json(folder / AUDIT_FILE, audited)
        both = [*pilot, *runs]
        if study.command is not None and not any((folder / run.folder / RESULT_FILE).exists() for run in both):
            # A script that was mended before its first run finished is the study's script.
            write_json(folder / FACTS_FILE, facts)
        keep_threads(folder, pool)
        depends = functools.partial(training_facts, device=device) if study.command is None else None
        check_blocks(folder, both, pool.begin(folder, data, depends))

        run_planned(pilot, data, folder, device=device, scan=scan, progress=tell, engine=pool)
        judged = pilot_figures(study, folder)
        if judged is not None:
            write_json(folder / "pilot.json", judged.to_dict())
        if pilot_only:
            return
        for blocks in study.looks or (study.blocks,):
            here = [run for run in runs if run.seed < blocks]
            run_planned(here, data, folder, device=device, scan=scan, progress=tell, engine=pool)
            if has_ended(study, folder, blocks):
                break


def _facts_of_training(study: StudyOptions, runs: list[PlannedRun], scan: bool) -> dict[str, Any]:
    """Return what is known of the data and of the libraries that train, once every arm has been looked at."""
    from semalign.api import open_source
    from semalign.train.loop import versions

    check_models(study, runs, scan)
    assert study.data is not None
    options = runs[0].training
    source = open_source(study.data, options, scan=scan)
    splits = (options.data.train_split, options.data.val_split)
    prints = {split: source.fingerprint(split) for split in splits}
    data: dict[str, Any] = {**source.describe(), "fingerprints": prints}
    if data.get("clusters"):
        data["cluster_of"] = {options.data.val_split: source.clusters(options.data.val_split)}
    return {"data": data, "versions": versions()}


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


def audit_arms(study: StudyOptions, runs: list[PlannedRun]) -> dict[str, Any]:
    """Return by arm what the audit of its model found on a made-up batch.

    Raises:
        AuditError: a knob of an arm cannot turn, and the arm does not declare it.
    """
    from semalign.inspection.options import audit_options, refuse_errors

    found = {}
    for run in runs[: len(study.arms)]:
        report = audit_options(run.training)
        refuse_errors(report, f"arm '{run.arm}'")
        found[run.arm] = report.to_dict()
    return found


def check_models(study: StudyOptions, runs: list[PlannedRun], scan: bool) -> None:
    """Prepare the text and build the model of every arm once, so that a bad arm is known before anything is run."""
    from semalign.api import open_source
    from semalign.train.loop import check_source, prepare_text
    from semalign.train.run import build_model

    assert study.data is not None
    for run in runs[: len(study.arms)]:
        options = run.training
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
