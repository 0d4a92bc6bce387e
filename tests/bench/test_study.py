"""Runs an hour by layout; nothing here is timed to be judged."""

from __future__ import annotations

from typing import Any

import pytest

from semalign.bench import study
from semalign.bench.study import Layout, bench_study, layouts, planned, study_tables
from semalign.config import Options
from tests.small import tiny_options


def test_layouts_by_hand() -> None:
    """One process with one thread, one with all, one process per processor; each once."""
    assert [str(layout) for layout in layouts(2)] == ["1 x 1", "1 x 2", "2 x 1"]
    assert [str(layout) for layout in layouts(5)] == ["1 x 1", "1 x 5", "5 x 1"]
    assert [str(layout) for layout in layouts(1)] == ["1 x 1"]


def test_planned_runs() -> None:
    """Each process gets a run of its own seed and folder, and no two rounds share one."""
    options = tiny_options()

    runs = [run for number in (1, 2) for run in planned(Layout(3, 1), number, options)]

    assert len({run.folder for run in runs}) == len({run.seed for run in runs}) == 6
    for run in runs:
        assert isinstance(run.options, Options)
        assert run.options.train.seed == run.seed
        assert run.options.data == options.data


def test_layouts_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layout runs in every round through its own engine, the first round unmeasured; ratios are per run."""
    seen: list[tuple[str, int, str]] = []
    clock = iter(range(1000))

    def run_planned(runs: list[Any], data: str, folder: Any, execution: Any, engine: Any) -> None:
        seen.append((f"{engine.workers} x {engine.threads}", len(runs), execution.device))

    monkeypatch.setattr(study, "run_planned", run_planned)
    # Every call takes one second, so that two runs at a time take half a second each.
    monkeypatch.setattr("semalign.bench.study.time.perf_counter", lambda: float(next(clock)))

    found = bench_study(quick=True, workers=2, device="cuda:0")

    assert seen == 3 * [("1 x 1", 1, "cuda:0"), ("1 x 2", 1, "cuda:0"), ("2 x 1", 2, "cuda:0")]
    assert [row["ratio"] for row in found["layouts"]] == [1.0, 1.0, 2.0]
    assert [row["runs_per_hour"] for row in found["layouts"]] == [3600, 3600, 7200]
    assert study_tables(found)[0].rows[2] == ["2 x 1", "0.50", "7200", "2.00 ± 0.00"]
