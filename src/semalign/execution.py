"""How to run: one frozen value that is passed down whole from the command line to the loop.

Nothing in it changes what is computed beyond rounding (device and threads decide in which order numbers are added up).
What is computed is in `semalign.config.Options` alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["Events", "Execution"]


def _ignore(*_: Any) -> None:
    """Do nothing; a function of the module, so that events without a listener can be sent to another process."""


@dataclasses.dataclass(frozen=True)
class Events:
    """What a caller may watch; each is called with plain values.

    Attributes:
        started: (parameter groups, steps), once when training starts.
        stepped: (step, steps, loss) after each step.
        scored: (step, name, mIoU in [0, 1]) after each score.
        images_done: (images done, images) while a split is scored.
        run_done: (arm, seed, what happened, mIoU in [0, 1] or None, runs done, runs) after each run of a study.
    """

    started: Callable[[list[Any], int], None] = _ignore
    stepped: Callable[[int, int, float], None] = _ignore
    scored: Callable[[int, str, float], None] = _ignore
    images_done: Callable[[int, int], None] = _ignore
    run_done: Callable[[str, int, str, float | None, int, int], None] = _ignore


@dataclasses.dataclass(frozen=True)
class Execution:
    """How to run.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        scan: check the data in full before anything is computed.
        audit: look for parameters that cannot learn before training starts.
        engine: where a study's runs are computed, "local" or "ray".
        workers: processes of a study's engine; None for one per processor.
        threads: threads of each process; None leaves the number as it is.
        events: functions that are called while the work is done.
    """

    device: str = "auto"
    scan: bool = True
    audit: bool = True
    engine: str = "local"
    workers: int | None = None
    threads: int | None = None
    events: Events = dataclasses.field(default_factory=Events)

    def for_worker(self, threads: int) -> Execution:
        """Return what a worker process gets: ``threads`` threads, and no events, whose functions live here."""
        return dataclasses.replace(self, threads=threads, events=Events())
