from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from semalign.execution import Execution
from semalign.report import write_report
from semalign.study.carry_out import carry_out
from semalign.study.design import read_study
from tests.faults import child
from tests.study.here import runs_here

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")

STUDY = """\
name: tiny
question: Does a killed study end as if it had not been killed?
data: scenes
arms: {Baseline: {}, A: {model.preset: transformer}}
looks: [2, 3]
margin: 0.01
pilot_blocks: 2
options: {data.n_train: 8, data.n_val: 3, data.size: [32, 43], train.epochs: 1, train.batch_size: 4, train.val_every: 0}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a study with looks."""
    file = tmp_path_factory.mktemp("study") / "tiny.yaml"
    file.write_text(STUDY)
    return file


@pytest.fixture(scope="module")
def uninterrupted(study: Path) -> Path:
    """Return the folder of the study carried out at one go; not to be written to."""
    folder = study.parent / "uninterrupted"
    with runs_here():
        carry_out(read_study(str(study)), folder, Execution(workers=1))
    write_report(folder, lang="en")
    return folder


def call(study: Path, folder: Path, kill: str) -> subprocess.CompletedProcess[str]:
    """Return the command ``study run`` when it has ended, by itself or killed."""
    words = ["study", "run", str(study), "--out", str(folder), "--workers", "1"]
    fault: dict[str, object] = {}
    if kill:
        name, count, whom = kill.split(":")
        mark = folder.parent / kill.replace(":", "-")
        fault = {"at": [name, int(count)], "whom": whom, "mark": str(mark)}
    environment = os.environ | {"FAULT": json.dumps(fault)}
    return subprocess.run(
        [sys.executable, str(child.__file__), *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def results(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the identity and time of every run's result."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*/*/*/result.json")}


def test_killed_studies_end_the_same(study: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The bytes are those of a study at one go, and no finished run is run again.

    It is killed in a training, where a result was to appear, and in its report.
    """
    folder = tmp_path / "killed"
    before: dict[Path, tuple[int, int]] = {}
    finished = []

    for kill in ("state.safetensors:4", "result.json:4", "judgement.json:1"):
        done = call(study, folder, f"{kill}:study")
        assert done.returncode == -signal.SIGKILL, done.stderr
        after = results(folder)
        assert before.items() <= after.items()
        finished.append(len(after))
        before = after
    done = call(study, folder, "")

    assert done.returncode == 0, done.stderr
    # 2 arms of 3 blocks, and the 2 second runs of the pilot; the margin is too small to be decided at 2 blocks.
    assert finished == [1, 4, 8]
    assert results(folder) == before
    for name in ("results.csv", "judgement.json", "pilot.json"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    for path in before:
        own = path.with_name("weights.safetensors")
        assert own.read_bytes() == (uninterrupted / own.relative_to(folder)).read_bytes()


def test_a_killed_worker_is_replaced(study: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The study goes on from the state that the dead one saved, and ends with the same bytes."""
    done = call(study, tmp_path / "killed", "state.safetensors:2:worker")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "state.safetensors-2-worker").exists(), "nothing was killed"
    for name in ("results.csv", "judgement.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (uninterrupted / name).read_bytes(), name
