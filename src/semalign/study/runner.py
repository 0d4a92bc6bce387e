"""Runs what a study lacks, by processes of an engine; what has finished is never run again.

A run is one folder; its result.json appears whole when it has finished, and a run that was stopped continues from its
own saved state.  This module does not depend on how a run is made or judged.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from semalign.errors import StudyError, is_out_of_memory
from semalign.execution import Execution
from semalign.study.command_run import CommandFailed
from semalign.study.design import Outcome, PlannedRun
from semalign.study.engines import Engine, WorkerDied, open_engine
from semalign.study.folder import unfinished
from semalign.study.worker import run_one

__all__ = ["run_planned"]

MOST_DEATHS = 3
"""How often a run may end its worker before the study gives up."""


def run_planned(
    runs: Sequence[PlannedRun], data: str, folder: Path, execution: Execution, engine: Engine | None = None
) -> None:
    """Run each run without a result; a dead worker is replaced and its run continues.

    Args:
        runs: the runs, in the order in which they are begun where nothing else decides.
        data: a folder, or the name of built-in data.
        folder: the study's folder.
        execution: how to run; its event ``run_done`` is called for each run that has finished.
        engine: which computes the runs and has begun with ``folder``; by default the one that ``execution`` names is
            opened.

    Raises:
        StudyError: a run ends its worker every time.
        SemalignError: a run's options, data or folder do not fit; what has finished is kept.
    """
    unique = {run.folder: run for run in runs}
    missing = unfinished(folder, unique.values())
    if engine is not None:
        _run_all(missing, len(unique), data, folder, execution, engine)
    elif missing:
        with open_engine(execution) as own:
            _run_all(missing, len(unique), data, folder, execution, own)


def _run_all(
    runs: Sequence[PlannedRun], total: int, data: str, folder: Path, execution: Execution, engine: Engine
) -> None:
    """Run all ``runs``, each after the one it waits for."""
    lacking = {run.folder for run in runs}
    waiting = list(runs)
    futures: dict[Future[Outcome], PlannedRun] = {}
    deaths: dict[str, int] = {}
    failed: CommandFailed | None = None
    for_worker = execution.for_worker(engine.threads)
    while waiting or futures:
        for run in [run for run in waiting if run.after not in lacking][: engine.workers - len(futures)]:
            waiting.remove(run)
            futures[engine.submit(run_one, run, data, folder, for_worker)] = run
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            run = futures.pop(future)
            try:
                outcome: Outcome = engine.result(future)
            except CommandFailed as error:
                # The user's other runs may be hours old and unable to continue: what has begun may finish.
                failed = failed or error
                waiting.clear()
                continue
            except Exception as error:
                # What is left of a process without memory is a dead worker too.
                if not isinstance(error, WorkerDied) and not is_out_of_memory(error):
                    raise
                deaths[run.folder] = deaths.get(run.folder, 0) + 1
                if deaths[run.folder] >= MOST_DEATHS:
                    raise StudyError(
                        f"arm {run.arm}, seed {run.seed}: its worker process died {MOST_DEATHS} times (out of "
                        f"memory?), {len(lacking)} runs are missing: start the same command again with fewer "
                        "--workers, or make the run smaller; finished runs are kept"
                    ) from error
                if failed is None:
                    waiting.insert(0, run)
                continue
            for text, category in outcome.warned:
                warnings.warn(text, category, stacklevel=3)
            lacking.remove(run.folder)
            execution.events.run_done(run.arm, run.seed, outcome.status, outcome.miou, total - len(lacking), total)
    if failed is not None:
        raise failed
