"""A pool that runs its tasks in this process: studies without the seconds that new processes take to start."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from semalign import report
from semalign.study import engines, worker
from semalign.study.engines import local

__all__ = ["Here", "leave_out_figure_files", "runs_here"]


class Here:
    """Stands in for `ProcessPoolExecutor`; a task runs when it is submitted."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run the task and keep its result or error."""
        future: Future[Any] = Future()
        threads = torch.get_num_threads()
        try:
            future.set_result(task(*args))
        except Exception as error:
            future.set_exception(error)
        finally:
            # A worker computes with the number of threads that its study gives it.
            torch.set_num_threads(threads)
        return future

    def shutdown(self, **_: Any) -> None:
        """Do nothing."""


def leave_out_figure_files(patch: pytest.MonkeyPatch) -> None:
    """Let reports draw the figures of their page alone.

    The same figures as files take longer than a study of a few steps, and are the subject of tests/report.
    """
    patch.setattr(report, "export", lambda drawing: {"svg": b"<svg/>"})


@contextlib.contextmanager
def runs_here() -> Iterator[None]:
    """Run the runs of studies in this process, one after the other and with one thread."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figure_files(patch)
        patch.setattr(local, "ProcessPoolExecutor", Here)
        patch.setattr(engines, "threads_per_worker", lambda workers: 1)
        yield
    worker.cached_inputs.cache_clear()
