"""Where a study's runs are computed: each engine takes tasks and gives futures, and does not depend on studies.

``local`` has processes of this machine, ``ray`` the machines of a Ray cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from semalign.errors import StudyError
from semalign.execution import Execution

__all__ = [
    "ENGINES",
    "Engine",
    "WorkerDied",
    "check_engine",
    "default_workers",
    "open_engine",
    "threads_per_worker",
    "worker_count",
]

ENGINES = ("local", "ray")


class WorkerDied(Exception):  # noqa: N818 (named for what happened)
    """The process that did a task is gone, by a signal or with its machine; nothing is known of the task."""


class Engine(Protocol):
    """Processes that do tasks.

    Left as a context it waits for them; left by an exception, an interrupt among them, it ends them at once and returns
    when they have ended, so that none continues to write.

    Attributes:
        name: "local" or "ray".
        workers: tasks done at a time.
        threads: threads of each task.
        cpus: processors of the machine, or of all machines together.
    """

    name: str
    workers: int
    threads: int
    cpus: int

    def __enter__(self) -> Self:
        """Return the engine."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        ...

    def keep_threads(self, threads: int) -> None:
        """Give each task ``threads`` threads from now on, and as many tasks at a time as processors allow."""
        ...

    def begin(self, folder: Path, data: str, facts: Callable[[int], dict[str, Any]] | None) -> dict[str, Any]:
        """Make ready for tasks that read ``data`` and write below ``folder``; return what their bits depend on.

        Args:
            folder: an existing folder.
            data: a folder, or the name of built-in data.
            facts: called with the number of threads where the tasks will be done, returns plain values; None: the
                tasks' bits do not depend on the machine, as far as is known.
        """
        ...

    def submit(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have ``task`` done by a process with the threads of one; at most `workers` may be under way."""
        ...

    def result(self, future: Future[Any]) -> Any:
        """Return what a finished task returned, or raise what it raised; `WorkerDied` where its process is gone."""
        ...


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


def threads_per_worker(workers: int) -> int:
    """Return the threads of each process: the processors divided among them, at least one."""
    return max(1, default_workers() // workers)


def check_engine(name: str) -> None:
    """Raise `StudyError` where there is no engine of this name."""
    if name not in ENGINES:
        raise StudyError(f"--engine got '{name}', known: {', '.join(ENGINES)}")


def open_engine(execution: Execution) -> Engine:
    """Return the engine that ``execution`` names, with its workers and device.

    Raises:
        StudyError: an unknown engine, fewer than one worker, or Ray is not installed.
    """
    check_engine(execution.engine)
    count = worker_count(execution.workers)
    if execution.engine == "ray":
        from semalign.study.engines.ray import RayEngine

        return RayEngine(execution.workers, execution.device, default_workers())
    from semalign.study.engines.local import LocalEngine

    return LocalEngine(count, threads_per_worker(count), default_workers())
