"""Studies of a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semalign.config.study import StudyOptions
from semalign.study import engines, worker
from semalign.study.design import read_study
from semalign.study.engines import local
from tests.small import TINY
from tests.study.here import Here


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a study's runs here, one after the other."""
    monkeypatch.setattr(local, "ProcessPoolExecutor", Here)
    # Several threads that share a busy processor wait for each other at every small step.
    monkeypatch.setattr(engines, "threads_per_worker", lambda workers: 1)
    yield
    worker.cached_inputs.cache_clear()


@pytest.fixture
def small_study(data: Path) -> StudyOptions:
    """Return ablation-1 with two blocks of two steps on the small folder."""
    changes = [*TINY, "train.epochs=1", "train.val_every=0", "pilot_blocks=2"]
    return read_study("ablation-1", data=str(data), seeds=2, assignments=changes)
