"""Runs what a study still lacks, in parallel local processes; what has finished is never run again.

A run is one folder; its result.json appears whole when it has finished, and a run that was stopped goes on from its
own saved state.  It knows nothing of judging.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import yaml

from semalign.config import Options, merge, read_yaml, to_dict, validate
from semalign.config.study import StudyOptions
from semalign.errors import OutputError, ResultsError, SemalignError, StudyError
from semalign.files import make_folder, read_json, write_json, write_text
from semalign.results import RunResult, read_result, write_result
from semalign.study.design import PlannedRun, pilot_runs, planned_runs

__all__ = [
    "check_study_folder",
    "claim_study_folder",
    "default_workers",
    "run_planned",
    "run_study",
    "unfinished",
    "worker_count",
]

STUDY_FILE = "study.yaml"
FACTS_FILE = "facts.json"
RESULT_FILE = "result.json"
MOST_CRASHES = 3
"""How often a worker may die before the study gives up."""

Progress = Callable[[PlannedRun, str, float | None, int, int], None]
"""Called with (run, what happened, mIoU in [0, 1] or None, runs done, runs)."""

Outcome = tuple[str, float | None, float, list[tuple[str, type[Warning]]]]
"""Of one run: status, mIoU in [0, 1] or None, seconds, and the warnings that its process gave."""


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(workers: int | None) -> int:
    """Return the number of processes asked for, by default one per processor.

    Raises:
        StudyError: fewer than one.
    """
    if workers is None:
        return default_workers()
    if workers < 1:
        raise StudyError(f"--workers got {workers}, expected at least 1")
    return workers


def check_study_folder(folder: Path, study: StudyOptions) -> bool:
    """Return whether ``folder`` holds this study already; False where it can become its own.

    Raises:
        OutputError: the folder holds a run or another study, or is none.
    """
    file = folder / STUDY_FILE
    value = _as_dict(study)
    if file.exists():
        # Read as a study again: a file of an older version lacks options that have been added since.
        found = _as_dict(validate(StudyOptions, read_yaml(file), str(file)))
        different = [name for name in [*value, *found] if found.get(name) != value.get(name)]
        if different:
            name = different[0]
            raise OutputError(
                f"the output folder {folder} holds another study ({name} is {_short(found.get(name))} there and "
                f"{_short(value.get(name))} here): name another with --out"
            )
        return True
    if (folder / "config.yaml").exists() or (folder / RESULT_FILE).exists():
        raise OutputError(f"the output folder {folder} holds a run, expected an empty one: name another with --out")
    if (folder / "results.csv").exists() or (folder / "runs").exists():
        raise OutputError(f"the output folder {folder} holds other results, name another with --out")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output folder {folder} is a file, name a folder with --out")
    return False


def claim_study_folder(folder: Path, study: StudyOptions, facts: dict[str, Any]) -> None:
    """Make ``folder`` this study's own; going on with the same study on the same data is allowed.

    Raises:
        OutputError: the folder holds a run or another study, or cannot be written.
        StudyError: the data have changed since the study was begun.
    """
    if check_study_folder(folder, study):
        _check_same_data(folder / FACTS_FILE, facts)
        return
    is_new = not folder.exists()
    make_folder(folder)
    try:
        write_json(folder / FACTS_FILE, facts)
        write_text(folder / STUDY_FILE, yaml.safe_dump(_as_dict(study), sort_keys=False, allow_unicode=True))
    except OutputError:
        (folder / FACTS_FILE).unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise


def _as_dict(study: StudyOptions) -> dict[str, Any]:
    value: dict[str, Any] = study.model_dump(mode="json", exclude_none=True)
    return value


def _check_same_data(file: Path, facts: dict[str, Any]) -> None:
    """Refuse to mix runs on different images under one name."""
    try:
        before = read_json(file)["data"]["fingerprints"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyError(
            f"cannot read {file} ({type(error).__name__}), in which the study's data are described: restore the file, "
            "or begin the study in another folder with --out"
        ) from error
    for split, now in facts.get("data", {}).get("fingerprints", {}).items():
        if before.get(split) != now:
            raise StudyError(
                f"the split '{split}' of the data has changed since the study in {file.parent} was begun, expected the "
                "same files: restore them, or begin the study anew in another folder with --out"
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def machine_facts(workers: int) -> dict[str, Any]:
    """Return what the timings depend on."""
    return {
        "cpus": default_workers(),
        "workers": workers,
        "threads": threads_per_worker(workers),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def threads_per_worker(workers: int) -> int:
    """Return the threads of each process: the processors shared out, at least one."""
    return max(1, default_workers() // workers)


def unfinished(folder: Path, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs without a result, each folder once; a damaged result raises rather than being run over."""
    lacking = {}
    for run in runs:
        file = folder / run.folder / RESULT_FILE
        if file.exists():
            try:
                read_result(file)
            except ResultsError as error:
                raise ResultsError(f"{error}; remove {file} to have it run again") from error
        else:
            lacking[run.folder] = run
    return list(lacking.values())


def run_study(
    study: StudyOptions,
    folder: Path,
    *,
    workers: int,
    device: str = "auto",
    scan: bool = True,
    pilot: bool = True,
    main: bool = True,
    progress: Progress | None = None,
) -> None:
    """Run what the pilot and the study lack; the pilot comes first."""
    runs = [*(pilot_runs(study) if pilot else []), *(planned_runs(study) if main else [])]
    assert study.data is not None
    run_planned(runs, study.data, folder, workers=workers, device=device, scan=scan, progress=progress)


def run_planned(
    runs: list[PlannedRun],
    data: str,
    folder: Path,
    *,
    workers: int,
    device: str = "auto",
    scan: bool = True,
    progress: Progress | None = None,
) -> None:
    """Run each run without a result in a pool of processes; a dead worker is replaced and its run goes on.

    Raises:
        StudyError: workers keep dying.
        SemalignError: a run's options, data or folder do not fit; what has finished is kept.
    """
    worker_count(workers)
    unique = {run.folder: run for run in runs}
    todo = unfinished(folder, unique.values())
    done = len(unique) - len(todo)
    if not todo:
        return
    threads = threads_per_worker(workers)
    crashes = 0

    def told(run: PlannedRun, outcome: Outcome) -> None:
        nonlocal done
        status, miou, _, warned = outcome
        for text, category in warned:
            warnings.warn(text, category, stacklevel=3)
        done += 1
        if progress is not None:
            progress(run, status, miou, done, len(unique))

    while todo:
        try:
            _run_in_processes(todo, data, folder, workers, threads, device, scan, told)
            return
        except BrokenProcessPool as error:
            crashes += 1
            todo = unfinished(folder, todo)
            done = len(unique) - len(todo)
            if crashes >= MOST_CRASHES and todo:
                raise StudyError(
                    f"worker processes died {crashes} times (out of memory?), {len(todo)} runs are missing: start "
                    "the same command again with fewer --workers; finished runs are kept"
                ) from error


def _run_in_processes(
    runs: list[PlannedRun],
    data: str,
    folder: Path,
    workers: int,
    threads: int,
    device: str,
    scan: bool,
    told: Callable[[PlannedRun, Outcome], None],
) -> None:
    """Run all ``runs``, each after the one it waits for; raises BrokenProcessPool where a worker dies."""
    lacking = {run.folder for run in runs}
    waiting = list(runs)
    futures: dict[Future[Outcome], PlannedRun] = {}
    # An own process for each worker, started afresh: forked torch threads can hang.
    context = get_context("spawn")
    with (
        _one_thread_each(threads),
        ProcessPoolExecutor(min(workers, len(runs)), context, initializer=_live_with_parent) as pool,
    ):
        try:
            while waiting or futures:
                for run in [run for run in waiting if run.after not in lacking]:
                    waiting.remove(run)
                    options = to_dict(run.options)
                    future = pool.submit(
                        run_one, data, str(folder), run.arm, run.seed, options, run.folder, threads, device, scan
                    )
                    futures[future] = run
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    run = futures.pop(future)
                    told(run, future.result())
                    lacking.remove(run.folder)
        except BrokenProcessPool:
            raise
        except BaseException:
            # Asked for first: a pool that is shut down no longer knows its processes.
            processes = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise


def _live_with_parent() -> None:
    """Leave an interrupt to the parent, and end with it: an orphan would write into a folder that is claimed anew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def end_with(process: Any) -> None:
        process.join()
        os._exit(1)

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


class _one_thread_each:  # noqa: N801 (used like a function)
    """Sets the thread count in the environment that workers start with, so that libraries read it when loaded."""

    def __init__(self, threads: int) -> None:
        self.value = str(threads)
        self.before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            self.before[name] = os.environ.get(name)
            os.environ[name] = self.value

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_one(
    data: str,
    study_folder: str,
    arm: str,
    seed: int,
    options: dict[str, Any],
    run_folder: str,
    threads: int,
    device: str,
    scan: bool,
) -> Outcome:
    """Train and score one run in this process and write its result."""
    import torch

    from semalign.train.folder import CONFIG_FILE, STATE_FILE
    from semalign.train.loop import TrainingDiverged, fit, make_fabric, versions

    torch.set_num_threads(threads)
    started = time.monotonic()
    resolved = validate(Options, options, f"arm {arm}")
    folder = make_folder(Path(study_folder) / run_folder)
    write_text(folder / CONFIG_FILE, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        inputs = cached_inputs(data, _input_key(options), scan)
        try:
            _check_source(resolved, Path(study_folder))
            root = Path(study_folder)
            _, result = fit(inputs, resolved, out=folder, arm=arm, fabric=make_fabric(device), root=root)
        except (TrainingDiverged, SourceFailed) as error:
            facts = {"failure": str(error), "config": options, "versions": versions(), "threads": threads, "notes": []}
            result = RunResult(arm, seed, "failed", None, {}, facts, {"train": time.monotonic() - started})
    write_result(folder / RESULT_FILE, result)
    (folder / STATE_FILE).unlink(missing_ok=True)
    miou = None if result.score is None else result.score.miou
    warned = {str(warning.message): warning.category for warning in caught}
    return result.status, miou, time.monotonic() - started, list(warned.items())


class SourceFailed(SemalignError):  # noqa: N818 (named for what happened)
    """A run whose values another run takes has failed."""


def _check_source(options: Options, folder: Path) -> None:
    """Tell a run that takes another's values when there are none, since that one failed."""
    source = options.align.values_from
    if source is not None and read_result(folder / source / RESULT_FILE).status == "failed":
        raise SourceFailed(f"the run {source} failed, whose learned values this run takes")


def _input_key(options: dict[str, Any]) -> str:
    """Return what inputs depend on, so that runs that read the same share one decoding."""
    train = {name: value for name, value in options["train"].items() if name == "select_split"}
    model = {"classifier": options["model"]["classifier"]}
    return json.dumps(merge({"data": options["data"], "text": options["text"]}, {"train": train, "model": model}))


@functools.lru_cache(maxsize=4)
def cached_inputs(data: str, key: str, scan: bool) -> Any:
    """Return the inputs of runs that read the same data and text."""
    from semalign.api import open_source
    from semalign.train.loop import prepare_inputs

    options = validate(Options, json.loads(key), "a run of the study")
    return prepare_inputs(open_source(data, options, scan=scan), options)
