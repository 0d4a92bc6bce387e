"""Studies of a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semalign.config.study import StudyOptions
from semalign.study.design import read_study
from tests.small import TINY
from tests.study.here import runs_here


@pytest.fixture
def in_this_process() -> Iterator[None]:
    """Run a study's runs here, one after the other."""
    with runs_here():
        yield


@pytest.fixture
def small_study(data: Path) -> StudyOptions:
    """Return ablation-1 with two blocks of two steps on the small folder."""
    changes = [*TINY, "train.epochs=1", "train.val_every=0", "pilot_blocks=2"]
    return read_study("ablation-1", data=str(data), seeds=2, assignments=changes)
