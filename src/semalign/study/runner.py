"""Runs what a study still lacks, by processes of an engine; what has finished is never run again.

A run is one folder; its result.json appears whole when it has finished, and a run that was stopped goes on from its
own saved state.  It knows nothing of judging.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

import yaml

from semalign.config import Options, flatten, merge, read_yaml, to_dict, validate
from semalign.config.study import StudyOptions
from semalign.errors import OutputError, ResultsError, SemalignError, StudyError, is_out_of_memory
from semalign.files import make_folder, read_json, remove_strays, write_json, write_text
from semalign.locks import run_lock
from semalign.results import RunResult, read_result, write_result
from semalign.study.command import CommandFailed, run_command
from semalign.study.design import PlannedRun, pilot_runs, planned_runs
from semalign.study.engines import ENGINES, Engine, WorkerDied
from semalign.study.engines.local import LocalEngine

__all__ = [
    "check_blocks",
    "check_study_folder",
    "claim_study_folder",
    "default_workers",
    "keep_threads",
    "machine_facts",
    "open_engine",
    "run_one",
    "run_planned",
    "run_study",
    "threads_per_worker",
    "training_facts",
    "unfinished",
    "worker_count",
]

STUDY_FILE = "study.yaml"
FACTS_FILE = "facts.json"
RESULT_FILE = "result.json"
MOST_DEATHS = 3
"""How often a run may end its worker before the study gives up."""

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
        found = read_yaml(file)
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


def machine_facts(engine: Engine) -> dict[str, Any]:
    """Return what the timings depend on, and the bits."""
    return {
        "engine": engine.name,
        "cpus": engine.cpus,
        "workers": engine.workers,
        "threads": engine.threads,
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


def open_engine(name: str = "local", workers: int | None = None, device: str = "auto") -> Engine:
    """Return the engine of that name.

    Raises:
        StudyError: no such engine, fewer than one worker, or no Ray.
    """
    if name not in ENGINES:
        raise StudyError(f"--engine got '{name}', known: {', '.join(ENGINES)}")
    count = worker_count(workers)
    if name == "ray":
        from semalign.study.engines.ray import RayEngine

        return RayEngine(workers, device, default_workers())
    return LocalEngine(count, threads_per_worker(count), default_workers())


def keep_threads(folder: Path, engine: Engine) -> None:
    """Go on with the threads per run that a study was begun with, and say so: other threads round otherwise."""
    try:
        threads = read_json(folder / FACTS_FILE)["machine"]["threads"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not isinstance(threads, int) or threads < 1 or threads == engine.threads:
        return
    engine.keep_threads(threads)
    warnings.warn(
        f"the study in {folder} was begun with {threads} threads per run, which are kept ({engine.workers} runs at a "
        "time): with another number its runs would differ by rounding",
        stacklevel=2,
    )


def training_facts(threads: int, device: str = "auto") -> dict[str, Any]:
    """Return what the bits of a training on this machine depend on, beside its options and data."""
    import torch

    from semalign.train.loop import make_fabric, versions

    where = make_fabric(device).device
    processor = where.type
    if where.type == "cpu":
        processor = torch.backends.cpu.get_cpu_capability()
    elif where.type == "cuda":
        processor = torch.cuda.get_device_name(where)
    return {"threads": threads, "device": where.type, "processor": processor, **versions()}


def check_blocks(folder: Path, runs: Iterable[PlannedRun], now: dict[str, Any]) -> None:
    """Refuse to go on with a block whose finished runs were computed otherwise: the rest of it would not be comparable.

    Args:
        folder: the study's folder.
        runs: its runs.
        now: what the bits of the runs to come depend on, by name; nothing is refused for names left out.

    Raises:
        StudyError: a begun block has runs of another device, kind of processor or GPU, number of threads, or version of
            what computes, or a finished run has other options.
    """
    blocks: dict[int, dict[str, PlannedRun]] = {}
    for run in runs:
        blocks.setdefault(run.seed, {})[run.folder] = run
    _check_options(folder, blocks)
    for block, here in blocks.items():
        files = {name: folder / name / RESULT_FILE for name in here}
        done = [file for file in files.values() if file.exists()]
        if not done or len(done) == len(files):
            continue
        for run, file in ((run, files[name]) for name, run in here.items() if files[name] in done):
            facts = read_result(file).facts
            before = {**facts, **facts.get("versions", {}), "device": str(facts.get("device", "")).split(":")[0]}
            for name, value in now.items():
                if before.get(name) not in (None, "", value):
                    raise StudyError(
                        f"block {block} of the study in {folder} was begun with {name} {before[name]} "
                        f"(arm {run.arm}) and would go on with {value}, so that its runs would differ "
                        "by more than their arms: finish it with the former, or begin the study in another folder with "
                        "--out"
                    )


def _check_options(folder: Path, blocks: Mapping[int, Mapping[str, PlannedRun]]) -> None:
    """Refuse a folder whose finished runs were made with other defaults, told by each arm's first finished run."""
    seen: set[str] = set()
    for run in (run for here in blocks.values() for run in here.values()):
        file = folder / run.folder / RESULT_FILE
        if run.arm in seen or not isinstance(run.options, Options) or not file.exists():
            continue
        seen.add(run.arm)
        stored = read_result(file).facts.get("config")
        before, now = flatten(stored or {}), flatten(to_dict(run.options))
        for name in sorted(before.keys() & now.keys()):
            if before[name] != now[name]:
                raise StudyError(
                    f"the study in {folder} was begun with {name}={before[name]} (arm {run.arm}) and would go on with "
                    f"{now[name]}, a default that has changed since: go on with the version that began it, or begin "
                    f"the study in another folder with --out, there with --set '{name}={before[name]}' for the former"
                )


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
    workers: int | None = None,
    device: str = "auto",
    scan: bool = True,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> None:
    """Run each run without a result; a dead worker is replaced and its run goes on.

    Args:
        runs: the runs, in the order in which they are begun where nothing else decides.
        data: a folder, or the name of built-in data.
        folder: the study's folder.
        workers: processes of this machine, by default one per processor; of no account with ``engine``.
        device: where to compute.
        scan: check the data in full first.
        progress: told of each run that has finished.
        engine: which computes the runs and has begun with ``folder``; by default processes of this machine.

    Raises:
        StudyError: a run ends its worker every time.
        SemalignError: a run's options, data or folder do not fit; what has finished is kept.
    """
    unique = {run.folder: run for run in runs}
    if engine is None:
        count = worker_count(workers)
        todo = unfinished(folder, unique.values())
        if todo:
            with LocalEngine(min(count, len(todo)), threads_per_worker(count), default_workers()) as own:
                _run_all(todo, len(unique), data, folder, own, device, scan, progress)
        return
    todo = unfinished(folder, unique.values())
    _run_all(todo, len(unique), data, folder, engine, device, scan, progress)


def _run_all(
    runs: list[PlannedRun],
    total: int,
    data: str,
    folder: Path,
    engine: Engine,
    device: str,
    scan: bool,
    progress: Progress | None,
) -> None:
    """Run all ``runs``, each after the one it waits for."""
    done = total - len(runs)
    lacking = {run.folder for run in runs}
    waiting = list(runs)
    futures: dict[Future[Outcome], PlannedRun] = {}
    deaths: dict[str, int] = {}
    failed: CommandFailed | None = None
    while waiting or futures:
        for run in [run for run in waiting if run.after not in lacking][: engine.workers - len(futures)]:
            waiting.remove(run)
            options = to_dict(run.options)
            arguments = (data, str(folder), run.arm, run.seed, options, run.folder, engine.threads, device, scan)
            futures[engine.submit(run_one, *arguments)] = run
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            run = futures.pop(future)
            try:
                status, miou, _, warned = engine.result(future)
            except CommandFailed as error:
                # The user's other runs may be hours old and not know how to go on: what has begun may finish.
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
            for text, category in warned:
                warnings.warn(text, category, stacklevel=3)
            lacking.remove(run.folder)
            done += 1
            if progress is not None:
                progress(run, status, miou, done, total)
    if failed is not None:
        raise failed


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
    """Train and score one run in this process, or have its command do so, and write its result.

    One that another process has just finished is not run again.
    """
    folder = make_folder(Path(study_folder) / run_folder)
    with run_lock(folder):
        remove_strays(folder)
        if (folder / RESULT_FILE).exists():
            result = read_result(folder / RESULT_FILE)
            return result.status, None if result.score is None else result.score.miou, 0.0, []
        if "command" in options:
            return run_command(study_folder, arm, seed, options, run_folder, threads)
        return _train_one(data, Path(study_folder), arm, seed, options, folder, threads, device, scan)


def _train_one(
    data: str,
    root: Path,
    arm: str,
    seed: int,
    options: dict[str, Any],
    folder: Path,
    threads: int,
    device: str,
    scan: bool,
) -> Outcome:
    import torch

    from semalign.train.folder import CONFIG_FILE, STATE_FILE
    from semalign.train.loop import TrainingDiverged, fit, make_fabric, versions

    torch.set_num_threads(threads)
    started = time.monotonic()
    resolved = validate(Options, options, f"arm {arm}")
    write_text(folder / CONFIG_FILE, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    here = training_facts(threads, device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        inputs = cached_inputs(data, _input_key(options), scan)
        try:
            _check_source(resolved, root)
            facts = {"processor": here["processor"]}
            _, result = fit(inputs, resolved, out=folder, arm=arm, fabric=make_fabric(device), root=root, facts=facts)
        except (TrainingDiverged, SourceFailed) as error:
            facts = {"failure": str(error), "config": options, "versions": versions(), "notes": [], **here}
            if isinstance(error, TrainingDiverged):
                facts |= {"failed_at": error.at, "audit": _opinion(inputs, resolved, device)}
            result = RunResult(arm, seed, "failed", None, {}, facts, {"train": time.monotonic() - started})
    write_result(folder / RESULT_FILE, result)
    (folder / STATE_FILE).unlink(missing_ok=True)
    miou = None if result.score is None else result.score.miou
    warned = {str(warning.message): warning.category for warning in caught}
    return result.status, miou, time.monotonic() - started, list(warned.items())


def _opinion(inputs: Any, options: Options, device: str) -> dict[str, Any]:
    """Return what the audit finds in the model that diverged, as it began, or why it finds nothing."""
    from semalign.inspection.options import audit_inputs
    from semalign.train.loop import make_fabric

    try:
        return audit_inputs(inputs, options, device=make_fabric(device).device).to_dict()
    except SemalignError as error:
        return {"findings": [], "refused": str(error)}


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
