"""`semalign bench study`: runs an hour by number of processes and threads of each, through a study's own path."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from semalign.api import resolve
from semalign.bench.tables import Columns, Table, table_of
from semalign.bench.timing import ratio, seconds
from semalign.config import Options
from semalign.execution import Execution
from semalign.layout import RUNS
from semalign.study.design import PlannedRun
from semalign.study.engines import default_workers
from semalign.study.engines.local import LocalEngine
from semalign.study.runner import run_planned

__all__ = ["LAYOUTS", "Layout", "bench_study", "layouts", "study_tables"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a machine is shared out.

    Attributes:
        processes: runs at a time.
        threads: threads of each.
    """

    processes: int
    threads: int

    def __str__(self) -> str:
        """Name it as the tables do."""
        return f"{self.processes} x {self.threads}"


LAYOUTS = (Layout(1, 1),)
"""What all others are compared with: one process with one thread."""


def layouts(cpus: int) -> list[Layout]:
    """Return one process with one thread, one with all, and one process per processor.

    >>> [str(layout) for layout in layouts(2)]
    ['1 x 1', '1 x 2', '2 x 1']
    """
    return list(dict.fromkeys([*LAYOUTS, Layout(1, cpus), Layout(cpus, 1)]))


def bench_study(
    *,
    quick: bool = False,
    data: str = "scenes",
    settings: Sequence[str] = (),
    device: str = "cpu",
    workers: int | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure runs per hour for each layout, in turns; processes are started and data mapped before the clock runs.

    Args:
        quick: shorter runs and fewer rounds.
        data: a folder, or "scenes".
        settings: options of the runs as "a.b=c".
        device: where the runs compute; on a GPU all processes share it.
        workers: most processes at a time, by default one per processor.
        progress: called with what is being measured.

    Returns:
        ``{format, cpus, steps, layouts}`` of plain numbers; a ratio is the median over rounds of runs per hour over
        those of one process with one thread.
    """
    rounds, epochs = (2, 1) if quick else (7, 3)
    cpus = workers or default_workers()
    base = ["data.size=[144,192]", "data.n_train=64", "data.n_val=8", f"train.epochs={epochs}", "train.val_every=0"]
    options = resolve(data, settings=[*base, *settings])
    wanted = layouts(cpus)
    times: dict[Layout, list[float]] = {layout: [] for layout in wanted}
    with TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        engines = {
            layout: stack.enter_context(LocalEngine(layout.processes, layout.threads, cpus)) for layout in wanted
        }
        for number in range(rounds + 1):
            for layout, engine in engines.items():
                progress(f"{layout}, round {number} of {rounds}" if number else f"{layout}, starting")
                runs = planned(layout, number, options)
                start = time.perf_counter()
                run_planned(runs, data, folder, Execution(device, scan=False), engine)
                if number:
                    times[layout].append((time.perf_counter() - start) / layout.processes)
    rows = []
    for layout in wanted:
        pairs = [a / b for a, b in zip(times[LAYOUTS[0]], times[layout], strict=True)]
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else pairs * 3
        rows.append(
            {
                "processes": layout.processes,
                "threads": layout.threads,
                "seconds_per_run": seconds(times[layout]),
                "runs_per_hour": 3600 / seconds(times[layout]),
                "ratio": ratio(times[LAYOUTS[0]], times[layout]),
                "spread": (high - low) / 2,
            }
        )
    return {"format": 1, "cpus": default_workers(), "device": device, "rounds": rounds, "layouts": rows}


def planned(layout: Layout, number: int, options: Options) -> list[PlannedRun]:
    """Return as many runs as the layout has processes, each of a seed and a folder of its own."""
    runs = []
    for place in range(layout.processes):
        seed = 100 * number + place
        own = options.model_copy(update={"train": options.train.model_copy(update={"seed": seed})})
        runs.append(PlannedRun("timed", seed, own, f"{RUNS}/{layout.processes}-{layout.threads}/seed-{seed}"))
    return runs


def study_tables(found: dict[str, Any]) -> list[Table]:
    """Return the measurements as a table."""
    columns: Columns = [
        ("processes x threads", lambda row: f"{row['processes']} x {row['threads']}"),
        ("seconds per finished run", lambda row: f"{row['seconds_per_run']:.2f}"),
        ("runs an hour", lambda row: f"{row['runs_per_hour']:.0f}"),
        ("over 1 x 1", lambda row: f"{row['ratio']:.2f} ± {row['spread']:.2f}"),
    ]
    return [table_of(f"Runs an hour on {found['cpus']} processors ({found['device']})", columns, found["layouts"])]
