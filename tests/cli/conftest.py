"""The command line as a user calls it, in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from semalign.cli import main
from semalign.study import worker
from tests.study.here import runs_here


class Said(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


Semalign = Callable[..., Said]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that commands are called in, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def semalign(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Semalign]:
    """Return a function that calls the command line with the given words; runs of studies stay in this process."""
    # A factory's neighbours are imported from the folder of the command, in whose process they stay.
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def call(*words: object) -> Said:
        worker.cached_inputs.cache_clear()
        monkeypatch.setattr(sys, "argv", ["semalign", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Said(stop.value.code, out, err)

    with runs_here():
        yield call


@pytest.fixture
def own(data: Path, here: Path) -> Path:
    """Return a copy of the small data as ``set`` in the commands' folder, to be damaged."""
    return Path(shutil.copytree(data, here / "set"))
