"""Processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from semalign.study.engines import WorkerDied

__all__ = ["LocalEngine"]


class LocalEngine:
    """Up to ``workers`` processes, started when first needed and used again; an `Engine`.

    Each process has a pool of its own: when one dies, only its own task is lost, and it is known which.
    """

    name = "local"

    def __init__(self, workers: int, threads: int, cpus: int) -> None:
        self.workers, self.threads, self.cpus = workers, threads, cpus
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Any], ProcessPoolExecutor] = {}

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes; at once when left by an exception."""
        for pool in [*self._idle, *self._busy.values()]:
            if kind is None:
                pool.shutdown()
            else:
                _kill(pool)
        self._idle, self._busy = [], {}

    def keep_threads(self, threads: int) -> None:
        """Give each task ``threads`` threads from now on."""
        self.threads = threads
        self.workers = max(1, min(self.workers, self.cpus // threads))

    def begin(self, folder: Path, data: str, facts: Callable[[int], dict[str, Any]] | None) -> dict[str, Any]:
        """Return what the tasks' bits depend on; this machine sees its own folders."""
        return {} if facts is None else facts(self.threads)

    def submit(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have ``task`` done by an idle process, or by a new one."""
        # Spawned, since forked torch threads can hang; read when libraries are loaded is the environment alone.
        with _one_thread_each(self.threads), _interrupts_wait():
            while self._idle:
                pool = self._idle.pop()
                try:
                    future = pool.submit(task, *args)
                except BrokenProcessPool:
                    # It was killed while it had nothing to do.
                    pool.shutdown()
                    continue
                break
            else:
                pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_live_with_parent)
                future = pool.submit(task, *args)
        self._busy[future] = pool
        return future

    def result(self, future: Future[Any]) -> Any:
        """Return what a finished task returned, or raise what it raised."""
        pool = self._busy.pop(future)
        try:
            value = future.result()
        except BrokenProcessPool as error:
            pool.shutdown()
            raise WorkerDied("a worker process has died") from error
        except BaseException:
            self._idle.append(pool)
            raise
        self._idle.append(pool)
        return value


def _kill(pool: ProcessPoolExecutor) -> None:
    # Asked for first: a pool that is shut down no longer knows its processes.
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        # The pool's own thread waits for it too; its sentinel can be waited for by both.
        wait([process.sentinel])


def _live_with_parent() -> None:
    """Leave an interrupt to the parent, and end when it ends: an orphan would write into a used folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # What has waited since the process began is forgotten.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()

    def end_with(process: Any) -> None:
        process.join()
        os._exit(1)

    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Keep Ctrl-C waiting, here and in processes that start: a terminal sends it to them while they load libraries."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started now, since it lets interrupts through once it has started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
