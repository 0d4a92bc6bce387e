"""What the bits of a study's runs depend on beside their options and data, and the refusal to mix them in a block."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from semalign import layout
from semalign.config import Options, flatten, to_dict
from semalign.errors import StudyError
from semalign.files import read_json
from semalign.results import read_result
from semalign.study.design import PlannedRun
from semalign.study.engines import Engine

__all__ = ["check_blocks", "keep_threads", "machine_facts", "training_facts"]


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


def training_facts(threads: int, device: str = "auto") -> dict[str, Any]:
    """Return what the bits of a training on this machine depend on, beside its options and data."""
    from semalign.train.machine import computed_with
    from semalign.train.parallel import make_fabric

    return {**computed_with(make_fabric(device).device), "threads": threads}


def keep_threads(folder: Path, engine: Engine) -> None:
    """Keep the threads per run that a study was begun with, and warn: another number rounds differently."""
    try:
        threads = read_json(folder / layout.FACTS)["machine"]["threads"]
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


def check_blocks(folder: Path, runs: Iterable[PlannedRun], now: dict[str, Any]) -> None:
    """Refuse to continue a block whose finished runs were computed otherwise: its runs would not be comparable.

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
        files = {name: folder / name / layout.RESULT for name in here}
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
                        f"(arm {run.arm}) and would continue with {value}, so that its runs would differ "
                        "by more than their arms: finish it with the former, or begin the study in another folder with "
                        "--out"
                    )


def _check_options(folder: Path, blocks: Mapping[int, Mapping[str, PlannedRun]]) -> None:
    """Refuse a folder whose finished runs were made with other defaults, told by each arm's first finished run."""
    seen: set[str] = set()
    for run in (run for here in blocks.values() for run in here.values()):
        file = folder / run.folder / layout.RESULT
        if run.arm in seen or not isinstance(run.options, Options) or not file.exists():
            continue
        seen.add(run.arm)
        stored = read_result(file).facts.get("config")
        before, now = flatten(stored or {}), flatten(to_dict(run.options))
        for name in sorted(before.keys() & now.keys()):
            if before[name] != now[name]:
                raise StudyError(
                    f"the study in {folder} was begun with {name}={before[name]} (arm {run.arm}) and would continue "
                    f"with {now[name]}, a default that has changed since: continue with the version that began it, or "
                    f"begin the study in another folder with --out, there with --set '{name}={before[name]}'"
                )
