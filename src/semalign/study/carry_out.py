"""A whole study: its folder, its pilot, its runs, the pilot's figures."""

from __future__ import annotations

import dataclasses
import functools
import platform
from pathlib import Path
from typing import Any

import semalign
from semalign import layout
from semalign.config.study import StudyOptions
from semalign.errors import StudyError
from semalign.execution import Execution
from semalign.files import remove_strays, write_json
from semalign.judge.contrasts import family_sizes
from semalign.judge.growth import Outcomes, blocks_wanted, judge_study
from semalign.judge.pilot import Pilot, judge_pilot
from semalign.locks import folder_lock
from semalign.results import read_result
from semalign.study.checks import audit_arms, check_arms_differ, check_device, facts_of_training
from semalign.study.command import check_program
from semalign.study.command_run import command_facts
from semalign.study.design import pilot_runs, planned_runs, study_contrasts
from semalign.study.engines import open_engine, worker_count
from semalign.study.folder import check_study_folder, claim_study_folder
from semalign.study.runner import run_planned
from semalign.study.same_bits import check_blocks, keep_threads, machine_facts, training_facts

__all__ = ["Done", "carry_out"]

STRAY_SECONDS = 3600.0


@dataclasses.dataclass(frozen=True)
class Done:
    """What `carry_out` did.

    Attributes:
        folder: the study's folder.
        blocks: blocks whose runs have finished; 0 where only the pilot was asked for.
        pilot: the pilot's figures, kept in pilot.json; None with fewer than two finished blocks of it.
    """

    folder: Path
    blocks: int
    pilot: Pilot | None


def carry_out(
    study: StudyOptions,
    folder: Path,
    execution: Execution | None = None,
    *,
    command: str = "",
    pilot_only: bool = False,
) -> Done:
    """Run the pilot, then what the study lacks; what has finished stays as it is.

    Every arm is audited first, and what was found is kept in audit.json.

    Args:
        study: the study.
        folder: its folder, made where there is none.
        execution: how to run; its event ``run_done`` is called for each run that has finished.
        command: the command line, kept among the study's facts.
        pilot_only: run the pilot alone.

    Raises:
        StudyError: fewer than two blocks of a pilot that alone was asked for have finished.
        AuditError: a knob of an arm cannot turn, and the arm does not declare it.
        OutputError: another process carries out a study in the folder.
        SemalignError: options, data, the folder or the engine do not fit; nothing has been written then.
    """
    execution = execution or Execution()
    worker_count(execution.workers)
    # The machines of a cluster have devices of their own.
    check_device(study, execution.device if execution.engine == "local" or study.command is not None else "auto")
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
        own = facts_of_training(study, runs, execution.scan)
    data = study.data or ""
    audited = None
    if execution.audit and study.command is None and not (folder / layout.AUDIT).exists():
        audited = audit_arms(study, runs)

    # Let go of last: when it is free, no worker writes any more.
    with folder_lock(folder), open_engine(execution) as pool:
        # Another process may be writing a report.
        for place in (folder, folder / layout.FIGURES):
            remove_strays(place, older_than=STRAY_SECONDS)
        facts = {
            "command": command,
            **own,
            "versions": {**own["versions"], "semalign": semalign.__version__},
            "machine": machine_facts(pool),
        }
        claim_study_folder(folder, study, facts)
        if audited is not None:
            write_json(folder / layout.AUDIT, audited)
        both = [*pilot, *runs]
        if study.command is not None and not any((folder / run.folder / layout.RESULT).exists() for run in both):
            # A script that was mended before its first run finished is the study's script.
            write_json(folder / layout.FACTS, facts)
        keep_threads(folder, pool)
        depends = functools.partial(training_facts, device=execution.device) if study.command is None else None
        check_blocks(folder, both, pool.begin(folder, data, depends))

        run_planned(pilot, data, folder, execution, pool)
        judged = pilot_figures(study, folder)
        if judged is not None:
            write_json(folder / layout.PILOT, judged.to_dict())
        if pilot_only:
            if judged is None:
                raise StudyError(
                    f"fewer than two blocks of the pilot in {folder} finished, expected at least two: result.json in "
                    "each run's folder says why it failed"
                )
            return Done(folder, 0, judged)
        for blocks in study.looks or (study.blocks,):
            here = [run for run in runs if run.seed < blocks]
            run_planned(here, data, folder, execution, pool)
            if has_ended(study, folder, blocks):
                break
    return Done(folder, blocks, judged)


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
            score = read_result(folder / run.folder / layout.RESULT).score
            found[run.arm, run.seed] = None if score is None else score.miou
    return found


def pilot_figures(study: StudyOptions, folder: Path) -> Pilot | None:
    """Return what the pilot's finished blocks say; None with fewer than two."""
    scores: dict[int, dict[str, Any]] = {}
    for run in pilot_runs(study):
        result = read_result(folder / run.folder / layout.RESULT)
        if result.score is not None:
            side = "first" if run.folder.startswith(f"{layout.RUNS}/") else "second"
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
